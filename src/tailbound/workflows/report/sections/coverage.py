"""How often the bound held on test prompts: in all, by predicted risk, and by group."""

from __future__ import annotations

from tailbound.survival import Coverage
from tailbound.workflows.bound.importance.report import WeightedCoverage
from tailbound.workflows.report.figures.chart import Axis, Row, Rows, Rule
from tailbound.workflows.report.page import Figure, Paragraph, Section, Table
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.words import count, percent, percents

MOST = 40
"""Groups that are drawn: of more, those with most prompts."""


def strata_of(run: ReportedRun) -> tuple[Coverage, ...]:
    """All test prompts first, then each bin of p_hat (unless they are all one) and each group."""
    seen = run.run.evaluation
    if seen is None:
        return ()
    bins = seen.by_p_hat if len({one.name for one in seen.by_p_hat}) == len(seen.by_p_hat) else ()
    groups = seen.by_group
    if len(groups) > MOST:
        most = sorted(groups, key=lambda one: -one.prompts)[:MOST]
        groups = tuple(one for one in groups if one in most)
    return (seen.overall, *bins, *groups)


def section(run: ReportedRun) -> Section | None:
    """Coverage with its intervals beside the target; None without test prompts."""
    seen, bound = run.run.evaluation, run.run.bound
    if bound is not None and bound.weighted is not None and bound.weighted.test:
        return _weighted(run, bound.weighted.test, 1 - bound.bound.alpha)
    strata = [one for one in strata_of(run) if one.interval is not None]
    if seen is None or bound is None or not strata:
        return None
    target = 1 - bound.bound.alpha
    rows = []
    for one in strata:
        assert one.interval is not None
        assert one.lower is not None
        rows.append(
            Row(
                name="all test prompts" if one is seen.overall else one.name,
                value=one.lower,
                ends=one.interval,
                title=f"{one.name}: {_share(one)} of {one.prompts:,}, {percents(one.interval)}",
                ink="accent" if one is seen.overall else "ink",
            )
        )
    low = min(one.interval[0] for one in strata if one.interval is not None)
    said = [
        f"Share of test prompts whose first unsafe draw came no earlier than their bound. The "
        f"target, {percent(target)}, is an average over all prompts: single bins and groups may "
        "lie below it."
    ]
    if len(strata) > 1:
        said.append(
            f"Their intervals hold all at once with {percent(seen.confidence)} (each by itself "
            f"with {percent(seen.stratum_confidence)})."
        )
    if seen.overall.unresolved:
        said.append(
            f"{seen.overall.unresolved:,} test prompts were not followed far enough: their "
            "coverage is a bracket."
        )
    dropped = len(seen.by_group) - sum(one in seen.by_group for one in strata)
    if dropped:
        said.append(f"{dropped:,} smaller groups are left out here.")
    return Section(
        id=f"{run.id}-coverage",
        title="Coverage",
        blocks=(
            Paragraph(text=" ".join(said)),
            Figure(
                name=f"{run.id}-coverage",
                chart=Rows(
                    title="Coverage of test prompts",
                    description=f"Coverage with its interval, for all test prompts and by part, "
                    f"beside the target of {percent(target)}.",
                    x=Axis(label="bound held", low=min(low, target - 0.05), high=1.0, share=True),
                    rows=tuple(rows),
                    rules=(Rule(label=f"target {percent(target)}", at=target),),
                ),
                caption="",
                table=Table(
                    caption="Coverage of test prompts",
                    columns=("test prompts", "prompts", "held", "interval", "median bound"),
                    rows=tuple(
                        (
                            "all" if one is seen.overall else one.name,
                            count(one.prompts),
                            _share(one),
                            percents(one.interval),
                            count(one.median_bound),
                        )
                        for one in strata
                    ),
                    numbers=(1, 2, 3, 4),
                ),
            ),
        ),
    )


def _weighted(run: ReportedRun, strata: tuple[WeightedCoverage, ...], target: float) -> Section:
    """Coverage by weighted draws of the test prompts, all of them first."""
    rows = tuple(
        Row(
            name="all test prompts" if number == 0 else one.name,
            value=one.coverage,
            ends=one.interval,
            title=f"{one.name}: {percent(one.coverage)}, {percents(one.interval)}",
            ink="ink" if number else "accent",
        )
        for number, one in enumerate(strata)
    )
    low = min([target - 0.05, *(one.interval[0] for one in strata), *(r.value for r in rows)])
    return Section(
        id=f"{run.id}-coverage",
        title="Coverage",
        blocks=(
            Paragraph(
                text="Probability that the first unsafe draw of a test prompt comes no earlier "
                f"than its bound, by weighted draws of its own; the target is {percent(target)}."
            ),
            Figure(
                name=f"{run.id}-coverage",
                chart=Rows(
                    title="Coverage of test prompts, by weighted draws",
                    description="Coverage with its 95% interval, for all test prompts and by "
                    f"predicted risk, beside the target of {percent(target)}.",
                    x=Axis(label="bound holds", low=low, high=1.0, share=True),
                    rows=rows,
                    rules=(Rule(label=f"target {percent(target)}", at=target),),
                ),
                caption="",
                table=Table(
                    caption="Coverage of test prompts",
                    columns=("test prompts", "prompts", "holds", "95% interval", "median bound"),
                    rows=tuple(
                        (
                            one.name,
                            count(one.prompts),
                            percent(one.coverage),
                            percents(one.interval),
                            count(one.median_bound),
                        )
                        for one in strata
                    ),
                    numbers=(1, 2, 3, 4),
                ),
            ),
        ),
    )


def _share(one: Coverage) -> str:
    if one.lower is None or one.upper is None:
        return "–"
    return percents((one.lower, one.upper))
