"""A bound from a table, made again from the table on record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailbound.runs.layout import BOUND, EVALUATION, PREDICTIONS, SPEND, TABLE
from tailbound.storage.seal import is_sealed
from tailbound.workflows.table.job import divide_table, options_of_run, read_table, run_table
from tailbound.workflows.verify.findings import BROKEN_SEAL, Findings


def check_table(findings: Findings, manifest: Mapping[str, Any], copy: Path) -> None:
    """Every file of results of `tailbound bound --from-table`, made again in `copy`."""
    folder = findings.folder
    if not (folder / TABLE).is_file():
        findings.missing(TABLE, "the table that the bound rests on: restore it")
        for name in (BOUND, EVALUATION, PREDICTIONS, SPEND):
            findings.not_recomputed(name, f"{TABLE} is missing")
        return
    sound = is_sealed((folder / TABLE).read_bytes())
    findings.compare(TABLE, () if sound else (BROKEN_SEAL,), against="its checksum")
    names = (BOUND, EVALUATION, SPEND)
    with findings.recomputing(copy, *names, PREDICTIONS):
        (copy / TABLE).unlink()  # a link to the record, which is not written to
        table, options = read_table(folder), options_of_run(manifest["options"])
        run_table(table, divide_table(table, options), options, copy)
        for name in names:
            only = ("streams",) if name == SPEND else None
            findings.document(name, copy, against=TABLE, only=only)
        if (copy / PREDICTIONS).is_file():
            findings.table(PREDICTIONS, copy, against=TABLE)
        elif (folder / PREDICTIONS).is_file():
            findings.differs(PREDICTIONS, f"{TABLE} has no test units")
