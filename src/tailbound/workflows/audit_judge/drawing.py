"""Drawing the sample: which draws are labelled, with what probability."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tailbound.errors import UsageError
from tailbound.judge_error import allocate, draw_sample, pick
from tailbound.runs.history import seals_of
from tailbound.workflows.audit_judge.bounds import TEST, before_bounds
from tailbound.workflows.audit_judge.population import population
from tailbound.workflows.audit_judge.sample import (
    PARTS,
    VERDICTS,
    BeforeBounds,
    Counted,
    JudgeSample,
    Part,
    Recorded,
    SampledDraw,
    SampledStratum,
)
from tailbound.workflows.audit_judge.settings import AuditJudgeOptions
from tailbound.workflows.rejudge.agreement import RISK
from tailbound.workflows.rejudge.record import recorded_judge

if TYPE_CHECKING:
    import polars as pl


def draw_judge_sample(folder: Path, asked: AuditJudgeOptions) -> JudgeSample:
    """A sample of the draws in `folder`: the same draws and options give the same one.

    Of weighted draws of `tailbound risk`, where there are any; else from streams with a fixed
    number of draws per prompt, drawn from the target itself. Of those recorded unsafe, recorded
    safe, and without a verdict so many of each. Raises `UsageError` where there is no such draw
    with a text.
    """
    judge, threshold = recorded_judge(folder, asked.recorded_threshold)
    frame, left_out, weighted = population(folder, threshold)
    if frame.is_empty():
        raise UsageError(
            f"{folder} has no stream with a fixed number of draws per prompt, so its verdicts give "
            "no rate to correct: audit the judge on an import, on training draws, or on a run of "
            "risk"
        )
    draw = pick_draws if weighted else draw_evenly
    most = {"unsafe": asked.positives, "safe": asked.negatives, "missing": asked.missing}
    rng = np.random.default_rng(asked.seed)
    strata, keys = draw(frame, most, rng)
    if not keys:
        raise UsageError(
            f"{folder} has no draw with a text to label (or the sizes asked for are 0)"
        )
    parts: dict[str, Any] = {
        "recorded_judge": judge,
        "recorded_threshold": threshold,
        "positives": asked.positives,
        "negatives": asked.negatives,
        "missing": asked.missing,
        "seed": asked.seed,
        "rests_on": seals_of(folder),
        "strata": strata,
        "left_out": left_out,
    }
    parts["before"], more = _before(folder, asked.before_bounds, rng)
    keys += more
    name = _digest(parts, keys)
    drawn = tuple(
        SampledDraw(row=f"s{name}-{number:05d}", **vars(key))
        for number, key in enumerate(keys, start=1)
    )
    return JudgeSample(id=name, rows=drawn, **parts)


def draw_evenly(
    frame: pl.DataFrame, most: Mapping[str, int], rng: np.random.Generator
) -> tuple[tuple[SampledStratum, ...], list[Chosen]]:
    """Of every stratum (stream and verdict) a random sample, in proportion to the streams."""
    names = sorted(set(frame["stream"]))
    cells = [(stream, said) for stream in names for said in VERDICTS]
    place = {cell: number for number, cell in enumerate(cells)}
    which = np.array([place[cell] for cell in zip(frame["stream"], frame["said"], strict=True)])
    sizes = np.bincount(which, minlength=len(cells)).tolist()
    wanted = [0] * len(cells)
    for said, total in most.items():
        own = [number for number, cell in enumerate(cells) if cell[1] == said]
        for number, count in zip(own, allocate([sizes[n] for n in own], total), strict=True):
            wanted[number] = count
    strata = tuple(
        SampledStratum(
            stream=stream, recorded=said, part="all", draws=size, sampled=count, counted=None
        )
        for (stream, said), size, count in zip(cells, sizes, wanted, strict=True)
        if size
    )
    rows = draw_sample(which, wanted, rng=rng) if sum(wanted) else np.empty(0, dtype=np.int64)
    keys = frame[rows.tolist()].select("stream", "prompt_id", "index", "said").rows()
    return strata, [
        Chosen(stream=stream, prompt_id=prompt, index=index, recorded=said)
        for stream, prompt, index, said in keys
    ]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A draw that was chosen, before it has a name."""

    stream: str
    prompt_id: str
    index: int
    recorded: Recorded
    part: Part = "all"
    counts: float | None = None
    picks: int | None = None


def pick_draws(
    frame: pl.DataFrame, most: Mapping[str, int], rng: np.random.Generator
) -> tuple[tuple[SampledStratum, ...], list[Chosen]]:
    """Of every stratum of weighted draws a sample in proportion to what they count (`pick`).

    Draws recorded safe are divided, by the largest count of one recorded unsafe, into light and
    heavy ones, with half of the labels each.
    """
    counts, said = frame["counts"].to_numpy(), frame["said"].to_numpy()
    edge = counts[said == "unsafe"].max(initial=0.0)
    part = np.where((said == "safe") & (edge > 0), np.where(counts > edge, "heavy", "light"), "all")
    strata: list[SampledStratum] = []
    keys: list[Chosen] = []
    names = frame.select("stream", "prompt_id", "index").rows()
    for verdict in VERDICTS:
        parts = [one for one in PARTS if ((said == verdict) & (part == one)).any()]
        sizes = [int(((said == verdict) & (part == one)).sum()) for one in parts]
        for one, wanted in zip(parts, _halves(sizes, most.get(verdict, 0)), strict=True):
            rows = np.flatnonzero((said == verdict) & (part == one))
            own = counts[rows]
            found = pick(own, wanted, rng=rng)
            sure = float(own[found.certain].sum())
            counted = Counted(
                total=float(own.sum()),
                squares=float(own @ own),
                rest=max(0.0, float(own.sum()) - sure) if found.certain.size < own.size else 0.0,
                largest=float(own.max()),
            )
            strata.append(
                SampledStratum(
                    stream=RISK,
                    recorded=verdict,
                    part=one,
                    draws=rows.size,
                    sampled=found.certain.size + found.rows.size,
                    counted=counted,
                )
            )
            times = {**dict.fromkeys(found.certain.tolist(), 0)}
            times |= dict(zip(found.rows.tolist(), found.times.tolist(), strict=True))
            for row, picks in times.items():
                stream, prompt, index = names[rows[row]]
                keys.append(
                    Chosen(
                        stream=stream,
                        prompt_id=prompt,
                        index=index,
                        recorded=verdict,
                        part=one,
                        counts=float(own[row]),
                        picks=picks,
                    )
                )
    return tuple(strata), [keys[number] for number in rng.permutation(len(keys)).tolist()]


def _before(
    folder: Path, most: int, rng: np.random.Generator
) -> tuple[BeforeBounds | None, list[Chosen]]:
    """A random sample of the draws before the bounds of test prompts, where there are any."""
    found = before_bounds(folder)
    if found is None or not most:
        return None, []
    about, draws = found
    rows = np.sort(rng.permutation(len(draws))[:most]).tolist()
    rng.shuffle(rows)
    return replace(about, sampled=len(rows)), [
        Chosen(
            stream=TEST,
            prompt_id=draws[row][0],
            index=draws[row][1],
            recorded="safe",
            part="before",
        )
        for row in rows
    ]


def _halves(sizes: Sequence[int], total: int) -> list[int]:
    """`total` labels over one or two strata: half each, what one has not draws for to the other."""
    if len(sizes) < 2:
        return [total] * len(sizes)
    first = min(sizes[0], max(total // 2, total - sizes[1]))
    return [first, total - first]


def _digest(parts: Mapping[str, Any], keys: Sequence[Chosen]) -> str:
    plain = {
        name: [asdict(one) for one in value] if isinstance(value, tuple) else value
        for name, value in parts.items()
        if name not in ("rests_on", "before")
    }
    before = parts["before"]
    plain |= {} if before is None else {"before": asdict(before)}
    text = json.dumps([plain, [asdict(one) for one in keys]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
