"""A run folder as the report reads it: `load_run`, and what is counted where nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.errors import UsageError
from tailbound.runs import scan
from tailbound.runs.layout import MANIFEST
from tailbound.workflows.audit_judge.fresh import fresh_audit
from tailbound.workflows.load import Run, load_run
from tailbound.workflows.summarize.summary import summary_of

if TYPE_CHECKING:
    import polars as pl

    from tailbound.workflows.audit_judge import JudgeAudit
    from tailbound.workflows.summarize.summary import RunSummary

IMPORT = "import"


@dataclass(frozen=True)
class ReportedRun:
    """One run of a report; `name` tells it from the others, `id` in links."""

    run: Run
    name: str
    id: str

    @property
    def command(self) -> str:
        """What made the run."""
        return self.run.command

    @property
    def target(self) -> str:
        """The target as it was named."""
        return str(self.run.manifest.get("target", "–"))

    @property
    def judge(self) -> str:
        """The judge's id."""
        return str(self.run.manifest.get("judge_id") or self.run.manifest.get("judge") or "–")

    @property
    def started(self) -> str:
        """When the run was last started."""
        moment = (self.run.folder / MANIFEST).stat().st_mtime
        return f"{datetime.fromtimestamp(moment):%Y-%m-%d %H:%M}"

    @property
    def threshold(self) -> float | None:
        """Unsafe is a score of at least this; None for a table of times."""
        found = self.run.manifest.get("threshold")
        return None if found is None else float(found)

    @cached_property
    def draws(self) -> int:
        """How many draws are on record, or were used by a bound from a table."""
        import polars as pl

        kept = int(scan(self.run.folder).select(pl.len()).collect().item())
        bound = self.run.bound
        if kept or bound is None:
            return kept
        return sum(one.generated for one in bound.spend.values())

    @cached_property
    def summary(self) -> RunSummary | None:
        """Exact intervals: those on record, else computed for imported draws; nothing is kept."""
        found = self.run.summary
        if found is None and self.command == IMPORT and self.draws:
            found = summary_of(self.run.folder)
        return found

    @cached_property
    def audit(self) -> tuple[JudgeAudit | None, str | None]:
        """The audit of the judge that may be relied on, else None and why not."""
        return fresh_audit(self.run.folder)

    @cached_property
    def texts(self) -> dict[str, str]:
        """What each prompt says, by its id; several messages with their roles."""
        held = self.run.prompts.select("id", "messages").rows()
        return {name: _text(messages) for name, messages in held if messages is not None}

    @cached_property
    def groups(self) -> dict[str, str]:
        """The group of each prompt that has one, by its id."""
        held = self.run.prompts.select("id", "group").rows()
        return {name: group for name, group in held if group is not None}

    def stream(self, name: str, *columns: str) -> pl.DataFrame:
        """Some columns of the draws of one stream by the target itself, by prompt and index."""
        import polars as pl

        return (
            scan(self.run.folder)
            .filter((pl.col("stream") == name) & pl.col("proposal").is_null())
            .select(*columns)
            .sort("prompt_id", "index")
            .collect()
        )


def _text(messages: str) -> str:
    found = [(str(role), str(text)) for role, text in json.loads(messages)]
    if len(found) == 1:
        return found[0][1]
    return " ".join(f"[{role}] {text}" for role, text in found)


def reported(folders: Sequence[Path]) -> tuple[ReportedRun, ...]:
    """Each run, named by its folder, or by as much of its path as tells it from the others.

    Raises `UsageError` where a folder is no run, or stands twice.
    """
    if not folders:
        raise UsageError("name at least one run folder")
    places = [folder.resolve() for folder in folders]
    for place in places:
        if places.count(place) > 1:
            raise UsageError(f"{place} is named twice: name each run once")
    deepest = max(len(place.parts) for place in places)
    names = [place.name for place in places]
    for depth in range(1, deepest + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    return tuple(
        ReportedRun(load_run(folder), name, f"run-{number}")
        for number, (folder, name) in enumerate(zip(folders, names, strict=True), start=1)
    )
