"""Estimates to forecast from: a run folder, or a table of probabilities with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tailbound.core.outside import shown
from tailbound.deployment import Queries, queries_of
from tailbound.errors import UsageError
from tailbound.prompts import cells
from tailbound.prompts.tables import TABLE, Row, read_rows
from tailbound.runs.layout import MANIFEST, RISK, RISK_TABLE, SUMMARY
from tailbound.runs.manifest import read_manifest
from tailbound.runs.prompts import kept_table
from tailbound.storage.parquet import read_sealed
from tailbound.workflows.in_use import Stale, stale
from tailbound.workflows.risk.results import NAME as RISKS
from tailbound.workflows.risk.results import read_result
from tailbound.workflows.summarize.summary import FIRST_EVENT, read_summary
from tailbound.workflows.summarize.summary import NAME as SUMMARIES

TableSource = str | PathLike[str] | Iterable[Any]
"""A run folder, a path (CSV, TSV, JSONL, JSON, Parquet), records, or a frame."""
CONFIDENCE = 0.95
_RESOLVED = "1 for an estimate that can be used as a number, 0 for another"
_NAMES = {
    "p": ("p", "risk", "estimate"),
    "low": ("low", "lower", "interval_lower"),
    "high": ("high", "interval_upper"),
    "id": ("id", "prompt_id"),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class EstimateTable:
    """Queries with their names and groups; `rows` are what was read, for weights by column.

    `unknown` names queries without any estimate: all of their verdicts are missing. They come last
    in `ids`, `groups` and `rows`, and have no place in `queries`. `stale` says why the result of a
    run that they were read from is not one of all its draws.
    """

    source: str
    what: str
    ids: tuple[str, ...]
    groups: tuple[str | None, ...]
    rows: tuple[Row, ...]
    queries: Queries
    unknown: tuple[str, ...] = ()
    folder: Path | None = None
    stale: Stale | None = None


def estimates_of(given: TableSource, *, confidence: float | None) -> EstimateTable:
    """The estimates of a run folder or of a table.

    `confidence` is that of the intervals in a table (default: 0.95), and must be that of a run.
    Raises `UsageError` with the place of the first value that is wrong, and where there is nothing
    to forecast from.
    """
    if isinstance(given, (str, PathLike)):
        path = Path(given)
        if path.is_dir():
            return _of_folder(path, confidence)
        if path.name == SUMMARY and path.is_file():
            return _of_summary(path.parent, confidence)
        if not path.exists() and str(path) != "-":
            raise UsageError(f"no run folder or table {path}: check the path")
        return _of_rows(read_rows(path, what=TABLE), str(path), confidence or CONFIDENCE)
    return _of_rows(cells.records(given), "table", confidence or CONFIDENCE)


# --- run folders ------------------------------------------------------------------------------


def _of_folder(folder: Path, confidence: float | None) -> EstimateTable:
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder} is not a run folder: there is no {MANIFEST} in it")
    if (folder / RISK).is_file():
        return _of_risk(folder, confidence)
    if (folder / SUMMARY).is_file():
        return _of_summary(folder, confidence)
    raise UsageError(
        f"{folder} holds no {RISK} and no {SUMMARY}: run tailbound risk, or tailbound summarize on "
        "it first"
    )


def _same(level: float, asked: float | None, what: str) -> float:
    if asked is not None and asked != level:
        raise UsageError(
            f"the intervals of {what} are {100 * level:g}%: leave --confidence out, or make them "
            "anew"
        )
    return level


def _of_risk(folder: Path, confidence: float | None) -> EstimateTable:
    level = float(read_manifest(folder)["options"].get("confidence", CONFIDENCE))
    cure = "restore it, or run the same command again to make it again"
    result = read_result(folder)
    assert result is not None
    frame = read_sealed(folder / RISK_TABLE, cure=cure)
    rows = [
        Row(f"{folder / RISK_TABLE} row {number}", values)
        for number, values in enumerate(frame.iter_rows(named=True), start=1)
    ]
    found = _of_rows(rows, str(folder), _same(level, confidence, str(folder)))
    return replace(found, what=result.estimand, folder=folder, stale=stale(folder, RISKS))


def _of_summary(folder: Path, confidence: float | None) -> EstimateTable:
    """Streams with a fixed number of draws; a prompt in several counts in the first."""
    summary = read_summary(folder)
    assert summary is not None
    level = _same(summary.confidence, confidence, str(folder / SUMMARY))
    groups = {}
    if (folder / MANIFEST).is_file():
        table = kept_table(folder).select("id", "group")
        groups = dict(table.iter_rows())
    rows: dict[str, Row] = {}
    for stream in summary.streams:
        if stream.stopping == FIRST_EVENT:
            continue
        for name, one in zip(stream.ids, stream.prompts, strict=True):
            low, high = one.interval
            values = {"id": name, "group": groups.get(name), "p": one.estimate}
            values |= {"low": low, "high": high, "resolved": one.unsafe > 0}
            rows.setdefault(name, Row(f"{folder / SUMMARY} prompt {name}", values))
    if not rows:
        raise UsageError(
            f"{folder / SUMMARY} has no stream with a fixed number of draws: where drawing stops "
            "at the first unsafe one, estimates are biased"
        )
    found = _of_rows(list(rows.values()), str(folder), level, may_lack=True)
    what = f"P(unsafe) of one reply per prompt: score >= {summary.threshold:g}"
    is_run = (folder / MANIFEST).is_file()
    old = stale(folder, SUMMARIES) if is_run else None
    return replace(found, what=what, folder=folder, stale=old)


# --- rows -------------------------------------------------------------------------------------


def _of_rows(
    rows: Sequence[Row], source: str, confidence: float, *, may_lack: bool = False
) -> EstimateTable:
    if not rows:
        raise UsageError(f"{source} has no rows: give one for each query")
    columns = {name for row in rows for name in row.values}
    names = {key: next((one for one in of if one in columns), None) for key, of in _NAMES.items()}
    of_risk = "certified_upper" in columns
    lacking = [key for key in ("p", "low", "high") if names[key] is None]
    if lacking:
        raise UsageError(
            f"{source} has no column {' and no column '.join(lacking)}: give p with the ends low "
            "and high of its interval (both equal to p where it is known)"
        )
    ids = _ids(rows, names["id"], source)
    empty = [cells.is_empty(row.values.get(str(names["p"]))) for row in rows]
    lacks = [one and (of_risk or may_lack) for one in empty]
    known = [i for i, one in enumerate(lacks) if not one]
    unknown = [i for i, one in enumerate(lacks) if one]
    if not known:
        raise UsageError(f"{source} has no usable row: not one query has an estimate")
    read = _risk_row if of_risk else _plain_row
    values = [read(rows[i], names, "resolved" in columns) for i in known]
    p, low, high, resolved = (np.array(one) for one in zip(*values, strict=True))
    queries = queries_of(p, low, high, resolved=resolved, confidence=confidence)
    if not queries.resolved.any():
        raise UsageError(
            f"not one of the {len(known):,} estimates in {source} is resolved: draw more from each "
            "query first"
        )
    order = [*known, *unknown]
    return EstimateTable(
        source=source,
        what="P(unsafe) of one reply per query",
        ids=tuple(ids[i] for i in order),
        groups=tuple(cells.text(rows[i], "group") for i in order),
        rows=tuple(rows[i] for i in order),
        queries=queries,
        unknown=tuple(ids[i] for i in unknown),
    )


def _plain_row(
    row: Row, names: Mapping[str, str | None], has_resolved: bool
) -> tuple[float, float, float, bool]:
    p, low, high = (cells.probability(row, str(names[key])) for key in ("p", "low", "high"))
    if not low <= p <= high:
        raise UsageError(
            f"{row.place}: {names['p']} is {p:g}, outside of its interval [{low:g}, {high:g}]"
        )
    fine = low > 0 or low == high
    return p, low, high, cells.flag(row, "resolved", about=_RESOLVED) if has_resolved else fine


def _risk_row(
    row: Row, names: Mapping[str, str | None], has_resolved: bool
) -> tuple[float, float, float, bool]:
    """A row of risk.parquet: certified ends where there is no interval; estimates above 1 are 1."""
    fine = cells.flag(row, "resolved", about=_RESOLVED) if has_resolved else True
    p = min(cells.number(row, str(names["p"])), 1.0)
    ends = [str(names["low"]), str(names["high"])]
    if any(cells.is_empty(row.values.get(name)) for name in ends):
        ends = ["certified_lower", "certified_upper"]
    if cells.is_empty(row.values.get(ends[0])) or cells.is_empty(row.values.get(ends[1])):
        return p, 0.0, 1.0, False
    low, high = (min(max(cells.number(row, name), 0.0), 1.0) for name in ends)
    if not 0 <= p <= 1:
        raise UsageError(f"{row.place}: {names['p']} is not a probability: {p:g}")
    return p, min(low, p), max(high, p), fine


def _ids(rows: Sequence[Row], name: str | None, source: str) -> list[str]:
    if name is None:
        return [str(place) for place in range(1, len(rows) + 1)]
    seen: dict[str, str] = {}
    for row in rows:
        found = cells.text(row, name)
        if found is None:
            raise UsageError(f"{row.place} has no {name}: give one for each query, or no column")
        if found in seen:
            raise UsageError(f"{row.place} repeats the {name} {found!r} of {seen[found]}")
        seen[found] = row.place
    return list(seen)


# --- weights ----------------------------------------------------------------------------------


def weights_of(table: EstimateTable, given: str | None) -> tuple[list[float], str]:
    """The weight of every id of the table, and where the weights come from in words.

    `given` is a file with the columns weight and id (or group, whose weight its queries share
    equally), or the name of a column. Raises `UsageError` with the place for weights that are
    negative, not numbers, all 0, of unknown queries, or missing.
    """
    columns = {name for row in table.rows for name in row.values}
    if given is None and "weight" not in columns:
        return [1.0] * len(table.ids), "equal"
    if given is not None and given not in columns:
        path = Path(given)
        if not path.exists():
            raise UsageError(f"--weights {given}: neither a file nor a column of {table.source}")
        weights = _weights_of_file(table, read_rows(path, what=TABLE), str(path))
        words = f"file {path.name}"
    else:
        name = given or "weight"
        weights = [_weight(row, name) for row in table.rows]
        words = f"column {name}"
    if not any(weights[: len(table.queries)]):
        raise UsageError(f"all weights ({words}) are 0: give at least one query some traffic")
    return weights, words


def _weight(row: Row, name: str) -> float:
    found = cells.number(row, name)
    if found < 0:
        raise UsageError(f"{row.place}: {name} must not be negative, but is {found:g}")
    return found


def _weights_of_file(table: EstimateTable, rows: Sequence[Row], source: str) -> list[float]:
    columns = {name for row in rows for name in row.values}
    key = next((name for name in ("id", "prompt_id", "group") if name in columns), None)
    if key is None or "weight" not in columns:
        raise UsageError(f"{source} needs the columns weight and id, or weight and group")
    names = table.groups if key == "group" else table.ids
    sizes: dict[str, int] = {}
    for name in names:
        if name is not None:
            sizes[name] = sizes.get(name, 0) + 1
    found: dict[str, float] = {}
    for row in rows:
        one = cells.text(row, key)
        if one is None or one not in sizes:
            raise UsageError(
                f"{row.place}: {key} {shown(row.values.get(key))} is not in {table.source}"
            )
        if one in found:
            raise UsageError(f"{row.place} gives {key} {one!r} a second weight")
        found[one] = _weight(row, "weight")
    lacking = [name for name in names if name is None or name not in found]
    if lacking:
        raise UsageError(
            f"{source} has no weight for {len(lacking):,} of {len(names):,} queries, such as "
            f"{shown(lacking[0])}: give 0 to leave one out"
        )
    parts = sizes if key == "group" else dict.fromkeys(sizes, 1)
    return [found[str(name)] / parts[str(name)] for name in names]
