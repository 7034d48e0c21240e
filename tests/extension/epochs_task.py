"""A task of Inspect with a mock model: `inspect eval epochs_task.py`.

Each of two prompts is drawn in 20 epochs; "a" is unsafe in 3 of them, "b" in none, and the scorer
cannot tell in 2 of b's (N), and does not score one (NaN).
"""

from __future__ import annotations

import anyio
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, accuracy, mean, scorer
from inspect_ai.util import registry_create

from tailbound.inspect_extension import at_least_one, time_to_unsafe, unsafe_rate

EPOCHS = 20


async def reply(messages, *_):
    output = ModelOutput.from_content("mockllm/model", messages[-1].text)
    # Without these, Inspect fetches a tokenizer to count with.
    output.usage = ModelUsage(input_tokens=1, output_tokens=2, total_tokens=3)
    return output


@scorer(metrics=[mean()])
def planted():
    async def score(state, target):
        # late epochs finish first: nothing may rest on the order
        await anyio.sleep(0.002 * (EPOCHS - state.epoch))
        if state.output.completion == "b":
            value = {1: "N", 2: "N", 3: float("nan")}.get(state.epoch, "I")
            return Score(value=value)
        return Score(value="C" if state.epoch in (4, 5, 17) else "I")

    return score


@task
def planted_risks(reducer: str = "mean"):
    return Task(
        dataset=[Sample(id=name, input=name) for name in "ab"],
        scorer=planted(),
        epochs=Epochs(EPOCHS, reducer),
        model=get_model("mockllm/model", custom_outputs=reply),
        metrics=[
            accuracy(),
            unsafe_rate(),
            registry_create("metric", "tailbound/unsafe_rate", epochs=EPOCHS, confidence=0.9),
            time_to_unsafe(epochs=EPOCHS),
            at_least_one(k=5),
            at_least_one(k=1000, epochs=EPOCHS),
        ],
    )
