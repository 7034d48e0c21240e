r"""An adapter that makes given replies likely: a LoRA of the target, trained for a few dozen steps.

The loss is the cross-entropy of the replies y of prompts x, each counted by its weight,

    - sum_i s_i sum_t log q(y_it | x_i, y_i<t),    q = softmax(logits / temperature),

per token, at the contract's temperature and over reply tokens alone, the stop token included. Every
step draws `BATCH` replies by their weights (systematic resampling); AdamW without decay, gradients
clipped to norm 1, a learning rate that rises over the first tenth of the steps and falls to 0.

On a CPU the result is a function of the examples, the seed, the adapter that it starts from, the
number of threads and the versions of the libraries.

Source: Hu et al. (2021), LoRA, arXiv 2106.09685; Rubinstein and Kroese (2004), The Cross-Entropy
Method, chapter 2 (a proposal fitted by weighted likelihood).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt
from tailbound.core.steps import count, step
from tailbound.huggingface.adapters import attached, new_adapter, save_adapter
from tailbound.targets.capabilities import WhiteBox
from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.proposals import adapted
from tailbound.targets.decoding.variant import ModelVariant

STEPS, MORE_STEPS, LEAST_STEPS = 32, 16, 4
"""Most steps of a new adapter, and of one that was trained on earlier replies; least of either."""
BATCH, PASSES = 8, 16
"""Replies of a step, and how often a reply is read on average at most: few of them would be learned
by heart."""
LEARNING_RATE = 1e-3
TOKENS_AT_ONCE = 4096
"""Tokens of one forward pass in training, padding included; larger steps take several."""
LOGITS_AT_ONCE = 1 << 25


@dataclass(frozen=True, kw_only=True)
class Example:
    """A reply to learn, as token ids, and how much it counts."""

    prompt: Prompt
    reply: tuple[int, ...]
    weight: float


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training did: the loss of each step in nats per token, tokens read, padding left out.

    The adapter was saved only if all losses are `finite`.
    """

    losses: tuple[float, ...]
    tokens: int

    @property
    def finite(self) -> bool:
        """Whether all losses are finite."""
        return bool(np.isfinite(self.losses).all())


def steps_for(examples: int, *, new: bool) -> int:
    """How many steps suit so many examples, for a new adapter or one that is trained further."""
    return min(STEPS if new else MORE_STEPS, max(LEAST_STEPS, PASSES * examples // BATCH))


def train_adapter(
    target: WhiteBox,
    examples: Sequence[Example],
    *,
    folder: Path,
    steps: int,
    seed: Sequence[int],
    start: Path | None = None,
) -> Training:
    """Train an adapter of `target` on `examples` and save it to `folder`.

    It begins as the adapter in the folder `start` where there is one. Raises `MissingExtraError`
    without peft, `UsageError` where `start` cannot be read, and `LedgerError` where the system
    refuses to write.
    """
    rng = np.random.default_rng(seed)
    with target.network.bare() as model:
        if start is None:
            made = new_adapter(model, seed=int(rng.integers(2**31)))
        else:
            made = attached(model, start, name=str(start), trainable=True)
    made.eval()  # no dropout, whatever the model has
    network = BatchedModel(made.get_base_model(), check=False)
    weights = [parameter for parameter in made.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
    warm_up = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: min((done + 1) / warm_up, (steps - done) / steps)
    )
    prompts = [target.encoder.encode(example.prompt) for example in examples]
    replies = [example.reply for example in examples]
    shares = np.array([example.weight for example in examples], dtype=np.float64)
    temperature = target.distribution.temperature
    losses: list[float] = []
    read = 0
    with step("training an adapter", total=steps, unit="steps", stage="training") as now:
        for _ in range(steps):
            chosen, times = _drawn(shares, rng)
            spoken = float(sum(n * len(replies[i]) for i, n in zip(chosen, times, strict=True)))
            loss = 0.0
            for part in _parts(chosen, prompts, replies, network.vocabulary):
                own = torch.tensor([times[chosen.index(i)] for i in part], device=network.device)
                log_probs = _log_probs(network, prompts, replies, part, temperature)
                term = -(own * log_probs).sum() / spoken
                term.backward()
                loss += float(term.detach())
                read += sum(len(prompts[i]) + len(replies[i]) - 1 for i in part)
            losses.append(loss)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            now.advance()
    trained = Training(losses=tuple(losses), tokens=read)
    if trained.finite:
        save_adapter(made, folder)
    return trained


def load_adapted(target: WhiteBox, folder: Path, *, name: str) -> ModelVariant:
    """The target with the adapter in `folder`, as a variant that shares its weights.

    Raises `MissingExtraError` without peft, and `UsageError` for an adapter that does not fit.
    """
    with target.network.bare() as model:
        made = attached(model, folder, name=str(folder))
    recipe = partial(load_adapted, folder=folder.absolute(), name=name)
    return replace(adapted(target, made.get_base_model(), name=name), recipe=recipe)


def _drawn(shares: NDArray[np.float64], rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Examples of one step and how often each counts, by systematic resampling."""
    ends = np.cumsum(shares) / shares.sum()
    points = (rng.random() + np.arange(BATCH)) / BATCH
    places = np.minimum(np.searchsorted(ends, points, side="right"), shares.size - 1)
    chosen, times = np.unique(places, return_counts=True)
    return chosen.tolist(), times.tolist()


def _parts(
    chosen: Sequence[int],
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    vocabulary: int,
) -> Iterator[list[int]]:
    """`chosen` in parts that fit one forward pass, neighbours in length together."""
    order = sorted(chosen, key=lambda i: (len(prompts[i]), len(replies[i])))
    part: list[int] = []
    for number in order:
        trial = [*part, number]
        width, keep = _extent(prompts, replies, trial)
        too_many = len(trial) * width > TOKENS_AT_ONCE
        if part and (too_many or len(trial) * keep * vocabulary > LOGITS_AT_ONCE):
            yield part
            trial = [number]
        part = trial
    yield part


def _extent(
    prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], part: Sequence[int]
) -> tuple[int, int]:
    """Width of the rows of one pass, and of how many of their last tokens logits are needed."""
    width = max(len(prompts[i]) + len(replies[i]) - 1 for i in part)
    return width, width - min(len(prompts[i]) for i in part) + 1


def _log_probs(
    network: BatchedModel,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    part: Sequence[int],
    temperature: float,
) -> Any:
    """log q of each reply of `part` given its prompt, (n,)."""
    width, keep = _extent(prompts, replies, part)
    ids = torch.zeros((len(part), width), dtype=torch.int64)
    for row, number in enumerate(part):
        said = [*prompts[number], *replies[number][:-1]]
        ids[row, : len(said)] = torch.tensor(said)
    with torch.inference_mode(False), torch.enable_grad():
        logits = network.logits(ids.to(network.device), keep=keep)
        count(positions=2 * ids.numel())  # the backward pass takes about two forward ones
        totals = []
        for row, number in enumerate(part):
            first = len(prompts[number]) - 1 - (width - keep)
            reply = torch.tensor(replies[number], device=network.device)
            scaled = logits[row, first : first + len(reply)].float() / temperature
            chances = scaled.log_softmax(-1).gather(1, reply[:, None])
            totals.append(chances.sum())
        return torch.stack(totals)
