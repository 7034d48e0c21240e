"""The rounds of splitting: written down before they are drawn, and what the judge said of them.

    DIR/splitting/round-0001.json     {"schema": 1, "particles", "score_every",
                                       "births": {prompt id: [[repeat, parent, cut], ...]}}
    DIR/splitting/levels-0001.json    {"schema": 1,
                                       "scores": {prompt id: [{"cuts", "scores"}, ...]}}

Draws of a prompt are numbered 1, 2, ... over all rounds, in the order of `births`. `parent` is the
draw that is continued, after its first `cut` tokens (characters, where a server returns no tokens);
0 and 0 for one from the start. `scores` are those of the beginnings that a draw does not share with
its parent, then that of the whole reply; null where a verdict is missing. What is to be killed next
rests on recorded scores alone: a judge that would now say something else changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailbound.importance_sampling import Birth, ScoredPath
from tailbound.runs.layout import SPLITTING, levels_name, round_name
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class NumberedBirth:
    """A draw of a prompt: of repeat 0, 1, ..., continuing draw `parent`; 0 for none."""

    repeat: int
    parent: int
    cut: int

    @classmethod
    def of(cls, repeat: int, birth: Birth, numbers: Sequence[int]) -> NumberedBirth:
        """From what `Repeat.step` asks for; `numbers` are the draws of that repeat."""
        return cls(repeat=repeat, parent=numbers[birth.parent], cut=birth.cut)


Births = Mapping[str, Sequence[NumberedBirth]]
Scores = Mapping[str, Sequence[ScoredPath]]


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round draws, by prompt id, and under which settings."""

    particles: int
    score_every: int
    births: Births


def read_round(folder: Path, number: int) -> Round | None:
    """Round `number` (from 1) of the run in `folder`, None where there is none."""
    path = folder / SPLITTING / round_name(number)
    if not path.is_file():
        return None
    document = read_json(path)
    with understood(path):
        return Round(
            particles=int(document["particles"]),
            score_every=int(document["score_every"]),
            births={
                str(name): [
                    NumberedBirth(repeat=int(repeat), parent=int(parent), cut=int(cut))
                    for repeat, parent, cut in rows
                ]
                for name, rows in document["births"].items()
            },
        )


def write_round(folder: Path, number: int, planned: Round) -> None:
    """Write down round `number`; `LedgerError` where the system refuses."""
    make_folder(folder / SPLITTING)
    write_json(
        folder / SPLITTING / round_name(number),
        {
            "schema": SCHEMA,
            "particles": planned.particles,
            "score_every": planned.score_every,
            "births": {
                name: [[birth.repeat, birth.parent, birth.cut] for birth in births]
                for name, births in planned.births.items()
            },
        },
    )


def read_scores(folder: Path, number: int) -> Scores | None:
    """What the judge said of the draws of round `number`, None where it was not asked yet."""
    path = folder / SPLITTING / levels_name(number)
    if not path.is_file():
        return None
    document = read_json(path)
    with understood(path):
        return {
            str(name): [
                ScoredPath(
                    np.array(row["cuts"], dtype=np.int64),
                    np.array([np.nan if s is None else s for s in row["scores"]], dtype=np.float64),
                )
                for row in rows
            ]
            for name, rows in document["scores"].items()
        }


def write_scores(folder: Path, number: int, scores: Scores) -> None:
    """Write down what the judge said of the draws of round `number`."""
    write_json(
        folder / SPLITTING / levels_name(number),
        {
            "schema": SCHEMA,
            "scores": {
                name: [
                    {
                        "cuts": path.cuts.tolist(),
                        "scores": [None if s != s else s for s in path.scores.tolist()],
                    }
                    for path in paths
                ]
                for name, paths in scores.items()
            },
        },
    )
