"""What the judge's mistakes do to the rate, where `tailbound audit-judge` has said so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.workflows.report.page import Block, Facts, Paragraph, Section, Table
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.words import (
    count,
    decimal,
    decimals,
    interval,
    percent,
    plural,
    probability,
)

if TYPE_CHECKING:
    from tailbound.judge_error import Measure
    from tailbound.workflows.audit_judge import JudgeAudit
    from tailbound.workflows.audit_judge.bounds import AuditedBounds
    from tailbound.workflows.audit_judge.result import AuditedStratum, CorrectedRate


def section(run: ReportedRun) -> Section | None:
    """Both rates, the labels, and how far they agree; of a stale audit only why it is not used."""
    found, why = run.audit
    if found is None and why is None:
        return None
    blocks: list[Block] = []
    if found is None:
        blocks.append(Paragraph(text=f"Not used: {why}.", weight="warning"))
    else:
        blocks += _blocks(found)
    return Section(id=f"{run.id}-judge-error", title="Judge error", blocks=tuple(blocks))


def sentence(found: JudgeAudit, rate: CorrectedRate) -> str:
    """The corrected rate, to stand behind the uncorrected one."""
    labels = sum(one.labelled for one in found.strata)
    level = percent(found.confidence)
    corrected = rate.corrected
    ends = f"{decimals(corrected.interval)}"
    number = ends
    if corrected.estimate is not None:
        number = f"{decimal(corrected.estimate)} ({level} interval {ends})"
    return (
        f" Corrected for the mistakes of its judge by {count(labels)} labels, that probability is "
        f"{number}."
    )


def bounds_sentence(found: AuditedBounds, confidence: float) -> str:
    """What the bounds are worth by labels, to stand behind what they promise."""
    level = percent((1 + confidence) / 2)
    return (
        f" Counting also unsafe draws that its judge missed, by {count(found.labelled)} labels of "
        f"draws before the bounds, the first truly unsafe generation comes earlier than its bound "
        f"with probability at most {decimal(found.at_most)} ({level} limit)."
    )


def stale_warning(why: str) -> str:
    """The line beside an answer that a stale audit does not correct."""
    return f"The audit of the judge is not used: {why}."


def _blocks(found: JudgeAudit) -> list[Block]:
    rate = found.overall
    facts = [
        ("as judged", _rate(rate.uncorrected.rate, rate.uncorrected.interval)),
        ("corrected", _rate(rate.corrected.estimate, rate.corrected.interval)),
    ]
    where = "with the weights of these draws" if found.weighted else "of these very draws"
    facts.append((f"corrected, {where}", decimals(rate.corrected.on_record)))
    if rate.if_light is not None:
        facts.append(("corrected, if no heavy draw is unsafe", decimals(rate.if_light)))
    labels = sum(one.labelled for one in found.strata)
    facts.append(
        ("labels", f"{labels:,} of {plural(rate.corrected.draws, 'draw')}, by {found.labels_by}")
    )
    blocks: list[Block] = [
        Paragraph(
            text="The judge errs. A sample of its draws was labelled; as judged takes its verdicts "
            f"for the truth, corrected takes the labels. Intervals {percent(found.confidence)}."
        ),
        Facts(rows=tuple(facts)),
        _labels(found),
        _agreement(found),
    ]
    if len(found.streams) > 1:
        blocks.append(_streams(found))
    if found.bounds is not None:
        blocks.append(_bounds(found.bounds, found.confidence))
    for one in found.left_out:
        words = f"{plural(one.draws, 'draw')} of stream {one.stream} left out: {one.reason}."
        blocks.append(Paragraph(text=words, weight="fine"))
    blocks.append(Paragraph(text=f"{found.guarantee}.", lead="Guarantee:", weight="fine"))
    blocks += [Paragraph(text=f"{line}.", weight="warning") for line in found.warnings]
    return blocks


def _rate(value: float | None, ends: tuple[float, float]) -> str:
    return f"{decimal(value)} ({decimals(ends)})"


def _labels(found: JudgeAudit) -> Table:
    weighted = found.weighted
    return Table(
        caption="Labels by recorded verdict",
        columns=(
            *("stream", "recorded", "draws", "labelled", "unsafe", "unclear"),
            *(("weight",) if weighted else ()),
        ),
        rows=tuple(
            (
                one.stream,
                _verdict(one),
                *map(count, (one.draws, one.labelled, one.unsafe, one.unclear)),
                *(
                    (probability(one.weighted.weight if one.weighted else None),)
                    if weighted
                    else ()
                ),
            )
            for one in found.strata
        ),
        numbers=(2, 3, 4, 5, 6) if weighted else (2, 3, 4, 5),
    )


def _verdict(one: AuditedStratum) -> str:
    return one.recorded if one.part == "all" else f"{one.recorded}, {one.part}"


def _agreement(found: JudgeAudit) -> Table:
    errors = found.errors
    rows: tuple[tuple[str, Measure], ...] = (
        ("sensitivity: unsafe draws that it calls unsafe", errors.sensitivity),
        ("specificity: safe draws that it calls safe", errors.specificity),
        ("precision: unsafe among those it calls unsafe", errors.precision),
        ("kappa: agreement beyond chance", errors.kappa),
    )
    return Table(
        caption="The judge against the labels, over all draws on record",
        columns=("", "estimate", "interval"),
        rows=tuple(
            (name, _three(one.estimate), " to ".join(map(_three, one.interval)))
            for name, one in rows
        ),
        numbers=(1, 2),
    )


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _bounds(found: AuditedBounds, confidence: float) -> Facts:
    about = found.sampled
    rows = [
        (
            "draws before the bounds of test prompts, passed by the judge",
            f"{about.draws:,}; {found.labelled:,} labelled, {found.unsafe:,} of them unsafe",
        ),
        (
            "P(truly unsafe before the bound)",
            f"at most {about.alpha:g} + {decimal(found.misses.chance)} = {decimal(found.at_most)} "
            f"({percent((1 + confidence) / 2)} limit of the second, for draws that it missed)",
        ),
    ]
    if about.unfollowed:
        rows.append(
            (
                "test prompts that were not followed to their bounds",
                f"{about.unfollowed:,} of {about.prompts:,}: each may have a missed draw",
            )
        )
    return Facts(rows=tuple(rows))


def _streams(found: JudgeAudit) -> Table:
    return Table(
        caption="By stream",
        columns=("stream", "as judged", "interval", "corrected", "interval"),
        rows=tuple(
            (
                one.stream,
                probability(one.uncorrected.rate),
                interval(one.uncorrected.interval),
                probability(one.corrected.estimate),
                interval(one.corrected.interval),
            )
            for one in found.streams
        ),
        numbers=(1, 2, 3, 4),
    )
