"""Which draws are labelled: a stratified sample with known inclusion probabilities, on record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tailbound.errors import UsageError
from tailbound.judge_error import allocate, draw_sample
from tailbound.runs.history import Seals, seals_of
from tailbound.runs.layout import JUDGE_AUDIT, SAMPLE
from tailbound.runs.rounds import first_round
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json
from tailbound.storage.plain import from_plain
from tailbound.workflows.audit_judge.settings import AuditJudgeOptions
from tailbound.workflows.rejudge.agreement import FIXED, RISK
from tailbound.workflows.rejudge.record import recorded_judge
from tailbound.workflows.summarize.counting import ordered_draws

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
CURE = "write the sheet, or ask the judge, again"

Recorded = Literal["unsafe", "safe", "missing", "no text"]
"""What the run's judge said of a draw; draws without a text on record cannot be labelled."""
VERDICTS: tuple[Recorded, ...] = ("unsafe", "safe", "missing", "no text")


@dataclass(frozen=True, kw_only=True)
class SampledStratum:
    """Draws of one stream with one recorded verdict: each was sampled with the same probability."""

    stream: str
    recorded: Recorded
    draws: int
    sampled: int

    @property
    def inclusion_probability(self) -> float | None:
        """Of each of its draws; None for a stratum without draws."""
        return self.sampled / self.draws if self.draws else None


@dataclass(frozen=True, kw_only=True)
class SampledDraw:
    """One draw to label; `row` names it in a sheet."""

    row: str
    stream: str
    prompt_id: str
    index: int
    recorded: Recorded


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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"schema": SCHEMA, **asdict(self)}


def draw_judge_sample(folder: Path, asked: AuditJudgeOptions) -> JudgeSample:
    """A sample of the draws in `folder`: the same draws and options give the same one.

    From streams with a fixed number of draws per prompt, drawn from the target itself: of those
    recorded unsafe, recorded safe, and without a verdict, so many of each, in proportion to the
    streams. Raises `UsageError` where there is no such draw with a text.
    """
    judge, threshold = recorded_judge(folder, asked.recorded_threshold)
    frame, left_out = _population(folder, threshold)
    if frame.is_empty():
        raise UsageError(
            f"{folder} has no stream with a fixed number of plain draws per prompt, so its "
            "verdicts give no rate to correct: audit the judge on an import, on training draws, "
            "or on a run of risk with --proposal none"
        )
    names = sorted(set(frame["stream"]))
    cells = [(stream, said) for stream in names for said in VERDICTS]
    place = {cell: number for number, cell in enumerate(cells)}
    which = np.array([place[cell] for cell in zip(frame["stream"], frame["said"], strict=True)])
    sizes = np.bincount(which, minlength=len(cells)).tolist()
    wanted = [0] * len(cells)
    most = {"unsafe": asked.positives, "safe": asked.negatives, "missing": asked.missing}
    for said, total in most.items():
        own = [number for number, cell in enumerate(cells) if cell[1] == said]
        for number, count in zip(own, allocate([sizes[n] for n in own], total), strict=True):
            wanted[number] = count
    if not sum(wanted):
        raise UsageError(
            f"{folder} has no draw with a text to label (or the sizes asked for are 0)"
        )
    rows = draw_sample(which, wanted, rng=np.random.default_rng(asked.seed))
    parts: dict[str, Any] = {
        "recorded_judge": judge,
        "recorded_threshold": threshold,
        "positives": asked.positives,
        "negatives": asked.negatives,
        "missing": asked.missing,
        "seed": asked.seed,
        "rests_on": seals_of(folder),
        "strata": tuple(
            SampledStratum(stream=stream, recorded=said, draws=size, sampled=count)
            for (stream, said), size, count in zip(cells, sizes, wanted, strict=True)
            if size
        ),
        "left_out": left_out,
    }
    keys = frame[rows.tolist()].select("stream", "prompt_id", "index", "said").rows()
    name = _digest(parts, keys)
    drawn = tuple(
        SampledDraw(
            row=f"s{name}-{number:05d}", stream=stream, prompt_id=prompt, index=index, recorded=said
        )
        for number, (stream, prompt, index, said) in enumerate(keys, start=1)
    )
    return JudgeSample(id=name, rows=drawn, **parts)


def _population(folder: Path, threshold: float) -> tuple[pl.DataFrame, tuple[LeftOut, ...]]:
    """The draws that a rate is estimated from with what was `said` of them, and those left out."""
    import polars as pl

    every = ordered_draws(folder, pl.col("text").is_not_null().alias("has_text"))
    if every.is_empty():
        raise UsageError(f"{folder} holds no draws: give the --out of a run")
    kept: list[pl.DataFrame] = []
    left: list[LeftOut] = []
    for (stream,), part in sorted(every.partition_by("stream", as_dict=True).items()):
        plain = part.filter(part["proposal"].is_null())
        _leave(left, str(stream), part.height - plain.height, "drawn from a proposal")
        if plain.height and plain["stopping"][0] != FIXED:
            _leave(left, str(stream), plain.height, "stopped at the first unsafe draw")
            continue
        first = first_round(plain, folder) if stream == RISK else plain
        _leave(left, str(stream), plain.height - first.height, "of later rounds")
        kept.append(first)
    said = (
        pl.when(~pl.col("has_text"))
        .then(pl.lit("no text"))
        .when(pl.col("score").is_null())
        .then(pl.lit("missing"))
        .when(pl.col("score") >= threshold)
        .then(pl.lit("unsafe"))
        .otherwise(pl.lit("safe"))
    )
    frame = pl.concat(kept) if kept else every.clear()
    return frame.with_columns(said=said), tuple(left)


def _leave(left: list[LeftOut], stream: str, draws: int, reason: str) -> None:
    if draws:
        left.append(LeftOut(stream=stream, draws=draws, reason=reason))


def _digest(parts: Mapping[str, Any], keys: list[tuple[Any, ...]]) -> str:
    plain = {
        name: [asdict(one) for one in value] if isinstance(value, tuple) else value
        for name, value in parts.items()
        if name != "rests_on"
    }
    text = json.dumps([plain, keys], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
