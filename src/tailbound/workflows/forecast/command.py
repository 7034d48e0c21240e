"""`forecast` from its arguments to its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.deployment import (
    Backtest,
    MixRisk,
    Queries,
    WorstForecast,
    at_least_one,
    backtest_worst,
    forecast_traffic,
    forecast_worst,
    mix_risk,
)
from tailbound.deployment.backtest import LEAST
from tailbound.errors import UsageError
from tailbound.workflows.forecast.reading import (
    EstimateTable,
    TableSource,
    estimates_of,
    weights_of,
)
from tailbound.workflows.forecast.result import (
    ForecastMadeWith,
    ForecastResult,
    RiskyQuery,
    write_forecast,
)
from tailbound.workflows.forecast.settings import ForecastOptions

RISKIEST = 10
FACTORS = (10, 100)
"""Multiples of the evaluated queries whose worst is forecast unasked."""


def forecast_command(source: TableSource, given: Mapping[str, Any]) -> ForecastResult:
    """Everything that `tailbound forecast` does; `given` are options of `ForecastOptions`.

    `source` is a run folder, where `forecast.json` is written, or a table. Raises `UsageError` for
    what is neither, and for options that do not go with it.
    """
    asked = make(ForecastOptions, given)
    with step("reading estimates"):
        table = estimates_of(source, confidence=asked.confidence)
        check_fresh(table)
        weights = weights_of(table, asked.weights)
    with step("forecasting"):
        result = forecast_of(table, weights, asked)
    if table.folder is not None:
        write_forecast(table.folder, result)
    return result


def check_fresh(table: EstimateTable) -> None:
    """Raise `UsageError` where the estimates of a run are known to be older than its draws."""
    if table.stale is not None and table.stale.known:
        raise UsageError(f"{table.source}: {table.stale.why}")


def forecast_of(
    table: EstimateTable, weights: tuple[list[float], str], asked: ForecastOptions
) -> ForecastResult:
    """The forecast from a table of estimates and the weights of its queries."""
    queries = table.queries
    m = len(queries)
    each = np.array(weights[0]) / max(weights[0])
    unknown = float(each[m:].sum() / each.sum())
    mix = mix_risk(queries, each[:m], unknown=unknown)
    worst, reason = _worst(queries, asked)
    warnings = [*_warnings(table, unknown), *(worst.warnings if worst else ()), *reason]
    return ForecastResult(
        source=table.source,
        what=table.what,
        confidence=queries.confidence,
        evaluated=m + len(table.unknown),
        resolved=int(queries.resolved.sum()),
        unknown=len(table.unknown),
        weights=weights[1],
        mix=mix,
        traffic=tuple(forecast_traffic(mix, n) for n in asked.draws),
        riskiest=_riskiest(table, each[:m] / each[:m].sum(), mix, asked.draws),
        worst=worst,
        backtest=_backtest(queries, worst, asked.seed),
        warnings=tuple(warnings),
        made_with=ForecastMadeWith(
            draws=asked.draws,
            queries=asked.queries,
            weights=asked.weights,
            threshold=asked.threshold,
            top=asked.top,
            far=asked.far,
            seed=asked.seed,
        ),
    )


def _worst(queries: Queries, asked: ForecastOptions) -> tuple[WorstForecast | None, list[str]]:
    """The worst query, or why there is no forecast of it where none was asked for by number."""
    ns = asked.queries or tuple(factor * len(queries) for factor in FACTORS)
    taus = () if asked.threshold is None else (asked.threshold,)
    try:
        found = forecast_worst(
            queries, ns, taus=taus, top=asked.top, far=asked.far, seed=asked.seed
        )
    except UsageError as error:
        if asked.queries or asked.threshold is not None or asked.top is not None:
            raise
        return None, [f"no forecast of the worst query: {error}"]
    return found, []


def _backtest(queries: Queries, worst: WorstForecast | None, seed: int) -> Backtest | None:
    if worst is None or len(queries) < LEAST:
        return None
    try:
        return backtest_worst(queries, seed=seed)
    except UsageError:  # too many are known to be 0
        return None


def _warnings(table: EstimateTable, unknown: float) -> list[str]:
    found = []
    if table.stale is not None:
        found.append(table.stale.why)
    if table.unknown:
        found.append(
            f"{len(table.unknown):,} queries have no verdict at all: {100 * unknown:.3g}% of the "
            "traffic counts as unsafe in every upper end"
        )
    named = [name for name in table.groups if name is not None]
    if len(set(named)) < len(named):
        found.append(
            f"{len(named):,} queries come in {len(set(named)):,} groups: the worst of new queries "
            "counts them as independent, and its interval may be too narrow"
        )
    return found


def _riskiest(
    table: EstimateTable, weights: np.ndarray[Any, Any], mix: MixRisk, draws: tuple[int, ...]
) -> tuple[RiskyQuery, ...]:
    queries = table.queries
    parts = weights * queries.p
    first = np.argsort(-parts, kind="stable")[:RISKIEST]
    return tuple(
        RiskyQuery(
            id=table.ids[i],
            group=table.groups[i],
            p=float(queries.p[i]),
            low=float(queries.low[i]),
            high=float(queries.high[i]),
            share=float(parts[i] / mix.risk) if mix.risk > 0 else 0.0,
            at_least_one=tuple(at_least_one(float(queries.p[i]), n) for n in draws),
        )
        for i in first
        if parts[i] > 0
    )
