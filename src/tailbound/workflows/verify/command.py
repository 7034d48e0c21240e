"""`verify` from its keyword arguments to its result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.errors import LedgerError, UsageError
from tailbound.runs import layout
from tailbound.runs.manifest import read_manifest
from tailbound.workflows.table.settings import COMMAND as TABLE_COMMAND
from tailbound.workflows.verify.audit_judge import check_judge_audit
from tailbound.workflows.verify.bound import check_bound
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.forecast import check_forecast
from tailbound.workflows.verify.history import check_history
from tailbound.workflows.verify.ledger import check_record
from tailbound.workflows.verify.monitor import check_monitor
from tailbound.workflows.verify.origins import TABLE, check_origins, check_source
from tailbound.workflows.verify.others import check_rejudged, check_summary
from tailbound.workflows.verify.result import Verification
from tailbound.workflows.verify.risk import check_risk
from tailbound.workflows.verify.settings import VerifyOptions
from tailbound.workflows.verify.table import check_table
from tailbound.workflows.verify.working_copy import working_copy

_KEPT: dict[str, str] = {
    layout.NOVELTY: "features of the calibration prompts take the model",
    layout.DIRECTION: "finding a direction takes the model",
    layout.FINETUNED: "training takes the model; its files are compared with their hashes",
    layout.PLUGIN_FEATURES: "the features of a plugin are its own",
    layout.USAGE: "what servers were asked for and paid is on no other record",
    layout.TRUTH: "exact risks take the demo model",
}


def verify_command(folder: Path, given: Mapping[str, Any]) -> Verification:
    """Everything that `tailbound verify` does; `given` are options of `VerifyOptions` by name.

    Raises `UsageError` where `folder` is no run, or its `run.yaml` cannot be read.
    """
    asked = make(VerifyOptions, given)
    try:
        manifest = read_manifest(folder)
    except LedgerError as error:
        raise UsageError(str(error)) from error
    findings = Findings(folder, asked.tolerance)
    command = str(manifest["command"])
    findings.matches(layout.MANIFEST, f"bears its checksum (tailbound {command})")
    if command == TABLE_COMMAND:  # there are no draws: the table is the record
        return _verified_table(findings, manifest)
    with step("reading the record"):
        check_record(findings, manifest)
    with step("computing the results again"), working_copy(folder) as copy:
        if command == "bound":
            check_bound(findings, manifest, copy)
        elif command == "risk":
            check_risk(findings, manifest, copy)
        check_summary(findings, copy)
        check_forecast(findings)
        check_judge_audit(findings)
        check_rejudged(findings, manifest, copy)
        check_monitor(findings)
    check_history(findings)
    with step("comparing with what is on this machine"):
        check_origins(findings, manifest)
    _list_the_rest(findings)
    return _verification(findings, command)


def _verified_table(findings: Findings, manifest: Mapping[str, Any]) -> Verification:
    with step("computing the results again"), working_copy(findings.folder) as copy:
        check_table(findings, manifest, copy)
    check_history(findings)
    check_source(findings, manifest["options"], name=TABLE)
    return _verification(findings, TABLE_COMMAND)


def _verification(findings: Findings, command: str) -> Verification:
    return Verification(
        folder=str(findings.folder),
        command=command,
        tolerance=findings.tolerance,
        checks=tuple(findings.checks),
    )


def _list_the_rest(findings: Findings) -> None:
    """Name what no check above looked at."""
    for name, why in _KEPT.items():
        if (findings.folder / name).exists():
            findings.not_recomputed(name, why)
    if (findings.folder / layout.SPEND).is_file():
        findings.not_recomputed(
            f"{layout.SPEND} (stages)", "the work of past processes is on no other record"
        )
