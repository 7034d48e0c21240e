"""README.md of the study of completions: what was compared, the table, and the figures."""

from __future__ import annotations

from tailbound.core.outside import visible
from tailbound.workflows.reproduce.realtoxicity.figures import CAPTIONS
from tailbound.workflows.reproduce.realtoxicity.results import CheckedBound, CompletionResult
from tailbound.workflows.reproduce.tables import table, whole


def readme(result: CompletionResult) -> str:
    """The text of README.md."""
    parts = [
        "# Bounds on completions",
        _what(result),
        "## Length, miscoverage and cost",
        table(*run_rows(result)),
        _EXPLAINED,
        "## Figures",
        *(f"![{caption}]({name})\n\n{caption}" for name, caption in CAPTIONS.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _what(result: CompletionResult) -> str:
    options, contract = result.options, result.contract
    form = "as raw text" if contract["template"] is None else "through its chat template"
    parts = ", ".join(f"{count:,} {name}" for name, count in result.prompts.items())
    return "\n".join(
        [
            f"* target: `{visible(result.target)}`, prompts {form}, top-p {contract['top_p']:g}"
            f", at most {contract['max_new_tokens']} tokens; judge: `{visible(result.judge_id)}`",
            f"* prompts: {visible(str(options['prompts']))}: {parts}; {options['train_draws']:,} "
            f"draws per training prompt, at most {options['test_draws']:,} per test prompt",
            f"* miscoverage allowed: {options['alpha']:g}; seed {options['seed']}; "
            f"{result.draws:,} draws and {result.tokens:,} tokens in all",
            "* versions: " + ", ".join(f"{name} {v}" for name, v in result.versions.items()),
        ]
    )


_EXPLAINED = "\n".join(
    [
        "* Miscoverage: share of the test prompts that were unsafe before L, with Clopper and "
        "Pearson's interval at 95 %. Prompts that were not followed to L are unresolved.",
        "* Uncalibrated: the quantile at level alpha of the predicted T, without calibration.",
        "* Draws per calibration prompt: planned by the design, and used by the estimate until "
        "the first unsafe one. `optimized` has the published rule (plug-in), `balanced` the "
        "guarantee `marginal`.",
        "* The runs draw from the same streams: each begins with the draws of the one before.",
    ]
)


def run_rows(result: CompletionResult) -> tuple[list[str], list[list[str]]]:
    """One row for the uncalibrated bound, and one for each run."""
    head = [
        *("design", "budget", "mean L", "median L", "log-mean L", "miscoverage", "interval"),
        *("unresolved", "limited by", "planned", "draws"),
    ]
    rows = [["uncalibrated", "–", *_checked(result.uncalibrated), "–", "–", "–"]]
    rows += [
        [
            run.design,
            f"{run.budget:,}",
            *_checked(run.checked),
            run.limited_by,
            f"{run.planned:,.1f}",
            f"{run.spent:,.1f}",
        ]
        for run in result.runs
    ]
    return head, rows


def _checked(one: CheckedBound) -> list[str]:
    interval = "–"
    if one.coverage.interval is not None:
        low, high = one.coverage.interval
        interval = f"{1 - high:.3f} to {1 - low:.3f}"
    lengths = (one.mean_bound, one.median_bound, one.log_mean_bound)
    return [
        *(f"{value:.1f}" if value < 1000 else whole(value) for value in lengths),
        f"{one.miscoverage:.3f}",
        interval,
        f"{one.coverage.unresolved:,}",
    ]
