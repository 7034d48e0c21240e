"""What exactly was run: the manifest, in short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tailbound.workflows.report.page import Block, Facts, Paragraph, Section
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.words import count, cut

_LONGEST = 400


def section(run: ReportedRun) -> Section:
    """Target, judge, sampling contract, options and versions, from `run.yaml`."""
    held = run.run.manifest
    facts: list[tuple[str, str]] = [
        ("folder", run.run.folder.resolve().name),
        ("command", f"tailbound {held['command']}"),
        ("last started", run.started),
        ("target", run.target),
        ("judge", run.judge),
    ]
    if run.threshold is not None:
        facts.append(("unsafe", f"score of at least {run.threshold:g}"))
    facts.append(("draws on record", count(run.draws)))
    for name in ("contract", "options", "engine", "versions"):
        value = held.get(name)
        if isinstance(value, Mapping) and value:
            facts.append((name, cut(_words(value), _LONGEST * 4)))
    blocks: list[Block] = [Facts(rows=tuple(facts))]
    blocks += [Paragraph(text=cut(line, _LONGEST), weight="warning") for line in run.run.notices]
    return Section(id=f"{run.id}-manifest", title="Run manifest", blocks=tuple(blocks))


def _words(values: Mapping[str, Any]) -> str:
    """`name: value` of everything that is set."""
    return "; ".join(
        f"{name}: {cut(_word(value), _LONGEST)}"
        for name, value in values.items()
        if value is not None and value != [] and value != {}
    )


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_word(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_word, value))
    return str(value)
