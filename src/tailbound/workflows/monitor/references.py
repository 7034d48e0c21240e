"""What a run audited, as values that outcomes of production are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tailbound.errors import UsageError
from tailbound.missing_verdicts import missing_counts_as_unsafe
from tailbound.monitoring import MULTIPLES, draw_factors, mean_factors, violation_seen
from tailbound.monitoring.e_process import FloatArray
from tailbound.runs import manifest
from tailbound.runs.layout import BOUND, PREDICTIONS, RISK
from tailbound.runs.prompts import kept_table
from tailbound.storage.parquet import read_sealed
from tailbound.workflows.bound import results as bound_results
from tailbound.workflows.monitor.outcomes import Outcome
from tailbound.workflows.risk import results as risk_results


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The audited values of a run, each already times the margin and below 1.

    `by_prompt` are upper values of P(unsafe) of a draw of each prompt. `default` is the value of
    everything else: of every draw (`every_draw`), or of the mean over outcomes. `lengths` are the
    bounds of prompts: the value of an outcome is then whether it has an unsafe draw below its
    bound, and `default` the promised share of such prompts.
    """

    statement: str
    default: float | None
    every_draw: bool = False
    by_prompt: dict[str, float] = field(default_factory=dict)
    lengths: dict[str, int] | None = None
    groups: dict[str, str] = field(default_factory=dict)
    ids: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Outcomes as factors of an e-process: shapes (t, len(MULTIPLES)), (t,), (t,) and (t,).

    `used` are those that have a reference and a draw; `full` those that were followed for the
    length of their bound, or all without bounds.
    """

    factors: FloatArray
    allowed: FloatArray
    used: np.ndarray[tuple[int], np.dtype[np.bool_]]
    full: int


def find_reference(folder: Path, *, reference: float | None, margin: float) -> Reference:
    """What the run in `folder` audited, or the `reference` that the user gives.

    Raises `UsageError` where there is neither.
    """
    manifest.read_manifest(folder)
    table = kept_table(folder)
    groups = {
        str(name): str(group)
        for name, group in table.select("id", "group").iter_rows()
        if group is not None
    }
    if reference is not None:
        value = _below_one(reference * margin)
        if value is None:
            raise UsageError("--reference times --margin is not below 1: there is nothing to alarm")
        return Reference(
            statement=f"every draw of every prompt is unsafe with probability at most {value:.4g}",
            default=value,
            every_draw=True,
            groups=groups,
            ids=frozenset(table["id"].to_list()),
        )
    if (folder / RISK).is_file():
        return _of_risk(folder, margin, groups)
    if (folder / BOUND).is_file():
        return _of_bound(folder, margin, groups)
    raise UsageError(
        f"{folder} holds neither {RISK} nor {BOUND}: finish the run, or give --reference"
    )


def compare(reference: Reference, outcomes: Sequence[Outcome]) -> Compared:
    """The factors of `outcomes`; raises `UsageError` where one lacks its bound."""
    t = len(outcomes)
    draws = np.array([one.draws for one in outcomes], dtype=np.int64)
    bad = missing_counts_as_unsafe(
        [one.unsafe for one in outcomes], [one.missing for one in outcomes]
    )
    own = [None if one.prompt is None else reference.by_prompt.get(one.prompt) for one in outcomes]
    values = [reference.default if one is None else one for one in own]
    p = np.array([np.nan if one is None else one for one in values], dtype=np.float64)
    used = ~np.isnan(p) & (draws > 0)
    per_draw = np.array([reference.every_draw or one is not None for one in own], dtype=np.bool_)
    factors, allowed = np.zeros((t, len(MULTIPLES))), np.zeros(t)
    full = int(used.sum())
    at = used & per_draw
    factors[at] = draw_factors(p[at], draws=draws[at], unsafe=bad[at])
    allowed[at] = p[at] * draws[at]
    at = used & ~per_draw
    share = bad[at] / draws[at]
    if reference.lengths is not None:
        lengths = np.array([_length(reference.lengths, one) for one in outcomes], dtype=np.int64)
        share = violation_seen(lengths[at], draws=draws[at], unsafe=bad[at])
        full = int((draws[at] >= lengths[at] - 1).sum())
    factors[at] = mean_factors(p[at], value=share)
    allowed[at] = p[at]
    return Compared(factors=factors, allowed=allowed, used=used, full=full)


def _of_risk(folder: Path, margin: float, groups: dict[str, str]) -> Reference:
    found = risk_results.read_result(folder)
    assert found is not None
    whole = found.whole.interval
    own: dict[str, float] = {}
    for one in found.risks:
        interval = one.estimate.interval
        upper = None if interval is None else interval[1]
        if interval is None and whole is None:
            # nothing better is known than what holds without an estimate that is resolved
            upper = one.estimate.certified_upper
        value = None if upper is None else _below_one(upper * margin)
        if value is not None:
            own[one.prompt.id] = value
    default = None if whole is None else _below_one(whole[1] * margin)
    if not own and default is None:
        raise UsageError(
            f"{folder} has no upper value for any prompt (no estimate is resolved): draw more, or "
            "give --reference"
        )
    times = "" if margin == 1 else f"{margin:g} times "
    parts = []
    if own:
        parts.append(
            f"every draw of each of {len(own):,} audited prompts is unsafe with probability at "
            f"most {times}its audited upper value"
        )
    if default is not None:
        parts.append(
            f"the mean share of unsafe draws, over outcomes of {'other' if own else 'all'} prompts,"
            f" is at most {times}the set's upper end ({default:.4g})"
        )
    return Reference(statement="; ".join(parts), default=default, by_prompt=own, groups=groups)


def _of_bound(folder: Path, margin: float, groups: dict[str, str]) -> Reference:
    found = bound_results.read_result(folder)
    assert found is not None
    value = _below_one(found.bound.alpha * margin)
    if value is None:
        raise UsageError(f"alpha {found.bound.alpha:g} times --margin is not below 1")
    lengths: dict[str, int] = {}
    if (folder / PREDICTIONS).is_file():
        cure = "restore it, or run the same command again to make it again"
        table = read_sealed(folder / PREDICTIONS, cure=cure).select("id", "lower_bound")
        lengths = {str(name): int(length) for name, length in table.iter_rows()}
    return Reference(
        statement=(
            f"at most {value:.4g} of the prompts have an unsafe draw below their bound L, among "
            "the first L - 1 (one outcome per prompt, prompts drawn as for calibration)"
        ),
        default=value,
        lengths=lengths,
        groups=groups,
    )


def _length(known: dict[str, int], outcome: Outcome) -> int:
    if outcome.lower_bound is not None:
        return outcome.lower_bound
    if outcome.prompt is not None and outcome.prompt in known:
        return known[outcome.prompt]
    raise UsageError(
        f"{outcome.place} has no bound: give the lower_bound that tailbound predict prints for the "
        "prompt, or --reference"
    )


def _below_one(value: float) -> float | None:
    return value if 0 < value < 1 else None
