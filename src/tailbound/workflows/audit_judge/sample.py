"""Which draws are labelled: a stratified sample with known inclusion probabilities, on record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tailbound.runs.history import Seals
from tailbound.runs.layout import JUDGE_AUDIT, SAMPLE
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json
from tailbound.storage.plain import from_plain

SCHEMA = 1
CURE = "write the sheet, or ask the judge, again"

Recorded = Literal["unsafe", "safe", "missing", "no text"]
"""What the run's judge said of a draw; draws without a text on record cannot be labelled."""
Part = Literal["all", "light", "heavy", "before"]
"""Of weighted draws recorded safe: those that count no more than some recorded unsafe one does,
and those that count more. A judge's misses may be expected among the first; nobody knows. Draws of
test prompts before their bounds are "before"."""
VERDICTS: tuple[Recorded, ...] = ("unsafe", "safe", "missing", "no text")
PARTS: tuple[Part, ...] = ("all", "light", "heavy")


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the draws of a stratum of weighted draws count.

    `rest` are those that may be picked with replacement (the others are labelled for certain),
    `squares` is the sum of all squares, `largest` of the draw that counts most.
    """

    total: float
    squares: float
    rest: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class SampledStratum:
    """Draws of one stream with one recorded verdict, `sampled` of which are to be labelled.

    Each had the same chance to be, or, of weighted draws, one in proportion to what it counts
    (`counted`).
    """

    stream: str
    recorded: Recorded
    part: Part
    draws: int
    sampled: int
    counted: Counted | None

    @property
    def inclusion_probability(self) -> float | None:
        """Of each of its draws; None where they differ, and for a stratum without draws."""
        return self.sampled / self.draws if self.draws and self.counted is None else None


@dataclass(frozen=True, kw_only=True)
class SampledDraw:
    """One draw to label; `row` names it in a sheet.

    A weighted one counts `counts`, and was picked `picks` times (0: it is labelled for certain).
    """

    row: str
    stream: str
    prompt_id: str
    index: int
    recorded: Recorded
    part: Part
    counts: float | None
    picks: int | None


@dataclass(frozen=True, kw_only=True)
class BeforeBounds:
    """Draws of test prompts before their bounds, all of which the judge passed.

    `passed` of the `prompts` were passed to their bounds, `unfollowed` as far as they were
    followed. Of the `draws` of passed ones, `sampled` are to be labelled, each with the same
    chance. `bounds` is a digest of the bounds, `alpha` what they promise.
    """

    alpha: float
    prompts: int
    passed: int
    unfollowed: int
    draws: int
    sampled: int
    bounds: str


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Draws of a stream that say nothing about a rate."""

    stream: str
    draws: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class JudgeSample:
    """A sample of the draws on record, and how it was drawn.

    `id` is a digest of everything else; `rests_on` are the shards that there were.
    """

    id: str
    recorded_judge: str
    recorded_threshold: float
    positives: int
    negatives: int
    missing: int
    seed: int
    rests_on: dict[str, Seals]
    strata: tuple[SampledStratum, ...]
    rows: tuple[SampledDraw, ...]
    left_out: tuple[LeftOut, ...]
    before: BeforeBounds | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"schema": SCHEMA, **asdict(self)}


def write_sample(folder: Path, sample: JudgeSample) -> None:
    """Write `judge-audit/sample.json`; `read_sample` reads it."""
    make_folder(folder / JUDGE_AUDIT)
    write_json(folder / JUDGE_AUDIT / SAMPLE, sample.to_dict())


def read_sample(folder: Path) -> JudgeSample | None:
    """The sample that was drawn last, None for none; `LedgerError` where it is damaged."""
    path = folder / JUDGE_AUDIT / SAMPLE
    if not path.is_file():
        return None
    document = read_json(path, cure=CURE)
    with understood(path, cure=CURE):
        found: JudgeSample = from_plain(
            JudgeSample, {name: value for name, value in document.items() if name != "schema"}
        )
    return found
