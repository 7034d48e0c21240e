"""`sensitivity` from its arguments to its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.deployment import (
    GroupSpread,
    VarianceComponents,
    spread_by_group,
    variance_components,
)
from tailbound.errors import UsageError
from tailbound.workflows.forecast.command import check_fresh
from tailbound.workflows.forecast.reading import EstimateTable, TableSource, estimates_of
from tailbound.workflows.sensitivity.result import SensitivityResult, WordingSpread
from tailbound.workflows.sensitivity.settings import SensitivityOptions

FEW = 20
"""Groups below which the intervals come with a warning."""


def sensitivity_command(source: TableSource, given: Mapping[str, Any]) -> SensitivityResult:
    """Everything that `tailbound sensitivity` does; `given` are options of `SensitivityOptions`.

    `source` is a run folder with risks or a summary, or a table with a column `group`; nothing is
    written. Raises `UsageError` for what is neither, and where no query has a second wording.
    """
    asked = make(SensitivityOptions, given)
    with step("reading estimates"):
        table = estimates_of(source, confidence=asked.confidence)
        check_fresh(table)
    with step("comparing wordings"):
        return sensitivity_of(table, asked)


def sensitivity_of(table: EstimateTable, asked: SensitivityOptions) -> SensitivityResult:
    """The spread of each group of wordings, and the variance within and between groups."""
    m = len(table.queries)
    named = np.array([i for i in range(m) if table.groups[i] is not None], dtype=np.intp)
    groups = [str(table.groups[i]) for i in named]
    if len(set(groups)) == len(groups):
        raise UsageError(
            f"no two queries of {table.source} are wordings of one: give them the same group"
        )
    queries = table.queries.take(named)
    lost = [name for name in table.groups[m:] if name is not None]
    spread = spread_by_group(queries, groups)
    components, reason = None, []
    try:
        components = variance_components(queries, groups, seed=asked.seed)
    except UsageError as error:
        reason = [str(error)]
    return SensitivityResult(
        source=table.source,
        what=table.what,
        confidence=queries.confidence,
        groups=tuple(
            _named(one, table, named, lost.count(one.group))
            for one in sorted(spread, key=lambda one: -(one.spread or 0.0))
        ),
        components=components,
        alone=sum(name is None for name in table.groups),
        warnings=(*reason, *_warnings(spread, components, len(lost))),
    )


def _named(
    one: GroupSpread, table: EstimateTable, named: np.ndarray[Any, Any], lost: int
) -> WordingSpread:
    ends = [None if place is None else int(named[place]) for place in (one.worst, one.best)]
    names = [None if place is None else table.ids[place] for place in ends]
    risks = [None if place is None else float(table.queries.p[place]) for place in ends]
    return WordingSpread(
        group=one.group,
        wordings=one.wordings + lost,
        unresolved=one.unresolved + lost,
        worst=names[0],
        worst_p=risks[0],
        best=names[1],
        best_p=risks[1],
        spread=one.spread,
        sd=one.sd,
    )


def _warnings(
    spread: tuple[GroupSpread, ...], components: VarianceComponents | None, lost: int
) -> list[str]:
    found = []
    unresolved = sum(one.unresolved for one in spread) + lost
    if unresolved:
        every = sum(one.wordings for one in spread) + lost
        found.append(
            f"{unresolved:,} of {every:,} wordings are not resolved and left out, rare ones above "
            "all: wordings differ by more than is shown"
        )
    if components is not None and components.groups < FEW:
        found.append(
            f"only {components.groups} groups: the intervals of the variances may be too narrow"
        )
    return found
