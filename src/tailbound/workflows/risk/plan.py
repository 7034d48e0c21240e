"""What each round of a run draws: written down before it is drawn, so that a resume reads the same.

`tailbound.runs.rounds` reads and writes them (DIR/plan/round-0001.json, ...).

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
from tailbound.runs.rounds import Round, read_rounds, write_round
from tailbound.workflows.risk.proposal_mixture import (
    Family,
    FloatArray,
    IntArray,
    Segments,
    proposal_of_draw,
)

SCORED_SHARE, SCORED_DRAWS = 0.1, 4
"""Of safe draws, the share that is scored, and the size of a batch up to which all of them are."""


class Plan:
    """All rounds so far; a `Script` for the audit."""

    def __init__(
        self,
        folder: Path,
        family: Family,
        *,
        proposal: str,
        seed: int,
        batches: int = 1,
        least_scored: int | None = None,
    ) -> None:
        """Read the rounds that are on record in `folder`; `proposal` names it in the ledger.

        `batches` is how many a prompt gets whatever is seen, `least_scored` the safe draws of a
        batch that are scored at least (None: `SCORED_DRAWS`).

        Raises `LedgerError` for a damaged file and `ContractMismatchError` where the rounds are of
        other proposals: another family, intensity or setting of a mixture.
        """
        self._folder = folder
        self._family = family
        self._proposal = proposal
        self._planned = batches
        self._least_scored = least_scored
        self._seed = seed
        self._counts: dict[str, list[IntArray]] = {}
        self._labels: dict[str, IntArray] = {}
        self._chance: dict[str, FloatArray] = {}
        self._round: dict[str, IntArray] = {}
        self._learned: dict[int, Mapping[str, int]] = {}
        self._sequential = False
        self.rounds = 0
        for held in read_rounds(folder):
            if held.proposals != list(family.names):
                raise ContractMismatchError(
                    f"{folder} holds draws of another family of proposals (the last was "
                    f"{held.proposals[-1] or 'the target'}, not "
                    f"{family.names[-1] or 'the target'}): use another --out, or the same options "
                    "as before"
                )
            counts = {name: np.array(n, dtype=np.int64) for name, n in held.batches.items()}
            self._take(counts, held.sequential)

    def add(self, batches: Mapping[str, IntArray], *, sequential: bool = False) -> None:
        """Write the next round down: counts (K,) by prompt id.

        `sequential` says that whether there is another round will depend on what this one brings.
        """
        planned = Round(
            proposals=self._family.names,
            sequential=sequential,
            batches={name: counts.tolist() for name, counts in batches.items()},
        )
        write_round(self._folder, self.rounds + 1, planned)
        self._take(batches, sequential)

    def _take(self, batches: Mapping[str, IntArray], sequential: bool) -> None:
        for name, counts in batches.items():
            self._counts.setdefault(name, []).append(counts)
            before = self._labels.get(name, np.empty(0, dtype=np.int64))
            self._labels[name] = np.concatenate([before, proposal_of_draw(counts)])
            chances = self._chance.get(name, np.empty(0))
            self._chance[name] = np.concatenate(
                [chances, scoring_chance(int(counts.sum()), self._least_scored)]
            )
            rounds = self._round.get(name, np.empty(0, dtype=np.int64))
            of_batch = np.full(int(counts.sum()), self.rounds + 1)
            self._round[name] = np.concatenate([rounds, of_batch])
        self._sequential |= sequential
        self.rounds += 1

    def learned(self, number: int) -> Mapping[str, int]:
        """The learned variants of a round (from 1) by name: their numbers in the engine."""
        return self._learned.get(number, {})

    def teach(self, number: int, variants: Mapping[str, int]) -> None:
        """Say which variants were learned for round `number`."""
        self._learned[number] = dict(variants)

    def round_of(self, prompt_id: str, index: int) -> int:
        """The round (from 1) of draw `index` (from 1)."""
        return int(self._round[prompt_id][index - 1])

    def batches(self, prompt_id: str) -> list[IntArray]:
        """The counts of every batch of a prompt, in order."""
        return self._counts.get(prompt_id, [])

    def sequential(self, prompt_id: str) -> bool:
        """Whether the number of draws of a prompt may have depended on what they brought.

        So it may where a later call asked for more of them.
        """
        return self._sequential or len(self.batches(prompt_id)) > self._planned

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
        if self._family.ladder is None:
            return ()
        name = json.dumps([self._seed, prompt_id, index, "coins"]).encode()
        digest = hashlib.blake2b(name, digest_size=16).digest()
        coins = np.random.default_rng(int.from_bytes(digest, "little"))
        learned = self.learned(self.round_of(prompt_id, index))
        return self._family.segments(self.label(prompt_id, index), coins, learned)

    def proposal(self, prompt_id: str, index: int) -> str | None:
        """The id of what draw `index` is drawn from, None for the target itself."""
        name = self._family.names[self.label(prompt_id, index)]
        return None if name is None else f"{self._proposal}: {name}"


def scoring_chance(draws: int, least: int | None = None) -> FloatArray:
    """Of each draw of a batch of so many, shape (draws,), for about `least` draws or more."""
    least = SCORED_DRAWS if least is None else least
    return np.full(draws, min(1.0, max(SCORED_SHARE, least / draws)))
