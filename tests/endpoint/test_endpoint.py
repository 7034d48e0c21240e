"""The target `openai:` against a server that is honest, ignores in silence, or fails."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoint.stub import Faults, Stub
from tailbound.cli import main
from tailbound.contract import DrawRequest, SamplingOptions
from tailbound.errors import MissingExtraError, TargetError, UsageError
from tailbound.prompts import Prompt
from tailbound.targets.endpoint import EndpointTarget, load
from tailbound.targets.endpoint.settings import EndpointSettings, environment
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
    given = {"first_wait": 0.01, "timeout": 2.0, **settings}
    return load("m", options or SamplingOptions(max_new_tokens=30), base_url=stub.url, **given)


def requests(draws: int, prompts: Sequence[Prompt] = PROMPTS) -> list[DrawRequest]:
    return [
        DrawRequest(prompt=p, stream="s", index=i) for p in prompts for i in range(1, draws + 1)
    ]


def texts(made: EndpointTarget, draws: int, seed: int = 0) -> dict[tuple[str, int], str]:
    found = list(made.sample(Queue(requests(draws)), seed=seed))
    return {(d.prompt_id, d.index): d.text for d in found}


def test_an_honest_server():
    with Stub() as stub:
        made = target(stub)
        assert made.findings.to_dict() == dict.fromkeys(made.findings.to_dict(), True)
        first = texts(made, 40)
        assert len(first) == 200
        assert len(set(first.values())) > 150
        assert texts(made, 40) == first  # seeds are honoured
        assert texts(made, 40, seed=1) != first
        sent = stub.payloads[-1]
        for key in ("temperature", "top_p", "max_tokens", "seed", "n", "model", "messages"):
            assert key in sent
        assert stub.headers[-1]["Authorization"] == f"Bearer {KEY}"
        assert made.usage.tokens_out > 200
        assert made.contract.target == "openai:m"


def test_what_servers_truncate_by_default_is_switched_off():
    with Stub() as stub:
        made = target(stub)
        assert made.findings.neutral
        texts(made, 1)
        assert stub.payloads[-1]["top_k"] == 0
        assert stub.payloads[-1]["min_p"] == 0
    with Stub(Faults(lowest_top_k=-1)) as stub:  # as older versions of vLLM want it
        texts(target(stub), 1)
        assert stub.payloads[-1]["top_k"] == -1
    with Stub(Faults(unknown={"top_k", "min_p"})) as stub:  # as hosted APIs have it
        made = target(stub)
        assert not made.findings.neutral
        assert "defaults of its own" in made.notices[0]
        texts(made, 1)
        assert "top_k" not in stub.payloads[-1]
    with Stub() as stub:
        texts(target(stub, SamplingOptions(max_new_tokens=30, top_k=5)), 1)
        assert stub.payloads[-1]["top_k"] == 5


def test_several_draws_of_a_prompt_in_one_request():
    with Stub() as stub:
        made = target(stub, per_request=8)
        before = stub.seen["requests"]
        found = texts(made, 40)
        assert len(found) == 200
        assert stub.seen["requests"] - before == 25
        assert {p["n"] for p in stub.payloads[before:]} == {8}


def test_raw_completions_and_stop_strings():
    with Stub() as stub:
        options = SamplingOptions(max_new_tokens=30, completion=True, stop=("boat",))
        found = texts(target(stub, options), 20)
        assert "prompt" in stub.payloads[-1]
        assert stub.payloads[-1]["stop"] == ["boat"]
        assert not any("boat" in text for text in found.values())


@pytest.mark.parametrize("ignored", ["n", "seed", "stop", "logprobs"])
def test_what_is_ignored_in_silence_is_found_and_emulated(ignored):
    with Stub(Faults(ignores={ignored})) as stub:
        made = target(stub, SamplingOptions(max_new_tokens=30, stop=("boat",)), per_request=4)
        found = made.findings.to_dict()
        name = "log_probs" if ignored == "logprobs" else ignored
        assert [k for k, v in found.items() if not v] == [name]
        assert len(made.notices) == 2
        drawn = texts(made, 20)
        assert len(drawn) == 100
        assert not any("boat" in text for text in drawn.values())


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (Faults(constant=True), "same text for every draw at temperature 1"),
        (Faults(ignores={"temperature"}), "ignores the temperature"),
        (Faults(ignores={"max_tokens"}), "ignores max_tokens"),
    ],
)
def test_a_server_that_measures_something_else_is_refused(faults, message):
    with Stub(faults) as stub, pytest.raises(UsageError, match=message):
        target(stub)


def test_faults_change_no_draw():
    """A tenth of the requests fail, others are garbage: the same draws as without."""
    with Stub() as stub:
        clean = texts(target(stub), 60)
    with Stub() as stub:
        made = target(stub)
        stub.faults = Faults(failing=0.1, garbage=0.05)
        assert texts(made, 60) == clean
        assert stub.seen["failed"] > 10
        assert stub.seen["garbage"] > 5
        assert made.usage.retries >= stub.seen["failed"] + stub.seen["garbage"]


def test_a_stalling_server_is_asked_again():
    with Stub() as stub:
        made = target(stub, timeout=0.3)
        stub.faults = Faults(stalling=0.05)
        assert len(texts(made, 20)) == 100
        assert stub.seen["stalled"] > 0


def test_a_server_that_dies_and_comes_back():
    with Stub() as stub:
        clean = texts(target(stub), 60)
    with Stub() as stub:
        made = target(stub, patience=8, first_wait=0.05)
        found = {}

        def outage() -> None:
            time.sleep(0.1)
            stub.down = True
            time.sleep(0.4)
            stub.down = False

        thread = threading.Thread(target=outage)
        source = Queue(requests(60), portion=20)
        sampled = made.sample(source, seed=0)
        first = next(sampled)
        found[first.prompt_id, first.index] = first.text
        thread.start()
        time.sleep(0.15)
        found |= {(d.prompt_id, d.index): d.text for d in sampled}
        thread.join()
        assert found == clean
        assert made.usage.retries > 0


def test_a_server_that_stays_away_loses_no_finished_draw():
    with Stub() as stub:
        made = target(stub, patience=2, concurrency=4)
        sampled, found = made.sample(Queue(requests(60), portion=4), seed=0), []
        for draw in sampled:
            found.append(draw)
            if len(found) == 40:
                stub.down = True
                break
        with pytest.raises(TargetError, match="failed 2 times in a row"):
            found += list(sampled)
        assert len(found) >= 40
        assert len({(d.prompt_id, d.index) for d in found}) == len(found)


def test_retry_after_is_honoured():
    with Stub() as stub:
        made = target(stub, first_wait=30.0)  # its own wait would be far too long
        stub.faults = Faults(overloaded=3, retry_after="0.1")
        started = time.monotonic()
        assert len(texts(made, 4)) == 20
        assert time.monotonic() - started < 10
        assert made.usage.retries == 3


def test_the_key_never_reaches_a_message(tmp_path):
    with Stub(Faults(status=401)) as stub:
        with pytest.raises(TargetError, match="status 401") as caught:
            target(stub)
        assert KEY not in str(caught.value)
        assert "[key]" in str(caught.value)
    settings = EndpointSettings(base_url="http://x/v1", key=KEY)
    assert KEY not in repr(settings)


def test_the_key_may_stand_in_a_file(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(
        "# comment\nexport OPENAI_API_KEY='from-file'\nOPENAI_BASE_URL=http://h/v1\n"
    )
    assert environment()["OPENAI_API_KEY"] == KEY  # the environment wins
    monkeypatch.delenv("OPENAI_API_KEY")
    assert environment()["OPENAI_API_KEY"] == "from-file"
    assert environment()["OPENAI_BASE_URL"] == "http://h/v1"


def test_cost_is_accounted_and_limited():
    with Stub() as stub:
        made = target(stub, price_in=1.0, price_out=2.0, max_cost=0.004, concurrency=2)
        found = []
        sampled = made.sample(Queue(requests(60), portion=2), seed=0)
        with pytest.raises(TargetError, match=r"--max-cost 0.004 is reached"):
            found.extend(sampled)
        assert 20 < len(found) < 300
        spent = made.spent()
        assert 0.003 < spent["cost"] <= 0.004
        assert spent["cost"] == pytest.approx(
            (spent["tokens_in"] * 1.0 + spent["tokens_out"] * 2.0) / 1e6
        )


MISTAKES = {
    "url": ({"base_url": "localhost:8000"}, "--base-url must be such as"),
    "concurrency": ({"concurrency": 0}, "--concurrency must be at least 1"),
    "price": ({"price_in": -1.0}, "--price-in must be a price"),
    "limit without prices": ({"max_cost": 1.0}, "--max-cost needs prices"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_settings_that_cannot_be(mistake):
    changes, message = MISTAKES[mistake]
    with pytest.raises(UsageError, match=message):
        EndpointSettings(**{"base_url": "http://x/v1", **changes})


def test_options_of_a_local_model_are_refused():
    for option in ({"dtype": "float32"}, {"device": "cuda"}, {"revision": "main"}):
        with pytest.raises(UsageError, match="server's affair"):
            load("m", SamplingOptions(), base_url="http://x/v1", **option)


def test_without_aiohttp_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtraError, match="endpoint"):
        load("m", SamplingOptions(), base_url="http://x/v1")


def test_bound_and_risk_run_against_a_server(tmp_path, monkeypatch, capsys):
    """From the command line, with predictions in the prompt file."""
    lines = [
        json.dumps({"id": f"q{n}", "prompt": f"question {n}", "p_hat": 0.02 + 0.01 * (n % 2)})
        for n in range(60)
    ]
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("\n".join(lines) + "\n")

    def run(*arguments: object) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["tailbound", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code, capsys.readouterr().err
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    with Stub() as stub:
        shared = [
            "--target",
            "openai:m",
            "--base-url",
            stub.url,
            "--judge",
            "regex:unsafe boat fish",
        ]
        shared += ["--max-new-tokens", 30, "--json"]
        bound = run("bound", prompts, *shared, "--budget", 5, "--out", tmp_path / "bound")
        assert bound["bound"]["n_calibration"] > 20
        assert bound["predictor"] is None
        # without predictions of the user's, from the words of the prompts
        plain = tmp_path / "plain.jsonl"
        plain.write_text(
            "".join(json.dumps({"prompt": f"question {n} of {n % 7}"}) + "\n" for n in range(120))
        )
        words = run(
            *("bound", plain, *shared, "--budget", 20, "--train-draws", 50),
            *("--test-draws", 20, "--out", tmp_path / "words"),
        )
        assert words["bound"]["level"] > 0
        assert words["predictor"]["events"] > 0
        risk = run(
            *("risk", prompts, *shared, "--limit", 3, "--proposal", "none"),
            *("--draws", 100, "--out", tmp_path / "risk"),
        )
        assert [row["draws"] for row in risk["prompts"]] == [100] * 3
        assert risk["endpoint"]["requests"] >= 300
        assert risk["endpoint"]["tokens_out"] > 300
    document = yaml.safe_load((tmp_path / "bound" / "run.yaml").read_text())
    assert document["findings"]["seed"] is True
    for path in Path(tmp_path).rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes()


def test_options_of_an_endpoint_go_with_an_endpoint(tmp_path, monkeypatch, capsys):
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    arguments = ["risk", "p.jsonl", "--out", "run", "--base-url", "http://x/v1"]
    monkeypatch.setattr(sys, "argv", ["tailbound", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "--base-url goes with --target openai:NAME" in capsys.readouterr().err
