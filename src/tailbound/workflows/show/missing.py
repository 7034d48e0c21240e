"""What keeps the results of a run from being complete, and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailbound.runs.layout import NEW_PROMPTS
from tailbound.workflows.show.result import StreamState
from tailbound.workflows.table.settings import COMMAND as TABLE_COMMAND

_MOST = 100
"""More draws than so many times those there are nobody is told to make."""


def missing_of(
    manifest: Mapping[str, Any],
    documents: Mapping[str, Any],
    streams: Sequence[StreamState],
    *,
    stale: Sequence[str],
) -> tuple[str, ...]:
    """One line for each thing; `documents` are results by name, `stale` files older than draws."""
    return (
        *_unfinished(manifest, documents, streams),
        *_verdicts(streams),
        *_bound(documents.get("bound")),
        *_risk(documents.get("risk")),
        *(f"{file} does not count all draws: some were added since" for file in stale),
    )


def next_step(
    manifest: Mapping[str, Any],
    documents: Mapping[str, Any],
    place: Path,
    *,
    stale: Sequence[str],
) -> str:
    """The command that brings on the run in the folder `place`."""
    command, folder = str(manifest["command"]), shlex.quote(str(place))
    name = result_of(command)
    word = "bound" if command == TABLE_COMMAND else command
    again = f"tailbound {word}{_prompts(manifest)} --config {folder}/run.yaml --out {folder}"
    if name is not None and (name not in documents or f"{name}.json" in stale):
        return again
    if command == "risk":
        needed = _needed(manifest, documents["risk"])
        if needed is not None:
            return again.replace("run.yaml ", f"run.yaml --draws {needed} ")
    if name is None and ("summary" not in documents or "summary.json" in stale):
        return f"tailbound summarize {folder}"
    if name == "bound":
        new = place.parent / NEW_PROMPTS  # a demo has some to try
        return f"tailbound predict {folder} {shlex.quote(str(new)) if new.is_file() else 'PROMPTS'}"
    if "forecast" not in documents or "forecast.json" in stale:
        return f"tailbound forecast {folder}"
    return f"tailbound verify {folder}"


def _prompts(manifest: Mapping[str, Any]) -> str:
    """A place for the prompts, where `run.yaml` does not say where to read them."""
    if manifest["command"] == TABLE_COMMAND:
        return ""
    source = str(manifest["options"].get("prompts", ""))
    named = source.startswith("hf-dataset:") or (bool(source) and Path(source).is_file())
    return "" if named else " PROMPTS"


def result_of(command: str) -> str | None:
    """The result that the command ends with; None for imported draws, which are one."""
    return {"bound": "bound", TABLE_COMMAND: "bound", "risk": "risk"}.get(command)


def _unfinished(
    manifest: Mapping[str, Any], documents: Mapping[str, Any], streams: Sequence[StreamState]
) -> Iterator[str]:
    name = result_of(str(manifest["command"]))
    if name is not None and name not in documents:
        held = sum(one.draws for one in streams)
        yield f"no {name} in use: the run is not finished ({held:,} draws are on record)"
    elif name is None and not streams:
        yield "no draws"


def _verdicts(streams: Sequence[StreamState]) -> Iterator[str]:
    lost, every = (sum(getattr(one, field) for one in streams) for field in ("missing", "draws"))
    if lost:
        yield (
            f"{lost:,} of {every:,} draws have no verdict (tailbound rejudge --only-missing asks "
            "another judge)"
        )


def _bound(document: Mapping[str, Any] | None) -> Iterator[str]:
    if document is None:
        return
    stopped = document["missing"]["prompts_stopped"]
    if stopped:
        yield f"{stopped:,} calibration prompts stopped at a missing verdict, counted as unsafe"
    if document["evaluation"] is None:
        yield "no test prompts were followed: coverage is not checked"
        return
    overall = document["evaluation"]["overall"]
    if overall["unresolved"]:
        yield (
            f"{overall['unresolved']:,} of {overall['prompts']:,} test prompts were censored "
            "before L - 1 draws: their coverage is a bracket (--test-draws)"
        )


def _risk(document: Mapping[str, Any] | None) -> Iterator[str]:
    if document is None:
        return
    rows = document["prompts"]
    open_ = sum(not row["resolved"] for row in rows)
    if open_:
        yield f"{open_:,} of {len(rows):,} prompts are not resolved"
    if document["set"]["interval"] is None:
        why = document["set"]["guarantee"].partition(": ")[2].partition(": treats")[0]
        yield f"the mean risk has no interval: {why}"


def _needed(manifest: Mapping[str, Any], document: Mapping[str, Any]) -> int | None:
    """Draws per prompt that would about resolve the rest; None where more would not do."""
    draws = manifest["options"].get("draws")
    needed = [row["needed_draws"] for row in document["prompts"] if not row["resolved"]]
    known = [one for one in needed if one is not None]
    if not isinstance(draws, int) or not known or max(known) <= draws:
        return None
    return max(known) if max(known) <= _MOST * draws else None
