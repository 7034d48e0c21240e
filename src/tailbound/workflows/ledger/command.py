"""`ledger` from its arguments to its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.errors import LedgerError, UsageError
from tailbound.runs import layout
from tailbound.runs.compaction import compact
from tailbound.runs.draws import draw_store, read_shard
from tailbound.runs.lock import FolderLock
from tailbound.runs.manifest import read_manifest
from tailbound.runs.prompts import kept_table
from tailbound.runs.schema import columns
from tailbound.runs.shards import ShardStore, is_part, sorted_out
from tailbound.storage.files import make_folder, refusals
from tailbound.workflows.ledger.result import LedgerReport, ShardReport, StreamCount
from tailbound.workflows.ledger.settings import ACTIONS, Action, LedgerOptions

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 5
_KEY = ("stream", "prompt_id", "index")


def ledger_command(folder: Path, action: Action, given: Mapping[str, Any]) -> LedgerReport:
    """Everything that `tailbound ledger` does; `given` are options of `LedgerOptions` by name.

    Raises `UsageError` for an unknown action and for a folder without a ledger; `RunLockedError`
    where a process is writing to it and it is to be changed; `LedgerError` where the system
    refuses, and, unless the action is verify, where a shard is damaged.
    """
    asked = make(LedgerOptions, given)
    if action not in ACTIONS:
        raise UsageError(f"{action!r} is not one of {', '.join(ACTIONS)}: choose one of these")
    if not (folder / layout.LEDGER).is_file():
        raise UsageError(f"{folder} holds no {layout.LEDGER}: give the folder of a run with draws")
    if asked.set_aside and action != "verify":
        raise UsageError("--set-aside is for verify: leave it out, or run verify first")
    before = None
    if action == "compact":
        with step("compacting the shards"):
            before = compact(folder, rows=asked.rows).before
    with step("reading the shards"):
        found = _read(folder, action)
    if action != "verify":
        _refuse_damage(found)
    elif asked.set_aside and not all(one.outcome == "sound" for one in found.shards):
        _set_aside(folder, found)
        aside = {one.file: one for one in found.shards if one.outcome != "sound"}
        with step("reading the shards that are left"):
            found = _read(folder, action, aside=aside)
        before = len(found.shards)
    return found if before is None else _with_before(found, before)


def _with_before(found: LedgerReport, before: int) -> LedgerReport:
    from dataclasses import replace

    return replace(found, shards_before=before)


def _refuse_damage(found: LedgerReport) -> None:
    for one in found.shards:
        if one.outcome != "sound":
            place = Path(found.folder) / layout.DRAWS / one.file
            raise LedgerError(
                f"{place}: {one.detail}. `tailbound ledger {found.folder} verify` lists every shard"
            )


def _set_aside(folder: Path, found: LedgerReport) -> None:
    """Move what is not sound to `damaged/`, under a name that is not taken there."""
    lock = FolderLock(folder)
    try:
        make_folder(folder / layout.DAMAGED)
        for one in found.shards:
            if one.outcome == "sound":
                continue
            source = folder / layout.DRAWS / one.file
            target, number = folder / layout.DAMAGED / one.file, 2
            while target.exists():
                target = folder / layout.DAMAGED / f"{source.stem}.{number}.parquet"
                number += 1
            with refusals(target):
                source.rename(target)
    finally:
        lock.release()


def _read(
    folder: Path, action: Action, *, aside: Mapping[str, ShardReport] | None = None
) -> LedgerReport:
    """Every shard read and compared with its seal; rows are those of the sound ones."""
    import polars as pl

    store = draw_store(folder)
    _ = store.belongs_to  # its own error, before any shard is read
    home = folder / layout.DRAWS
    every = sorted(path for path in home.glob("*.parquet") if not path.name.startswith("."))
    problems: list[str] = []
    parts = [path for path in every if is_part(path.name)]
    try:
        counting, replaced = sorted_out(parts)
    except LedgerError as error:
        problems.append(_short(error, folder))
        counting, replaced = parts, []
    reports = [_alien(path) for path in every if not is_part(path.name)]
    frames = [pl.DataFrame(schema={name: columns()[name] for name in (*_KEY, "score")})]
    for path in counting:
        report, frame = _shard(path, store, folder)
        reports.append(report)
        if frame is not None:
            frames.append(frame)
    if action == "verify":
        problems += [
            f"{layout.DRAWS}/{path.name} no longer counts: `tailbound ledger` compact removes it"
            for path in replaced
        ]
    draws = pl.concat(frames)
    if action == "verify":
        problems += _wrong_rows(folder, draws)
    moved = tuple(
        ShardReport(
            file=one.file, rows=None, bytes=one.bytes, outcome="set aside", detail=one.detail
        )
        for one in (aside or {}).values()
    )
    return LedgerReport(
        folder=str(folder),
        action=action,
        shards=(*reports, *moved),
        shards_before=len(reports),
        prompts=draws["prompt_id"].n_unique(),
        streams=_streams(draws, _threshold(folder)),
        problems=tuple(problems),
    )


def _shard(path: Path, store: ShardStore, folder: Path) -> tuple[ShardReport, pl.DataFrame | None]:
    size = path.stat().st_size
    try:
        frame = read_shard(store, path)
    except LedgerError as error:
        detail = _short(error, folder)
        return ShardReport(
            file=path.name, rows=None, bytes=size, outcome="damaged", detail=detail
        ), None
    report = ShardReport(file=path.name, rows=frame.height, bytes=size, outcome="sound", detail="")
    return report, frame.select(*_KEY, "score")


def _alien(path: Path) -> ShardReport:
    return ShardReport(
        file=path.name,
        rows=None,
        bytes=path.stat().st_size,
        outcome="damaged",
        detail="it does not have the name of a shard (part-000001.parquet, ...)",
    )


def _wrong_rows(folder: Path, draws: pl.DataFrame) -> list[str]:
    """Draws that are recorded twice, and draws of prompts that are not on file."""
    import polars as pl

    twice = draws.group_by(*_KEY).len().filter(pl.col("len") > 1).sort(*_KEY)
    lines = [
        f"draw {index} of prompt {prompt_id!r} in stream {stream!r} is recorded {times} times"
        for stream, prompt_id, index, times in twice.head(_SHOWN).iter_rows()
    ]
    if twice.height > _SHOWN:
        lines.append(f"and {twice.height - _SHOWN:,} more draws are recorded several times")
    if not (folder / layout.PROMPTS).is_file():
        return [*lines, f"{layout.PROMPTS} is missing: restore it"]
    try:
        known = kept_table(folder)["id"]
    except LedgerError as error:
        return [*lines, _short(error, folder)]
    drawn = draws.select(pl.col("prompt_id").unique())["prompt_id"]
    unknown = drawn.filter(~drawn.is_in(known.implode())).sort()
    lines += [
        f"prompt {name!r} has draws and is not in {layout.PROMPTS}" for name in unknown[:_SHOWN]
    ]
    if len(unknown) > _SHOWN:
        lines.append(f"and {len(unknown) - _SHOWN:,} more prompts are not in {layout.PROMPTS}")
    return lines


def _threshold(folder: Path) -> float | None:
    if not (folder / layout.MANIFEST).is_file():
        return None
    return float(read_manifest(folder)["threshold"])


def _streams(draws: pl.DataFrame, threshold: float | None) -> tuple[StreamCount, ...]:
    import polars as pl

    unsafe = pl.lit(None, dtype=pl.Int64)
    if threshold is not None:
        unsafe = (pl.col("score") >= threshold).sum().cast(pl.Int64)
    table = (
        draws.group_by("stream")
        .agg(
            pl.col("prompt_id").n_unique().alias("prompts"),
            pl.len().alias("draws"),
            unsafe.alias("unsafe"),
            pl.col("score").null_count().alias("missing"),
        )
        .sort("stream")
    )
    return tuple(StreamCount(**row) for row in table.iter_rows(named=True))


def _short(error: Exception, folder: Path) -> str:
    """The error in one line, with paths from the run folder on."""
    return f"{error}".partition("\n")[0].replace(f"{folder}/", "")
