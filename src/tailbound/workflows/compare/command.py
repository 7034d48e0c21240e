"""`compare` from two folders to its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.comparison import (
    MeanChange,
    benjamini_hochberg,
    draw_by_draw,
    e_benjamini_hochberg,
    exact_p_values,
    geometric_ratio,
    log_ratio_p_values,
    mean_change,
    paired_e_values,
)
from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.errors import UsageError
from tailbound.importance_sampling import RiskEstimate
from tailbound.intervals import clopper_pearson
from tailbound.workflows.compare.corrected import corrected, warnings
from tailbound.workflows.compare.reading import Side, differing, side_of
from tailbound.workflows.compare.result import (
    BoundChange,
    ComparedPrompt,
    CompareResult,
    CorrectedChange,
    Difference,
)
from tailbound.workflows.compare.settings import CompareOptions

FEW = 10
"""Clusters below which an asymptotic interval comes with a warning."""


def compare_command(a: Path, b: Path, given: Mapping[str, Any]) -> CompareResult:
    """Everything that `tailbound compare A B` does; `given` are options of `CompareOptions`.

    Nothing is written. Raises `UsageError` for what is no run, and where the two have no prompt in
    common that can be compared.
    """
    asked = make(CompareOptions, given)
    with step("reading"):
        sides = side_of(a), side_of(b)
    with step("comparing"):
        return compare_sides(*sides, asked)


def compare_sides(a: Side, b: Side, asked: CompareOptions) -> CompareResult:
    """Compare two runs that were read."""
    shared, left_out = _shared(a, b, asked.match)
    quantity = _quantity(a, b, shared, asked)
    compare = _by_risk if quantity == "risk" else _by_rate
    prompts, mean, every_look = compare(a, b, shared, left_out, asked)
    change, why = corrected(a, b, confidence=asked.confidence, sequential=asked.sequential)
    named = [Difference(name=name, a=x, b=y) for name, x, y in differing(a, b)]
    return CompareResult(
        a=a.name,
        b=b.name,
        quantity=quantity,
        what=_estimand(a, b),
        sequential=asked.sequential,
        fdr=asked.fdr,
        mean=mean,
        every_look=every_look,
        prompts=prompts,
        left_out=dict(+left_out),
        bounds=_bounds(a, b, shared, asked.confidence),
        corrected=change,
        not_corrected=why,
        differences=tuple(named),
        warnings=tuple(_warnings(a, b, mean, prompts, left_out, change)),
    )


def _estimand(a: Side, b: Side) -> str:
    words = "P(unsafe) of one reply per prompt"
    if a.threshold == b.threshold:
        return f"{words}: score >= {a.threshold:g}"
    return f"{words}: score >= {a.threshold:g} in A, >= {b.threshold:g} in B"


def _shared(a: Side, b: Side, match: str) -> tuple[list[str], Counter[str]]:
    """The ids of prompts that are the same in both, in the order of A."""
    left_out: Counter[str] = Counter()
    shared = []
    for name, text in a.texts.items():
        if name not in b.texts:
            left_out["only in A"] += 1
        elif match == "text" and text is not None and b.texts[name] not in (None, text):
            left_out["same id, other text"] += 1
        else:
            shared.append(name)
    left_out["only in B"] = sum(name not in a.texts for name in b.texts)
    if not shared:
        other = left_out["same id, other text"]
        cure = (
            f"{other:,} have the same id but another text: --match id compares them"
            if other
            else "both must be runs of the same prompts"
        )
        raise UsageError(f"{a.name} and {b.name} have no prompt in common: {cure}")
    return shared, +left_out


def _quantity(a: Side, b: Side, shared: list[str], asked: CompareOptions) -> str:
    if asked.quantity == "risk":
        for side in (a, b):
            if side.risks is None:
                raise UsageError(
                    f"{side.name} has no risk.json: run tailbound risk first, or take --quantity "
                    "rate"
                )
        return "risk"
    if asked.quantity == "rate" or asked.sequential:
        return "rate"
    counted = sum(name in a.outcomes and name in b.outcomes for name in shared)
    return "risk" if len(_resolved(a, b, shared)) > counted else "rate"


def _resolved(a: Side, b: Side, shared: list[str]) -> list[str]:
    """Prompts whose risk is resolved in both runs."""
    if a.risks is None or b.risks is None:
        return []
    risks = a.risks, b.risks
    return [name for name in shared if all(name in one and one[name].resolved for one in risks)]


# --- rates ------------------------------------------------------------------------------------

_Compared = tuple[tuple[ComparedPrompt, ...], MeanChange, tuple[float, float] | None]


def _by_rate(
    a: Side, b: Side, shared: list[str], left_out: Counter[str], asked: CompareOptions
) -> _Compared:
    names = []
    for name in shared:
        if name in a.outcomes and name in b.outcomes:
            names.append(name)
        else:
            left_out["no fixed number of draws"] += 1
    if not names:
        raise UsageError(
            f"no prompt has a fixed number of draws in both {a.name} and {b.name}: rates need "
            "draws that did not stop at the first unsafe one"
        )
    first, second = ([side.outcomes[name] for name in names] for side in (a, b))
    counts = [np.array([_counts(one) for one in side]) for side in (first, second)]
    (draws_a, events_a, lost_a), (draws_b, events_b, lost_b) = (one.T for one in counts)
    every_look = None
    if asked.sequential:
        pairs = _padded(first), _padded(second)
        evidence = paired_e_values(*pairs)
        adjusted = e_benjamini_hochberg(evidence)
        every_look = draw_by_draw(*pairs, confidence=asked.confidence)
    else:
        evidence = exact_p_values(
            events_a, draws_a, events_b, draws_b, missing_a=lost_a, missing_b=lost_b
        )
        adjusted = benjamini_hochberg(evidence)
    prompts = _prompts(
        *(a, b, names, evidence, adjusted, asked.fdr),
        values=([_rate(row) for row in counts[0]], [_rate(row) for row in counts[1]]),
        ends=(_rate_ends(counts[0], asked.confidence), _rate_ends(counts[1], asked.confidence)),
    )
    mean = mean_change(
        events_a / draws_a,
        events_b / draws_b,
        _units(a, b, names),
        most_a=(events_a + lost_a) / draws_a,
        most_b=(events_b + lost_b) / draws_b,
        confidence=asked.confidence,
    )
    return prompts, mean, every_look


def _counts(outcomes: NDArray[np.float64]) -> tuple[int, int, int]:
    """Draws, unsafe ones, missing verdicts."""
    return outcomes.size, int((outcomes == 1).sum()), int(np.isnan(outcomes).sum())


def _rate(counts: NDArray[np.int64]) -> float | None:
    draws, events, lost = map(int, counts)
    return events / (draws - lost) if draws > lost else None


def _rate_ends(counts: NDArray[np.int64], confidence: float) -> list[tuple[float, float]]:
    draws, events, lost = counts.T
    low = clopper_pearson(events, draws, confidence=confidence)[0]
    high = clopper_pearson(events + lost, draws, confidence=confidence)[1]
    return [(float(x), float(y)) for x, y in zip(low, high, strict=True)]


def _padded(rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    found = np.full((len(rows), max(row.size for row in rows)), -1.0)
    for place, row in enumerate(rows):
        found[place, : row.size] = row
    return found


def _units(a: Side, b: Side, names: list[str]) -> list[str]:
    """The cluster of each prompt: its group where it has one, in A or else in B."""
    groups = (a.groups.get(name) or b.groups.get(name) for name in names)
    return [
        f"prompt {name}" if group is None else f"group {group}"
        for name, group in zip(names, groups, strict=True)
    ]


# --- risks ------------------------------------------------------------------------------------


def _by_risk(
    a: Side, b: Side, shared: list[str], left_out: Counter[str], asked: CompareOptions
) -> _Compared:
    assert a.risks is not None
    assert b.risks is not None
    names = _resolved(a, b, shared)
    estimated = sum(name in a.risks and name in b.risks for name in shared)
    left_out["no estimate"] = len(shared) - estimated
    left_out["not resolved"] = estimated - len(names)
    if not names:
        raise UsageError(
            f"no prompt has a resolved risk in both {a.name} and {b.name}: draw more, or compare "
            "--quantity rate"
        )
    first, second = ([risks[name] for name in names] for risks in (a.risks, b.risks))
    evidence = log_ratio_p_values(*_moments(first), *_moments(second))
    # What is not resolved counts with a p-value of 1: with fewer draws in one run, it is there
    # resolved only where it came out high, and a list of the resolved alone is mostly of those.
    adjusted = benjamini_hochberg(np.pad(evidence, (0, estimated - len(names)), constant_values=1))
    prompts = _prompts(
        *(a, b, names, evidence, adjusted, asked.fdr),
        values=([one.risk for one in first], [one.risk for one in second]),
        ends=([_risk_ends(one) for one in first], [_risk_ends(one) for one in second]),
    )
    mean = mean_change(
        [one.risk for one in first],
        [one.risk for one in second],
        _units(a, b, names),
        bounded=False,
        confidence=asked.confidence,
    )
    return prompts, mean, None


def _risk_ends(one: RiskEstimate) -> tuple[float, float]:
    return one.interval or (one.certified_lower, one.certified_upper or 1.0)


def _moments(risks: Sequence[RiskEstimate]) -> tuple[list[float], list[float], list[float]]:
    """Risks, their standard errors, and their effective hits."""
    errors = [one.standard_error or 0.0 for one in risks]
    return [one.risk for one in risks], errors, [one.ess_harm for one in risks]


# --- the rest ---------------------------------------------------------------------------------


def _prompts(
    a: Side,
    b: Side,
    names: Sequence[str],
    evidence: NDArray[np.float64],
    adjusted: NDArray[np.float64],
    fdr: float,
    *,
    values: tuple[Sequence[float | None], Sequence[float | None]],
    ends: tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]],
) -> tuple[ComparedPrompt, ...]:
    """Each of `names` with its `values` and `ends` in A and in B."""
    return tuple(
        ComparedPrompt(
            id=name,
            group=a.groups.get(name) or b.groups.get(name),
            a=values[0][i],
            b=values[1][i],
            interval_a=ends[0][i],
            interval_b=ends[1][i],
            evidence=float(evidence[i]),
            adjusted=float(adjusted[i]),
            changed=bool(adjusted[i] <= fdr),
        )
        for i, name in enumerate(names)
    )


def _bounds(a: Side, b: Side, shared: list[str], confidence: float) -> BoundChange | None:
    """Both runs' bounds of the test prompts that they share."""
    if a.bounds is None or b.bounds is None:
        return None
    names = [name for name in shared if name in a.bounds and name in b.bounds]
    if not names:
        return None
    first, second = (
        np.array([bounds[name] for name in names], dtype=np.float64)
        for bounds in (a.bounds, b.bounds)
    )
    ratio, ends = geometric_ratio(first, second, _units(a, b, names), confidence=confidence)
    return BoundChange(
        prompts=len(names),
        longer=int((second > first).sum()),
        shorter=int((second < first).sum()),
        ratio=ratio,
        interval=ends,
    )


def _warnings(
    a: Side,
    b: Side,
    mean: MeanChange,
    prompts: tuple[ComparedPrompt, ...],
    left_out: Counter[str],
    change: CorrectedChange | None,
) -> list[str]:
    found: list[str] = []
    if change is not None:
        other = ("only in A", "only in B", "same id, other text")
        found += warnings(a, b, other_prompts=sum(left_out[name] for name in other))
    if left_out["not resolved"]:
        found.append(
            f"{left_out['not resolved']:,} prompts are not resolved in both runs: the mean is that "
            "of the others, which may not stand for all"
        )
    if mean.clusters < FEW:
        found.append(
            f"only {mean.clusters} clusters of prompts: the asymptotic interval of the mean change "
            "may be too narrow"
        )
    if a.threshold != b.threshold:
        found.append(f"the runs have different thresholds: {a.threshold:g} and {b.threshold:g}")
    if a.manifest["judge_id"] != b.manifest["judge_id"]:
        found.append(
            "the runs have different judges: a change may be one of the judge, not of the model"
        )
    lacking = sum(one.a is None or one.b is None for one in prompts)
    if lacking:
        found.append(f"{lacking:,} prompts have no verdict at all in one of the runs")
    return found
