"""What weighted draws rest on: their weights, effective hits, and what each proposal gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailbound.runs import scan
from tailbound.workflows.report.figures.chart import Axis, Plot, Points, Row, Rows, Rule
from tailbound.workflows.report.figures.scale import around
from tailbound.workflows.report.page import Block, Facts, Figure, Paragraph, Section, Table
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.words import count, percent, plural, probability

if TYPE_CHECKING:
    from tailbound.workflows.bound.importance.report import WeightedReport
    from tailbound.workflows.risk.results import PromptRisk

ENOUGH = 10
"""Effective hits from which an estimate counts as precise."""
MOST = 150
_RUNGS = 16


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One proposal: its draws, and those of them that were unsafe."""

    name: str
    draws: int
    unsafe: int


def rungs_of(run: ReportedRun) -> tuple[Rung, ...]:
    """Every proposal that draws came from, most draws first."""
    import polars as pl

    if run.threshold is None:
        return ()
    found = (
        scan(run.run.folder)
        .filter(pl.col("stream").is_in(["risk", "weighted", "splitting"]))
        .group_by("proposal")
        .agg(pl.len().alias("draws"), (pl.col("score") >= run.threshold).sum().alias("unsafe"))
        .sort("draws", "proposal", descending=[True, False])
        .collect()
    )
    return tuple(
        Rung(name="the target itself" if name is None else _short(name), draws=draws, unsafe=unsafe)
        for name, draws, unsafe in found.iter_rows()
    )


def _short(name: str) -> str:
    """A rung without the id that all of a run share."""
    return name.partition(": ")[2] or name


def section(run: ReportedRun) -> Section | None:
    """Diagnostics of importance sampling; None for runs without weighted draws."""
    risk = run.run.risk
    blocks: list[Block] = []
    if risk is not None and risk.proposal["spec"] != ["none"] and risk.risks:
        blocks += _of_risk(run, risk.risks)
    bound = run.run.bound
    if bound is not None and bound.weighted is not None:
        blocks += _of_bound(bound.weighted)
    if not blocks:
        return None
    rungs = rungs_of(run)
    if len(rungs) > 1:
        blocks.append(_rungs(run, rungs))
    return Section(
        id=f"{run.id}-weights", title="Importance-sampling diagnostics", blocks=tuple(blocks)
    )


def _of_risk(run: ReportedRun, risks: Sequence[PromptRisk]) -> list[Block]:
    result = run.run.risk
    assert result is not None
    facts = [("draws from", f"{result.family['name']} over {result.proposal['id']}")]
    checks = result.checks
    if checks.get("mean_weight") is not None:
        facts.append(
            (
                "mean weight of all draws",
                f"{checks['mean_weight']:.3g} (1 if every density is right)",
            )
        )
    weak = sum(one.estimate.ess_harm < ENOUGH for one in risks)
    facts.append(("fewer than 10 effective hits", plural(weak, "prompt")))
    disagreeing = sum(one.estimate.coverage == "disagrees" for one in risks)
    facts.append(("parts of the draws disagree", plural(disagreeing, "prompt")))
    heaviest = max((one.estimate.largest_share or 0.0 for one in risks), default=0.0)
    facts.append(("largest share of one draw", f"{percent(heaviest)} of its estimate"))
    return [
        Paragraph(
            text="Draws came from versions of the target that are unsafe more often, and count by "
            "their weights p/q. Effective hits say how many unsafe draws of equal weight an "
            "estimate is worth; no diagnostic can see a way to be unsafe that no proposal takes."
        ),
        Facts(rows=tuple(facts)),
        _hits(run, risks),
    ]


def _hits(run: ReportedRun, risks: Sequence[PromptRisk]) -> Figure:
    """Effective hits of each prompt over its risk."""
    known = [one for one in risks if one.estimate.risk > 0 and one.estimate.ess_harm > 0]
    step = max(1, len(known) // MOST)
    shown = sorted(known, key=lambda one: -one.estimate.risk)[::step]
    ranked = sorted(risks, key=lambda one: one.estimate.ess_harm)[:10]

    def points(resolved: bool) -> Points:
        kept = [one for one in shown if one.estimate.resolved is resolved]
        return Points(
            label="resolved" if resolved else "not resolved",
            x=tuple(min(one.estimate.risk, 1.0) for one in kept),
            y=tuple(one.estimate.ess_harm for one in kept),
            titles=tuple(
                f"{one.prompt.id}: {one.estimate.ess_harm:.1f} effective hits, mean weight "
                f"{one.estimate.mean_weight:.2f}"
                for one in kept
            ),
            ink="accent" if resolved else "muted",
            hollow=not resolved,
        )

    values = [one.estimate.ess_harm for one in shown]
    return Figure(
        name=f"{run.id}-hits",
        chart=Plot(
            title="Effective hits by risk",
            description="Effective unsafe draws behind each risk; ten or more make it precise.",
            x=around([min(one.estimate.risk, 1.0) for one in shown], log=True, label="risk"),
            y=around([*values, float(ENOUGH)], log=True, label="effective hits"),
            points=tuple(one for one in (points(True), points(False)) if one.x),
            rules=(Rule(label="10: precise", at=float(ENOUGH)),),
        ),
        caption="" if len(shown) == len(risks) else f"{len(shown):,} of {len(risks):,} are drawn.",
        table=Table(
            caption="The prompts with fewest effective hits",
            columns=("prompt", "risk", "effective hits", "hits", "mean weight", "largest share"),
            rows=tuple(
                (
                    one.prompt.id,
                    probability(one.estimate.risk),
                    f"{one.estimate.ess_harm:.1f}",
                    count(one.estimate.hits),
                    f"{one.estimate.mean_weight:.2f}",
                    percent(one.estimate.largest_share),
                )
                for one in ranked
            ),
            numbers=(1, 2, 3, 4, 5),
        ),
    )


def _of_bound(report: WeightedReport) -> list[Block]:
    facts = (
        ("weighted draws", f"{report.draws:,} ({report.draws_per_prompt:,} per prompt planned)"),
        ("proposals", ", ".join(report.proposals) or "the target itself"),
        ("mean weight", f"{report.mean_weight:.3f} (1 if every density is right)"),
        ("largest weight possible", f"{report.largest_weight:.3g}"),
        ("unsafe draws", f"{report.curve.hits:,}"),
        ("effective prompts", f"{report.curve.effective_prompts:.0f}"),
        ("missing verdicts", f"{report.missing:,}, counted as unsafe"),
    )
    return [Paragraph(text=report.statement), Facts(rows=facts)]


def _rungs(run: ReportedRun, rungs: Sequence[Rung]) -> Figure:
    """Shares of the draws, beside how many of each proposal's draws were unsafe."""
    every = sum(one.draws for one in rungs)
    unsafe = sum(one.unsafe for one in rungs)
    kept = rungs[:_RUNGS]
    rows = tuple(
        Row(
            name=one.name,
            value=one.draws / every,
            part=one.unsafe / every,
            title=f"{one.name}: {one.draws:,} draws, {one.unsafe:,} unsafe",
            ink="muted",
        )
        for one in kept
    )
    high = max(row.value for row in rows)
    return Figure(
        name=f"{run.id}-rungs",
        chart=Rows(
            title="Where the draws came from",
            description="Share of all draws that each version of the target made, and how much of "
            "it was unsafe.",
            key=("draws", "unsafe draws"),
            x=Axis(label="share of draws", low=0.0, high=high * 1.05, share=True),
            rows=rows,
        ),
        caption="" if len(kept) == len(rungs) else f"{len(kept)} of {len(rungs)} are drawn.",
        table=Table(
            caption="Draws by version of the target",
            columns=("version", "draws", "share of draws", "unsafe", "share of unsafe draws"),
            rows=tuple(
                (
                    one.name,
                    count(one.draws),
                    percent(one.draws / every),
                    count(one.unsafe),
                    percent(one.unsafe / unsafe) if unsafe else "–",
                )
                for one in rungs
            ),
            numbers=(1, 2, 3, 4),
        ),
    )
