"""README.md of a study: what was compared, the tables, and the figures."""

from __future__ import annotations

from collections.abc import Sequence

from tailbound.core.outside import visible
from tailbound.studies import Truth
from tailbound.workflows.reproduce.figures import described
from tailbound.workflows.reproduce.results import MethodSummary, StudyPrompt, StudyResult
from tailbound.workflows.reproduce.settings import METHOD_NAMES
from tailbound.workflows.reproduce.tables import table, whole

TITLES = {
    "mc-vs-is": "Error of plain and weighted draws",
    "strongreject": "Prompts with an unsafe output, against draws",
    "persona": "A trait by weighted and by plain draws",
}
_LONGEST = 60


def readme(result: StudyResult, figures: Sequence[str]) -> str:
    """The text of README.md."""
    parts = [
        f"# {TITLES[result.study]}",
        _what(result),
        "## Methods",
        table(*method_rows(result)),
        _explained(result),
        f"## Draws and tokens for {100 * result.wanted:g} % relative error",
        table(*need_rows(result)),
        f"## Estimates from {result.most:,} draws",
        table(*estimate_rows(result)),
        *(
            ["## Prompts with at least one unsafe output", table(*share_rows(result))]
            if result.shares
            else []
        ),
        "## Figures",
        *(f"![{caption}]({name})\n\n{caption}" for name, caption in described(figures).items()),
    ]
    return "\n\n".join(parts) + "\n"


def _what(result: StudyResult) -> str:
    options = result.options
    numbers = ", ".join(f"{n:,}" for n in options["draws"])
    truth = (
        "computed by enumeration"
        if result.truth == "exact"
        else f"{options['brute_force']:,} plain draws per prompt, with Clopper and Pearson's "
        f"interval at {100 * options['confidence']:g} %"
    )
    proposal = ", ".join(options["proposal"]) + (
        " with explorers" if options["explore"] else ", no explorers"
    )
    lines = [
        f"* target: `{visible(result.target)}`, judge: `{visible(result.judge_id)}`, "
        f"{len(result.prompts)} prompts ({visible(str(options['prompts']))})",
        f"* draws per prompt: {numbers}; independent runs of each: {options['repeats']}; "
        f"proposal: {visible(proposal)}; seed {options['seed']}",
        f"* truth: {truth}",
        "* versions: " + ", ".join(f"{name} {v}" for name, v in result.versions.items()),
    ]
    return "\n".join(lines)


def _explained(result: StudyResult) -> str:
    exact = result.truth == "exact"
    error = (
        "the root mean square of estimate / truth - 1 over the runs"
        if exact
        else "its own standard error over the truth, whose noise would count otherwise"
    )
    return "\n".join(
        [
            f"* The error of a weighted estimate is {error}; that of plain Monte Carlo is "
            "sqrt((1 - p) / (n p)), exactly. Draws for a given error assume that errors fall as "
            "1 / sqrt(draws), and are the mean over all numbers of draws.",
            "* Tokens are all positions that the model read: drawing, scoring, pilots, self-checks "
            "and the search for a direction, which is shared by the prompts of a run.",
            "* `saving`: tokens of plain Monte Carlo over those of the method, median over "
            "prompts. z is (estimate - truth) / its standard error; pooled, the sum over the root "
            "of the number of prompts.",
            "* `mix-switch` is chosen on a tenth of the prompts, which it then leaves out; a tenth "
            "of its draws, at least 50, come from the ladder and check its coverage.",
        ][: 4 if "mix-switch" in result.options["methods"] else 3]
    )


def method_rows(result: StudyResult) -> tuple[list[str], list[list[str]]]:
    """One row for each method over all prompts."""
    head = [
        *("method", "draws", "tokens", "saving", "pooled z", "largest z"),
        *("resolved", "mean weight", "largest z of weights"),
    ]
    return head, [_method_row(one) for one in result.methods]


def _method_row(one: MethodSummary) -> list[str]:
    plain = one.method == "none"
    return [
        METHOD_NAMES[one.method] + ("" if one.known == one.prompts else f" ({one.known} prompts)"),
        whole(one.draws),
        whole(one.tokens),
        _number(one.saving),
        _signed(one.pooled_z),
        _signed(one.largest_z).removeprefix("+"),
        f"{100 * one.resolved:.0f} %",
        "1" if plain else f"{one.mean_weight:.3f}",
        "–" if plain else f"{one.largest_weight_z:.1f}",
    ]


def need_rows(result: StudyResult) -> tuple[list[str], list[list[str]]]:
    """Draws and tokens of each prompt, by method."""
    methods = list(dict.fromkeys(need.method for need in result.needs))
    by_name = {(need.id, need.method): need for need in result.needs}
    head = ["prompt", "truth"]
    head += [f"draws, {method_name(m)}" for m in methods]
    head += [f"tokens, {method_name(m)}" for m in methods]
    rows = []
    for prompt in result.prompts:
        needs = [by_name.get((prompt.id, method)) for method in methods]
        rows.append(
            [
                _text(prompt),
                truth(prompt.truth),
                *(whole(None if need is None else need.draws) for need in needs),
                *(whole(None if need is None else need.tokens) for need in needs),
            ]
        )
    return head, rows


def estimate_rows(result: StudyResult) -> tuple[list[str], list[list[str]]]:
    """The estimates from the most draws, with their z-scores."""
    methods = result.options["methods"]
    found = {(p.id, p.method): p for method in methods for p in result.final(method)}
    rows = []
    for prompt in result.prompts:
        row = [_text(prompt), truth(prompt.truth)]
        for method in methods:
            point = found.get((prompt.id, method))
            row.append(
                "tuning" if point is None else f"{probability(point.estimate)} ({_signed(point.z)})"
            )
        rows.append(row)
    return ["prompt", "truth", *(f"{method_name(m)} (z)" for m in methods)], rows


def share_rows(result: StudyResult) -> tuple[list[str], list[list[str]]]:
    """Predicted and seen shares by k."""
    rows = []
    for row in result.shares:
        seen = "–"
        if row.seen is not None:
            seen = f"{100 * row.seen:.1f} % ± {100 * (row.seen_error or 0):.1f}"
        rows.append(
            [f"{row.k:,}", f"{100 * row.predicted:.1f} % ± {100 * row.predicted_error:.1f}", seen]
        )
    return ["draws per prompt", "predicted (± standard error)", "seen (± standard error)"], rows


def method_name(method: str) -> str:
    """A method in a word or two."""
    return "plain" if method == "none" else method


def probability(value: float) -> str:
    """A probability in two or three significant digits."""
    if value != value:
        return "–"
    return "0" if value == 0 else f"{value:.3f}" if value >= 0.1 else f"{value:.2e}"


def truth(value: Truth) -> str:
    """The risk; where it was counted, with its interval, and its upper end alone without events."""
    if value.exact:
        return probability(value.risk)
    if not value.known:
        return f"< {probability(value.upper)}"
    return f"{probability(value.risk)} ({probability(value.lower)} to {probability(value.upper)})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}"


def _text(prompt: StudyPrompt) -> str:
    """The prompt in one short line, safe in a table."""
    text = " ".join(visible(prompt.prompt).split())
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return text.replace("<", "&lt;").replace("`", "'").replace("[", "\\[")
