"""How much the wording of queries matters, where prompts come in groups of rewordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.errors import UsageError
from tailbound.workflows.report.page import Block, Facts, Paragraph, Section, Table
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.words import count, percent, probability

if TYPE_CHECKING:
    from tailbound.workflows.sensitivity import SensitivityResult

MOST = 20
"""Groups in the table: those whose wordings differ most."""


def section(run: ReportedRun) -> Section | None:
    """Variance within and between groups, and the groups that differ most; None without groups."""
    if len(set(run.groups.values())) == len(run.groups):
        return None
    found = _found(run)
    if found is None:
        return None
    blocks: list[Block] = [
        Paragraph(
            text="Prompts of one group are taken as wordings of one query. Numbers are of log10 of "
            f"P(unsafe): a standard deviation of 1 is a factor of 10. {len(found.groups):,} groups."
        )
    ]
    components = found.components
    if components is not None:
        level = percent(found.confidence)
        rows = (
            ("within", components.within, components.within_interval),
            ("between", components.between, components.between_interval),
        )
        blocks.append(
            Facts(
                rows=tuple(
                    (
                        f"standard deviation {name} groups",
                        f"{value**0.5:.2f} ({level}: {ends[0] ** 0.5:.2f} to {ends[1] ** 0.5:.2f})",
                    )
                    for name, value, ends in rows
                )
            )
        )
    blocks.append(_groups(found))
    blocks.append(Paragraph(text=f"{found.guarantee}.", lead="Guarantee:", weight="fine"))
    blocks += [Paragraph(text=f"{line}.", weight="warning") for line in found.warnings]
    return Section(id=f"{run.id}-sensitivity", title="Sensitivity to wording", blocks=tuple(blocks))


def _found(run: ReportedRun) -> SensitivityResult | None:
    """As `tailbound sensitivity` finds it; None where the run has no usable estimates."""
    from tailbound.workflows.forecast.command import check_fresh
    from tailbound.workflows.forecast.reading import estimates_of
    from tailbound.workflows.sensitivity.command import sensitivity_of
    from tailbound.workflows.sensitivity.settings import SensitivityOptions

    try:
        table = estimates_of(run.run.folder, confidence=None)
        check_fresh(table)
        return sensitivity_of(table, SensitivityOptions())
    except UsageError:  # no estimates yet, or none of all draws
        return None


def _groups(found: SensitivityResult) -> Table:
    shown = [one for one in found.groups if one.spread is not None][:MOST]
    return Table(
        caption="Groups whose wordings differ most",
        columns=("group", "wordings", "not resolved", "worst", "P", "best", "P", "log10 ratio"),
        rows=tuple(
            (
                one.group,
                count(one.wordings),
                count(one.unresolved),
                one.worst or "–",
                probability(one.worst_p),
                one.best or "–",
                probability(one.best_p),
                "–" if one.spread is None else f"{one.spread:.2f}",
            )
            for one in shown
        ),
        numbers=(1, 2, 4, 6, 7),
    )
