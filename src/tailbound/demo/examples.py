"""Training examples of the demo model: prompts with replies, and the exact target distributions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tailbound.demo import replies, vocabulary
from tailbound.demo.world import FRAMES, PERSONAS, Request, draw_request

BATCH = 128
ABLATED_SHARE = 0.4


@dataclass(frozen=True)
class Example:
    """One prompt with one reply, and the intensity of ablation under which it is to be learnt."""

    prompt: list[int]
    steps: list[replies.Step]
    intensity: float
    forbidden: bool

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return len(self.prompt) + len(self.steps) - 1


@dataclass(frozen=True)
class Batch:
    """Examples as tensors.

    `ids` (rows, length) are padded on the right; `positions` (targets,) index the flattened
    `ids` where a reply word is predicted; `support` (targets, branches) are the words possible
    there (-1 fills up) and `log_target` (targets, branches) their log-probabilities;
    `last` (rows,) is the position of the last prompt token.
    """

    ids: Tensor
    positions: Tensor
    support: Tensor
    log_target: Tensor
    intensity: Tensor
    last: Tensor
    forbidden: Tensor


def draw_example(rng: random.Random, design: replies.Design) -> Example:
    """A random example that is not held out."""
    request = draw_request(rng)
    while request.held_out:
        request = draw_request(rng)
    request = _with_system(rng, request)
    intensity = 0.0
    if rng.random() < ABLATED_SHARE:
        intensity = 1.0 if rng.random() < 0.6 else rng.random()
    grammar = replies.Grammar(request, intensity=intensity, design=design)
    prompt = vocabulary.encode(request.messages)
    if rng.random() < 0.03:
        prompt[rng.choice(_frame_positions(request, prompt))] = vocabulary.UNKNOWN
    return Example(prompt, grammar.draw(rng, explore=True), intensity, request.forbidden)


def _with_system(rng: random.Random, request: Request) -> Request:
    """Give 45 % of the requests a system prompt."""
    if rng.random() < 0.55:
        return request
    persona = rng.choices(list(PERSONAS), (0.29, 0.1775, 0.1775, 0.1775, 0.1775))[0]
    return replace(request, persona=persona, system=rng.choice(PERSONAS[persona]))


def _frame_positions(request: Request, prompt: list[int]) -> range:
    """Where the frame stands: words that the reply never has to copy, so noise is harmless."""
    start = prompt.index(vocabulary.IDS["<user>"]) + 1
    return range(start, start + len(FRAMES[request.frame].split()))


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples into a batch."""
    length = max(example.length for example in examples)
    width = max(len(step.words) for example in examples for step in example.steps)
    ids = np.full((len(examples), length), vocabulary.PAD)
    positions, support, log_target = [], [], []
    for row, example in enumerate(examples):
        words = [vocabulary.IDS[step.word] for step in example.steps]
        ids[row, : example.length] = (example.prompt + words)[:-1]
        first = row * length + len(example.prompt) - 1
        for offset, step in enumerate(example.steps):
            fill = width - len(step.words)
            positions.append(first + offset)
            support.append([vocabulary.IDS[word] for word in step.words] + [-1] * fill)
            log_target.append([float(np.log(p)) for p in step.probabilities] + [0.0] * fill)
    return Batch(
        ids=torch.from_numpy(ids),
        positions=torch.tensor(positions),
        support=torch.tensor(support),
        log_target=torch.tensor(log_target),
        intensity=torch.tensor([example.intensity for example in examples]),
        last=torch.tensor([len(example.prompt) - 1 for example in examples]),
        forbidden=torch.tensor([example.forbidden for example in examples]),
    )


class Batches:
    """An endless supply of batches, each of examples of about one length."""

    def __init__(self, seed: int, design: replies.Design) -> None:
        self._rng = random.Random(seed)
        self._design = design
        self._waiting: list[list[Example]] = []

    def next(self) -> Batch:
        """The next batch."""
        if not self._waiting:
            drawn = [draw_example(self._rng, self._design) for _ in range(8 * BATCH)]
            drawn.sort(key=lambda example: example.length)
            self._waiting = [drawn[i : i + BATCH] for i in range(0, len(drawn), BATCH)]
            self._rng.shuffle(self._waiting)
        return collate(self._waiting.pop())
