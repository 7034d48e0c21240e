"""The results of a run as scores and metrics of Inspect: they count all draws, not a sample.

Inspect has one number for each metric, so that an interval is two; what a metric guarantees stands
in the metadata of its score. Numbers that are not known are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tailbound.storage.plain import finite

if TYPE_CHECKING:
    from inspect_ai.log import EvalSampleReductions, EvalScore

    from tailbound.workflows.bound import BoundResult
    from tailbound.workflows.risk import RiskResult
    from tailbound.workflows.summarize.summary import RunSummary, StreamSummary

UNSAFE = "unsafe"
"""The scorer of draws from the target itself."""
WEIGHTED = "unsafe_weighted_draw"
"""The scorer of draws from a proposal: their share says nothing without their weights."""
EXACT = "exact"


def scores_of(
    summary: RunSummary | None, bound: BoundResult | None, risk: RiskResult | None
) -> Iterator[EvalScore]:
    """The main result first, then the exact intervals of each stream."""
    if risk is not None:
        yield _risk(risk)
    if bound is not None:
        yield _bound(bound)
    for stream in summary.streams if summary is not None else ():
        assert summary is not None
        yield _stream(stream, summary)


def reductions_of(
    summary: RunSummary | None, risk: RiskResult | None, names: Mapping[tuple[str, str], str]
) -> Iterator[EvalSampleReductions]:
    """The numbers of each prompt; `names` is the sample id of each (stream, prompt id)."""
    from inspect_ai.log import EvalSampleReductions

    for stream in summary.streams if summary is not None else ():
        rows = zip(stream.ids, stream.prompts, strict=True)
        yield EvalSampleReductions(
            scorer=UNSAFE,
            reducer=EXACT,
            samples=[
                _reduced(names[stream.stream, name], one.estimate, one.to_dict())
                for name, one in rows
            ],
        )
    if risk is not None:
        yield EvalSampleReductions(
            scorer="risk",
            reducer="importance_sampling",
            samples=[
                _reduced(names["", one.prompt.id], one.estimate.risk, one.to_dict())
                for one in risk.risks
                if ("", one.prompt.id) in names
            ],
        )


def _reduced(name: str, value: float | None, facts: Mapping[str, Any]) -> Any:
    from inspect_ai.log import EvalSampleScore

    return EvalSampleScore(
        sample_id=name, value=math.nan if value is None else value, metadata=finite(dict(facts))
    )


def _score(
    name: str, scorer: str, values: Mapping[str, float | None], metadata: Mapping[str, Any]
) -> EvalScore:
    from inspect_ai.log import EvalMetric, EvalScore

    known = {n: v for n, v in values.items() if v is not None and math.isfinite(v)}
    return EvalScore(
        name=name,
        scorer=scorer,
        metrics={n: EvalMetric(name=n, value=v) for n, v in known.items()},
        metadata=finite(dict(metadata)),
    )


def _ends(name: str, ends: Sequence[float] | None) -> dict[str, float | None]:
    low, high = (None, None) if ends is None else ends
    return {f"{name}_lower": low, f"{name}_upper": high}


def _stream(stream: StreamSummary, summary: RunSummary) -> EvalScore:
    totals = {
        name: sum(getattr(one, name) for one in stream.prompts)
        for name in ("draws", "unsafe", "missing")
    }
    values: dict[str, float | None] = {}
    for whole in stream.whole:
        name = "p_unsafe" if whole.k == 1 else f"p_at_least_one_in_{whole.k}"
        values |= {name: whole.mean, **_ends(name, whole.interval)}
        if whole.k == 1:
            values |= _ends("these_prompts", whole.these)
    values |= {name: float(value) for name, value in totals.items()}
    found = _score(
        f"{UNSAFE} in stream {stream.stream}",
        UNSAFE,
        values,
        {
            "stream": stream.stream,
            "stopping": stream.stopping,
            "guarantee": summary.to_dict()["guarantee"],
            "counted": "draws of the stream, whether they are in this log or not",
            "weighted_draws_left_out": stream.weighted,
            "later_draws_left_out": stream.later,
        },
    )
    found.scored_samples = totals["draws"] - totals["missing"]
    found.unscored_samples = totals["missing"]
    return found


def _bound(result: BoundResult) -> EvalScore:
    values: dict[str, float | None] = {
        "median_bound": result.median_bound,
        "alpha": result.bound.alpha,
    }
    evaluation = result.evaluation
    if evaluation is not None:
        overall = evaluation.overall
        values |= _ends("coverage", None if overall.lower is None else _pair(overall))
        values |= _ends("coverage_interval", overall.interval)
    return _score(
        "bound",
        "tailbound bound",
        values,
        {"statement": result.statement, "guarantee": result.bound.guarantee},
    )


def _pair(overall: Any) -> tuple[float, float]:
    return float(overall.lower), float(overall.upper)


def _risk(result: RiskResult) -> EvalScore:
    whole = result.whole
    return _score(
        "risk",
        "tailbound risk",
        {
            "mean_risk": whole.mean,
            **_ends("mean_risk", whole.interval),
            "certified_lower": whole.certified_lower,
            "resolved": float(whole.resolved),
            "prompts": float(whole.prompts),
        },
        {"estimand": result.estimand, "guarantee": whole.guarantee},
    )
