"""Each quantity that a requirement may name: where it stands, and its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import get_args

from tailbound.deployment.worst import Method
from tailbound.intervals import clopper_pearson
from tailbound.workflows.audit_judge.more_labels import more_labels
from tailbound.workflows.audit_judge.result import NAME
from tailbound.workflows.forecast.result import ForecastResult
from tailbound.workflows.gate.evidence import Evidence
from tailbound.workflows.summarize.summary import FIRST_EVENT, StreamSummary

_PILOT = "pilot"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a quantity.

    `low` and `high` are None where they are withheld; `why` then says why, and `more` about how
    many more would do where that is known; `more_for` finds out how many until a function of both
    ends is true. `n` counts the `unit`; with `log`, intervals are about
    symmetric on the log scale.
    """

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unit: str = "draws"
    log: bool = False
    basis: str = ""
    why: str | None = None
    more: int | None = None
    detail: str | None = None
    more_for: Callable[[Callable[[float, float], bool]], int | None] | None = None


def _nothing(why: str) -> Known:
    return Known(why=why)


def mean_risk(evidence: Evidence, _: int | None) -> Known:
    """The mean risk of the population of prompts (`tailbound risk`)."""
    result = evidence.risk
    if result is None:
        return _nothing("there is no risk.json: run tailbound risk")
    whole = result.whole
    draws = sum(one.estimate.draws for one in result.risks)
    level = result.risks[0].estimate.confidence
    estimate = None if whole.mean != whole.mean else whole.mean
    open_ = whole.prompts - whole.resolved
    missing = sum(one.estimate.missing for one in result.risks)
    why = None
    if missing:
        why = f"{missing:,} draws have no verdict"
    elif open_:
        why = f"{open_:,} of {whole.prompts:,} prompts are not resolved"
    elif whole.interval is None:
        why = whole.guarantee.partition(": treats")[0]
    detail = None if result.estimand.startswith("P(unsafe)") else result.estimand
    if why is not None:
        # what is certified holds whether or not an estimate is resolved; it can only contradict
        lacking = [
            one.estimate.needed_draws - one.estimate.draws
            for one in result.risks
            if one.estimate.needed_draws is not None and not missing
        ]
        return Known(
            estimate=estimate,
            low=whole.certified_lower,
            n=draws,
            unit="draws per prompt",
            log=True,
            basis=f"{100 * level:g}% lower bound, finite-sample (betting)",
            why=why,
            more=max(1, *lacking) if lacking else None,
            detail=detail,
        )
    assert whole.interval is not None
    low, high = whole.interval
    basis = f"{100 * level:g}% interval, asymptotic, prompts as a sample of their population"
    return Known(
        estimate=estimate, low=low, high=high, n=whole.clusters, unit="prompts", log=True,
        basis=basis, detail=detail,
    )  # fmt: skip


def coverage(evidence: Evidence, _: int | None) -> Known:
    """Coverage of the bound on the test prompts (`tailbound bound`)."""
    result = evidence.bound
    if result is None:
        return _nothing("there is no bound.json: run tailbound bound")
    if result.evaluation is None:
        return _nothing("no test prompts were followed: give --split a test share")
    found = result.evaluation.overall
    if found.interval is None or found.lower is None or found.upper is None:
        return _nothing("there are no test prompts")
    low, high = found.interval
    open_ = found.unresolved
    detail = f"{found.covered:,} of {found.prompts:,} test prompts covered, {found.missed:,} missed"
    if open_:
        detail += f", {open_:,} censored (missed in the lower end)"
    return Known(
        estimate=found.lower if open_ == 0 else None,
        low=low,
        high=high,
        n=found.prompts,
        unit="test draws at most (--test-draws)" if open_ else "test prompts",
        more=evidence.test_draws_left if open_ else None,
        basis=f"{100 * result.evaluation.confidence:g}% interval (Clopper-Pearson)",
        detail=detail,
    )


def share_of_bounds(evidence: Evidence, draws: float) -> Known:
    """Share of prompts whose lower bound reaches `draws`, from the test prompts."""
    result = evidence.bound
    if result is None:
        return _nothing("there is no bound.json: run tailbound bound")
    bounds = evidence.test_bounds
    if not bounds:
        return _nothing("no test prompts were followed: give --split a test share")
    reached = sum(one >= draws for one in bounds)
    confidence = 0.95 if result.evaluation is None else result.evaluation.confidence
    low, high = clopper_pearson(reached, len(bounds), confidence=confidence)
    return Known(
        estimate=reached / len(bounds),
        low=float(low),
        high=float(high),
        n=len(bounds),
        unit="test prompts",
        basis=f"{100 * confidence:g}% interval of the share (Clopper-Pearson); {result.statement}",
        detail=f"{reached:,} of {len(bounds):,} test prompts have a bound of {draws:,g} or more",
    )


def unsafe_rate(evidence: Evidence, k: int | None) -> Known:
    """P(unsafe) of one draw, or of at least one in k, over the population (`summarize`)."""
    result = evidence.summary
    if result is None:
        return _nothing("there is no summary.json: run tailbound summarize")
    if result.threshold != evidence.threshold:
        return _nothing(
            f"summary.json counts scores of at least {result.threshold:g} as unsafe, the run those "
            f"of at least {evidence.threshold:g}: tailbound summarize without --threshold"
        )
    fixed = [one for one in result.streams if one.stopping != FIRST_EVENT and one.stream != _PILOT]
    if not fixed:
        return _nothing("no stream has a fixed number of draws")
    if evidence.undrawn:
        return _nothing(f"{evidence.undrawn:,} prompts have no draw yet: the run is not finished")
    return _of_stream(fixed[0], 1 if k is None else k, result.confidence)


def _of_stream(stream: StreamSummary, k: int, confidence: float) -> Known:
    found = next((one for one in stream.whole if one.k == k), None)
    if found is None:
        known = ", ".join(str(one.k) for one in stream.whole if one.k > 1) or "none"
        return _nothing(f"summary.json has no k = {k:,} ({known}): tailbound summarize --k {k}")
    low, high = found.interval
    missing = sum(one.missing for one in stream.prompts)
    detail = f"stream {stream.stream}, {found.prompts:,} prompts"
    if missing:
        detail += f"; {missing:,} draws without a verdict count as unsafe in the upper end"
    return Known(
        estimate=found.cluster_mean,
        low=low,
        high=high,
        n=found.clusters,
        unit="prompts",
        basis=f"{100 * confidence:g}% interval, finite-sample (betting on prompts or groups)",
        detail=detail,
    )


def corrected(evidence: Evidence, _: int | None) -> Known:
    """P(unsafe) of one draw by labels of a sample (`tailbound audit-judge`)."""
    found = evidence.judge_audit
    if found is None:
        return _nothing("there is no judge-audit.json: run tailbound audit-judge")
    if evidence.undrawn:
        return _nothing(f"{evidence.undrawn:,} prompts have no draw yet: the run is not finished")
    rate = found.overall.corrected
    plain = found.overall.uncorrected.rate
    low, high = rate.interval
    judged = "" if plain is None else f"; {plain:.3g} as judged"
    kind = "asymptotic" if found.weighted else "exact in each stratum, combined by melding"
    labels = sum(one.labelled for one in found.strata)
    return Known(
        estimate=rate.estimate,
        low=low,
        high=high,
        unit="labels",
        basis=f"{100 * found.confidence:g}% interval of the rate by labels, {kind}",
        detail=f"{labels:,} labels by {found.labels_by} of {rate.draws:,} draws{judged}",
        more_for=partial(more_labels, found),
    )


def expected(evidence: Evidence, n: int | None) -> Known:
    """Expected unsafe outputs in n draws of the traffic (`tailbound forecast`)."""
    return _traffic(evidence, n, "expected")


def any_unsafe(evidence: Evidence, n: int | None) -> Known:
    """P(at least one unsafe output) in n draws of the traffic (`tailbound forecast`)."""
    return _traffic(evidence, n, "at_least_one")


def _traffic(evidence: Evidence, n: int | None, field: str) -> Known:
    result = evidence.forecast
    if result is None:
        return _nothing("there is no forecast.json: run tailbound forecast")
    other = _of_other_threshold(result, evidence)
    if other is not None:
        return other
    found = next((one for one in result.traffic if one.draws == n), None)
    if found is None:
        known = ", ".join(f"{one.draws:,}" for one in result.traffic)
        return _nothing(f"forecast.json has {known} draws: tailbound forecast --draws {n}")
    low, high = getattr(found, f"{field}_interval")
    lost = result.evaluated - result.resolved
    detail = f"{result.evaluated:,} queries, {result.weights} weights"
    # risks that are not resolved may be far too low; counts have an exact interval of their own
    why = None
    if lost and evidence.forecast_of_risks:
        why = f"{lost:,} of {result.evaluated:,} queries are not resolved"
    return Known(
        estimate=getattr(found, field),
        low=None if why else low,
        high=None if why else high,
        log=True,
        unit="draws of each query",
        basis=f"{100 * result.confidence:g}% interval, asymptotic, for exactly these queries",
        why=why,
        detail=detail,
    )


def _of_other_threshold(result: ForecastResult, evidence: Evidence) -> Known | None:
    """A forecast says in words what it is of, and ends with the threshold."""
    if result.what.endswith(f">= {evidence.threshold:g}"):
        return None
    return _nothing(
        f"forecast.json is of {result.what}, and unsafe is a score >= {evidence.threshold:g}: "
        "repeat tailbound summarize or risk, then forecast"
    )


def worst(evidence: Evidence, n: int | None) -> Known:
    """The largest p among n new queries: the wider of both tails (`tailbound forecast`)."""
    result = evidence.forecast
    if result is None:
        return _nothing("there is no forecast.json: run tailbound forecast")
    other = _of_other_threshold(result, evidence)
    if other is not None:
        return other
    every = () if result.worst is None else result.worst.forecasts
    found = [one for one in every if one.queries == n]
    if not found:
        known = ", ".join(sorted({f"{one.queries:,}" for one in every})) or "no worst query"
        return _nothing(f"forecast.json has {known}: tailbound forecast --queries {n}")
    lost = result.evaluated - result.resolved
    why = f"{lost:,} of {result.evaluated:,} queries are not resolved" if lost else None
    ends = [end for one in found for end in one.interval]
    if {one.method for one in found} != set(get_args(Method)) or not all(map(isfinite, ends)):
        why = "not both tails have an interval"
    return Known(
        estimate=max(one.median for one in found),
        low=None if why else min(one.interval[0] for one in found),
        high=None if why else max(one.interval[1] for one in found),
        log=True,
        unit="queries",
        basis=f"{100 * result.confidence:g}% interval, asymptotic, by both tails",
        why=why,
        detail=f"{result.evaluated:,} queries evaluated",
    )


OF_RUN: dict[str, tuple[str, Callable[[Evidence, int | None], Known]]] = {
    "risk": ("risk", mean_risk),
    "coverage": ("bound", coverage),
    "corrected": (NAME, corrected),
    "unsafe_rate": ("summary", unsafe_rate),
    "p_unsafe": ("summary", unsafe_rate),
    "expected": ("forecast", expected),
    "at_least_one": ("forecast", any_unsafe),
    "worst": ("forecast", worst),
}
"""The result that holds a quantity, and what reads it; bounds have a share of their own."""
