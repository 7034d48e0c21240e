"""The figures of a study as SVG; drawn by matplotlib, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tailbound.workflows.reproduce.drawing import plain_numbers, svg
from tailbound.workflows.reproduce.results import Point, StudyResult, StudyRun
from tailbound.workflows.reproduce.settings import METHOD_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES: dict[str, tuple[str, str, str]] = {
    "none": ("#555555", "s", ":"),
    "mix-switch": ("#D55E00", "^", "--"),
    "ladder": ("#0072B2", "o", "-"),
}
"""Colour, marker and line of each method; colours of Okabe and Ito, told apart without colour by
the other two."""
_NO_HITS = 0.5
"""Where a scatter puts an estimate of 0: this share of the smallest value shown."""


def figures_of(result: StudyResult) -> dict[str, bytes]:
    """SVG by name of file: those that the study has; errors only where a risk is known."""
    drawn: dict[str, Callable[[Axes], None]] = {}
    if result.study == "mc-vs-is" and any(point.error for point in result.points):
        drawn["error-against-draws.svg"] = lambda axes: _errors(axes, result, tokens=False)
        drawn["error-against-tokens.svg"] = lambda axes: _errors(axes, result, tokens=True)
    if result.shares:
        drawn["share-against-draws.svg"] = lambda axes: _shares(axes, result)
    drawn["scatter.svg"] = lambda axes: _scatter(axes, result)
    return {name: svg(draw) for name, draw in drawn.items()}


def _errors(axes: Axes, result: StudyResult, *, tokens: bool) -> None:
    """Median relative error over prompts, with the quartiles as a band."""
    furthest = max(point.tokens for point in result.points)
    for method in result.options["methods"]:
        color, marker, line = STYLES[method]
        rows = _by_draws(result, method)
        if not rows:
            continue
        x = [float(np.mean([p.tokens for p in row])) if tokens else row[0].draws for row in rows]
        errors = [[100 * p.error for p in row if p.error is not None] for row in rows]
        low, middle, high = np.array([np.quantile(e, [0.25, 0.5, 0.75]) for e in errors]).T
        if tokens and method == "none" and furthest > x[-1]:
            # its errors are known for any number of draws
            falls = np.sqrt(x[-1] / furthest)
            x = [*x, furthest]
            low, middle, high = (np.append(e, e[-1] * falls) for e in (low, middle, high))
        axes.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0)
        axes.plot(
            x, middle, line, marker=marker, markevery=slice(0, len(rows)), color=color,
            label=METHOD_NAMES[method],
        )  # fmt: skip
    wanted = 100 * result.wanted
    axes.axhline(wanted, color="#999999", linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_numbers(axes, "y")
    plain_numbers(axes, "x")
    axes.annotate(
        f"{wanted:g} %", (1, wanted), xycoords=("axes fraction", "data"), color="#666666",
        ha="right", va="bottom", fontsize=9, xytext=(0, 2), textcoords="offset points",
    )  # fmt: skip
    axes.set_xlabel(
        "tokens read per prompt (scoring, pilots and checks included)"
        if tokens
        else "draws per prompt"
    )
    axes.set_ylabel("relative error (%), median of prompts")
    axes.legend(loc="best", fontsize=10)


def _by_draws(result: StudyResult, method: str) -> list[list[Point]]:
    """The points of a method whose error is known, a list for each number of draws."""
    mine = [p for p in result.points if p.method == method and p.error]
    return [[p for p in mine if p.draws == n] for n in sorted({p.draws for p in mine})]


def _scatter(axes: Axes, result: StudyResult) -> None:
    """Estimates of the first repeat from the most draws, against the truth."""
    truths = {prompt.id: prompt.truth for prompt in result.prompts}
    known = [t.risk for t in truths.values() if t.known]
    shown = [
        (
            method,
            [e for run in result.runs for e in run.estimates if _is_first(result, run, method)],
        )
        for method in result.options["methods"]
    ]
    values = known + [e.risk for _, row in shown for e in row if e.risk > 0]
    values += [t.upper for t in truths.values() if not t.known]
    floor = _NO_HITS * min(values)
    span = (floor / 2, min(2 * max(values), 1.5))
    axes.plot(span, span, color="#999999", linewidth=1, zorder=1)
    shift = np.geomspace(0.94, 1.06, len(shown)) if len(shown) > 1 else [1.0]
    for (method, row), beside in zip(shown, shift, strict=True):
        color, marker, _ = STYLES[method]
        some = [e for e in row if truths[e.id].known]
        x = np.array([truths[e.id].risk * beside for e in some])
        y = np.array([max(e.risk, floor) for e in some])
        ends = [_ends(e.risk, e.interval, e.standard_error, floor) for e in some]
        away = np.array(
            [[v - min(lo, v), max(hi, v) - v] for v, (lo, hi) in zip(y, ends, strict=True)]
        )
        met = np.array([e.risk > 0 for e in some], dtype=bool)
        wide: dict[str, Any] = {"xerr": None}
        if result.truth != "exact":
            t = [truths[e.id] for e in some]
            wide["xerr"] = np.array([[o.risk - o.lower, o.upper - o.risk] for o in t]).T
        for chosen, fill in ((met, color), (~met, "white")):
            if not chosen.any():
                continue
            axes.errorbar(
                x[chosen], y[chosen],
                yerr=away[chosen].T if fill == color else None,
                xerr=None if wide["xerr"] is None else wide["xerr"][:, chosen],
                fmt=marker, color=color, markerfacecolor=fill, elinewidth=1, markersize=6,
                label=METHOD_NAMES[method] if fill == color else f"{METHOD_NAMES[method]}, no hit",
            )  # fmt: skip
        unknown = [e for e in row if not truths[e.id].known]
        if unknown:
            limits = np.array([truths[e.id].upper for e in unknown])
            axes.errorbar(
                limits, [max(e.risk, floor) for e in unknown], xerr=0.3 * limits, xuplims=True,
                fmt=marker, color=color, markerfacecolor="white", elinewidth=1, markersize=6,
                label=f"{METHOD_NAMES[method]}, no plain hit: upper limit",
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(span)
    axes.set_ylim(span)
    draws = result.options["brute_force"]
    exact = result.truth == "exact"
    axes.set_xlabel(
        "exact probability of an unsafe output"
        if exact
        else f"probability of an unsafe output, {draws:,} plain draws"
    )
    axes.set_ylabel(f"estimate from {result.most:,} draws")
    axes.legend(loc="upper left", fontsize=10)


def _is_first(result: StudyResult, run: StudyRun, method: str) -> bool:
    return run.method == method and run.repeat == 1 and run.draws == result.most


def _ends(
    risk: float, interval: tuple[float, float] | None, error: float | None, floor: float
) -> tuple[float, float]:
    """The interval of an estimate; where it was withheld, two standard errors to each side."""
    if interval is not None:
        return max(interval[0], floor), interval[1]
    if error is None:
        return risk, risk
    return max(risk - 2 * error, floor), risk + 2 * error


def _shares(axes: Axes, result: StudyResult) -> None:
    """Share of prompts with an unsafe output among k draws, predicted and seen."""
    rows = result.shares
    weighted, plain = result.options["draws"][0], result.options["brute_force"]
    color, _, line = STYLES["ladder"]
    k = [row.k for row in rows]
    predicted = np.array([100 * row.predicted for row in rows])
    spread = np.array([200 * row.predicted_error for row in rows])
    axes.fill_between(
        k, np.maximum(predicted - spread, 0), np.minimum(predicted + spread, 100),
        color=color, alpha=0.15, linewidth=0,
    )  # fmt: skip
    axes.plot(k, predicted, line, color=color, label=f"predicted from {weighted:,} weighted draws")
    seen = [(r.k, 100 * r.seen, 200 * (r.seen_error or 0)) for r in rows if r.seen is not None]
    x, y, error = np.array(seen).T
    axes.errorbar(
        x, y, yerr=np.array([np.minimum(error, y), np.minimum(error, 100 - y)]),
        fmt="s", color=STYLES["none"][0], markersize=5, elinewidth=1,
        label=f"seen in {plain:,} plain draws",
    )  # fmt: skip
    axes.set_xscale("log")
    plain_numbers(axes, "x")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("draws per prompt, k")
    axes.set_ylabel("prompts with an unsafe output (%)")
    axes.legend(loc="best", fontsize=10)


def described(names: Sequence[str]) -> dict[str, str]:
    """A caption for each figure."""
    captions = {
        "error-against-draws.svg": "Relative error against draws per prompt: median over prompts, "
        "band from the first to the third quartile.",
        "error-against-tokens.svg": "The same against all tokens that the model read.",
        "share-against-draws.svg": "Share of prompts with at least one unsafe output among k "
        "draws; two standard errors from the noise of the draws.",
        "scatter.svg": "Estimates of the first repeat against the truth, with their intervals "
        "(where withheld: two standard errors to each side).",
    }
    return {name: captions[name] for name in names}
