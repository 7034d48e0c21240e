"""A bound from a table, as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.panel import Panel

from tailbound.cli.render.bound import console, count, coverage, held, recalibrated
from tailbound.terminal.safe import SafeTable

if TYPE_CHECKING:
    from tailbound.workflows.bound import BoundResult

_LIMITS = {
    "alpha": "alpha: the estimated miscoverage reached it",
    "max_level": "the highest level considered: events are predicted too early, --max-level is "
    "low, or too few events are expected to rely on a higher one",
    "cap": "the cap on bounds: nobody was followed longer, or --budget times largest weight",
    "max_draws": "the limit on draws: a larger --max-draws gives longer ones",
}


def bound(result: BoundResult, *, subject: str, out: Console | None = None) -> None:
    """Print a bound with everything that it rests on."""
    b = result.bound
    out = out or console()
    facts = SafeTable.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("what", f"draws until the first event, from {subject}")
    facts.add_row("bound", f"median L = {count(result.median_bound)} over calibration units")
    facts.add_row("guarantee", f"{b.statement} [{b.guarantee}]")
    facts.add_row("limited by", f"{_LIMITS[b.limited_by]} (level {b.level:.4f}, cap {b.cap:,})")
    used = result.spend["calibration"].used
    facts.add_row(
        "calibration",
        f"{b.n_calibration} units, {b.n_selected} followed; draws per unit: "
        f"{b.planned / b.n_calibration:.1f} planned, {used / b.n_calibration:.1f} used; "
        f"largest weight {b.weight_bound:.1f}",
    )
    for one in result.at_alpha:
        facts.add_row(
            f"at alpha {one.bound.alpha:g}", f"median L = {count(one.median_bound)}; {held(one)}"
        )
    if result.recalibration is not None:
        facts.add_row(*recalibrated(result.recalibration, "training units"))
    stopped = result.missing.prompts_stopped
    facts.add_row(
        "censored",
        "no unit was censored before the design stopped following it"
        if stopped == 0
        else f"{stopped} units were, and count as having their event at the next draw; if none had "
        f"one: median L = {count(result.missing.median_if_safe)}",
    )
    out.print(Panel(facts, title="Lower bound on the time to the first event", box=box.ROUNDED))
    if result.evaluation is not None:
        coverage(out, result)
