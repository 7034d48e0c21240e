"""What each round of a run draws: written down before it is drawn, so that a resume reads the same.

    DIR/plan/round-0001.json    {"schema": 1, "batches": {prompt id: counts per proposal}}

The draws of a prompt are numbered 1, 2, ... over all its batches, within a batch in the order of
the proposals.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tailbound.errors import LedgerError
from tailbound.files import write_json
from tailbound.risking.family import Family, FloatArray, IntArray, Segments, proposal_of_draw

SCHEMA = 1
SCORED_SHARE, SCORED_DRAWS = 0.1, 50
"""Of safe draws, the share that is scored, and the size of a batch up to which all of them are."""


class Plan:
    """All rounds so far; a `Script` for the audit."""

    def __init__(self, folder: Path, family: Family, *, proposal: str, seed: int) -> None:
        """Read the rounds that are on record in `folder`; `proposal` names it in the ledger."""
        self._folder = folder / "plan"
        self._family = family
        self._proposal = proposal
        self._seed = seed
        self._counts: dict[str, list[IntArray]] = {}
        self._labels: dict[str, IntArray] = {}
        self._chance: dict[str, FloatArray] = {}
        self.rounds = 0
        while (path := self._path(self.rounds + 1)).is_file():
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                batches = {
                    name: np.array(c, dtype=np.int64) for name, c in document["batches"].items()
                }
            except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise LedgerError(f"{path} is damaged ({error}): restore it") from error
            if any(counts.shape != (len(family.names),) for counts in batches.values()):
                raise LedgerError(
                    f"{path} was made for another family of proposals: use another --out"
                )
            self._take(batches)

    def add(self, batches: Mapping[str, IntArray]) -> None:
        """Write the next round down: counts (K,) by prompt id."""
        self._folder.mkdir(parents=True, exist_ok=True)
        plain = {name: counts.tolist() for name, counts in batches.items()}
        write_json(self._path(self.rounds + 1), {"schema": SCHEMA, "batches": plain})
        self._take(batches)

    def _path(self, number: int) -> Path:
        return self._folder / f"round-{number:04d}.json"

    def _take(self, batches: Mapping[str, IntArray]) -> None:
        for name, counts in batches.items():
            self._counts.setdefault(name, []).append(counts)
            before = self._labels.get(name, np.empty(0, dtype=np.int64))
            self._labels[name] = np.concatenate([before, proposal_of_draw(counts)])
            chances = self._chance.get(name, np.empty(0))
            self._chance[name] = np.concatenate([chances, scoring_chance(int(counts.sum()))])
        self.rounds += 1

    def batches(self, prompt_id: str) -> list[IntArray]:
        """The counts of every batch of a prompt, in order."""
        return self._counts.get(prompt_id, [])

    def draws(self, prompt_id: str) -> int:
        """How many draws of a prompt are planned."""
        return int(self._labels[prompt_id].size) if prompt_id in self._labels else 0

    def label(self, prompt_id: str, index: int) -> int:
        """The proposal of draw `index` (from 1)."""
        return int(self._labels[prompt_id][index - 1])

    def sampled(self, prompt_id: str, index: int) -> bool:
        """Whether draw `index` is scored even if it is safe: a function of its name alone."""
        name = json.dumps([self._seed, prompt_id, index, "score"]).encode()
        digest = hashlib.blake2b(name, digest_size=8).digest()
        uniform = int.from_bytes(digest, "little") / 2**64
        return uniform < float(self._chance[prompt_id][index - 1])

    def segments(self, prompt_id: str, index: int) -> Segments:
        """Who speaks in draw `index`; the coins of a mixture are a function of its name alone."""
        name = json.dumps([self._seed, prompt_id, index, "coins"]).encode()
        digest = hashlib.blake2b(name, digest_size=16).digest()
        coins = np.random.default_rng(int.from_bytes(digest, "little"))
        return self._family.segments(self.label(prompt_id, index), coins)

    def proposal(self, prompt_id: str, index: int) -> str | None:
        """The id of what draw `index` is drawn from, None for the target itself."""
        name = self._family.names[self.label(prompt_id, index)]
        return None if name is None else f"{self._proposal}: {name}"


def scoring_chance(draws: int) -> FloatArray:
    """Of each draw of a batch of so many, shape (draws,)."""
    return np.full(draws, min(1.0, max(SCORED_SHARE, SCORED_DRAWS / draws)))
