"""README.md of the synthetic study: what was compared, the table, and the figures."""

from __future__ import annotations

from tailbound.workflows.reproduce.synthetic.figures import CAPTIONS
from tailbound.workflows.reproduce.synthetic.results import SyntheticResult, SyntheticRow
from tailbound.workflows.reproduce.tables import table, whole


def readme(result: SyntheticResult) -> str:
    """The text of README.md."""
    parts = [
        "# Bounds on a population with known risks",
        _what(result),
        "## Coverage, length and cost",
        table(*summary_rows(result)),
        _EXPLAINED,
        "## Figures",
        *(f"![{caption}]({name})\n\n{caption}" for name, caption in CAPTIONS.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _what(result: SyntheticResult) -> str:
    options = result.options
    return "\n".join(
        [
            f"* the published population of {options['prompts_count']:,} prompts (Davidov et al., "
            "arXiv 2506.13593): 45 % train the predictor, a network of four layers, from "
            f"{options['train_draws']} draws each, 45 % calibrate, 10 % test",
            f"* coverage asked for: {1 - result.alpha:g}; repeats: {options['repeats']}; seed "
            f"{options['seed']}",
            "* versions: " + ", ".join(f"{name} {v}" for name, v in result.versions.items()),
        ]
    )


_EXPLAINED = "\n".join(
    [
        "* Coverage is exact: T is geometric with the known risk of each test prompt. The paper "
        "counts T = L as a miss, P(T > L). After ± stands the standard deviation over repeats.",
        "* Mean, median and geometric mean of L over test prompts, then their means over repeats. "
        "A few prompts whose predicted risk is far too small decide the mean. At cap: share of "
        "prompts whose bound is the longest that the design allows.",
        "* Draws per calibration prompt: planned by the design, and used by the estimate until "
        "the first unsafe one. The published accounting is the first.",
        "* Published designs have the published rule (plug-in); repeats share population, "
        "predictor and times among all designs.",
    ]
)


def summary_rows(result: SyntheticResult) -> tuple[list[str], list[list[str]]]:
    """One row for each design and budget."""
    head = [
        *("design", "budget", "P(T >= L)", "P(T > L)", "mean L", "median L", "log-mean L"),
        *("at cap", "planned", "draws"),
    ]
    return head, [_row(one) for one in result.rows]


def _row(one: SyntheticRow) -> list[str]:
    return [
        one.method.name,
        f"{one.budget:,}",
        _with_sd(one.coverage, one.coverage_sd),
        _with_sd(one.coverage_beyond, one.coverage_beyond_sd),
        *(whole(value) for value in (one.mean_bound, one.median_bound, one.log_mean_bound)),
        f"{100 * one.share_at_cap:.1f} %",
        whole(one.planned),
        whole(one.spent),
    ]


def _with_sd(value: float, sd: float | None) -> str:
    """A probability with its standard deviation, in units of 1e-4."""
    return f"{value:.4f}" if sd is None else f"{value:.4f} ± {sd:.4f}"
