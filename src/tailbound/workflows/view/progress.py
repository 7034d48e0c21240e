"""How far a run is: what is on record, counted without reading any shard twice.

Nothing is written and no lock is taken, so that looking never disturbs a run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tailbound.errors import LedgerError, TailboundError
from tailbound.runs import layout
from tailbound.runs.draws import CURE, draw_store
from tailbound.runs.history import read_history, seals_of
from tailbound.runs.lock import writer
from tailbound.runs.manifest import read_manifest
from tailbound.runs.prompts import kept_table
from tailbound.workflows.costs import read_accounts
from tailbound.workflows.in_use import in_use
from tailbound.workflows.show.missing import result_of
from tailbound.workflows.words import count, plural

State = Literal["running", "stopped", "finished"]
"""A process is writing; none is, and the result is missing or older than the draws; all is done."""
_SHOWN = (f"{layout.REPORT}.html", f"{layout.REPORT}.md", f"{layout.REPORT}-figures")
"""What `tailbound report` writes is no progress."""


@dataclass(kw_only=True)
class StreamProgress:
    """The draws of one stream so far; `prompts` are the ids of those with a draw."""

    draws: int = 0
    unsafe: int = 0
    missing: int = 0
    tokens: int = 0
    prompts: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One folder at a moment: `version` changes with every file and with the state.

    `planned` are the prompts of the run, where they are on record yet; `trouble` says in one line
    what could not be read.
    """

    folder: Path
    version: str
    state: State
    streams: dict[str, StreamProgress]
    planned: int | None
    cost: float
    trouble: str | None

    @property
    def draws(self) -> int:
        """Draws on record."""
        return sum(one.draws for one in self.streams.values())

    @property
    def words(self) -> str:
        """Where the run stands, in one line."""
        if self.trouble is not None and not self.streams:
            return f"{self.state}; {self.trouble}"
        unsafe, missing, tokens = (
            sum(getattr(one, name) for one in self.streams.values())
            for name in ("unsafe", "missing", "tokens")
        )
        begun = len(set().union(*(one.prompts for one in self.streams.values())))
        of = "" if self.planned is None else f" of {self.planned:,}"
        found = [f"{plural(self.draws, 'draw')} on record", f"{unsafe:,} unsafe"]
        found += [f"{missing:,} without a verdict"] if missing else []
        found += [f"prompts begun: {begun:,}{of}", f"{count(tokens)} tokens"]
        found += [f"cost {self.cost:.4g}"] if self.cost else []
        return f"{self.state}; {', '.join(found)}"


class Watched:
    """One run folder that is looked at again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[str, tuple[int, int]] = {}
        self._streams: dict[str, StreamProgress] = {}
        self._known: tuple[str, Progress | None, bool] = ("", None, False)

    def look(self) -> Progress:
        """The progress now; the folder is read only where a file of it has changed."""
        digest = fingerprint(self.folder)
        running = writer(self.folder) is not None
        held, last, finished = self._known
        if last is None or digest != held:
            trouble = self._count()
            finished, why = self._finished()
            last = Progress(
                folder=self.folder,
                version="",
                state="stopped",
                streams=self._streams,
                planned=self._planned(),
                cost=self._cost(),
                trouble=trouble or why,
            )
            self._known = (digest, last, finished)
        state: State = "running" if running else "finished" if finished else "stopped"
        return Progress(**{**vars(last), "version": f"{digest}-{state}", "state": state})

    def _count(self) -> str | None:
        """Count the shards that are new; returns what could not be read."""
        import polars as pl

        try:
            threshold = read_manifest(self.folder).get("threshold")
            store = draw_store(self.folder)
            paths = {path.name: path for path in store.paths()}
            marks = {name: _mark(path) for name, path in paths.items()}
            if any(marks.get(name) != mark for name, mark in self._seen.items()):
                self._seen, self._streams = {}, {}
            new = {name: mark for name, mark in marks.items() if name not in self._seen}
            streams = {name: _copy(one) for name, one in self._streams.items()}
            for name in new:
                _add(streams, paths[name], threshold)
        except (TailboundError, OSError, pl.exceptions.PolarsError) as error:
            return str(error).partition("\n")[0].replace(f"{self.folder}/", "")
        self._seen.update(new)
        self._streams = streams
        return None

    def _finished(self) -> tuple[bool, str | None]:
        """Whether the run's result counts every draw, and what could not be read."""
        try:
            command = str(read_manifest(self.folder)["command"])
            name = result_of(command)
            if name is None:
                return True, None
            if in_use(self.folder, name) is None:
                return False, None
            mine = [one.provenance for one in read_history(self.folder) if one.name == name]
            known = bool(mine) and mine[-1].date is not None
            return not known or mine[-1].rests_on == seals_of(self.folder), None
        except (TailboundError, OSError) as error:
            return False, str(error).replace(f"{self.folder}/", "")

    def _planned(self) -> int | None:
        try:
            return kept_table(self.folder).height or None
        except (TailboundError, OSError):
            return None

    def _cost(self) -> float:
        try:
            return sum(one.get("cost", 0.0) for one in read_accounts(self.folder).values())
        except (TailboundError, OSError):
            return 0.0


def fingerprint(folder: Path) -> str:
    """A digest of the names, sizes and times of the files of a run; locks and reports aside."""
    hashed = hashlib.sha256()
    for name, size, changed in sorted(_files(folder)):
        hashed.update(f"{name}\0{size}\0{changed}\n".encode(errors="surrogateescape"))
    return hashed.hexdigest()[:32]


def _files(folder: Path, within: str = "") -> Iterator[tuple[str, int, int]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # gone, or not ours to read: what reads it says so
        return
    for entry in entries:
        if entry.name.startswith(".") or (not within and entry.name in _SHOWN):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, f"{within}{entry.name}/")
            else:
                found = entry.stat()
                yield f"{within}{entry.name}", found.st_size, found.st_mtime_ns
        except OSError:  # a file that was replaced meanwhile: the next look sees the new one
            continue


def _mark(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _copy(one: StreamProgress) -> StreamProgress:
    return StreamProgress(**{**vars(one), "prompts": set(one.prompts)})


def _add(streams: dict[str, StreamProgress], path: Path, threshold: float | None) -> None:
    """Add the draws of one shard; raises `LedgerError` where it lacks what a shard has."""
    import polars as pl

    limit = float("inf") if threshold is None else float(threshold)
    try:
        found = (
            pl.read_parquet(path, columns=["stream", "prompt_id", "score", "tokens"])
            .group_by("stream")
            .agg(
                pl.len().alias("draws"),
                (pl.col("score") >= limit).sum().alias("unsafe"),
                pl.col("score").null_count().alias("missing"),
                pl.col("tokens").cast(pl.Int64).sum(),
                pl.col("prompt_id").unique(),
            )
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise LedgerError(f"{path} cannot be read: {CURE}") from error
    for row in found.iter_rows(named=True):
        one = streams.setdefault(row["stream"], StreamProgress())
        one.draws += row["draws"]
        one.unsafe += row["unsafe"]
        one.missing += row["missing"]
        one.tokens += row["tokens"]
        one.prompts.update(row["prompt_id"])
