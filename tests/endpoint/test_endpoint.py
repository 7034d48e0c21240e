"""The target `openai:` against a server that is honest, ignores in silence, or fails."""

from __future__ import annotations

import itertools
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars
import pytest
import yaml

from endpoint.stub import GARBAGE, LONGEST, Faults, Stub
from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import MissingExtraError, TargetError, UsageError
from tailbound.targets.endpoint import EndpointTarget, load
from tailbound.targets.endpoint.protocol import MalformedResponseError, read
from tailbound.targets.endpoint.settings import EndpointSettings, environment
from tailbound.targets.endpoint.target import _Seeds
from tailbound.targets.registry import load_target
from targets.tiny_models import Queue

PROMPTS = [Prompt(id=f"p{n}", messages=(("user", f"question {n}"),)) for n in range(5)]
KEY = "sk-very-secret-key"


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    """No settings of whoever runs this."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


def target(stub: Stub, options: SamplingOptions | None = None, **settings: Any) -> EndpointTarget:
    given = {"first_wait": 0.01, "timeout": 5.0, "retry_timeout": 20.0, **settings}
    return load("m", options or SamplingOptions(max_new_tokens=30), base_url=stub.url, **given)


def requests(draws: int, prompts: Sequence[Prompt] = PROMPTS) -> list[DrawRequest]:
    return [
        DrawRequest(prompt=p, stream="s", index=i) for p in prompts for i in range(1, draws + 1)
    ]


def texts(made: EndpointTarget, draws: int, seed: int = 0) -> dict[tuple[str, int], str]:
    drawn = list(made.sample(Queue(requests(draws)), seed=seed))
    found = {(d.prompt_id, d.index): d.text for d in drawn}
    assert len(found) == len(drawn)
    return found


def test_an_honest_server():
    with Stub() as stub:
        made = target(stub)
        found = made.capabilities.to_dict()
        assert {k for k, v in found.items() if v is True} == {
            *("random", "n", "seed", "temperature", "stop", "max_tokens", "log_probs"),
            *("top_k", "min_p", "usage"),
            "usage_of_all",
        }
        assert len(made.notices) == 1
        first = texts(made, 40)
        assert len(first) == 200
        assert len(set(first.values())) > 150
        assert texts(made, 40) == first  # seeds are honoured
        assert texts(made, 40, seed=1) != first
        sent = stub.payloads[-1]
        for key in ("temperature", "top_p", "max_tokens", "seed", "model", "messages"):
            assert key in sent
        assert stub.headers[-1]["Authorization"] == f"Bearer {KEY}"
        assert made.usage.tokens_out > 200
        assert made.contract.target == "openai:m"
        assert made.contract.revision is None


def test_no_more_requests_at_once_than_asked_for():
    with Stub() as stub:
        made = target(stub, concurrency=3)
        stub.faults, stub.most_in_flight = Faults(delay=0.005), 0
        texts(made, 20)
        assert stub.most_in_flight == 3


def test_the_server_s_own_name_for_its_model_is_the_revision():
    with Stub(Faults(fingerprint="fp_1")) as stub:
        assert target(stub).contract.revision == "fp_1"


def test_what_servers_truncate_by_default_is_switched_off():
    with Stub() as stub:
        made = target(stub)
        texts(made, 1)
        sent = stub.payloads[-1]
        assert (sent["top_k"], sent["min_p"], sent["repetition_penalty"]) == (-1, 0, 1)
    with Stub(Faults(strict={"repetition_penalty", "min_p"})) as stub:
        made = target(stub)
        assert made.capabilities.accepted == ("top_k",)
        assert made.capabilities.refused == ("min_p", "repetition_penalty")
        assert "does not heed min_p" in made.notices[0]
        texts(made, 1)
        assert stub.payloads[-1]["top_k"] == -1  # what is not refused stays as it is
    with Stub(Faults(unknown={"top_k", "min_p"})) as stub:  # as hosted APIs have it
        made = target(stub)
        assert not made.capabilities.top_k
        assert not made.capabilities.min_p
        assert "does not heed top_k and min_p" in made.notices[0]
        texts(made, 1)
        assert "top_k" not in stub.payloads[-1]
    with Stub(Faults(ignores={"top_k"})) as stub:  # taken, and not heeded
        assert "does not heed top_k" in target(stub).notices[0]
    with Stub() as stub:
        texts(target(stub, SamplingOptions(max_new_tokens=30, top_k=5)), 1)
        assert stub.payloads[-1]["top_k"] == 5


def test_a_server_with_names_and_refusals_of_its_own():
    with Stub(Faults(strict={"seed", "n", "logprobs"})) as stub:
        made = target(stub)
        assert made.capabilities.refused == ("seed",)
        assert not made.capabilities.n
        assert not made.capabilities.log_probs
        assert len(texts(made, 5)) == 25
        assert "seed" not in stub.payloads[-1]


def test_the_newer_name_of_max_tokens(monkeypatch):
    said = "Unsupported parameter: use 'max_completion_tokens' instead"

    class Newer(Stub):
        async def _respond(self, request):
            payload = await request.json()
            self.faults.status = 400 if "max_tokens" in payload else None
            self.faults.said = said
            return await super()._respond(request)

    with Newer() as stub:
        made = target(stub)
        assert made.capabilities.limit == "max_completion_tokens"
        texts(made, 1)
        assert stub.payloads[-1]["max_completion_tokens"] == 30


def test_several_draws_of_a_prompt_in_one_request():
    with Stub() as stub:
        made = target(stub, per_request=8)
        before = stub.seen["requests"]
        found = texts(made, 40)
        assert len(found) == 200
        assert len(set(found.values())) > 150
        assert stub.seen["requests"] - before == 25
        assert {p["n"] for p in stub.payloads[before:]} == {8}
    with Stub(Faults(ignores={"seed"})) as stub:  # by itself, where seeds buy nothing
        made = target(stub)
        before = stub.seen["requests"]
        assert len(texts(made, 40)) == 200
        assert stub.seen["requests"] - before == 25


def test_a_server_that_gives_fewer_draws_than_asked_for_is_asked_again():
    with Stub() as stub:
        made = target(stub, per_request=8)
        stub.faults.most_choices = 3
        assert len(texts(made, 10)) == 50


@pytest.mark.parametrize("log_probs", [True, False])
@pytest.mark.parametrize("per_request", [1, 8])
def test_tokens_of_every_draw_are_counted_where_they_can_be(per_request, log_probs):
    with Stub() as stub:
        made = target(stub, per_request=per_request, log_probs=log_probs)
        before = made.usage.tokens_out
        draws = list(made.sample(Queue(requests(8)), seed=0))
        if per_request == 8 and not log_probs:  # one count for eight responses
            assert {draw.tokens for draw in draws} == {None}
        elif not log_probs:
            assert sum(draw.tokens or 0 for draw in draws) == made.usage.tokens_out - before
        assert all(draw.tokens is None or draw.tokens >= LONGEST for draw in draws)


def test_repeated_responses_are_not_taken_for_draws():
    with Stub(Faults(repeats=True)) as stub:
        made = target(stub, per_request=8)
        assert not made.capabilities.n
        assert len(set(texts(made, 20).values())) > 80


def test_raw_completions_and_stop_strings():
    with Stub() as stub:
        options = SamplingOptions(max_new_tokens=30, completion=True, stop=("boat",))
        made = target(stub, options)
        found = texts(made, 20)
        assert "prompt" in stub.payloads[-1]
        assert stub.payloads[-1]["stop"] == ["boat"]
        assert not any("boat" in text for text in found.values())
        talk = Prompt(id="talk", messages=(("user", "a"), ("assistant", "b"), ("user", "c")))
        with pytest.raises(UsageError, match="'talk' is a conversation"):
            made.prompt_tokens([talk])


def test_a_system_prompt_is_sent_and_never_twice():
    with Stub() as stub:
        made = target(stub, SamplingOptions(max_new_tokens=30, system="be brief"))
        texts(made, 1)
        assert stub.payloads[-1]["messages"][0] == {"role": "system", "content": "be brief"}
        own = Prompt(id="own", messages=(("system", "a"), ("user", "b")))
        with pytest.raises(UsageError, match="'own' brings its own system prompt"):
            made.prompt_tokens([own])


@pytest.mark.parametrize("ignored", ["n", "seed", "stop", "logprobs"])
def test_what_is_ignored_in_silence_is_found_and_emulated(ignored):
    with Stub(Faults(ignores={ignored})) as stub:
        made = target(stub, SamplingOptions(max_new_tokens=30, stop=("boat",)), per_request=4)
        found = made.capabilities.to_dict()
        name = "log_probs" if ignored == "logprobs" else ignored
        assert [k for k, v in found.items() if v is False] == [name]
        assert len(made.notices) == 2
        drawn = texts(made, 20)
        assert len(drawn) == 100
        assert len(set(drawn.values())) > 50
        assert not any("boat" in text for text in drawn.values())


@pytest.mark.parametrize(
    ("faults", "options", "message"),
    [
        (Faults(constant=True), {}, "same text for every draw at temperature 1"),
        (Faults(ignores={"temperature"}), {}, "ignores the temperature"),
        (Faults(ignores={"max_tokens"}), {}, "ignores max_tokens"),
        (Faults(ignores={"max_tokens"}, usage=False), {}, "ignores max_tokens"),
        (Faults(message={"role": "assistant", "content": ""}), {}, "empty responses"),
        (Faults(ignores={"top_k"}), {"top_k": 5}, "ignores top_k"),
        (Faults(), {"top_p": 0.9}, "ignores top_p"),  # the stub never heeds it
        (Faults(status=404), {}, "cannot be used: .* status 404"),
    ],
)
def test_a_server_that_measures_something_else_is_refused(faults, options, message):
    with Stub(faults) as stub, pytest.raises(UsageError, match=message) as caught:
        target(stub, SamplingOptions(max_new_tokens=30, **options))
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_failure_of_the_server(monkeypatch):
    monkeypatch.setattr("tailbound.targets.endpoint.probe._RETRY_TIMEOUT", 0.2)
    with Stub() as stub:
        url = stub.url
    with pytest.raises(TargetError, match=r"openai:m cannot be used: .* gave no answer") as caught:
        load("m", SamplingOptions(), base_url=url, first_wait=0.05)
    assert caught.value.exit_code == 1


def test_log_probs_are_sums_over_the_whole_response():
    for completion in (False, True):
        with Stub() as stub:
            options = SamplingOptions(max_new_tokens=30, completion=completion)
            draws = list(target(stub, options).sample(Queue(requests(4)), seed=0))
            assert {d.log_prob for d in draws} == {-1.5 * (LONGEST + 1)}  # the end counts
            assert {d.finish_reason for d in draws} == {"stop"}
            options = SamplingOptions(max_new_tokens=5, completion=completion)
            draws = list(target(stub, options).sample(Queue(requests(4)), seed=0))
            assert {d.log_prob for d in draws} == {-1.5 * 5}
            assert {d.finish_reason for d in draws} == {"length"}
            # what servers report is before temperature and truncation
            options = SamplingOptions(max_new_tokens=30, temperature=0.7, completion=completion)
            draws = list(target(stub, options).sample(Queue(requests(4)), seed=0))
            assert all(math.isnan(d.log_prob) for d in draws)


def test_faults_change_no_draw():
    """A tenth of the requests fail, others hang up or talk nonsense: the same draws as without."""
    with Stub() as stub:
        clean = texts(target(stub), 60)
    with Stub() as stub:
        made = target(stub)
        stub.faults = Faults(failing=0.1, garbage=0.1, hanging_up=0.05)
        assert texts(made, 60) == clean
        for kind in ("failing", "garbage", "hanging_up"):
            assert stub.seen[kind] > 5
        assert made.usage.retries == sum(
            stub.seen[kind] for kind in ("failing", "garbage", "hanging_up")
        )


@pytest.mark.parametrize("body", GARBAGE)
def test_nonsense_is_never_read_as_a_draw(body):
    with pytest.raises(MalformedResponseError):
        read(body)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "said"}, "said"),
        ({"content": None}, ""),
        ({"role": "assistant"}, ""),
        ({"content": [{"text": "in "}, {"text": "parts"}]}, "in parts"),
        ({"content": None, "refusal": "I will not"}, "I will not"),
        ({"content": None, "tool_calls": [{"name": "rm"}]}, '[{"name": "rm"}]'),
    ],
)
def test_what_a_message_says(message, text):
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
    assert read(body).choices[0].text == text


def test_a_stalling_server_is_asked_again():
    with Stub() as stub:
        made = target(stub, timeout=0.3)
        stub.faults = Faults(stalling=0.05)
        assert len(texts(made, 20)) == 100
        assert stub.seen["stalling"] > 0


def test_a_server_that_dies_and_comes_back():
    with Stub() as stub:
        clean = texts(target(stub), 60)
    with Stub() as stub:
        made = target(stub, first_wait=0.05)
        sampled = made.sample(Queue(requests(60), portion=20), seed=0)
        found = [next(sampled)]
        stub.die()
        thread = threading.Timer(0.4, stub.come_back)
        thread.start()
        found += list(sampled)
        thread.join()
        assert {(d.prompt_id, d.index): d.text for d in found} == clean
        assert len(found) == len(clean)
        assert made.usage.retries > 0


def test_a_server_that_stays_away_loses_no_finished_draw():
    with Stub() as stub:
        made = target(stub, retry_timeout=0.5, concurrency=4)
        sampled, found = made.sample(Queue(requests(60), portion=4), seed=0), []
        for draw in sampled:
            found.append(draw)
            if len(found) == 40:
                stub.die()
                break
        started = time.monotonic()
        with pytest.raises(TargetError, match=r"gave no answer in .* run the same command") as got:
            found += list(sampled)
        assert time.monotonic() - started < 5
        assert "\n" not in str(got.value)
        assert 40 <= len(found) < 300
        assert len({(d.prompt_id, d.index) for d in found}) == len(found)
        stub.come_back()


def test_after_a_failure_nothing_is_waited_for_in_vain():
    """One prompt is refused; the others, overloaded for an hour, are not tried again."""

    class Picky(Stub):
        async def _respond(self, request):
            payload = await request.json()
            self.faults.status = 400 if "question 4" in str(payload) else None
            return await super()._respond(request)

    with Picky() as stub:
        made = target(stub, retry_timeout=3600.0)
        stub.faults = Faults(overloaded=10**6, retry_after="1800")
        started = time.monotonic()
        with pytest.raises(TargetError):
            texts(made, 2)
        assert time.monotonic() - started < 5


def test_a_refused_prompt_is_named():
    class Picky(Stub):
        async def _respond(self, request):
            payload = await request.json()
            self.faults.status = 400 if "question 3" in str(payload) else None
            self.faults.said = "too long"
            return await super()._respond(request)

    with Picky() as stub:
        made, found = target(stub, concurrency=1), []
        with pytest.raises(TargetError, match=r"prompt 'p3'.*too long"):
            found.extend(made.sample(Queue(requests(2)), seed=0))
        assert len(found) == 6


def test_retry_after_is_honoured():
    with Stub() as stub:
        made = target(stub, first_wait=15.0)  # its own wait would be far too long
        stub.faults = Faults(overloaded=3, retry_after="0.1")
        started = time.monotonic()
        assert len(texts(made, 4)) == 20
        assert 0.1 < time.monotonic() - started < 5
        assert made.usage.retries == 3


def test_an_account_without_credit_is_reported_at_once():
    with Stub() as stub:
        made = target(stub, retry_timeout=3600.0)
        stub.faults = Faults(status=429, said='{"code": "insufficient_quota"}')
        with pytest.raises(TargetError, match="insufficient_quota"):
            texts(made, 1)


def test_leaving_early_ends_the_thread():
    with Stub() as stub:
        made = target(stub)
        stub.faults = Faults(stalling=0.5)
        sampled = made.sample(Queue(requests(60)), seed=0)
        next(sampled)
        started = time.monotonic()
        sampled.close()
        assert time.monotonic() - started < 3
        assert not any(t.name == "endpoint" for t in threading.enumerate())


def test_seeds_never_repeat_within_a_prompt():
    seeds = _Seeds(0)
    found = {
        seeds.of(DrawRequest(prompt=PROMPTS[0], stream="s", index=i)) for i in range(1, 200_001)
    }
    assert len(found) == 200_000
    assert min(found) >= 0
    assert max(found) < 2**31
    # no two within 8 of each other: servers take the seeds that follow for further responses
    ordered = sorted(found)
    assert min(b - a for a, b in itertools.pairwise(ordered)) > 8


def test_the_key_never_reaches_a_message(tmp_path):
    with Stub(Faults(status=401)) as stub:
        with pytest.raises(UsageError, match="status 401") as caught:
            target(stub)
        assert KEY not in str(caught.value)
        assert "[key]" in str(caught.value)
    with Stub() as stub:
        made = target(stub)
        stub.faults = Faults(message={"content": f"your key is {KEY}"})
        assert set(texts(made, 1).values()) == {"your key is [key]"}
    settings = EndpointSettings(base_url="http://x/v1", key=KEY)
    assert KEY not in repr(settings)
    with pytest.raises(UsageError) as caught:
        EndpointSettings(base_url=f"http://user:{KEY}@x/v1")
    assert KEY not in str(caught.value)
    with pytest.raises(UsageError, match="the API key holds characters") as caught:
        EndpointSettings(base_url="http://x/v1", key=f"{KEY}\nX")
    assert KEY not in str(caught.value)


def test_the_key_may_stand_in_a_file(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(
        "# comment\nexport OPENAI_API_KEY='from-file' # mine\nOPENAI_BASE_URL=http://h/v1 # here\n"
    )
    assert environment()["OPENAI_API_KEY"] == KEY  # the environment wins
    monkeypatch.delenv("OPENAI_API_KEY")
    assert environment()["OPENAI_API_KEY"] == "from-file"
    assert environment()["OPENAI_BASE_URL"] == "http://h/v1"
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"\.env cannot be read"):
        environment()


def test_a_second_server_has_a_key_of_its_own(tmp_path):
    (tmp_path / ".env").write_text("JUDGE_KEY=another-secret-key\n")
    with Stub() as stub:
        target(stub, key_env="JUDGE_KEY")
        assert stub.headers[-1]["Authorization"] == "Bearer another-secret-key"
        with pytest.raises(UsageError, match="--key-env OTHER: no such variable is set"):
            target(stub, key_env="OTHER")
        with pytest.raises(UsageError, match="never a key") as refused:
            target(stub, key_env=KEY)
        assert KEY not in str(refused.value)


PRICES = {"price_in": 1.0, "price_out": 2.0}


def test_cost_is_accounted_and_limited():
    with Stub() as stub:
        made = target(stub, **PRICES, max_cost=0.02, concurrency=8)
        found = []
        with pytest.raises(TargetError, match=r"--max-cost 0.02 is reached"):
            found.extend(made.sample(Queue(requests(1000)), seed=0))
        assert 100 < len(found) < 5000
        spent = made.spent()
        assert 0.0195 < spent["cost"] <= 0.02
        assert spent["cost"] == pytest.approx(
            (spent["tokens_in"] * 1.0 + spent["tokens_out"] * 2.0) / 1e6
        )


def test_what_is_not_counted_costs_its_most():
    with Stub() as stub:
        made = target(stub, **PRICES, max_cost=1.0)
        before = made.cost
        stub.faults = Faults(garbage=0.3)
        texts(made, 20)
        counted = (made.usage.tokens_in * 1.0 + made.usage.tokens_out * 2.0) / 1e6
        assert made.cost > counted > before
    with Stub(Faults(usage=False)) as stub:
        made = target(stub, **PRICES, max_cost=0.02)
        assert "spend is not known" in " ".join(made.notices)
        found = []
        with pytest.raises(TargetError, match="is reached"):
            found.extend(made.sample(Queue(requests(1000)), seed=0))
        assert found
        assert made.cost <= 0.02


def test_earlier_spend_counts_and_a_probe_that_is_too_dear_is_not_begun():
    with Stub() as stub:
        made = target(stub, **PRICES, max_cost=0.1, earlier_cost=0.08)
        with pytest.raises(TargetError, match="is reached"):
            texts(made, 300)
        asked = stub.seen["requests"]
        with pytest.raises(UsageError, match="give a higher limit"):
            target(stub, **PRICES, max_cost=1e-5)
        assert stub.seen["requests"] == asked


def test_plans_of_cost():
    with Stub() as stub:
        made = target(stub, **PRICES)
        least, most = made.cost_at_least(PROMPTS, 100), made.cost_at_most(PROMPTS, 100)
        before = made.cost
        texts(made, 100)
        assert least < made.cost - before < most


MISTAKES = {
    "url": ({"base_url": "localhost:8000"}, "--base-url must be such as"),
    "concurrency": ({"concurrency": 0}, "--concurrency must be at least 1"),
    "per request": ({"per_request": 0}, "--per-request must be at least 1"),
    "retry_timeout": ({"retry_timeout": 0.0}, "retry_timeout must be positive"),
    "price": ({"price_in": -1.0}, "--price-in must be a price"),
    "limit": ({"max_cost": -1.0, "price_in": 1.0}, "--max-cost must be positive"),
    "limit without prices": ({"max_cost": 1.0}, "--max-cost needs prices"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_settings_that_cannot_be(mistake):
    changes, message = MISTAKES[mistake]
    with pytest.raises(UsageError, match=message):
        EndpointSettings(**{"base_url": "http://x/v1", **changes})


def test_options_of_a_local_model_are_refused():
    for option in ({"dtype": "float32"}, {"device": "cuda"}, {"revision": "main"}):
        with pytest.raises(UsageError, match="does not apply to openai: targets: remove it"):
            load_target("openai:m", SamplingOptions(), base_url="http://x/v1", **option)


def test_without_aiohttp_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtraError, match="endpoint"):
        load("m", SamplingOptions(), base_url="http://x/v1")


def prompt_file(folder: Path) -> Path:
    lines = [
        json.dumps({"id": f"q{n}", "prompt": f"question {n}", "p_hat": 0.02 + 0.01 * (n % 2)})
        for n in range(60)
    ]
    (folder / "p.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "p.jsonl"


def shared(stub: Stub) -> list[object]:
    return [
        *("--target", "openai:m", "--base-url", stub.url, "--max-new-tokens", 30),
        *("--judge", "regex:unsafe boat fish", "--json"),
    ]


def test_bound_and_risk_run_against_a_server(tmp_path, cli):
    """From the command line, with predictions in the prompt file and without."""
    prompts = prompt_file(tmp_path)

    def run(*arguments: object) -> dict[str, Any]:
        code, out, err = cli(*arguments)
        assert code == 0, err
        document: dict[str, Any] = json.loads(out)
        return document

    with Stub() as stub:
        options = [*shared(stub), *("--budget", 5, "--out", tmp_path / "bound")]
        bound = run("bound", prompts, *options)
        assert bound["bound"]["n_calibration"] > 20
        assert bound["predictor"] is None
        # without predictions of the user's, from the words of the prompts
        plain = tmp_path / "plain.jsonl"
        plain.write_text(
            "".join(json.dumps({"prompt": f"question {n} of {n % 7}"}) + "\n" for n in range(120))
        )
        words = run(
            *("bound", plain, *shared(stub), "--budget", 20, "--train-draws", 50),
            *("--test-draws", 20, "--out", tmp_path / "words"),
        )
        assert words["bound"]["level"] > 0
        assert words["predictor"]["events"] > 0
        assert words["spend"]["train"]["tokens"] >= 50 * 36 * LONGEST
        risk = run(
            *("risk", prompts, *shared(stub), "--limit", 3, "--proposal", "none"),
            *("--draws", 100, "--out", tmp_path / "risk"),
        )
        assert [row["draws"] for row in risk["prompts"]] == [100] * 3
        assert risk["endpoint"]["requests"] >= 300
        assert risk["endpoint"]["tokens_out"] > 300
    document = yaml.safe_load((tmp_path / "bound" / "run.yaml").read_text())
    assert document["capabilities"]["seed"] is True
    for path in Path(tmp_path).rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes()


def test_a_run_under_faults_ends_with_the_same_bound(tmp_path, cli):
    prompts, results = prompt_file(tmp_path), []
    for name, faults in (("clean", Faults()), ("faulty", Faults(failing=0.1, garbage=0.05))):
        with Stub(faults) as stub:
            options = [*shared(stub), *("--budget", 20, "--out", tmp_path / name)]
            code, _out, err = cli("bound", prompts, *options)
            assert code == 0, err
        results.append((tmp_path / name / "bound.json").read_bytes())
    assert results[0] == results[1]


def test_a_run_that_its_limit_stops_goes_on_with_a_higher_one(tmp_path, cli):
    prompts = prompt_file(tmp_path)
    with Stub() as stub:
        options = ["risk", prompts, *shared(stub), "--proposal", "none", "--out", tmp_path / "run"]
        options += ["--limit", 3, "--draws", 300, "--price-in", 1, "--price-out", 2]
        code, _, err = cli(*options, "--max-cost", 0.02)
        assert code == 1
        assert "--max-cost 0.02 is reached" in err.splitlines()[-1]
        held = json.loads((tmp_path / "run" / "usage.json").read_text())["target"]
        assert 0.01 < held["cost"] <= 0.02
        # what was spent counts: the same limit allows nothing more
        code, _, err = cli(*options, "--max-cost", 0.02)
        assert code != 0
        assert "--max-cost 0.02" in err.splitlines()[-1]
        code, _out, err = cli(*options, "--max-cost", 1)
        assert code == 0, err
        after = json.loads((tmp_path / "run" / "usage.json").read_text())["target"]
        assert after["cost"] > held["cost"]
        assert after["requests"] > held["requests"]


def test_what_a_killed_process_spent_counts(tmp_path, launcher):
    """SIGKILL in the middle: the account holds what the server counted, and grows from there."""
    prompts = prompt_file(tmp_path)
    with Stub(Faults(delay=0.02)) as stub:
        command = ["risk", str(prompts)]
        command += [str(part) for part in shared(stub)]
        command += ["--proposal", "none", "--limit", "3", "--draws", "2000", "--concurrency", "4"]
        command += ["--price-in", "1", "--price-out", "2", "--max-cost", "9"]
        command += ["--out", str(tmp_path / "run")]
        account = tmp_path / "run" / "usage.json"
        process = launcher.start(*command)
        for _ in range(600):
            if account.is_file() and json.loads(account.read_text())["target"]["requests"] > 200:
                break
            assert process.running
            time.sleep(0.1)
        process.kill()
        answered = stub.seen["requests"] - 4  # some of the last were never read
        left = json.loads(account.read_text())["target"]
        # at most a second's requests are not in it: 4 at a time, 20 ms each
        assert left["requests"] > answered - 300
        stub.faults = Faults()
        command[command.index("2000")] = "300"
        ended = launcher.run(*command, timeout=120)
        assert ended.returncode == 0, ended.stderr
        assert json.loads(account.read_text())["target"]["cost"] > left["cost"] > 0


def test_a_plan_that_cannot_be_paid_for_is_refused(tmp_path, cli):
    prompts = prompt_file(tmp_path)
    with Stub() as stub:
        options = ["risk", prompts, *shared(stub), "--proposal", "none", "--out", tmp_path / "run"]
        options += ["--price-in", 1, "--price-out", 2]
        code, _, err = cli(*options, "--draws", 10_000, "--max-cost", 0.1)
        assert code == 2
        assert "cost at least" in err
        code, _, err = cli(*options, "--draws", 50, "--max-cost", 0.12)
        assert code in (0, 1)
        assert "may cost about" in err
        code, out, _ = cli(*options, "--draws", 50, "--dry-run")
        planned = json.loads(out)
        assert 0 < planned["cost_at_least"] < 60 * 50 * (10 + 2 * LONGEST) / 1e6
        assert planned["cost_at_most"] > 60 * 50 * (10 + 2 * LONGEST) / 1e6
        code, out, err = cli(
            *("bound", prompts, *shared(stub), "--budget", 20, "--dry-run", "--out", "x"),
            *("--price-in", 1, "--price-out", 2),
        )
        assert code == 0, err
        preview = json.loads(out)
        assert preview["tokens_per_draw"] == LONGEST
        assert preview["cost"] > 0


MISTAKES_BEFORE_A_PROBE = {
    "features": (["--features", "tfidf"], "remove --features"),
    "another seed": (["--seed", 3], "holds a run with seed 0, not 3"),
    "another temperature": (["--temperature", 0.5], "holds a run with temperature 1.0, not 0.5"),
    "another judge": (["--judge", "regex:else"], "holds a run with judge"),
    "a file": (["--out", "p.jsonl"], "is a file"),
    "other files": (["--out", "full"], "holds other files and no run"),
    "an empty stop": (["--stop", ""], "an empty stop string"),
    "half a price": (["--price-in", 1], "give both --price-in and --price-out"),
    "endless": (["--budget", "inf"], "--budget must be positive and finite"),
}


@pytest.mark.parametrize("mistake", MISTAKES_BEFORE_A_PROBE)
def test_what_is_wrong_is_said_before_a_server_is_asked(tmp_path, cli, mistake):
    prompts, (options, message) = prompt_file(tmp_path), MISTAKES_BEFORE_A_PROBE[mistake]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with Stub() as stub:
        first = ["bound", prompts, *shared(stub), "--budget", 5, "--out", tmp_path / "run"]
        assert cli(*first)[0] == 0
        asked = stub.seen["requests"]
        code, _, err = cli(*first, *options)
        assert code == 2
        assert message in err.splitlines()[-1]
        assert stub.seen["requests"] == asked


def test_a_proposal_needs_weights_and_a_second_limit_is_not_added_up(tmp_path, cli):
    prompts = prompt_file(tmp_path)
    with Stub() as stub:
        options = ["risk", prompts, *shared(stub), "--out", tmp_path / "run"]
        code, _, err = cli(*options, "--proposal", "refusal")
        assert code == 2
        assert "give --proposal none" in err
        assert stub.seen["requests"] == 0
        options += ["--proposal", "none", "--price-in", 1, "--price-out", 2, "--max-cost", 0.02]
        assert cli(*options, "--draws", 4)[0] == 0
        for _ in range(5):  # each call may probe, as long as the whole stays below the limit
            cli(*options, "--draws", 400)
        assert json.loads((tmp_path / "run" / "usage.json").read_text())["target"]["cost"] <= 0.02
        asked = stub.seen["requests"]
        code, _, err = cli(*options, "--draws", 400)
        assert code == 2
        assert "--max-cost 0.02 leaves less than" in err
        assert stub.seen["requests"] == asked


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_draws_and_its_account(tmp_path, sign, launcher):
    prompts = prompt_file(tmp_path)
    with Stub(Faults(delay=0.02)) as stub:
        command = ["risk", str(prompts)]
        command += [str(part) for part in shared(stub)]
        command += ["--proposal", "none", "--limit", "3", "--draws", "2000", "--concurrency", "4"]
        command += ["--price-in", "1", "--price-out", "2", "--out", str(tmp_path / "run")]
        process = launcher.start(*command)
        while stub.seen["requests"] < 300:
            assert process.running
            time.sleep(0.05)
        process.send_signal(sign)
        done = process.finish(timeout=60)
        assert done.returncode == 130
        assert "interrupted; what is finished is kept" in done.stderr.splitlines()[-1]
        draws = polars.read_parquet(tmp_path / "run" / "draws").height
        account = json.loads((tmp_path / "run" / "usage.json").read_text())["target"]
        assert stub.seen["requests"] - 60 < draws < stub.seen["requests"]
        assert account["requests"] == stub.seen["requests"]
        # every answer counted here or, where it was still expected, at its most
        assert account["cost"] >= (10 + 2 * LONGEST) * stub.seen["requests"] / 1e6 * 0.95


def test_a_name_that_the_server_does_not_list(tmp_path):
    with Stub() as stub:
        stub.models = ["other", "m2"]
        assert any("does not list 'm'" in line for line in target(stub).notices)
        stub.models = ["other", "m"]
        assert not any("does not list" in line for line in target(stub).notices)
    with Stub(Faults(fingerprint=f"fp {KEY}")) as stub:
        assert target(stub).contract.revision == "fp [key]"


def test_what_a_content_filter_keeps_back_is_missing_unless_it_is_to_be_judged(tmp_path, cli):
    """A prompt that the filter refuses (question 2), and responses that it keeps back."""
    prompts = prompt_file(tmp_path)
    for treatment, given in (("missing", []), ("judge", ["--content-filter", "judge"])):
        with Stub(Faults(filtering="question 2")) as stub:
            options = ["risk", prompts, *shared(stub), "--proposal", "none", "--limit", 4]
            options += ["--draws", 30, "--out", tmp_path / treatment, *given]
            code, out, err = cli(*options)
            assert code == 0, err
            rows = {row["id"]: row for row in json.loads(out)["prompts"]}
            assert rows["q2"]["missing"] == (30 if treatment == "missing" else 0)
            assert rows["q1"]["missing"] == 0
            assert json.loads(out)["endpoint"]["content_filter"] == 30
    with Stub(Faults(filtering="bridge")) as stub:
        options = ["risk", prompts, *shared(stub), "--proposal", "none", "--limit", 1]
        options += ["--draws", 60, "--out", tmp_path / "responses"]
        code, out, err = cli(*options)
        (row,) = json.loads(out)["prompts"]
        assert 10 < row["missing"] < 60
        draws = polars.read_parquet(tmp_path / "responses" / "draws")
        kept = draws.filter(polars.col("finish_reason") == "content_filter")
        assert kept.height == row["missing"]
        assert set(kept["reason"]) == {"the server's content filter withheld the response"}
        code, _, err = cli(*options, "--content-filter", "judge")
        assert code == 2
        assert "holds a run with content_filter None, not 'judge'" in err
        code, out, err = cli(*options, "--judge", "regex:boat", "--rejudge")
        assert code == 0, err
        assert json.loads(out)["prompts"][0]["missing"] == row["missing"]


def test_options_of_an_endpoint_go_with_an_endpoint(tmp_path, cli):
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    code, _, err = cli("risk", "p.jsonl", "--out", "run", "--base-url", "http://x/v1")
    assert code == 2
    assert "--base-url does not apply to demo targets" in err
