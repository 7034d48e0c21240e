"""Results under their plain names, as `results/` holds them, and whether they are of the run as it
is now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailbound.runs.history import RecordedResult, read_history, seals_of
from tailbound.runs.manifest import read_manifest
from tailbound.storage.documents import read_json
from tailbound.workflows.audit_judge import result as audit_judge
from tailbound.workflows.bound import results as bound
from tailbound.workflows.forecast import result as forecast
from tailbound.workflows.rejudge import job as rejudge

_OF_THE_CALL = {one.NAME: one.OF_THE_CALL for one in (forecast, rejudge, audit_judge)}


def in_use(home: Path, name: str) -> dict[str, Any] | None:
    """The document of the result `NAME.json` of a run or judge; None where there is none.

    Raises `LedgerError` where it is damaged.
    """
    if name == bound.NAME:
        return bound.kept_document(home)
    path = home / f"{name}.json"
    return read_json(path) if path.is_file() else None


def without_call(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what it says of the call that wrote it, and of nothing else."""
    aside = _OF_THE_CALL.get(name, ())
    return {key: value for key, value in document.items() if key not in aside}


@dataclass(frozen=True, kw_only=True)
class Stale:
    """Why a result is not one of the run as it is now; `known` unless nobody can tell."""

    why: str
    known: bool = True


def stale(
    folder: Path,
    name: str,
    *,
    history: Sequence[RecordedResult] | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> Stale | None:
    """Why the result `name` of a run may not be relied on; None where it may, or there is none.

    It may where `results/` says that it rests on all draws of the run, under its judge, threshold
    and contract. `history` and `manifest` save reading them again. Raises `LedgerError` for damage.
    """
    held = in_use(folder, name)
    if held is None:
        return None
    plain = without_call(name, held)
    made = next(
        (
            one.provenance
            for one in reversed(read_history(folder) if history is None else history)
            if one.name == name and without_call(name, one.result) == plain
        ),
        None,
    )
    if made is None or not made.rests_on:
        return Stale(
            why=f"results/ does not say which draws {name}.json rests on: repeat its command",
            known=False,
        )
    if made.rests_on != seals_of(folder):
        return Stale(why=f"draws were added since {name}.json was made: repeat its command first")
    own = read_manifest(folder) if manifest is None else manifest
    contract = own["contract"]["digest"] if isinstance(own["contract"], dict) else None
    if (made.judge_id, made.threshold, made.contract) != (
        own["judge_id"],
        own["threshold"],
        contract,
    ):
        return Stale(why=f"run.yaml has changed since {name}.json was made: repeat its command")
    return None
