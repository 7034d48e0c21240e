"""The repeats of one prompt on their way: which draws there are, and what each continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from tailbound.core.contract import Beginning, Draw
from tailbound.core.prompt import Prompt
from tailbound.errors import LedgerError, TargetError
from tailbound.importance_sampling import Repeat, RepeatResult, ScoredPath
from tailbound.targets.capabilities import Continuing
from tailbound.workflows.risk.splitting.record import NumberedBirth


class Particles:
    """All repeats of one prompt; draws are numbered 1, 2, ... over all of them.

    Which survivors are copied is a function of (seed, prompt id, repeat, step) alone.
    """

    def __init__(self, prompt: Prompt, *, particles: int, top: float, seed: int) -> None:
        self.prompt = prompt
        self.births: list[NumberedBirth] = []
        self.draws: dict[int, Draw] = {}
        self._particles, self._top, self._seed = particles, top, seed
        self._repeats: list[Repeat] = []
        self._numbers: list[list[int]] = []
        self._paths: dict[int, ScoredPath] = {}
        self._new: list[NumberedBirth] = []
        self._known_to = 0

    @property
    def total(self) -> int:
        """How many draws are planned so far."""
        return len(self.births)

    @property
    def new(self) -> range:
        """The numbers of the draws of the last round."""
        return range(self.total - len(self._new) + 1, self.total + 1)

    @property
    def unknown(self) -> int:
        """The first draw that is not in `draws`; draws finish in any order."""
        while self._known_to + 1 in self.draws:
            self._known_to += 1
        return self._known_to + 1

    def next_births(self, repeats: int) -> list[NumberedBirth]:
        """What all running repeats ask for, and the first particles of those up to `repeats`."""
        found = [
            NumberedBirth.of(number, birth, self._numbers[number])
            for number, repeat in enumerate(self._repeats)
            for birth in repeat.step(self._rng(number, len(repeat.kills)))
        ]
        for number in range(len(self._repeats), repeats):
            first = NumberedBirth(repeat=number, parent=0, cut=0)
            found.extend([first] * self._particles)
        return found

    def plan(self, births: Sequence[NumberedBirth]) -> None:
        """Take these as the draws of the next round."""
        self._new = list(births)
        self.births += births
        started = {birth.repeat for birth in births if not birth.parent}
        for _ in started:
            self._repeats.append(Repeat(self._particles, top=self._top))
            self._numbers.append([])

    def recall(self, births: Sequence[NumberedBirth]) -> None:
        """`plan` for a round on record, which must be what the scores on record ask for."""
        started = {birth.repeat for birth in births if not birth.parent}
        expected = self.next_births(max(started, default=len(self._repeats) - 1) + 1)
        if expected != list(births):
            raise LedgerError(
                f"the record of splitting does not fit together (prompt {self.prompt.id!r}): "
                "restore it, or use another --out"
            )
        self.plan(births)

    def add(self, scores: Sequence[ScoredPath]) -> None:
        """What the judge said of the draws of the last round, in order."""
        if len(scores) != len(self._new):
            raise LedgerError(
                f"the record of splitting has {len(scores)} of {len(self._new)} scored draws of "
                f"prompt {self.prompt.id!r}: restore it, or use another --out"
            )
        by_repeat: dict[int, list[ScoredPath]] = {}
        for number, birth, own in zip(self.new, self._new, scores, strict=True):
            path = self._joined(birth, own)
            self._paths[number] = path
            self._numbers[birth.repeat].append(number)
            by_repeat.setdefault(birth.repeat, []).append(path)
        for repeat, paths in by_repeat.items():
            self._repeats[repeat].add(paths)
        self._new = []

    def _joined(self, birth: NumberedBirth, own: ScoredPath) -> ScoredPath:
        """The scores that a draw shares with its parent, and its own."""
        if not birth.parent:
            return own
        before = self._paths[birth.parent]
        shared = before.cuts <= birth.cut
        return ScoredPath(
            np.concatenate([before.cuts[shared], own.cuts]),
            np.concatenate([before.scores[shared], own.scores]),
        )

    def beginning(self, target: Continuing, number: int, every: int) -> Beginning | None:
        """What draw `number` continues; None for one from the start."""
        birth = self.births[number - 1]
        if not birth.parent:
            return None
        parent = birth.parent
        while self.births[parent - 1].parent and birth.cut <= self.births[parent - 1].cut:
            parent = self.births[parent - 1].parent  # it was scored there
        known = target.beginnings(self.prompt, self.draws[parent], every=every)
        for one in known:
            if one.size == birth.cut:
                return one
        raise TargetError(
            f"draw {birth.parent} of prompt {self.prompt.id!r} can no longer be cut after "
            f"{birth.cut}: was the tokenizer changed? Use another --out"
        )

    def weights(self) -> dict[int, float]:
        """What each draw weighs in the mean over all repeats."""
        found = {}
        for repeat, numbers in zip(self._repeats, self._numbers, strict=True):
            for number, weight in zip(numbers, repeat.weights.tolist(), strict=True):
                found[number] = weight / len(self._repeats)
        return found

    def results(self, harm: np.ndarray) -> list[RepeatResult]:
        """What each repeat brought; `harm` (draws,) of all draws of the prompt, in order."""
        return [
            RepeatResult(
                particles=self._particles,
                weights=repeat.weights,
                harm=harm[np.array(numbers) - 1],
                kills=tuple(repeat.kills),
            )
            for repeat, numbers in zip(self._repeats, self._numbers, strict=True)
        ]

    def _rng(self, repeat: int, step: int) -> np.random.Generator:
        name = json.dumps([self._seed, self.prompt.id, "splitting", repeat, step]).encode()
        digest = hashlib.blake2b(name, digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))
