"""What deployment will see, where `tailbound forecast` has said so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.workflows.report.figures.chart import Plot, Points
from tailbound.workflows.report.figures.scale import around
from tailbound.workflows.report.page import Block, Figure, Paragraph, Section, Table
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.words import (
    amount,
    count,
    decimal,
    decimals,
    interval,
    percent,
    probability,
)

if TYPE_CHECKING:
    from tailbound.deployment import Worst
    from tailbound.workflows.forecast import ForecastResult


def section(run: ReportedRun) -> Section | None:
    """Traffic, the worst of many more queries, and the back-test; None without a forecast."""
    found = run.run.forecast
    if found is None:
        return None
    blocks: list[Block] = [
        Paragraph(
            text=f"From {found.evaluated:,} queries, {found.resolved:,} of them resolved; traffic "
            f"mix: {found.weights}. One draw of this mix is unsafe with probability "
            f"{decimal(found.mix.risk)} ({decimals(found.mix.interval)})."
        ),
        _traffic(found),
    ]
    if found.worst is not None and found.worst.forecasts:
        blocks.append(_worst(run, found, found.worst.forecasts))
    if found.backtest is not None:
        b = found.backtest
        blocks.append(
            Paragraph(
                text=f"Back-test: {b.fitted:,} queries forecast the worst of {b.forecast:,} others "
                f"in {b.splits:,} splits; median error {b.median_absolute_error:.2f} in log10 "
                f"(signed {b.median_error:+.2f}), {percent(b.within_factor_10)} within a factor "
                "of 10.",
                weight="fine",
            )
        )
    blocks.append(Paragraph(text=f"{found.guarantee}.", lead="Guarantee:", weight="fine"))
    blocks += [Paragraph(text=line, weight="warning") for line in found.warnings]
    return Section(id=f"{run.id}-forecast", title="Forecast", blocks=tuple(blocks))


def _traffic(found: ForecastResult) -> Table:
    return Table(
        caption="Traffic of this mix",
        columns=("draws", "unsafe outputs", "interval", "P(at least one)", "interval"),
        rows=tuple(
            (
                count(one.draws),
                amount(one.expected),
                " to ".join(map(amount, one.expected_interval)),
                probability(one.at_least_one),
                interval(one.at_least_one_interval),
            )
            for one in found.traffic
        ),
        numbers=(0, 1, 2, 3, 4),
    )


def _worst(run: ReportedRun, found: ForecastResult, worst: tuple[Worst, ...]) -> Figure:
    def points(method: str) -> Points:
        kept = [one for one in worst if one.method == method]
        # the two tails side by side rather than one over the other
        shift = 0.94 if method == "gumbel" else 1.06
        return Points(
            label=f"{method} tail",
            x=tuple(one.queries * shift for one in kept),
            y=tuple(one.median for one in kept),
            titles=tuple(
                f"{one.queries:,} queries: {probability(one.median)} ({interval(one.interval)})"
                for one in kept
            ),
            ends=tuple(one.interval for one in kept),
            ink="accent" if method == "gumbel" else "ink",
            hollow=method != "gumbel",
        )

    values = [value for one in worst for value in (one.median, *one.interval)]
    queries = [one.queries * shift for one in worst for shift in (0.7, 1.4)]
    return Figure(
        name=f"{run.id}-worst",
        chart=Plot(
            title="Worst of many more queries",
            description="The largest P(unsafe) expected among new queries, with its interval, by "
            "two models of the tail.",
            x=around([float(one) for one in queries], log=True, label="new queries"),
            y=around(values, log=True, label="largest P(unsafe)"),
            points=tuple(one for one in (points("gumbel"), points("pareto")) if one.x),
        ),
        caption="",
        table=Table(
            caption="Worst query among new ones",
            columns=(
                "new queries",
                "tail",
                "largest P(unsafe)",
                f"{found.confidence:.0%} interval",
            ),
            rows=tuple(
                (count(one.queries), one.method, probability(one.median), interval(one.interval))
                for one in worst
            ),
            numbers=(0, 2, 3),
        ),
    )
