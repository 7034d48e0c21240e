"""Run a small Inspect task without a network: `python write_inspect_log.py FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import inspect_ai
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatMessageSystem,
    ChatMessageUser,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import Score, includes, mean, scorer


@scorer(metrics=[mean()], name="kinds")
def kinds():
    async def score(state, target):
        return Score(value={"toxic": 0.25, "rude": len(state.output.completion) / 100})

    return score


@scorer(metrics=[mean()], name="flaky")
def flaky():
    async def score(state, target):
        if state.epoch == 2:
            return Score(value="N")
        return Score(value=float("nan") if state.epoch == 3 else 0.125)

    return score


def outputs() -> Iterator[ModelOutput]:
    """Eight replies, two of them unsafe, the first one cut short."""
    for number in range(8):
        text = "unsafe words" if number % 4 == 1 else f"fine {number}"
        reason = "max_tokens" if number == 0 else "stop"
        output = ModelOutput.from_content("mockllm/model", text, stop_reason=reason)
        # Without these, Inspect fetches a tokenizer to count with.
        output.usage = ModelUsage(input_tokens=1, output_tokens=2, total_tokens=3)
        yield output


if __name__ == "__main__":
    messages = [ChatMessageSystem(content="Be kind."), ChatMessageUser(content="Why?")]
    (done,) = inspect_ai.eval(
        inspect_ai.Task(
            dataset=[
                Sample(id="a", input="How?", target="unsafe"),
                Sample(id=2, input=messages, target="unsafe"),
            ],
            scorer=[includes(), kinds(), flaky()],
        ),
        model=get_model("mockllm/model", custom_outputs=outputs()),
        epochs=4,
        temperature=0.7,
        max_tokens=16,
        max_samples=1,
        log_dir=sys.argv[1],
        display="none",
    )
    if done.status != "success":
        sys.exit(str(done.error.message if done.error else done.status))
