"""What a bound from weighted draws rests on, as people read it."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console

from tailbound.survival import LowerPredictiveBound
from tailbound.terminal.safe import SafeTable, show_table
from tailbound.workflows.bound.importance.report import WeightedReport


def weighted_rows(found: WeightedReport, bound: LowerPredictiveBound) -> Iterator[tuple[str, str]]:
    """Rows of the panel: the draws, the curve, the weights."""
    curve = found.curve
    yield (
        "calibration",
        f"{bound.n_calibration} prompts, {found.draws / bound.n_calibration:.1f} weighted draws "
        f"each; {curve.hits:,} unsafe, of {curve.prompts_with_hits} prompts",
    )
    yield (
        "curve",
        f"estimated miscoverage {curve.miscoverage:.4f}, standard error "
        f"{curve.standard_error:.4f}; the largest share of one prompt is "
        f"{curve.largest_share:.1%} (without it the level is {curve.level_without_it:.4f}); "
        f"estimates of single prompts {curve.smallest:.2f} to {curve.largest:.2f}",
    )
    rest = (
        "versions that rest on no direction took part"
        if found.explored
        else "no heated versions took part"
    )
    yield (
        "weights",
        f"mean {found.mean_weight:.3f} (z = {found.mean_weight_z:.1f}; should be 1), at most "
        f"{found.largest_weight:.3g}; {len(found.proposals)} proposals, {rest}",
    )
    if found.missing:
        yield "missing", f"{found.missing} weighted draws had no verdict and count as unsafe"


def weighted_test(out: Console, found: WeightedReport, alpha: float) -> None:
    """Print the coverage of the test prompts."""
    if not found.test:
        return
    table = SafeTable(
        title=f"Coverage P(T >= L) of test prompts by weighted draws (target {1 - alpha:.4g})",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("test prompts", no_wrap=True)
    for name in ("n", "coverage", "95% interval", "median L"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.test:
        table.add_row(
            row.name,
            f"{row.prompts}",
            f"{row.coverage:.3f}",
            f"{row.interval[0]:.3f} to {row.interval[1]:.3f}",
            f"{row.median_bound:,.0f}",
            style="bold" if row.name == "all" else None,
        )
    show_table(out, table)
