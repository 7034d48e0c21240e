"""What each round of a run draws: written down before it is drawn, so that a resume reads the same.

    DIR/plan/round-0001.json    {"schema": 1, "proposals": names of all proposals,
                                 "sequential": whether the number of rounds depends on the draws,
                                 "batches": {prompt id: counts per proposal}}

The draws of a prompt are numbered 1, 2, ... over all its batches, within a batch in the order of
the proposals.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tailbound.errors import ContractMismatchError
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json
from tailbound.workflows.risk.proposal_mixture import (
    Family,
    FloatArray,
    IntArray,
    Segments,
    proposal_of_draw,
)

SCHEMA = 1
SCORED_SHARE, SCORED_DRAWS = 0.1, 50
"""Of safe draws, the share that is scored, and the size of a batch up to which all of them are."""


class Plan:
    """All rounds so far; a `Script` for the audit."""

    def __init__(self, folder: Path, family: Family, *, proposal: str, seed: int) -> None:
        """Read the rounds that are on record in `folder`; `proposal` names it in the ledger.

        Raises `LedgerError` for a damaged file and `ContractMismatchError` where the rounds are of
        other proposals: another family, intensity or setting of a mixture.
        """
        self._folder = folder / "plan"
        self._family = family
        self._proposal = proposal
        self._seed = seed
        self._counts: dict[str, list[IntArray]] = {}
        self._labels: dict[str, IntArray] = {}
        self._chance: dict[str, FloatArray] = {}
        self._sequential = False
        self.rounds = 0
        while (path := self._path(self.rounds + 1)).is_file():
            document = read_json(path)
            with understood(path):
                names, sequential = document["proposals"], bool(document["sequential"])
                batches = {
                    name: np.array(c, dtype=np.int64) for name, c in document["batches"].items()
                }
            if names != list(family.names):
                raise ContractMismatchError(
                    f"{folder} holds draws of another family of proposals (the last was "
                    f"{names[-1] or 'the target'}, not {family.names[-1] or 'the target'}): use "
                    "another --out, or the same options as before"
                )
            self._take(batches, sequential)

    def add(self, batches: Mapping[str, IntArray], *, sequential: bool = False) -> None:
        """Write the next round down: counts (K,) by prompt id.

        `sequential` says that whether there is another round will depend on what this one brings.
        """
        make_folder(self._folder)
        plain = {name: counts.tolist() for name, counts in batches.items()}
        write_json(
            self._path(self.rounds + 1),
            {
                "schema": SCHEMA,
                "proposals": list(self._family.names),
                "sequential": sequential,
                "batches": plain,
            },
        )
        self._take(batches, sequential)

    def _path(self, number: int) -> Path:
        return self._folder / f"round-{number:04d}.json"

    def _take(self, batches: Mapping[str, IntArray], sequential: bool) -> None:
        for name, counts in batches.items():
            self._counts.setdefault(name, []).append(counts)
            before = self._labels.get(name, np.empty(0, dtype=np.int64))
            self._labels[name] = np.concatenate([before, proposal_of_draw(counts)])
            chances = self._chance.get(name, np.empty(0))
            self._chance[name] = np.concatenate([chances, scoring_chance(int(counts.sum()))])
        self._sequential |= sequential
        self.rounds += 1

    def batches(self, prompt_id: str) -> list[IntArray]:
        """The counts of every batch of a prompt, in order."""
        return self._counts.get(prompt_id, [])

    def sequential(self, prompt_id: str) -> bool:
        """Whether the number of draws of a prompt may have depended on what they brought.

        So it may where a later call asked for more of them.
        """
        return self._sequential or len(self.batches(prompt_id)) > 1

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
