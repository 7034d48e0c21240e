"""Results under their plain names, as `results/` holds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
