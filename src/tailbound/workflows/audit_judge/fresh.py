"""The audit of the judge, where it is one of the run as it is now."""

from __future__ import annotations

from pathlib import Path

from tailbound.runs.history import seals_of
from tailbound.runs.manifest import read_manifest
from tailbound.workflows.audit_judge.bounds import before_bounds
from tailbound.workflows.audit_judge.result import NAME, JudgeAudit, read_audit
from tailbound.workflows.in_use import stale


def fresh_audit(folder: Path) -> tuple[JudgeAudit | None, str | None]:
    """The audit of a run that may be relied on, else None and why not; (None, None) for none.

    Its sample must be from all draws of the run, under its judge, threshold and contract. Raises
    `LedgerError` for damage.
    """
    audit = read_audit(folder)
    if audit is None:
        return None, None
    found = stale(folder, NAME)
    if found is not None:
        return None, found.why
    if audit.rests_on != seals_of(folder):
        return None, (
            "draws were added since the sample of judge-audit.json was drawn: repeat "
            "tailbound audit-judge first"
        )
    own = float(read_manifest(folder)["threshold"])
    if audit.recorded_threshold != own:
        return None, (
            f"judge-audit.json takes scores of at least {audit.recorded_threshold:g} as unsafe, "
            f"the run those of at least {own:g}: repeat it without --recorded-threshold"
        )
    if audit.bounds is not None:
        now = before_bounds(folder)
        if now is None or now[0].bounds != audit.bounds.sampled.bounds:
            return None, (
                "the bounds have changed since judge-audit.json was made: repeat "
                "tailbound audit-judge first"
            )
    return audit, None
