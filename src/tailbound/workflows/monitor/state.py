"""Where monitoring stands, as a value, and the file it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tailbound.errors import LedgerError
from tailbound.monitoring import EProcess, Shares
from tailbound.runs.layout import MONITOR
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.storage.plain import from_plain
from tailbound.workflows.monitor.settings import By
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
CURE = "restore it, or remove it to begin again (its outcomes are then not counted)"
Kind = Literal["overall", "prompt", "group", "other"]


@dataclass(frozen=True, kw_only=True)
class UnitState:
    """One unit: its counts, its share of the evidence, and where its e-process stands.

    `other` are all prompts without an audited value of their own, as one unit; `known` are units
    that the run names. `alarm` is the
    number of the outcome, over all units, at which its own part reached 1 / alpha.
    """

    kind: Kind
    name: str
    share: float
    known: bool
    draws: int
    unsafe: int
    missing: int
    alarm: int | None
    process: EProcess


@dataclass(frozen=True, kw_only=True)
class AlarmState:
    """The first alarm: the update and the outcome that raised it, and where that one stood."""

    update: int
    outcome: int
    place: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file of which the first `outcomes` are counted; `digest` is of these."""

    name: str
    outcomes: int
    digest: str


@dataclass(frozen=True, kw_only=True, repr=False)
class MonitorResult(Result):
    """Outcomes of production against the null that `statement` says, over all calls.

    `e_value` is the evidence against it, 1 at the start (each unit's part counts up to twice the
    limit); the first time that it reaches 1 / `alpha` is the `alarm`. `outcomes` is their number,
    of which `unused` had no audited value or no draws, and `cut` were not followed for the length
    of their bound; `missing` draws without a verdict count as unsafe.
    """

    statement: str
    alpha: float
    reference: float | None
    margin: float
    by: By
    updates: int
    outcomes: int
    draws: int
    unsafe: int
    missing: int
    unused: int
    cut: int
    e_value: float
    alarm: AlarmState | None
    shares: Shares
    units: tuple[UnitState, ...]
    sources: tuple[Source, ...]

    @property
    def named(self) -> tuple[UnitState, ...]:
        """The units that raise an alarm by themselves, in the order in which they did."""
        found = [unit for unit in self.units if unit.alarm is not None]
        return tuple(sorted(found, key=lambda unit: unit.alarm or 0))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: what `monitor.json` holds."""
        values = asdict(replace(self, units=()))
        # asdict copies every number by itself, which takes as long as writing thousands of units
        units = tuple({**vars(one), "process": dict(vars(one.process))} for one in self.units)
        return {"schema": SCHEMA, **values, "units": units}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> MonitorResult:
        """Inverse of `to_dict`."""
        if document["schema"] != SCHEMA:
            raise LedgerError(f"{MONITOR} was written by another version of tailbound: {CURE}")
        values = {name: value for name, value in document.items() if name != "schema"}
        kept: MonitorResult = from_plain(cls, values)
        return kept

    def facts(self) -> dict[str, object]:
        """Whether there was an alarm, the evidence and the counts."""
        return {
            "alarm": "none" if self.alarm is None else f"at {self.alarm.place}",
            "evidence": self.e_value,
            "alarm at": 1 / self.alpha,
            "outcomes": self.outcomes,
            "draws": self.draws,
            "unsafe": self.unsafe,
            "without a verdict": self.missing,
        }

    def frame(self) -> pl.DataFrame:
        """One row per unit: kind, name, draws, unsafe, missing, e_value, alarm."""
        import polars as pl

        schema: dict[str, Any] = {
            "kind": pl.String,
            "name": pl.String,
            "draws": pl.Int64,
            "unsafe": pl.Int64,
            "missing": pl.Int64,
            "e_value": pl.Float64,
            "alarm": pl.Int64,
        }
        rows = [
            [
                *(unit.kind, unit.name, unit.draws, unit.unsafe, unit.missing),
                *(unit.process.e_value, unit.alarm),
            ]
            for unit in self.units
        ]
        return pl.DataFrame(rows, schema=schema, orient="row")


def read_monitor(folder: Path) -> MonitorResult | None:
    """What `monitor.json` holds, None where there is no such file; `LedgerError` for damage."""
    path = folder / MONITOR
    if not path.is_file():
        return None
    document = read_json(path, cure=CURE)
    with understood(path, cure=CURE):
        return MonitorResult.from_dict(document)


def write_monitor(folder: Path, state: MonitorResult) -> None:
    """Write `monitor.json`; `read_monitor` reads it."""
    write_json(folder / MONITOR, state.to_dict())
