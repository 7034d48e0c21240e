"""The figures of the synthetic study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tailbound.workflows.reproduce.drawing import DESIGNS, plain_numbers, svg
from tailbound.workflows.reproduce.synthetic.results import SyntheticResult, SyntheticRow
from tailbound.workflows.reproduce.synthetic.settings import Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTIONS = {
    "coverage-against-budget.svg": "Coverage P(T >= L) against the budget: mean over repeats, and "
    "two standard deviations among them to each side.",
    "bound-against-draws.svg": "Mean bound against the draws that each calibration prompt really "
    "took.",
}
STYLES = {
    **DESIGNS,
    "balanced, plug-in": ("#56B4E9", "D", "-"),
    "balanced, marginal": DESIGNS["balanced"],
}


def figures_of(result: SyntheticResult) -> dict[str, bytes]:
    """SVG by name of file."""
    drawn = (lambda axes: _coverage(axes, result), lambda axes: _lengths(axes, result))
    return {name: svg(draw) for name, draw in zip(CAPTIONS, drawn, strict=True)}


def _by_method(result: SyntheticResult) -> dict[Method, list[SyntheticRow]]:
    methods = dict.fromkeys(row.method for row in result.rows)
    return {one: [row for row in result.rows if row.method == one] for one in methods}


def _coverage(axes: Axes, result: SyntheticResult) -> None:
    groups = _by_method(result)
    shift = np.geomspace(0.8, 1.25, len(groups)) if len(groups) > 1 else [1.0]
    axes.axhline(1 - result.alpha, color="#999999", linewidth=1)
    for (method, rows), beside in zip(groups.items(), shift, strict=True):
        color, marker, _ = STYLES[method.name]
        axes.errorbar(
            [row.budget * beside for row in rows],
            [row.coverage for row in rows],
            yerr=[2 * (row.coverage_sd or 0.0) for row in rows],
            fmt=marker, color=color, elinewidth=1, markersize=5, capsize=2, label=method.name,
        )  # fmt: skip
    axes.set_xscale("log")
    plain_numbers(axes, "x")
    axes.set_xlabel("budget: planned draws per calibration prompt")
    axes.set_ylabel("coverage P(T ≥ L)")
    axes.legend(loc="best", fontsize=9, ncols=2)


def _lengths(axes: Axes, result: SyntheticResult) -> None:
    for method, rows in _by_method(result).items():
        color, marker, line = STYLES[method.name]
        ordered = sorted(rows, key=lambda row: row.spent)
        axes.plot(
            [max(row.spent, 1e-3) for row in ordered], [row.mean_bound for row in ordered], line,
            marker=marker, color=color, markersize=5, label=method.name,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_numbers(axes, "x")
    plain_numbers(axes, "y")
    axes.set_xlabel("draws used per calibration prompt")
    axes.set_ylabel("mean bound L")
    axes.legend(loc="best", fontsize=9)
