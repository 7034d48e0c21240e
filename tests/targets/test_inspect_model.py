"""`inspect-model:PROVIDER/NAME`: mock models, honest and not, and a server behind a provider."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    get_model,
)

import tailbound
from endpoint.stub import Faults, Stub
from tailbound.core.contract import Draw, DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import MissingExtraError, TargetError, UsageError
from tailbound.targets.inspect_model import InspectModelTarget
from tailbound.targets.registry import check_target, load_target

Cli = Callable[..., tuple[int, str, str]]

pytestmark = [
    # the retrying library that Inspect uses has renamed an argument
    pytest.mark.filterwarnings("ignore:The .initial. parameter:DeprecationWarning"),
]
WORDS = ("river", "stone", "water", "unsafe", "boat", "fish", "rain", "moon")


class Mock:
    """A model that samples words, honest by default; `odd` replaces what it says to a prompt."""

    def __init__(
        self,
        *,
        ignores: Sequence[str] = (),
        odd: Callable[[str, int], ModelOutput | Exception | None] = lambda text, number: None,
    ) -> None:
        self.random = random.Random(0)
        self.ignores, self.odd = set(ignores), odd
        self.lock = threading.Lock()
        self.asked: list[tuple[str, GenerateConfig]] = []
        self.served = "mockllm/model"

    def __call__(self, messages: Any, tools: Any, choice: Any, config: GenerateConfig) -> Any:
        text = messages[-1].text
        with self.lock:
            number = sum(one == text for one, _ in self.asked)
            self.asked.append((text, config))
        odd = self.odd(text, number)
        if isinstance(odd, Exception):
            raise odd
        if odd is not None:
            return counted(odd, 1)
        temperature = 1.0 if "temperature" in self.ignores else config.temperature or 0.0
        cold = temperature < 0.01 or (
            ("top_k" not in self.ignores and config.top_k == 1)
            or ("top_p" not in self.ignores and (config.top_p or 1) < 0.01)
        )
        limit = 50 if "max_tokens" in self.ignores else config.max_tokens or 50
        words = ["river"] * 40 if cold else [self.random.choice(WORDS) for _ in range(40)]
        cut = len(words) > limit
        output = ModelOutput.from_content(
            self.served, " ".join(words[:limit]), stop_reason="max_tokens" if cut else "stop"
        )
        return counted(output, min(limit, len(words)))

    def target(self, **options: Any) -> InspectModelTarget:
        model = get_model("mockllm/model", custom_outputs=self, memoize=False)
        chosen = SamplingOptions(**{"max_new_tokens": 6, **options})
        return InspectModelTarget("mockllm/model", chosen, model=model, concurrency=4)


def counted(output: ModelOutput, tokens: int) -> ModelOutput:
    """With its tokens counted: Inspect would fetch a tokenizer to count them with."""
    output.usage = ModelUsage(input_tokens=3, output_tokens=tokens, total_tokens=3 + tokens)
    return output


class Requests:
    """So many draws of each prompt."""

    def __init__(self, *prompts: str, draws: int = 10) -> None:
        self.left = [
            DrawRequest(
                prompt=Prompt(id=text, messages=(("user", text),)), stream="s", index=number
            )
            for number in range(1, draws + 1)
            for text in prompts
        ]

    def take(self, limit: int, *, wait: bool) -> list[DrawRequest]:
        taken, self.left = self.left[:limit], self.left[limit:]
        return taken


def drawn(target: InspectModelTarget, *prompts: str, draws: int = 10) -> list[Draw]:
    return list(target.sample(Requests(*prompts, draws=draws), seed=0))


def test_every_draw_comes_once_under_the_contract() -> None:
    mock = Mock()
    target = mock.target(temperature=0.7, top_k=5, top_p=0.9, stop=("fish",))
    found = drawn(target, "a", "b", draws=25)
    keys = Counter((one.prompt_id, one.index) for one in found)
    assert keys == Counter((name, n) for name in "ab" for n in range(1, 26))
    assert all(one.missing is None and one.log_prob != one.log_prob for one in found)
    assert all("fish" not in one.text for one in found)
    asked = [config for text, config in mock.asked if text in "ab"]
    assert {(one.temperature, one.top_k, one.top_p, one.max_tokens) for one in asked} == {
        (0.7, 5, 0.9, 6)
    }
    assert all(one.stop_seqs == ["fish"] and one.seed is None for one in asked)
    contract = target.contract
    assert (contract.target, contract.precision) == ("inspect-model:mockllm/model", "remote")
    assert (contract.temperature, contract.top_k, contract.top_p) == (0.7, 5, 0.9)
    assert target.reproducible == "distribution"
    assert target.spent()["requests"] == len(mock.asked)
    assert any("distribution only" in line for line in target.notices)


@pytest.mark.parametrize(
    ("ignores", "options", "message"),
    [
        (("temperature",), {}, "ignores the temperature"),
        (("max_tokens",), {}, "ignores the longest response"),
        (("top_k",), {"top_k": 3}, "ignores top-k"),
        (("top_p",), {"top_p": 0.5}, "ignores top-p"),
    ],
)
def test_what_the_model_does_not_heed_is_refused(
    ignores: Sequence[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Mock(ignores=ignores).target(**options)


def test_a_model_that_does_not_sample_is_refused() -> None:
    def same(text: str, number: int) -> ModelOutput:
        return ModelOutput.from_content("mockllm/model", "always this")

    with pytest.raises(UsageError, match="it does not sample"):
        Mock(odd=same).target()


@pytest.mark.parametrize(
    ("reason", "finish", "word"),
    [
        ("stop", "stop", None),
        ("tool_calls", "stop", None),
        ("max_tokens", "length", None),
        ("model_length", "length", None),
        ("content_filter", "content_filter", "content filter"),
        ("unknown", "incomplete", "'unknown', whose meaning is not known"),
    ],
)
def test_how_a_response_ended(reason: Any, finish: str, word: str | None) -> None:
    """What a filter withheld, and what nobody knows to be whole, is missing and never safe."""

    def odd(text: str, number: int) -> ModelOutput | None:
        if text != "a":
            return None
        return ModelOutput.from_content("mockllm/model", "so far", stop_reason=reason)

    (draw,) = drawn(Mock(odd=odd).target(), "a", draws=1)
    assert (draw.text, draw.finish_reason) == ("so far", finish)
    assert (draw.missing is None) if word is None else (word in (draw.missing or ""))


def test_no_response_and_an_error_are_missing() -> None:
    def odd(text: str, number: int) -> ModelOutput | None:
        if text == "none":
            return ModelOutput(model="mockllm/model")
        if text == "error":
            return ModelOutput.from_content("mockllm/model", "", error="moderated")
        return None

    found = {one.prompt_id: one for one in drawn(Mock(odd=odd).target(), "none", "error", draws=1)}
    assert "no response" in (found["none"].missing or "")
    assert "moderated" in (found["error"].missing or "")


def test_thoughts_are_kept_apart() -> None:
    mock = Mock()

    def odd(text: str, number: int) -> ModelOutput:
        thought = " ".join(mock.random.choice(WORDS) for _ in range(5))
        content = [ContentReasoning(reasoning=thought), ContentText(text=f"so {thought[:4]}")]
        message = ChatMessageAssistant(content=content)
        choice = ChatCompletionChoice(message=message, stop_reason="stop")
        return ModelOutput(model="mockllm/model", choices=[choice])

    mock.odd = odd
    target = mock.target(thinking_room=100)
    assert target.contract.max_new_tokens == 106
    assert any("thinks before it replies" in line for line in target.notices)
    assert all(one.text.startswith("so ") for one in drawn(target, "a"))
    aloud = mock.target(thinking="judge")
    assert all(not one.text.startswith("so ") for one in drawn(aloud, "a"))


def test_lost_draws_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailbound.targets.inspect_model.asking._FIRST_WAIT", 0.001)

    def odd(text: str, number: int) -> Exception | None:
        return ConnectionError("lost\nit") if text == "a" and number in (1, 4, 7) else None

    target = Mock(odd=odd).target()
    assert {one.index for one in drawn(target, "a", draws=12)} == set(range(1, 13))
    assert target.spent()["retries"] == 3


def test_a_failure_for_good_comes_after_every_finished_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tailbound.targets.inspect_model.asking._FIRST_WAIT", 0.001)

    def odd(text: str, number: int) -> Exception | None:
        return ConnectionError("down") if text == "bad" else None

    target = Mock(odd=odd).target()
    source = Requests("a", draws=6)
    source.left.insert(5, Requests("bad", draws=1).left[0])
    found: list[Draw] = []
    with pytest.raises(TargetError, match=r"failed on prompt 'bad' \(ConnectionError: down\)"):
        found.extend(target.sample(source, seed=0))
    assert len(found) >= 3
    # and what was not handed out is asked for by the next call
    assert len(drawn(target, "a", draws=6)) == 6


def test_another_model_in_the_middle_of_a_run_ends_it() -> None:
    mock = Mock()
    target = mock.target()
    assert target.contract.revision is None
    mock.served = "mockllm/other"
    with pytest.raises(TargetError, match="draws of two models are not pooled"):
        drawn(target, "a")


def test_prompts_that_cannot_be_asked() -> None:
    target = Mock().target(system="Be kind.")
    for messages, message in (
        ((("tool", "x"),), "a message of the role 'tool'"),
        ((("user", "x"), ("assistant", "y")), "ends with the beginning of an answer"),
        ((("system", "x"), ("user", "y")), "remove --system"),
    ):
        with pytest.raises(UsageError, match=message):
            target.prompt_tokens([Prompt(id="q", messages=messages)])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpt-4o", {}, "needs PROVIDER/NAME"),
        ("nobody/model", {}, "cannot be used"),
        ("mockllm/model", {"completion": True}, "--completion does not apply"),
        ("mockllm/model", {"extra_body": "{}"}, "--extra-body does not apply"),
    ],
)
def test_wrong_usage_is_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_target(f"inspect-model:{name}", SamplingOptions(**options))
    assert "\n" not in str(caught.value)


def test_options_of_other_targets_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--dtype does not apply to inspect-model: targets"):
        check_target("inspect-model:mockllm/model", dtype="float32")
    monkeypatch.setattr("tailbound.core.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"tailbound\[inspect\]"):
        check_target("inspect-model:mockllm/model")


def test_a_run_through_a_real_provider_and_a_server(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inspect's provider for OpenAI-compatible servers, against one that fails now and then."""
    monkeypatch.setenv("STUB_API_KEY", "none")
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": f"say {n}"}) for n in "ab"))
    with Stub(Faults(failing=0.1, model="model")) as server:
        code, out, err = cli(
            *("risk", tmp_path / "p.jsonl", "--target", "inspect-model:openai-api/stub/model"),
            *("--base-url", server.url, "--judge", "regex:unsafe", "--proposal", "none"),
            *("--draws", 30, "--max-new-tokens", 8, "--out", tmp_path / "run", "--json"),
        )
    assert code == 0, err
    draws = tailbound.load_run(tmp_path / "run").draws
    assert draws.height == 60
    said = draws["text"].str.contains("unsafe", literal=True)
    assert 0 < said.sum() < 60
    assert ((draws["score"] == 1.0) == said).all()
    assert json.loads(out)["spend"]["risk"]["missing"] == 0
    assert tailbound.load_run(tmp_path / "run").spend.usage["target"]["requests"] >= 60
