"""`bound --from-table` from its keyword arguments to its result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from tailbound.core.contract import SamplingContract
from tailbound.core.options import make
from tailbound.core.steps import notice, step
from tailbound.prompts.opening import STANDARD_INPUT
from tailbound.runs import manifest
from tailbound.runs.lock import FolderLock
from tailbound.storage.files import make_folder
from tailbound.storage.places import check_place
from tailbound.workflows.bound.results import BoundResult
from tailbound.workflows.table.job import divide_table, run_table
from tailbound.workflows.table.reading import TableSource, TimeTable, table_of
from tailbound.workflows.table.settings import COMMAND, TableOptions


def table_command(table: TableSource, out: Path, given: Mapping[str, Any]) -> BoundResult:
    """Everything that `tailbound bound --from-table` does; `given` are options by name.

    They are those of `TableOptions`. Raises `UsageError` for a table or options that will not do,
    and `ContractMismatchError` where the folder holds something else, before anything is written.
    """
    options = make(TableOptions, given)
    check_place(out)
    with step("reading the table"):
        found = table_of(table)
    document = _manifest(found, table, options)
    manifest.check_manifest(out, document)
    parts = divide_table(found, options)
    if parts.set_aside:
        notice(
            f"there are no training units: {len(parts.train)} calibration units are set aside, and "
            "their predictions fix the design"
        )
    make_folder(out)
    lock = FolderLock(out)
    try:
        with step("calibrating"):
            result = run_table(found, parts, options, out)
        manifest.write_manifest(out, document)
    finally:
        lock.release()
    if result.missing.prompts_stopped:
        notice(
            f"{result.missing.prompts_stopped} calibration units are censored before the design "
            "stops following them, and count as having their event at the next draw: the bound "
            "holds, and may be short"
        )
    return result


def _manifest(table: TimeTable, given: TableSource, options: TableOptions) -> dict[str, Any]:
    """`run.yaml`: what was observed is on no record but the table, so its contract is unknown."""
    names = ("revision", "template", "temperature", "top_p", "top_k", "max_new_tokens", "system")
    contract = SamplingContract.from_dict(
        {
            "target": "table",
            **dict.fromkeys(names),
            "stop_ids": (),
            "stop": (),
            "precision": "unknown",
        }
    )
    path = Path(given) if isinstance(given, (str, PathLike)) else None
    if path == STANDARD_INPUT:
        path = None
    return manifest.full_manifest(
        command=COMMAND,
        contract=contract,
        target=contract.target,
        engine={},
        judge="table",
        judge_id="table",
        threshold=1.0,
        options={
            **options.to_dict(),
            "source": None if path is None else str(path),
            "sha256": None if path is None else hashlib.sha256(path.read_bytes()).hexdigest(),
            "units": len(table),
            "predictions": table.kind,
        },
    )
