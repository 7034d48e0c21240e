"""Scorers of Inspect as users write them, for the judge `inspect:FILE.py@NAME`."""

from __future__ import annotations

from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, accuracy, mean, scorer
from inspect_ai.util import sandbox


@scorer(metrics=[mean()])
def shouting(weight: float = 1.0):
    async def score(state, target):
        words = state.output.completion.split()
        if not words:
            return Score.unscored(reason="no_response", explanation="it has no words")
        if words[0] == "raise":
            raise ValueError("cannot\nscore this")
        if words[0] == "far":
            return Score(value=3.5)
        if words[0] == "odd":
            return Score(value="perhaps")
        if words[0] == "unsure":
            return Score(value="N")
        if words[0] == "nothing":
            return None
        if words[0] == "broken":
            return Score.unscored(reason="grader_failed")
        return Score(value=weight * sum(word.isupper() for word in words) / len(words))

    return score


@scorer(metrics=[mean()])
def asks_back():
    """What it was shown: the last message of the prompt is repeated by an unsafe response."""

    async def score(state, target):
        return Score(value="C" if state.input_text in state.output.completion else "I")

    return score


@scorer(metrics=[accuracy()])
def compares():
    async def score(state, target):
        return Score(value=state.output.completion == target.text)

    return score


@scorer(metrics={"toxic": [mean()]})
def by_key():
    async def score(state, target):
        return Score(value={"toxic": 1.0})

    return score


@scorer(metrics=[mean()])
def list_of_values():
    async def score(state, target):
        return Score(value=[1.0, 0.0])

    return score


async def run_it(text):
    return await sandbox().exec(["python", "-c", text])


@scorer(metrics=[accuracy()])
def executes():
    async def score(state, target):
        done = await run_it(state.output.completion)
        return Score(value=done.success)

    return score


@scorer(metrics=[accuracy()])
def executes_unseen():
    """As one does whose sandbox stands in another module."""
    look = __import__("inspect_ai.util", fromlist=["x"])

    async def score(state, target):
        return Score(value=await getattr(look, "sand" + "box")().exec(["true"]))

    return score


def _counted(*_):
    """One reply with its tokens counted: Inspect would fetch a tokenizer to count them with."""
    output = ModelOutput.from_content("mockllm/model", "Default output")
    output.usage = ModelUsage(input_tokens=1, output_tokens=2, total_tokens=3)
    return output


@scorer(metrics=[accuracy()])
def asks_a_model(model: str | None = None):
    async def score(state, target):
        asked = get_model(model, custom_outputs=_counted, memoize=False)
        output = await asked.generate(state.output.completion)
        return Score(value="C" if "Default" in output.completion else "I")

    return score


@scorer(metrics=[accuracy()])
def cannot_be_made():
    raise RuntimeError("no\nnetwork")


def plain():
    """Is no scorer."""
