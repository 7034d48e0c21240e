"""Several runs on the same prompts: each against the first, as `tailbound compare` has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tailbound.errors import UsageError
from tailbound.workflows.report.page import Block, Facts, Heading, Paragraph, Section, Table
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.words import decimal, percent, probability

if TYPE_CHECKING:
    from tailbound.workflows.compare.result import CompareResult

MOST = 20
"""Changed prompts in a table: those with the strongest evidence."""


def sections(runs: Sequence[ReportedRun]) -> tuple[Section, ...]:
    """One section with a part for every run after the first; () for a single run."""
    if len(runs) < 2:
        return ()
    first = runs[0]
    blocks: list[Block] = [
        Paragraph(
            text=f"Every run against {first.name}, on the prompts of both. Differences are that "
            "run less the first one."
        )
    ]
    for run in runs[1:]:
        try:
            found = _compared(first, run)
        except UsageError as error:
            why = str(error).replace(str(first.run.folder), first.name)
            why = why.replace(str(run.run.folder), run.name)
            blocks.append(Heading(text=run.name))
            blocks.append(Paragraph(text=f"Not compared: {why}.", weight="fine"))
            continue
        blocks += _blocks(found, first, run)
    return (Section(id="comparison", title="Comparison", blocks=tuple(blocks)),)


def _compared(first: ReportedRun, run: ReportedRun) -> CompareResult:
    from tailbound.workflows.compare.command import compare_sides
    from tailbound.workflows.compare.reading import side_of
    from tailbound.workflows.compare.settings import CompareOptions

    return compare_sides(side_of(first.run.folder), side_of(run.run.folder), CompareOptions())


def _blocks(found: CompareResult, first: ReportedRun, run: ReportedRun) -> list[Block]:
    mean = found.mean
    level = percent(mean.confidence)
    least = "at least " if mean.difference is None else ""
    left = "".join(f"; {number:,} {why}" for why, number in found.left_out.items())
    left = left.replace("in A", f"in {first.name}").replace("in B", f"in {run.name}")
    facts = [
        ("prompts", f"{len(found.prompts):,} compared{left}"),
        (
            f"mean {found.quantity}",
            f"{least}{decimal(mean.a)} in {first.name}, {least}{decimal(mean.b)} in {run.name}",
        ),
    ]
    if mean.difference is not None and mean.interval is not None:
        facts.append(
            ("change", f"{mean.difference:+.3g} ({level}: {_signed(mean.interval)}, asymptotic)")
        )
    if mean.ratio is not None and mean.ratio_interval is not None:
        low, high = mean.ratio_interval
        facts.append(("ratio", f"{mean.ratio:.3g} times ({level}: {low:.3g} to {high:.3g})"))
    if found.bounds is not None:
        bounds = found.bounds
        words = f"{bounds.ratio:.3g} times; {bounds.longer:,} longer, {bounds.shorter:,} shorter"
        facts.append(("lower bounds", words))
    facts += _corrected(found, first, run)
    changed = found.changed
    facts.append(
        ("changed prompts", f"{len(changed):,} (false discovery rate {percent(found.fdr)})")
    )
    blocks: list[Block] = [
        Heading(text=f"{run.name} against {first.name}"),
        Facts(rows=tuple(facts)),
    ]
    if changed:
        blocks.append(_changed(found, first, run))
    blocks.append(Paragraph(text=f"{found.guarantee}.", lead="Guarantee:", weight="fine"))
    blocks += [Paragraph(text=f"{line}.", weight="warning") for line in found.warnings]
    return blocks


def _corrected(found: CompareResult, first: ReportedRun, run: ReportedRun) -> list[tuple[str, str]]:
    if found.corrected is None:
        return []
    change = found.corrected
    level = percent(change.confidence)
    rates = [
        f"{decimal(one.estimate)} in {name}"
        for one, name in ((change.a, first.name), (change.b, run.name))
    ]
    difference = f"{change.difference:+.3g} " if change.difference is not None else ""
    return [
        ("corrected for the judges' mistakes", ", ".join(rates)),
        ("corrected change", f"{difference}({level}: {_signed(change.interval)})"),
    ]


def _changed(found: CompareResult, first: ReportedRun, run: ReportedRun) -> Table:
    shown = found.changed[:MOST]
    more = len(found.changed) - len(shown)
    return Table(
        caption="Changed prompts" + (f" ({more:,} more are not listed)" if more else ""),
        columns=("prompt", first.name, run.name, "p-value", "adjusted"),
        rows=tuple(
            (
                one.id,
                probability(one.a),
                probability(one.b),
                f"{one.evidence:.2g}",
                f"{one.adjusted:.2g}",
            )
            for one in shown
        ),
        numbers=(1, 2, 3, 4),
    )


def _signed(ends: tuple[float, float]) -> str:
    return f"{ends[0]:+.2g} to {ends[1]:+.2g}"
