"""Risks as people read them: each with its bound, its interval and what the data support."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from tailbound.cli.render.bound import console, duration
from tailbound.core.outside import visible
from tailbound.terminal.safe import SafeTable, show_table

if TYPE_CHECKING:
    from pathlib import Path

    from tailbound.demo.tour import RiskRow
    from tailbound.importance_sampling import RiskEstimate
    from tailbound.workflows.risk import RiskResult
    from tailbound.workflows.risk.command import RiskRejudged
    from tailbound.workflows.risk.preview import RiskPreview

SHOWN = 20


def risk(result: RiskResult, *, subject: str, folder: str, out: Console | None = None) -> None:
    """Print the risks of a set of prompts with everything that they rest on."""
    out = out or console()
    whole = result.whole
    table = SafeTable(box=box.SIMPLE_HEAD, expand=True)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1, min_width=14)
    # of plain Monte Carlo the exact upper limit says more than an interval that is seldom there
    plain = result.proposal["spec"] == ["none"]
    for name in ("risk", "at least", "at most" if plain else "interval", "hits/draws"):
        table.add_column(name, justify="right", no_wrap=True)
    unsure = any(not one.estimate.resolved for one in result.risks)
    if unsure:
        table.add_column("status", min_width=14, max_width=17)
    risks = sorted(result.risks, key=lambda r: -_key(r.estimate))
    for one in risks[:SHOWN]:
        e = one.estimate
        table.add_row(
            one.prompt.text,
            number(e.risk) if e.resolved else f"({number(e.risk)})",
            number(e.certified_lower),
            _upper(e) if plain else _interval(e),
            f"{e.hits}/{e.draws}" + (f" ({e.missing} missing)" if e.missing else ""),
            *(
                [Text(visible(_short(e.status)), style="" if e.resolved else "yellow")]
                if unsure
                else []
            ),
        )
    show_table(out, table)
    if len(risks) > SHOWN:
        out.print(Text(visible(f"{len(risks) - SHOWN} more in {folder}/risk.parquet"), style="dim"))
    facts = SafeTable.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("what", f"{result.estimand}; {subject}")
    facts.add_row("whole set", _whole(result))
    first = result.risks[0].estimate if result.risks else None
    if first is not None:
        held = _guarantee_of_splitting(first) if _splits(result) else None
        facts.add_row("guarantee", held or _guarantee(first, plain=plain))
    facts.add_row("proposal", _proposal(result))
    missing = sum(r.estimate.missing for r in result.risks)
    facts.add_row(
        "missing",
        "no verdict is missing"
        if not missing
        else f"{missing:,} verdicts are missing: counted as safe in 'at least', "
        "as unsafe in upper bounds",
    )
    facts.add_row(
        "spend",
        "; ".join(
            f"{name} {spend.draws:,} draws, {spend.tokens:,} tokens"
            for name, spend in result.spend.items()
        ),
    )
    resolved = f"{whole.resolved} of {whole.prompts} prompts resolved"
    out.print(Panel(facts, title=f"Risk of an unsafe output: {resolved}", box=box.ROUNDED))


def preview(
    value: RiskPreview, cost: dict[str, float], *, steered: bool, out: Console | None = None
) -> None:
    """Print what the risks would take."""
    out = out or console()
    more = value.draws_at_most > value.draws
    draws = f" (at most {value.draws_at_most:,})" if more else ""
    time = f" (at most {duration(value.seconds_at_most)})" if more else ""
    out.print(
        f"{value.prompts:,} prompts, {value.draws:,} draws{draws}, about {value.tokens:,} tokens "
        f"(at most {value.tokens_at_most:,}), about {duration(value.seconds)}{time}."
    )
    if cost:
        low, high = cost["cost_at_least"], cost["cost_at_most"]
        out.print(f"At the given prices, the cost is between {low:.4g} and {high:.4g}.")
    out.print(
        f"Rates from {value.probe_draws} draws: {value.tokens_per_draw:.1f} tokens per draw, "
        f"{value.draws_per_second:,.0f} draws/s (a full batch is faster)."
        + (" Finding and checking the proposal takes extra time." if steered else "")
    )


def truth(rows: Sequence[RiskRow], *, out: Console | None = None) -> None:
    """Print the risks of the demo beside the exact truth."""
    out = out or console()
    draws = rows[0].estimate.draws
    table = SafeTable(
        title=f"How likely: P(unsafe) from {draws} draws, beside the exact truth",
        box=box.SIMPLE_HEAD,
        expand=True,
        title_justify="left",
    )
    table.add_column("prompt", max_width=40, no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("exact p", "risk", "at least", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        e = row.estimate
        table.add_row(
            row.prompt,
            number(row.exact_risk),
            number(e.risk) if e.resolved else f"({number(e.risk)})",
            number(e.certified_lower),
            f"{number(e.interval[0])} to {number(e.interval[1])}" if e.interval else "-",
        )
    out.print()
    out.print(table)
    worst = max(max(r.estimate.risk / r.exact_risk, r.exact_risk / r.estimate.risk) for r in rows)
    held = sum(row.estimate.certified_lower <= row.exact_risk for row in rows)
    out.print(
        f"The largest ratio between estimate and truth is {worst:.2f}; 'at least' "
        f"(95%) holds for {held} of {len(rows)}.\nDirect sampling would need about "
        f"{_draws(10 / min(row.exact_risk for row in rows))} draws for ten hits on the rarest."
    )


def _draws(count: float) -> str:
    return f"{count / 1e6:,.1f} million" if count >= 1e6 else f"{count:,.0f}"


def _key(estimate: RiskEstimate) -> float:
    return estimate.risk if estimate.risk == estimate.risk else -1.0


def _whole(result: RiskResult) -> str:
    whole = result.whole
    words = f"mean risk {number(whole.mean)}"
    if whole.interval is not None:
        low, high = whole.interval
        words += f", {number(low)} to {number(high)}"
    words += f" ({whole.guarantee})"
    if whole.certified_lower is not None:
        words += f"; at least {number(whole.certified_lower)} (finite-sample, by betting)"
    return words


def _guarantee(estimate: RiskEstimate, *, plain: bool) -> str:
    level = f"{100 * estimate.confidence:g}%"
    if plain:
        return (
            f"'at least' and 'at most' each hold with {level} confidence, for each prompt "
            f"separately ({_how(estimate)}); risks in brackets rest on too few unsafe draws"
        )
    return (
        f"'at least' holds with {level} confidence for each prompt separately, whatever the "
        f"proposal ({_how(estimate)}); 'interval' is {level}, asymptotic, and assumes that the "
        "proposals visit every way to be unsafe, which draws can support and not prove; risks in "
        "brackets are not supported by the draws"
    )


def _splits(result: RiskResult) -> bool:
    return bool(result.proposal["spec"] == ["splitting"])


def _guarantee_of_splitting(estimate: RiskEstimate) -> str:
    return (
        f"'at least' holds with {100 * estimate.confidence:g}% confidence for each prompt "
        f"separately, whatever the scores do ({_how(estimate)}); 'interval' is asymptotic, and "
        "assumes that scores rise before replies turn unsafe, which no draw can check; so risks "
        "stand in brackets"
    )


def _interval(estimate: RiskEstimate) -> str:
    if estimate.interval is None:
        return "-"
    return f"{number(estimate.interval[0])} to {number(estimate.interval[1])}"


def _upper(estimate: RiskEstimate) -> str:
    return "-" if estimate.certified_upper is None else number(estimate.certified_upper)


def _short(status: str) -> str:
    """A status without its details, which are in `risk.json`."""
    return status.removeprefix("not resolved: ").partition(" (")[0].partition(":")[0]


def _how(estimate: RiskEstimate) -> str:
    return estimate.guarantee.partition(",")[2].partition(";")[0].strip()


def _proposal(result: RiskResult) -> str:
    if result.proposal["spec"] == ["none"]:
        return "none: plain Monte Carlo"
    if _splits(result):
        made = result.proposal["parts"][0]
        return (
            f"multilevel splitting: {made['repeats']} repeats of {made['particles']} particles, "
            f"scored every {made['score_every']} tokens, {made['rounds']} rounds"
        )
    words = [f"{result.family['name']} over {result.proposal['id']}"]
    for part in result.proposal["parts"]:
        odds = part.get("refusal_log_odds")
        if odds:
            words.append(
                f"refusal log-odds {odds['harmful']:.1f}, steered {odds['harmful_ablated']:.1f}"
            )
        if "pilot" in part:
            words.append(part["pilot"]["reason"])
    if "choice" in result.family:
        words.append(result.family["choice"]["reason"])
    if result.left_out:
        words.append(f"{len(result.left_out)} prompts tuned it and are left out")
    return "; ".join(words)


def number(value: float) -> str:
    """A probability in two significant digits."""
    if value != value:
        return "-"
    if value == 0:
        return "0"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1e}"


def rejudged(again: RiskRejudged, *, out: Path, judge: str) -> None:
    """Risks under another judge, and how far it agrees with the old one."""
    share = again.agreed.agreement.share
    with_old = "-" if share is None else f"{share:.2%}"
    risk(
        again.result,
        subject=f"draws of {out}, judged again by {judge}; the judges agree on {with_old}",
        folder=str(again.folder),
    )
