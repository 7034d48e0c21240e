"""The audit of the judge, made again from its sample and its labels."""

from __future__ import annotations

from tailbound.runs.layout import AUDITED, JUDGE_AUDIT, SAMPLE
from tailbound.workflows.audit_judge.correcting import audit_of
from tailbound.workflows.audit_judge.result import read_audit
from tailbound.workflows.audit_judge.sample import read_sample
from tailbound.workflows.verify.compare import differences
from tailbound.workflows.verify.findings import Findings


def check_judge_audit(findings: Findings) -> None:
    """`judge-audit.json`, where there is one, from `judge-audit/sample.json` and its labels."""
    folder = findings.folder
    if not (folder / AUDITED).is_file():
        return
    with findings.recomputing(folder, AUDITED):
        held, sample = read_audit(folder), read_sample(folder)
        assert held is not None
        if sample is None or sample.id != held.made_with.sample:
            findings.not_recomputed(AUDITED, "its sample was replaced by a later one")
            return
        labels = {one.row: one.unsafe for one in held.labels}
        found = audit_of(folder, sample, labels, held.made_with, confidence=held.confidence)
        recorded, again = held.to_dict(), found.to_dict()
        aside = ("folder", "warnings")  # of the call, and of the draws that were there then
        unequal = differences(
            {name: value for name, value in recorded.items() if name not in aside},
            {name: value for name, value in again.items() if name not in aside},
            tolerance=findings.tolerance,
            place="",
        )
        findings.compare(AUDITED, list(unequal), against=f"{JUDGE_AUDIT}/{SAMPLE} and the labels")
