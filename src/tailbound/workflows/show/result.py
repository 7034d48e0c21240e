"""What `tailbound show` says of a folder, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tailbound.storage.plain import from_plain
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """The draws of one stream that are on record; `missing` of them have no verdict."""

    stream: str
    prompts: int
    draws: int
    tokens: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class ShownResult:
    """A result in use: its main numbers in words, and what is guaranteed of them.

    `judge` is another judge than that of the run, else None. `date` (UTC) is None where the result
    has no history.
    """

    name: str
    file: str
    date: str | None
    judge: str | None
    numbers: tuple[str, ...]
    guarantee: str | None


@dataclass(frozen=True, kw_only=True)
class EarlierResult:
    """An earlier result, and how its options and draws differ from those of the one in use."""

    name: str
    file: str
    date: str | None
    judge: str | None
    numbers: tuple[str, ...]
    differs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunOverview:
    """One run folder.

    `started` is when the command was last started (UTC). `missing` says in a line each what keeps
    the results from being complete, and `next` is a command to type.
    """

    folder: str
    command: str
    target: str
    judge: str
    threshold: float
    contract: str
    contract_digest: str
    versions: dict[str, str]
    started: str
    streams: tuple[StreamState, ...]
    results: tuple[ShownResult, ...]
    earlier: tuple[EarlierResult, ...]
    missing: tuple[str, ...]
    next: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Overview(Result):
    """What a folder holds: the run in it, or the runs in its folders, as those of a demo."""

    folder: str
    runs: tuple[RunOverview, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"schema": SCHEMA, "folder": self.folder, "runs": [asdict(one) for one in self.runs]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Overview:
        """Inverse of `to_dict`."""
        found: Overview = from_plain(cls, {k: v for k, v in document.items() if k != "schema"})
        return found

    def facts(self) -> dict[str, object]:
        """The main numbers of each result in use, and how many things are missing."""
        found: dict[str, object] = {}
        for run in self.runs:
            before = f"{run.folder}: " if len(self.runs) > 1 else ""
            found[f"{before}command"] = run.command
            for one in run.results:
                judge = f" by {one.judge}" if one.judge else ""
                found[f"{before}{one.name}{judge}"] = "; ".join(one.numbers)
            found[f"{before}missing"] = len(run.missing)
        return found

    def frame(self) -> pl.DataFrame:
        """One row per result, those in use first."""
        import polars as pl

        names = ("folder", "name", "in_use", "date", "judge", "file", "numbers")
        schema = {name: pl.Boolean if name == "in_use" else pl.String for name in names}
        rows = [
            (run.folder, one.name, used, one.date, one.judge, one.file, "; ".join(one.numbers))
            for run in self.runs
            for used, several in ((True, run.results), (False, run.earlier))
            for one in several
        ]
        return pl.DataFrame(rows, schema=schema, orient="row")
