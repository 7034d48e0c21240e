"""Where monitoring stands, against the audited values and against itself.

Outcomes of production are kept nowhere, so the e-processes cannot be computed again. What they are
compared with, how the evidence is shared, and what follows from the units can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from tailbound.monitoring import Unit, total
from tailbound.runs.layout import MONITOR
from tailbound.workflows.monitor.command import shares_of
from tailbound.workflows.monitor.references import find_reference
from tailbound.workflows.monitor.state import MonitorResult, read_monitor
from tailbound.workflows.verify.compare import differences
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.result import Difference


def check_monitor(findings: Findings) -> None:
    """`monitor.json`, where there is one."""
    if not (findings.folder / MONITOR).is_file():
        return
    with findings.recomputing(findings.folder, MONITOR):
        state = read_monitor(findings.folder)
        assert state is not None
        against = "the audited values, and what follows from its units"
        findings.compare(MONITOR, list(_differences(findings, state)), against=against)
        findings.not_recomputed(f"{MONITOR} (outcomes)", "outcomes of production are not kept")


def _differences(findings: Findings, state: MonitorResult) -> Iterator[Difference]:
    reference = find_reference(findings.folder, reference=state.reference, margin=state.margin)
    units = {one.name: one for one in state.units if one.kind == "overall"}
    processes = {
        (one.kind, one.name): Unit(process=one.process, share=one.share) for one in state.units
    }
    follows = {
        "statement": (state.statement, reference.statement),
        "shares": (asdict(state.shares), asdict(shares_of(reference, state.by))),
        "e_value": (state.e_value, total(processes, state.alpha)),
    }
    for name, (recorded, found) in follows.items():
        yield from differences(recorded, found, tolerance=findings.tolerance, place=name)
    for name in ("draws", "unsafe", "missing"):
        counted, most = sum(getattr(one, name) for one in units.values()), getattr(state, name)
        if counted > most:
            yield Difference(place=name, recorded=most, found=f"{counted} in all units together")
    if state.alarm is None and state.e_value >= 1 / state.alpha:
        yield Difference(place="alarm", recorded=None, found=f"evidence of {state.e_value:.4g}")
