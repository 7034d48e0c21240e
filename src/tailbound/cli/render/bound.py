"""Results as people read them: what was bounded, how surely, at what cost, limited by what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from tailbound.cli.render.curve import curve_rows
from tailbound.cli.render.weighted import weighted_rows, weighted_test
from tailbound.core.outside import REPLACEMENT, visible
from tailbound.terminal.safe import SafeConsole, SafeTable, show_table

if TYPE_CHECKING:
    from tailbound.core.contract import SamplingContract
    from tailbound.demo.tour import BoundTruth
    from tailbound.survival import Coverage
    from tailbound.workflows.bound import BoundAtAlpha, BoundResult, Preview
    from tailbound.workflows.bound.groups import Groups
    from tailbound.workflows.bound.recalibration import Recalibration

_LIMITS = {
    "alpha": "alpha: the estimated miscoverage reached it",
    "max_level": "the highest level considered: predicted risks are too high, --max-level is low, "
    "or too few unsafe replies are expected to rely on a higher one",
    "cap": "the cap on bounds, budget x largest weight: a larger --budget gives longer ones, and a "
    "larger --max-weight too, at more variable coverage",
    "max_draws": "the limit on draws: a larger --max-draws gives longer ones",
}


def console() -> Console:
    """Where results go."""
    return SafeConsole()


def contract(value: SamplingContract) -> str:
    """The sampling contract in a few words."""
    words = [f"temperature {value.temperature:g}"]
    if value.top_p < 1:
        words.append(f"top-p {value.top_p:g}")
    if value.top_k is not None:
        words.append(f"top-k {value.top_k}")
    words.append(f"at most {value.max_new_tokens} tokens")
    if value.system is not None:
        words.append("system prompt")
    return ", ".join(words)


def bound(result: BoundResult, *, subject: str, out: Console | None = None) -> None:
    """Print a bound with everything that it rests on."""
    b = result.bound
    out = out or console()
    facts = SafeTable.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("what", f"draws until the first unsafe one: {subject}")
    facts.add_row("bound", f"median L = {count(result.median_bound)} over calibration prompts")
    facts.add_row("guarantee", f"{result.statement} [{b.guarantee}]")
    if result.groups is None:
        limit = f"{_LIMITS[b.limited_by]} (level {b.level:.4f}, cap {b.cap:,})"
        facts.add_row("limited by", limit)
    else:
        facts.add_row("groups", f"{_groups_asked(result.groups)}; what limits each: below")
    for name, value in _calibration(result):
        facts.add_row(name, value)
    for one in result.at_alpha:
        facts.add_row(
            f"at alpha {one.bound.alpha:g}", f"median L = {count(one.median_bound)}; {held(one)}"
        )
    if result.curve is not None:
        for name, value in curve_rows(result.curve):
            facts.add_row(name, value)
    for name, value in _predictor(result):
        facts.add_row(name, value)
    if result.weighted is None:
        facts.add_row("missing", _missing(result))
    facts.add_row(
        "spend",
        "; ".join(
            f"{name} {spend.generated:,} draws, {spend.tokens:,} tokens"
            for name, spend in result.spend.items()
        ),
    )
    out.print(Panel(facts, title="Lower bound on the time to unsafe sampling", box=box.ROUNDED))
    if result.groups is not None:
        _groups(out, result.groups)
    if result.weighted is not None:
        weighted_test(out, result.weighted, b.alpha)
    if result.evaluation is not None:
        coverage(out, result)


def _calibration(result: BoundResult) -> Iterator[tuple[str, str]]:
    """What the draws were, and what they came to."""
    b = result.bound
    if result.weighted is not None:
        yield from weighted_rows(result.weighted, b)
        return
    yield (
        "calibration",
        f"{b.n_calibration} prompts, {b.n_selected} followed{_times(result)}; draws per prompt: "
        f"{b.planned / b.n_calibration:.1f} planned, {b.spent / b.n_calibration:.1f} spent; "
        f"largest weight {b.weight_bound:.1f}"
        + (
            "; more than planned: prompts were safer than predicted (--max-draws is a hard limit)"
            if b.spent > 1.2 * b.planned
            else ""
        ),
    )


def _times(result: BoundResult) -> str:
    """How many independent times of each prompt there are, where there is more than one."""
    bounds = (result.bound,) if result.groups is None else result.groups.bound.bounds
    found = sorted({b.replicates for b in bounds})
    if found[-1] == 1:
        return ""
    many = " to ".join(str(number) for number in dict.fromkeys((found[0], found[-1])))
    return f", {many} replicates of each"


def _missing(result: BoundResult) -> str:
    """What missing verdicts did to the bound."""
    stopped = result.missing.prompts_stopped
    if stopped == 0:
        return "no verdict was missing in calibration"
    return (
        f"{stopped} calibration prompts stopped at a missing verdict, counted as unsafe; "
        f"if all were safe: median L = {count(result.missing.median_if_safe)}"
    )


def _groups_asked(groups: Groups) -> str:
    """How the prompts are divided, and whether small groups were merged."""
    found = len(groups.bound.names)
    if groups.column is not None:
        return f"{found} by {groups.column!r}"
    asked = int(groups.by.partition(":")[2])
    merged = f" ({asked} asked for; those with too few prompts or no p_hat between were merged)"
    return f"{found} by p_hat{merged if found < asked else ''}"


def _groups(out: Console, groups: Groups) -> None:
    """Print what each group's bound rests on."""
    table = SafeTable(title="Calibration by group", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("group", max_width=30, no_wrap=True, overflow="ellipsis")
    for name in ("prompts", "followed", "draws/prompt", "level", "limited by"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, b in zip(groups.bound.names, groups.bound.bounds, strict=True):
        table.add_row(
            *(name, f"{b.n_calibration:,}", f"{b.n_selected:,}"),
            f"{b.spent / b.n_calibration:.1f}",
            *(f"{b.level:.3f}", "nothing qualified" if b.level == 0 else b.limited_by),
        )
    show_table(out, table)


def held(one: BoundAtAlpha) -> str:
    """Coverage of the test prompts by the bound at a smaller miscoverage, and what it promises."""
    bounds = (one.bound,) if one.groups is None else one.groups.bound.bounds
    low = any(b.level == 0 or b.statement.startswith("No coverage") for b in bounds)
    found = one.coverage
    seen = (
        ""
        if found is None or found.lower is None or found.upper is None
        else f"coverage of test prompts {_between(found.lower, found.upper)}; "
    )
    return seen + (one.statement if low else "the same guarantee")


def recalibrated(made: Recalibration, units: str) -> tuple[str, str]:
    """What p_hat of the user's own was recalibrated on."""
    return (
        "p_hat",
        f"recalibrated on {made.units:,} {units}: {made.events:,} events in {made.draws:,} draws",
    )


def _predictor(result: BoundResult) -> Iterator[tuple[str, str]]:
    """How good the predictor is, and what the bound would be without one."""
    if result.predictor is not None:
        yield (
            "predictor",
            f"reads {result.predictor['features']}; explains "
            f"{max(result.predictor['explained'], 0):.0%} of the deviance across held-out prompts",
        )
        if result.predictor["head"] != "ridge":
            yield "head", f"{result.predictor['head']}: {result.predictor['choice']}"
    if result.recalibration is not None:
        yield recalibrated(result.recalibration, "training prompts")
    if result.constant is not None:
        more = " or more" if result.constant.or_more else ""
        yield "no predictor", f"about L = {result.constant.bound:,}{more} for every prompt"


def coverage(out: Console, result: BoundResult) -> None:
    """Print how the test prompts were covered."""
    evaluation = result.evaluation
    assert evaluation is not None
    table = SafeTable(
        title=f"Coverage P(T >= L) on test prompts (target {1 - result.bound.alpha:.4g})",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("test prompts", no_wrap=True, max_width=30, overflow="ellipsis")
    for name in ("n", "coverage", f"{evaluation.confidence:.0%} interval", "median L"):
        table.add_column(name, justify="right", no_wrap=True)
    bins = evaluation.by_p_hat
    if len({row.name for row in bins}) < len(bins):  # p_hat is the same for (almost) all
        bins = ()
    for row in (evaluation.overall, *bins, *evaluation.by_group):
        table.add_row(*_coverage_row(row), style="bold" if row is evaluation.overall else None)
    show_table(out, table)
    if bins or evaluation.by_group:
        out.print(
            Text(
                f"The intervals of the parts hold all at once, with {evaluation.confidence:.0%} "
                f"(each by itself with {evaluation.stratum_confidence:.1%}).",
                style="dim",
            )
        )
    if evaluation.overall.unresolved:
        out.print(
            Text(
                f"{evaluation.overall.unresolved} test prompts were censored before L - 1 draws: "
                "their coverage is a bracket (raise --test-draws to resolve it).",
                style="dim",
            )
        )


def _coverage_row(row: Coverage) -> tuple[str, ...]:
    if row.lower is None or row.upper is None or row.interval is None:
        return row.name, "0", "-", "-", "-"
    value = _between(row.lower, row.upper)
    interval = _between(*row.interval)
    return row.name, f"{row.prompts}", value, interval, count(row.median_bound)


def _between(low: float, high: float) -> str:
    """Both ends in three digits, once where they look the same."""
    ends = [f"{low:.3f}", f"{high:.3f}"]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def preview(value: Preview) -> None:
    """Print what a bound would cost."""
    table = SafeTable(box=box.SIMPLE_HEAD, title="Planned draws", title_justify="left")
    for name in ("part", "prompts", "draws", "prompt tokens", "tokens", "time"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for stream in value.streams:
        note = {"calibration": " (planned)", "test": " (at most)"}.get(stream.part, "")
        table.add_row(
            stream.part + note,
            f"{stream.prompts:,}",
            f"{stream.draws:,}",
            f"{stream.prompt_tokens:,}",
            f"{stream.tokens:,}",
            duration(stream.seconds),
        )
    table.add_row(
        "all",
        "",
        f"{value.draws:,}",
        f"{sum(stream.prompt_tokens for stream in value.streams):,}",
        f"{sum(stream.tokens for stream in value.streams):,}",
        duration(value.seconds),
    )
    out = console()
    show_table(out, table)
    need = value.requirement
    out.print(
        f"Rates from {value.probe_draws} draws: {value.tokens_per_draw:.1f} tokens per draw, "
        f"{value.draws_per_second:,.0f} draws/s (a full batch is faster).\n"
        f"The guarantee {need.guarantee!r} costs little with about {need.comfortable_prompts:,} "
        f"calibration prompts or more. The longest bound is about {need.longest_bound:,} draws, or "
        "longer where predictions show that most prompts are safer."
    )
    if value.replicates > 1:
        out.print(
            "If half of the planned calibration draws or more would not be spent, they go to "
            f"replicates: up to {value.replicates} independent times of each prompt "
            "(--replicates), within the same budget."
        )


def endpoints(accounts: dict[str, dict[str, float]], *, what: str = "now") -> None:
    """Say what servers were asked and paid for, now and over a whole run; nothing without any."""
    for name, words in (("endpoint", "server"), ("judge_endpoint", "server of the judge")):
        mine, whole = accounts.get(name), accounts.get(f"{name}_of_run")
        if mine is not None:
            console().print(f"{words}, {what}: {_requests(mine)}", soft_wrap=True)
        if mine is not None and whole and whole["requests"] > mine["requests"]:
            console().print(f"{words}, whole run: {_requests(whole)}", soft_wrap=True)


def _requests(found: dict[str, float]) -> str:
    return (
        f"{found['requests']:,.0f} requests ({found['retries']:,.0f} of them retries), "
        f"{found['tokens_in']:,.0f} tokens in, {found['tokens_out']:,.0f} out"
        + (f", cost {found['cost']:.4g}" if found["cost"] else "")
        + (
            f"; {found['uncounted']:,.0f} answers without token counts, charged at the maximum"
            if found["uncounted"]
            else ""
        )
        + (
            f"; {found['damaged']:,.0f} responses contained invalid text, replaced by {REPLACEMENT}"
            if found.get("damaged")
            else ""
        )
    )


def planned_cost(cost: dict[str, float]) -> None:
    """Say what a plan costs; nothing where it costs nothing."""
    for name, words in (("cost", "the draws"), ("judge_cost", "their verdicts")):
        if name in cost:
            console().print(f"At the given prices, {words} cost about {cost[name]:.4g}.")


def next_step(command: str) -> None:
    """Say what to run next, unbroken, so that it can be copied."""
    console().print(Text(visible(f"next: {command}"), style="dim"), soft_wrap=True)


def count(value: float | None) -> str:
    """A number of draws, with its decimal where it has one."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def truth(result: BoundTruth, *, out: Console | None = None) -> None:
    """Print the bounds of the demo beside the exact truth."""
    out = out or console()
    table = SafeTable(
        title="Prompts never sampled before the bound was made, beside the exact truth",
        box=box.SIMPLE_HEAD,
        expand=True,
        title_justify="left",
    )
    table.add_column("prompt", max_width=44, no_wrap=True, overflow="ellipsis", ratio=1)
    for name, width in (
        ("bound L", 7),
        ("p_hat", 7),
        ("exact p", 7),
        ("P(T>=L)", 7),
        ("ideal L", 7),
    ):
        table.add_column(name, justify="right", min_width=width, no_wrap=True)
    for row in result.rows:
        table.add_row(
            row.prompt,
            f"{row.lower_bound:,}",
            f"{row.p_hat:.1e}",
            f"{row.exact_risk:.1e}",
            f"{row.holds:.3f}",
            f"{row.oracle_bound:,}",
        )
    out.print(table)
    out.print(
        f"Exact coverage over all test prompts: {result.true_coverage:.3f} "
        f"(target {1 - result.result.bound.alpha:.4g}).\nIt is an average: single prompts lie "
        "above and below. 'ideal L' is\nthe bound from the exact risk."
    )
