"""The figures of the study of completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.workflows.reproduce.drawing import DESIGNS, plain_numbers, svg
from tailbound.workflows.reproduce.realtoxicity.results import CompletionResult, CompletionRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTIONS = {
    "bound-against-budget.svg": "Mean bound on the test prompts against the budget, beside the "
    "uncalibrated one.",
    "miscoverage-against-budget.svg": "Share of the test prompts that were unsafe before L, with "
    "its interval, beside what was allowed and the uncalibrated bound.",
}


def figures_of(result: CompletionResult) -> dict[str, bytes]:
    """SVG by name of file."""
    drawn = (lambda axes: _lengths(axes, result), lambda axes: _miscoverage(axes, result))
    return {name: svg(draw) for name, draw in zip(CAPTIONS, drawn, strict=True)}


def _by_design(result: CompletionResult) -> dict[str, list[CompletionRun]]:
    designs = dict.fromkeys(run.design for run in result.runs)
    return {one: [run for run in result.runs if run.design == one] for one in designs}


def _lengths(axes: Axes, result: CompletionResult) -> None:
    axes.axhline(
        result.uncalibrated.mean_bound, color="#555555", linestyle=":", label="uncalibrated"
    )
    for design, runs in _by_design(result).items():
        color, marker, line = DESIGNS[design]
        axes.plot(
            [run.budget for run in runs], [run.checked.mean_bound for run in runs], line,
            marker=marker, color=color, markersize=5, label=design,
        )  # fmt: skip
    axes.set_yscale("log")
    plain_numbers(axes, "y")
    axes.set_ylabel("mean bound L")
    _budgets(axes)


def _miscoverage(axes: Axes, result: CompletionResult) -> None:
    alpha = float(result.options["alpha"])
    axes.axhline(alpha, color="#999999", linewidth=1, label=f"allowed: {alpha:g}")
    axes.axhline(
        result.uncalibrated.miscoverage, color="#555555", linestyle=":", label="uncalibrated"
    )
    for number, (design, runs) in enumerate(_by_design(result).items()):
        color, marker, _ = DESIGNS[design]
        values = [run.checked.miscoverage for run in runs]
        intervals = [run.checked.coverage.interval or (0.0, 1.0) for run in runs]
        away = [
            [
                max(value - (1 - high), 0.0)
                for value, (_, high) in zip(values, intervals, strict=True)
            ],
            [
                max((1 - low) - value, 0.0)
                for value, (low, _) in zip(values, intervals, strict=True)
            ],
        ]
        axes.errorbar(
            [run.budget * 1.06**number for run in runs], values, yerr=away, fmt=marker,
            color=color, elinewidth=1, markersize=5, capsize=2, label=design,
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_ylabel("miscoverage of the test prompts")
    _budgets(axes)


def _budgets(axes: Axes) -> None:
    axes.set_xscale("log")
    plain_numbers(axes, "x")
    axes.set_xlabel("budget: planned draws per calibration prompt")
    axes.legend(loc="best", fontsize=9)
