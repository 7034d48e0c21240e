"""The main numbers of a result in words, from the document that holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tailbound.storage.documents import understood
from tailbound.workflows.audit_judge.result import JudgeAudit
from tailbound.workflows.bound.results import BoundResult
from tailbound.workflows.forecast.result import ForecastResult
from tailbound.workflows.rejudge.job import Rejudged
from tailbound.workflows.risk.results import RiskResult
from tailbound.workflows.summarize.summary import FIRST_EVENT, RunSummary
from tailbound.workflows.words import count

Words = tuple[tuple[str, ...], str | None]
"""The numbers, and the guarantee."""


def words_of(name: str, document: Mapping[str, Any], place: Any) -> Words:
    """The numbers and the guarantee of a result as `results/` holds it.

    `place` names it in the `LedgerError` that is raised where it is not what it should be.
    """
    with understood(place):
        return _WORDS[name](document)


def _bound(document: Mapping[str, Any]) -> Words:
    result = BoundResult.from_dict({**document, "spend": {}})
    found = [f"median L = {count(result.median_bound)} over calibration prompts"]
    overall = None if result.evaluation is None else result.evaluation.overall
    if overall is not None and overall.lower is not None and overall.upper is not None:
        line = f"coverage of test prompts {_between(overall.lower, overall.upper, '.3f')}"
        line += f" (target {1 - result.bound.alpha:.4g}"
        if overall.interval is not None and result.evaluation is not None:
            level = f"{100 * result.evaluation.confidence:g}%"
            line += f"; {level} interval {_between(*overall.interval, '.3f')}"
        found.append(line + ")")
    found += [
        f"at alpha {one.bound.alpha:g}: median L = {count(one.median_bound)}"
        for one in result.at_alpha
    ]
    return tuple(found), f"{result.statement} [{result.bound.guarantee}]"


def _risk(document: Mapping[str, Any]) -> Words:
    result = RiskResult.from_dict({**document, "reviewed": 0, "spend": {}})
    whole = result.whole
    line = f"mean risk {number(whole.mean)}"
    if whole.interval is not None:
        line += f", {number(whole.interval[0])} to {number(whole.interval[1])}"
    if whole.certified_lower is not None:
        line += f"; at least {number(whole.certified_lower)} (finite-sample, by betting)"
    resolved = f"{whole.resolved:,} of {whole.prompts:,} prompts resolved"
    return (line, resolved), whole.guarantee


def _summary(document: Mapping[str, Any]) -> Words:
    result = RunSummary.from_dict(document)
    found = []
    for stream in result.streams:
        low, high = stream.whole[0].interval
        followed = " (those followed)" if stream.stopping == FIRST_EVENT else ""
        found.append(
            f"stream {stream.stream}: P(unsafe) of the population{followed} "
            f"{number(low)} to {number(high)}"
        )
    level = f"{100 * result.confidence:g}%, two-sided, finite-sample (betting)"
    return tuple(found), f"{level}, for prompts chosen as those of the stream were"


def _forecast(document: Mapping[str, Any]) -> Words:
    result = ForecastResult.from_dict(document)
    found = []
    for one in result.traffic:
        low, high = one.at_least_one_interval
        chance = f"{number(one.at_least_one)}, {number(low)} to {number(high)}"
        found.append(f"P(at least one) in {one.draws:,} draws: {chance}")
    for worst in result.worst.forecasts if result.worst else ():
        if worst.method == "gumbel":
            low, high = worst.interval
            ends = f"{number(worst.median)}, {number(low)} to {number(high)}"
            found.append(f"largest p of {worst.queries:,} queries: {ends}")
    return tuple(found), f"intervals {100 * result.confidence:g}%, asymptotic"


def _judge_audit(document: Mapping[str, Any]) -> Words:
    result = JudgeAudit.from_dict(document)
    plain, corrected = result.overall.uncorrected.rate, result.overall.corrected
    low, high = corrected.interval
    words = [
        "not known" if value is None else number(value) for value in (plain, corrected.estimate)
    ]
    line = f"P(unsafe) as judged {words[0]}; corrected {words[1]}, {number(low)} to {number(high)}"
    return (line,), f"intervals {100 * result.confidence:g}%, labels by {result.labels_by}"


def _agreement(document: Mapping[str, Any]) -> Words:
    result = Rejudged.from_dict(document)
    agreed = result.agreement
    share = "no draw has both verdicts" if agreed.share is None else f"{100 * agreed.share:.1f}%"
    line = f"equal verdicts: {share} of {agreed.draws:,} draws"
    lost = agreed.missing_new + agreed.both_missing
    return (line, *([f"{lost:,} draws without a verdict"] if lost else [])), None


_WORDS: dict[str, Callable[[Mapping[str, Any]], Words]] = {
    "bound": _bound,
    "risk": _risk,
    "summary": _summary,
    "forecast": _forecast,
    "judge-audit": _judge_audit,
    "agreement": _agreement,
}


def known(name: str) -> bool:
    """Whether `results/` may hold a result of that name."""
    return name in _WORDS


def number(value: float) -> str:
    """Three digits; what is not known is not 0."""
    return "not known" if value != value else f"{value:.3g}"


def _between(low: float, high: float, digits: str) -> str:
    ends = [f"{low:{digits}}", f"{high:{digits}}"]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
