"""Few large shards in place of many small ones: the same rows, in the same order.

A slow target leaves shards of a few rows, each with the footer of a Parquet file. Neighbouring ones
are put together:

    draws/part-000001.parquet ... part-000040.parquet   ->   draws/part-000001-000040.parquet

The name says what the new shard replaces, so one rename is the whole change: before it the small
shards count, after it the large one (`tailbound.runs.shards.part_files`). A process that is killed
at any moment leaves the same rows, at worst beside files that no longer count, which the next
writer removes. Its footer keeps names and checksums of the shards that it replaces, so what rests
on them (`tailbound.runs.history`) stands as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tailbound.core.interrupts import uninterrupted
from tailbound.runs.draws import CURE, draw_store, read_shard, rows_of
from tailbound.runs.layout import DRAWS, part_name
from tailbound.runs.lock import FolderLock
from tailbound.runs.shards import ShardStore, numbers, replaced_files
from tailbound.storage.files import refusals, remove_unfinished
from tailbound.storage.parquet import recorded_seals, write_sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """How many shards there were, and how many there are now."""

    before: int
    after: int


def compact(folder: Path, *, rows: int) -> Compaction:
    """Put neighbouring shards of `draws/` together, up to `rows` rows in one.

    Memory grows with `rows` and not with the ledger. Nothing is written where a shard is damaged.
    Raises `RunLockedError` where a process is writing to the folder, and `LedgerError` for a
    damaged or foreign shard, or where the system refuses.
    """
    lock = FolderLock(folder)
    try:
        remove_unfinished(folder / DRAWS)
        remove_replaced(folder)
        store = draw_store(folder)
        paths = store.checked()
        groups = _groups(paths, rows)
        for group in groups:
            _merge(group, store)
        return Compaction(before=len(paths), after=len(store.paths()))
    finally:
        lock.release()


def remove_replaced(folder: Path) -> None:
    """Remove the shards of `draws/` that no longer count; only the holder of the lock may."""
    for path in replaced_files(folder / DRAWS):
        with refusals(path):
            path.unlink(missing_ok=True)


def _groups(paths: list[Path], rows: int) -> list[list[Path]]:
    """Runs of neighbours with at most `rows` rows together and no number missing between them."""
    found: list[list[Path]] = []
    held = 0
    for path in paths:
        more = rows_of(path)
        joins = bool(found) and numbers(found[-1][-1])[1] + 1 == numbers(path)[0]
        if joins and held + more <= rows:
            found[-1].append(path)
            held += more
        else:
            found.append([path])
            held = more
    return [group for group in found if len(group) > 1]


def _merge(group: list[Path], store: ShardStore) -> None:
    import polars as pl

    replaces = [one for path in group for one in recorded_seals(path, cure=CURE)]
    frame = pl.concat([read_shard(store, path) for path in group])
    target = group[0].parent / part_name(numbers(group[0])[0], numbers(group[-1])[1])
    with uninterrupted():
        write_sealed(target, frame, of=store.belongs_to, replaces=replaces)
    for path in group:
        with refusals(path):
            path.unlink(missing_ok=True)
