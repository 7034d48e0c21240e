"""A forecast as people read it: traffic, the worst query, how far to trust it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tailbound.cli.render.bound import console
from tailbound.core.outside import visible
from tailbound.terminal.safe import SafeTable

if TYPE_CHECKING:
    from tailbound.workflows.forecast.result import ForecastResult

_SHOWN = 5


def forecast(result: ForecastResult, *, out: Console | None = None) -> None:
    """Print a forecast with what it rests on."""
    out = out or console()
    out.print(Panel(_facts(result), title="forecast", box=box.ROUNDED, expand=True))
    out.print(_traffic(result))
    if result.worst is not None:
        out.print(_worst(result))
        _print_trust(result, out)
    if result.riskiest:
        first = result.riskiest[:_SHOWN]
        words = ", ".join(f"{visible(one.id)} {100 * one.share:.0f}%" for one in first)
        out.print(Text(f"largest shares of the risk: {words}"))
    for warning in result.warnings:
        out.print(Text(f"warning: {visible(warning)}", style="bold"))
    out.print(Text(_assumptions(result), style="dim"))


def _facts(result: ForecastResult) -> Table:
    facts = SafeTable.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("what", result.what)
    known = f"{result.evaluated:,} evaluated, {result.resolved:,} resolved"
    if result.unknown:
        known += f", {result.unknown:,} without an estimate"
    facts.add_row("queries", known)
    facts.add_row(
        "mix", f"{result.weights} weights" if result.weights == "equal" else result.weights
    )
    facts.add_row("risk of one draw", f"{_n(result.mix.risk)} ({_between(result.mix.interval)})")
    return facts


def _traffic(result: ForecastResult) -> SafeTable:
    table = _table("Traffic of this mix", ("draws",))
    for name in ("expected unsafe", "P(at least one)"):
        table.add_column(name, justify="right", no_wrap=True)
        table.add_column(f"{100 * result.confidence:g}%", justify="right", no_wrap=True)
    for one in result.traffic:
        table.add_row(
            f"{one.draws:,}",
            _n(one.expected),
            _between(one.expected_interval),
            _n(one.at_least_one),
            _between(one.at_least_one_interval),
        )
    return table


def _worst(result: ForecastResult) -> SafeTable:
    assert result.worst is not None
    table = _table("Worst query among new ones", ("queries", "tail"))
    tau = result.made_with.threshold
    table.add_column("largest p", justify="right", no_wrap=True)
    table.add_column(f"{100 * result.confidence:g}%", justify="right", no_wrap=True)
    if tau is not None:
        table.add_column(f"P(p > {tau:g})", justify="right", no_wrap=True)
        table.add_column(f"{100 * result.confidence:g}%", justify="right", no_wrap=True)
    for one in result.worst.forecasts:
        cells = [f"{one.queries:,}", one.method, _n(one.median), _between(one.interval)]
        if tau is not None:
            cells += [_n(one.exceeds[0]), _between(one.exceeds_interval[0])]
        table.add_row(*cells)
    return table


def _print_trust(result: ForecastResult, out: Console) -> None:
    worst, tested = result.worst, result.backtest
    assert worst is not None
    for one in worst.published:
        out.print(
            f"published regression on the top {worst.top}, {one.queries:,} queries: "
            f"{_n(one.worst)}; bias of finite k {one.finite_k_bias:+.2f} in log10"
        )
    if tested is not None:
        out.print(
            f"back-test, {tested.fitted:,} queries for {tested.forecast:,} others, "
            f"{tested.splits} splits: median error {tested.median_absolute_error:.2f} in log10 "
            f"(signed {tested.median_error:+.2f}), {100 * tested.within_factor_10:.0f}% within a "
            "factor of 10"
        )


def _assumptions(result: ForecastResult) -> str:
    words = "Traffic is for exactly these queries; draws are independent."
    if result.worst is not None:
        words += (
            " The worst query is for new ones of which the evaluated are a random sample: kinds of "
            "queries that were not evaluated are not in it."
        )
    return words


def _table(title: str, names: tuple[str, ...]) -> SafeTable:
    table = SafeTable(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in names:
        table.add_column(name, justify="right" if name != "tail" else "left", no_wrap=True)
    return table


def _n(value: float, digits: int = 3) -> str:
    """A few digits; numbers of events in full; a probability just below 1 is not 1."""
    if 0.995 <= value < 1:
        return ">0.99"
    if value >= 10 ** (digits - 1):
        return f"{value:,.0f}" if value < 1e7 else f"{value:.{digits - 1}e}"
    return f"{value:.{digits}g}"


def _between(ends: tuple[float, float]) -> str:
    return f"{_n(ends[0], 2)} to {_n(ends[1], 2)}"
