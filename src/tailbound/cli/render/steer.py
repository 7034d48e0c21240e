"""Directions as people read them: what was chosen, why, and what else was looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.panel import Panel
from rich.text import Text

from tailbound.cli.render.bound import console
from tailbound.core.outside import visible
from tailbound.steering.refusal import MAX_KL
from tailbound.terminal.safe import SafeTable, show_table

if TYPE_CHECKING:
    from rich.table import Table

    from tailbound.steering import Direction

SHOWN = 8


def refusal(direction: Direction) -> None:
    """Print a refusal direction with its evidence."""
    evidence, out = direction.evidence, console()
    table = SafeTable(box=box.SIMPLE_HEAD, title="Candidates, best first", title_justify="left")
    table.add_column("after layer", justify="right")
    table.add_column("position", justify="right")
    table.add_column("ablated: refusal log-odds", justify="right")
    table.add_column("added", justify="right")
    table.add_column("KL", justify="right")
    table.add_column("passes")
    for one in evidence["candidates"][:SHOWN]:
        table.add_row(
            f"{one['layer']}",
            f"{one['position']}",
            f"{one['ablation']:.2f}",
            "-" if one["induction"] is None else f"{one['induction']:.2f}",
            f"{one['kl']:.4f}",
            "yes" if one["passes"] else "no",
        )
    show_table(out, table)
    odds = evidence["refusal_log_odds"]
    words = ", ".join(repr(token["text"]) for token in evidence["refusal_tokens"])
    facts = _facts()
    facts.add_row("chosen", f"after layer {direction.layer}, position {direction.position}")
    facts.add_row("why", _why(evidence))
    facts.add_row("refusals begin with", words)
    facts.add_row(
        "log-odds of refusing",
        f"harmful prompts {odds['harmful']:.1f}, ablated {odds['harmful_ablated']:.1f}; "
        f"harmless {odds['harmless']:.1f}, added {odds['harmless_added']:.1f}",
    )
    prompts = evidence["prompts"]
    facts.add_row("prompts", f"{prompts['harmful']} harmful, {prompts['harmless']} harmless")
    _finish(direction, facts, f"Refusal direction of {direction.model}")


def persona(direction: Direction) -> None:
    """Print a persona vector with its evidence."""
    evidence, out = direction.evidence, console()
    table = SafeTable(box=box.SIMPLE_HEAD, title="Settings, best first", title_justify="left")
    judged = evidence["coherence"]["judge"] is not None
    measure = "judged coherent" if judged else "log-prob per token"
    for name in ("after layer", "coefficient", "trait rate", measure):
        table.add_column(name, justify="right")
    table.add_column("coherent")
    for one in evidence["settings"][:SHOWN]:
        table.add_row(
            f"{one['layer']}",
            f"{one['coefficient']:g}",
            f"{one['trait_rate']:.2f}",
            f"{one['coherence' if judged else 'log_prob']:.2f}",
            "yes" if one["coherent"] else "no",
        )
    show_table(out, table)
    rate = evidence["trait_rate"]
    facts = _facts()
    facts.add_row("chosen", f"after layer {direction.layer}, coefficient {direction.coefficient:g}")
    facts.add_row(
        "trait rate",
        f"{rate['plain']:.2f} plain, {rate['steered']:.2f} steered, {rate['positive_prompts']:.2f} "
        f"under the trait's system prompts, {rate['negative_prompts']:.2f} under their opposites",
    )
    coherent = sum(one["coherent"] for one in evidence["settings"])
    facts.add_row(
        "why",
        f"highest trait rate of {coherent} settings with coherent replies, of "
        f"{len(evidence['settings'])}; the rate above is of fresh replies"
        if coherent
        else "highest trait rate; no setting left replies coherent",
    )
    facts.add_row("judge", evidence["judge"])
    if judged:
        facts.add_row("coherence by", evidence["coherence"]["judge"])
    _finish(direction, facts, f"{direction.kind} of {direction.model}")


def saved(folder: Path, intensity: float) -> None:
    """Say where the edited checkpoint lies, and what it is."""
    console().print(
        Text(visible(f"edited checkpoint (intensity {intensity:g}): {folder}; deliberately unsafe"))
    )


def exported(folder: Path) -> None:
    """Say where the adapters lie, and what they are."""
    console().print(Text(visible(f"LoRA adapters: {folder}; deliberately unsafe")))


def next_step(command: str) -> None:
    """Say what to run next, unbroken, so that it can be copied."""
    console().print(Text(visible(f"next: {command}"), style="dim"), soft_wrap=True)


def _why(evidence: dict[str, Any]) -> str:
    passing = sum(one["passes"] for one in evidence["candidates"])
    of = f"of {len(evidence['candidates'])} candidates"
    if not passing:
        return f"none {of} passes; this one lowers refusals most"
    return (
        f"lowest refusal log-odds when ablated among the {passing} {of} that pass (added: above 0, "
        f"KL: below {MAX_KL})"
    )


def _facts() -> Table:
    facts = SafeTable.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    return facts


def _finish(direction: Direction, facts: Table, title: str) -> None:
    for warning in direction.evidence["warnings"]:
        facts.add_row("warning", Text(visible(warning), style="yellow"))
    console().print(Panel(facts, title=Text(visible(title)), box=box.ROUNDED))
