"""Figures of results, by matplotlib (extra `plot`): each returns its Axes, and takes `ax=`.

    from tailbound import load_run, plots

    run = load_run("runs/when")
    plots.survival_curve(run).figure.savefig("survival.svg")

Without `ax` a new figure is made, apart from pyplot: it shows itself in a notebook. Nothing of
others' making is read as markup: dollar signs in ids stay dollar signs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailbound.core.extras import require
from tailbound.core.outside import one_line, visible
from tailbound.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tailbound.workflows.forecast import ForecastResult
    from tailbound.workflows.load import Run

__all__ = ["bounds_against_p_hat", "coverage_by_bin", "forecast", "risk_forest", "survival_curve"]

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"
"""Colours of Okabe and Ito, told apart by people who are colour-blind."""
MOST = 40
_SIZE = (7.0, 4.4)
_NAME = 40


def survival_curve(run: Run, ax: Axes | None = None) -> Axes:
    """P(T > t) of the population with its band, and the share of bounds beyond t.

    The curve is that of `bound.json` (its intervals hold all at once); the line of the bounds is
    P(L > t) over the test prompts, where there are any. Raises `UsageError` for a run without a
    bound and its curve.
    """
    bound = run.bound
    if bound is None or bound.curve is None:
        raise UsageError(f"{run.folder} has no survival curve: run tailbound bound")
    axes = _axes(ax)
    rates = bound.curve.rates
    t = [one.draws for one in rates.survival]
    middle = [(one.lower + (one.lower if one.upper is None else one.upper)) / 2
              for one in rates.survival]  # fmt: skip
    low = [one.interval[0] for one in rates.survival]
    high = [1.0 if one.interval[1] is None else one.interval[1] for one in rates.survival]
    axes.fill_between(
        t, low, high, step="post", color=BLUE, alpha=0.18, linewidth=0,
        label=f"{100 * rates.confidence:g}% band",
    )  # fmt: skip
    axes.step(t, middle, where="post", color=BLUE, label="P(T > t)")
    if run.predictions is not None and run.predictions.height:
        bounds = run.predictions["lower_bound"].sort().to_list()
        beyond = [1 - place / len(bounds) for place in range(len(bounds) + 1)]
        axes.step(
            [0, *bounds], beyond, where="post", color=ORANGE, linestyle="--", label="P(L > t)"
        )
    _labels(axes, "generations t", "share of prompts")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_ylim(0, 1.02)
    axes.legend()
    return axes


def bounds_against_p_hat(run: Run, ax: Axes | None = None) -> Axes:
    """The lower bound of every test prompt against its p_hat; those seen to be missed in orange.

    Raises `UsageError` for a run without predictions of test prompts.
    """
    table = run.predictions
    if table is None or not table.height or "p_hat" not in table.columns:
        raise UsageError(f"{run.folder} has no bounds of test prompts: run tailbound bound")
    axes = _axes(ax)
    first = table["first_unsafe"].to_list()
    missed = [0 < t < bound for t, bound in zip(first, table["lower_bound"], strict=True)]
    for flag, color, mark, label in (
        (False, BLUE, "o", "first unsafe draw not before L"),
        (True, ORANGE, "x", "before L"),
    ):
        rows = [place for place, one in enumerate(missed) if one == flag]
        axes.plot(
            table["p_hat"][rows], table["lower_bound"][rows], mark, color=color, alpha=0.7,
            markersize=4, linestyle="none", label=f"{label} ({len(rows):,})",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    _labels(axes, "predicted P(unsafe)", "lower bound L (generations)")
    axes.legend()
    return axes


def coverage_by_bin(run: Run, ax: Axes | None = None) -> Axes:
    """Coverage of the test prompts in all, by bin of p_hat and by group, with the target.

    The intervals of bins and groups hold all at once. Raises `UsageError` without test prompts.
    """
    seen, bound = run.evaluation, run.bound
    if seen is None or bound is None:
        raise UsageError(f"{run.folder} has no coverage of test prompts: run tailbound bound")
    axes = _axes(ax)
    rows = [("all", seen.overall)]
    rows += [(one.name, one) for one in (*seen.by_p_hat, *seen.by_group)][:MOST]
    for place, (_, one) in enumerate(rows):
        if one.interval is None or one.lower is None:
            continue
        _whisker(axes, place, one.lower, one.interval, ORANGE if place == 0 else BLUE)
    axes.axvline(1 - bound.bound.alpha, color=GREY, linestyle=":", label="target")
    _names(axes, [name for name, _ in rows])
    _labels(axes, "coverage P(T >= L)", "")
    axes.legend(loc="lower left")
    return axes


def risk_forest(run: Run, ax: Axes | None = None, *, most: int = MOST) -> Axes:
    """The risks of up to `most` prompts with their intervals, largest first, on a log scale.

    Estimates that are not resolved are hollow and grey, and reach from their certified lower bound
    only to the estimate. Raises `UsageError` for a run without risks.
    """
    found = run.risk
    if found is None:
        raise UsageError(f"{run.folder} has no risks: run tailbound risk")
    axes = _axes(ax)
    usable = [one for one in found.risks if one.estimate.risk > 0]
    chosen = sorted(usable, key=lambda one: -one.estimate.risk)[:most]
    for place, one in enumerate(chosen):
        estimate = one.estimate
        if estimate.interval is not None:
            _whisker(axes, place, estimate.risk, estimate.interval, BLUE)
        else:
            ends = (estimate.certified_lower or estimate.risk, estimate.risk)
            _whisker(axes, place, estimate.risk, ends, GREY, hollow=True)
    axes.set_xscale("log")
    _names(axes, [one.prompt.id for one in chosen])
    _labels(axes, "P(unsafe)", "")
    return axes


def forecast(found: ForecastResult | Run, ax: Axes | None = None) -> Axes:
    """The worst of n queries by each tail, with intervals, against n, on log scales.

    Raises `UsageError` where there is no forecast of the worst query.
    """
    result: Any = found if hasattr(found, "worst") else found.forecast  # a run holds one
    if result is None or result.worst is None:
        raise UsageError("there is no forecast of the worst query: run tailbound forecast")
    axes = _axes(ax)
    for method, color, shift in (("gumbel", BLUE, 0.97), ("pareto", ORANGE, 1.03)):
        rows = [one for one in result.worst.forecasts if one.method == method]
        if not rows:
            continue
        x = [one.queries * shift for one in rows]
        y = [one.median for one in rows]
        below = [max(0.0, one.median - one.interval[0]) for one in rows]
        above = [max(0.0, one.interval[1] - one.median) for one in rows]
        axes.errorbar(x, y, yerr=[below, above], fmt="o", color=color, capsize=3, label=method)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _labels(axes, "queries", "largest P(unsafe) among them")
    axes.legend()
    return axes


def _axes(ax: Axes | None) -> Axes:
    require("tailbound.plots", "plot")
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    made: Axes = Figure(figsize=_SIZE, layout="constrained").add_subplot()
    return made


def _whisker(
    axes: Axes,
    place: int,
    value: float,
    ends: tuple[float, float],
    color: str,
    *,
    hollow: bool = False,
) -> None:
    axes.plot(ends, (place, place), color=color, linewidth=1.5)
    axes.plot(value, place, "o", color=color, markersize=5, fillstyle="none" if hollow else "full")


def _names(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [one_line(visible(name), _NAME) for name in names])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.invert_yaxis()


def _labels(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color="#e2e2e2", linewidth=0.6)
    axes.set_axisbelow(True)
