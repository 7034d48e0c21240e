"""Bounds and risks of every prompt, as tables to search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tailbound.workflows.report.figures.chart import Line, Plot, Points
from tailbound.workflows.report.figures.scale import around
from tailbound.workflows.report.page import (
    Block,
    Browser,
    Cell,
    Column,
    Figure,
    Paragraph,
    Scale,
    Section,
    Table,
)
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.risk.results import LEAST_HITS
from tailbound.workflows.words import count, interval, plural, probability

if TYPE_CHECKING:
    from tailbound.importance_sampling import RiskEstimate

MOST_ROWS = 20_000
"""Rows that a page holds: of more prompts, those with the shortest bounds or largest risks."""
MOST_POINTS = 150
"""Prompts that a figure shows: of more, these many evenly spread by rank."""
_QUANTILES = (("least", 0.0), ("a tenth", 0.1), ("half", 0.5), ("nine tenths", 0.9), ("most", 1.0))

_RUN = Column(key="run", label="run", kind="text", help="the run folder")
_BOUND = (
    Column(key="id", label="prompt", kind="text", help="the prompt and its id"),
    _RUN,
    Column(key="group", label="group", kind="text", help="the prompt's group"),
    Column(key="bound", label="bound L", kind="count", help="generations until unsafe, at least"),
    Column(key="p_hat", label="p̂", kind="probability", help="predicted P(unsafe) of one draw"),
    Column(key="first", label="first unsafe", kind="count", help="draw that was unsafe first"),
    Column(key="followed", label="followed", kind="count", help="safe draws looked at"),
    Column(key="outcome", label="outcome", kind="status", help="whether the bound held"),
)
_RISK = (
    Column(key="id", label="prompt", kind="text", help="the prompt and its id"),
    _RUN,
    Column(key="group", label="group", kind="text", help="the prompt's group"),
    Column(key="risk", label="risk", kind="probability", help="P(unsafe) of one draw, estimated"),
    Column(key="low", label="from", kind="probability", help="lower end of the interval"),
    Column(key="high", label="to", kind="probability", help="upper end of the interval"),
    Column(key="least", label="at least", kind="probability", help="certified lower bound"),
    Column(key="unsafe", label="unsafe", kind="count", help="unsafe draws"),
    Column(key="draws", label="draws", kind="count", help="draws"),
    Column(key="missing", label="missing", kind="count", help="draws without a verdict"),
    Column(key="needed", label="needed", kind="count", help="about so many draws resolve it"),
    Column(key="status", label="status", kind="status", help="whether the draws support it"),
)


def sections(runs: Sequence[ReportedRun]) -> tuple[Section, ...]:
    """Bounds of all runs that have any, and risks likewise."""
    found = []
    bounds = [(run, row) for run in runs for row in bound_rows(run)]
    if bounds:
        found.append(_bounds(bounds))
    risks = [(run, row) for run in runs for row in risk_rows(run)]
    if risks:
        found.append(_risks(risks))
    return tuple(found)


def bound_rows(run: ReportedRun) -> Iterator[tuple[Cell, ...]]:
    """One row per test prompt, with the columns of `_BOUND`."""
    table = run.run.predictions
    if table is None or run.run.bound is None:
        return
    group = "coverage_group" if "coverage_group" in table.columns else "group"
    names = ("id", group, "lower_bound", "p_hat", "first_unsafe", "followed")
    for name, group, limit, p_hat, first, followed in table.select(names).iter_rows():
        if 0 < first < limit:
            outcome = "missed"
        elif first >= limit or followed >= limit - 1:
            outcome = "held"
        else:
            outcome = "open"
        yield (name, run.name, group, limit, p_hat, first or None, followed, outcome)


def risk_rows(run: ReportedRun) -> Iterator[tuple[Cell, ...]]:
    """One row per prompt with a risk, with the columns of `_RISK`."""
    if run.run.risk is not None:
        for one in run.run.risk.risks:
            yield (one.prompt.id, run.name, one.prompt.group, *_estimated(one.estimate))
    elif run.run.bound is None and run.summary is not None:
        for stream in run.summary.streams:
            for name, each in zip(stream.ids, stream.prompts, strict=True):
                group = run.groups.get(name)
                low, high = each.interval
                # as a forecast takes them: an interval that begins at 0 shows no probability
                status = "resolved" if low > 0 else "not resolved: no unsafe draw"
                counts = (each.unsafe, each.draws, each.missing)
                yield (name, run.name, group, each.estimate, low, high, low, *counts, None, status)


def _estimated(estimate: RiskEstimate) -> tuple[Cell, ...]:
    low, high = estimate.interval or (None, None)
    known = None if estimate.risk != estimate.risk else estimate.risk
    counts = (estimate.hits, estimate.draws, estimate.missing)
    return (
        known,
        low,
        high,
        estimate.certified_lower,
        *counts,
        estimate.needed_draws,
        _status(estimate),
    )


def _status(estimate: RiskEstimate) -> str:
    """Whether it is resolved, and in a few words why not: reasons to filter by."""
    if estimate.resolved:
        return "resolved"
    if estimate.missing == estimate.draws:
        why = "no verdict"
    elif estimate.precise:
        why = f"coverage {estimate.coverage}"
    elif estimate.ess_harm < LEAST_HITS:
        why = "too few hits"
    else:
        why = "missing verdicts"
    return f"not resolved: {why}"


_Rows = list[tuple[ReportedRun, tuple[Cell, ...]]]


def _bounds(rows: _Rows) -> Section:
    rows.sort(key=lambda pair: (_number(pair[1][3], 0.0), -_number(pair[1][4], 0.0)))
    limits = [_number(row[3], 1.0) for _, row in rows]
    scale = Scale(label="L, log scale", low=1.0, high=max(limits), mark="bound")
    browser = _browser(
        "bounds",
        "Bound of every test prompt: shortest first",
        _BOUND,
        rows,
        scale=scale if max(limits) > 1 else None,
        filters=("run", "group", "outcome"),
    )
    blocks: list[Block] = [
        Paragraph(
            text="For prompts that were kept for testing. The bound held if the prompt's first "
            "unsafe draw came no earlier; 'open' prompts were not followed far enough to tell.",
            weight="fine",
        ),
        _outcomes(rows),
        browser,
    ]
    if len(rows) > MOST_ROWS:
        blocks.insert(1, _distribution("Bounds of all test prompts", limits, count))
    return Section(id="bounds", title="Bounds by prompt", blocks=tuple(blocks))


def _outcomes(rows: _Rows) -> Figure:
    """What became of each test prompt, beside its bound, over the predicted risk."""
    shown = _spread([row for _, row in rows])
    met = [row for row in shown if row[5] is not None]
    clear = [row for row in shown if row[5] is None]
    line = sorted((_number(row[4], 0.0), _number(row[3], 1.0)) for row in shown)
    xs = [p for p, _ in line if p > 0]
    ys = [limit for _, limit in line]
    ys += [_number(row[5], 1.0) for row in met] + [max(_number(row[6], 1.0), 1.0) for row in clear]

    def points(kept: list[tuple[Cell, ...]], label: str, place: int, hollow: bool) -> Points:
        return Points(
            label=label,
            x=tuple(_number(row[4], 0.0) for row in kept),
            y=tuple(max(_number(row[place], 1.0), 1.0) for row in kept),
            titles=tuple(_outcome_title(row) for row in kept),
            ink="ink",
            hollow=hollow,
        )

    return Figure(
        name="outcomes",
        chart=Plot(
            title="Bounds and outcomes of test prompts",
            description="The bound falls as the predicted risk rises; points below the line are "
            "prompts whose bound was missed.",
            x=around(xs, log=True, label="predicted P(unsafe) of one draw"),
            y=around(ys, log=True, label="generations"),
            lines=(
                Line(
                    label="bound L",
                    x=tuple(p for p, _ in line),
                    y=tuple(limit for _, limit in line),
                ),
            ),
            points=(
                points(met, "first unsafe draw", 5, False),
                points(clear, "none unsafe up to here", 6, True),
            ),
        ),
        caption=_limited(len(shown), len(rows)),
        table=Table(
            caption="Test prompts by outcome",
            columns=("outcome", "prompts"),
            rows=tuple(
                (name, count(sum(row[7] == name for _, row in rows)))
                for name in ("held", "missed", "open")
            ),
            numbers=(1,),
        ),
    )


def _outcome_title(row: tuple[Cell, ...]) -> str:
    seen = f"first unsafe draw {row[5]}" if row[5] is not None else f"none unsafe in {row[6]}"
    return f"{row[0]}: bound {row[3]}, {seen}"


def _risks(rows: _Rows) -> Section:
    rows.sort(key=lambda pair: -_number(pair[1][3], -1.0))
    ends = [
        _number(cell, 0.0)
        for _, row in rows
        for cell in row[3:6]
        if cell is not None and _number(cell, 0.0) > 0
    ]
    scale = (
        Scale(
            label="log scale",
            low=min(ends),
            high=min(max(ends), 1.0),
            mark="risk",
            ends="low,high",
        )
        if ends
        else None
    )
    blocks: list[Block] = [
        Paragraph(
            text="P(unsafe) of one draw. Risks that are not resolved are marked: they rest on too "
            "few unsafe draws, or on draws that do not agree, and are not to be quoted.",
            weight="fine",
        )
    ]
    if len(rows) > MOST_ROWS:
        values = [_number(row[3], float("nan")) for _, row in rows]
        blocks.append(_distribution("Risks of all prompts", values, probability))
    if ends:
        blocks.append(_ranked(rows))
    blocks.append(
        _browser(
            "risks",
            "Risk of every prompt: largest first",
            _RISK,
            rows,
            scale=scale,
            filters=("run", "group", "status"),
        )
    )
    return Section(id="risks", title="Risks by prompt", blocks=tuple(blocks))


def _ranked(rows: _Rows) -> Figure:
    """Risks with their intervals from the largest to the smallest."""
    numbered = [(rank, row) for rank, (_, row) in enumerate(rows, start=1)]
    shown = [one for one in _spread(numbered) if _number(one[1][3], 0.0) > 0]
    values = [_number(row[place], 0.0) for _, row in shown for place in (3, 4, 5)]

    def points(resolved: bool) -> Points:
        kept = [one for one in shown if (one[1][-1] == "resolved") is resolved]
        return Points(
            label="resolved" if resolved else "not resolved",
            x=tuple(float(rank) for rank, _ in kept),
            y=tuple(_number(row[3], 0.0) for _, row in kept),
            titles=tuple(
                f"{row[0]}: {probability(_number(row[3], 0.0))} ({_ends(row)})" for _, row in kept
            ),
            ends=tuple(
                (_number(row[4], _number(row[3], 0.0)), _number(row[5], _number(row[3], 0.0)))
                for _, row in kept
            ),
            ink="accent" if resolved else "muted",
            hollow=not resolved,
        )

    drawn = tuple(one for one in (points(True), points(False)) if one.x)
    top = [row for _, row in rows[:10]]
    return Figure(
        name="risks",
        chart=Plot(
            title="Risks by rank",
            description="P(unsafe) of one draw for each prompt, largest first, with its interval, "
            "on a logarithmic scale.",
            x=around([1.0, float(len(rows))], label="prompts, largest risk first"),
            y=around(values, log=True, label="P(unsafe)"),
            points=drawn,
        ),
        caption=_limited(len(shown), len(rows)),
        table=Table(
            caption="The largest risks",
            columns=("prompt", "risk", "interval", "status"),
            rows=tuple(
                (str(row[0]), probability(_maybe(row[3])), _ends(row), str(row[-1])) for row in top
            ),
            numbers=(1, 2),
        ),
    )


def _ends(row: tuple[Cell, ...]) -> str:
    low, high = _maybe(row[4]), _maybe(row[5])
    return "no interval" if low is None or high is None else interval((low, high))


def _browser(
    name: str,
    caption: str,
    columns: tuple[Column, ...],
    rows: _Rows,
    *,
    scale: Scale | None,
    filters: tuple[str, ...],
) -> Browser:
    """The table, without columns in which nothing stands, or the same for the only run."""
    kept = rows[:MOST_ROWS]
    used = [
        place
        for place, column in enumerate(columns)
        if any(row[place] is not None for _, row in kept)
        and (column.key != "missing" or any(row[place] for _, row in kept))
        and (column.key != "run" or len({run.name for run, _ in kept}) > 1)
    ]
    return Browser(
        name=name,
        caption=caption,
        columns=tuple(columns[place] for place in used),
        rows=tuple(tuple(row[place] for place in used) for _, row in kept),
        prompts=tuple(run.texts.get(str(row[0])) for run, row in kept),
        total=len(rows),
        scale=scale,
        filters=tuple(one for one in filters if one in {columns[place].key for place in used}),
    )


def _distribution(caption: str, values: list[float], word: object) -> Table:
    """Quantiles of so many prompts that the table holds only some of them."""
    import numpy as np

    known = np.array([one for one in values if one == one])
    ends = np.quantile(known, [at for _, at in _QUANTILES]) if known.size else []
    assert callable(word)
    return Table(
        caption=f"{caption} ({plural(len(values), 'prompt')}, {MOST_ROWS:,} of them in the table)",
        columns=tuple(name for name, _ in _QUANTILES),
        rows=(tuple(str(word(float(end))) for end in ends),),
        numbers=tuple(range(len(_QUANTILES))),
    )


def _spread(rows: list) -> list:  # type: ignore[type-arg]
    """At most `MOST_POINTS` of the rows, evenly spread, the first and the last among them."""
    if len(rows) <= MOST_POINTS:
        return rows
    step = (len(rows) - 1) / (MOST_POINTS - 1)
    return [rows[round(step * number)] for number in range(MOST_POINTS)]


def _limited(shown: int, known: int) -> str:
    return "" if shown == known else f"{shown:,} of {known:,} prompts are drawn."


def _maybe(cell: Cell) -> float | None:
    return float(cell) if isinstance(cell, (int, float)) else None


def _number(cell: Cell, otherwise: float) -> float:
    found = _maybe(cell)
    return otherwise if found is None else found
