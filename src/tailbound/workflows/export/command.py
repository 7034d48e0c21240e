"""`export` from its arguments to the file that it writes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tailbound.core.extras import require
from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.errors import UsageError
from tailbound.runs.identity import read_identity
from tailbound.runs.layout import EXPORT, RISK
from tailbound.runs.prompts import load_prompts
from tailbound.storage.files import make_folder, refusals, write_durably
from tailbound.workflows.export.inspect_log import ExportedRun, log_of
from tailbound.workflows.export.result import ExportResult
from tailbound.workflows.export.selection import Selection, draws_where, select_draws
from tailbound.workflows.export.settings import ExportOptions
from tailbound.workflows.import_.inspect_log import EXPORT_MARK
from tailbound.workflows.load import Run, load_run
from tailbound.workflows.show import show_folder
from tailbound.workflows.summarize.summary import RunSummary, summary_of
from tailbound.workflows.table.settings import COMMAND as TABLE_COMMAND


def export_command(folder: Path, given: Mapping[str, Any]) -> ExportResult:
    """Everything that `tailbound export` does; `given` are options of `ExportOptions` by name.

    Raises `UsageError` for what is no run or has no draws, and for a file to write that is
    something else than an earlier export; `MissingExtraError` without `inspect_ai`; `LedgerError`
    where a file of the run is damaged.
    """
    asked = make(ExportOptions, given)
    require("exporting to Inspect", "inspect")
    run = load_run(folder)
    if run.command == TABLE_COMMAND:
        raise UsageError(f"{folder} holds a bound from a table: it has no draws to export")
    out = asked.out or folder / EXPORT
    _check_place(out)
    with step("selecting draws"):
        selection = select_draws(
            folder, float(run.manifest["threshold"]), safe=asked.safe, seed=asked.seed
        )
    with step("computing intervals"):
        exported = _exported(run, selection, asked)
    with step("writing the log"):
        _write(exported, out)
    return ExportResult(
        file=str(out),
        format=asked.to,
        run=str(folder),
        prompts=len(selection.prompt_streams),
        strata=selection.strata,
        warnings=exported.warnings,
    )


def _exported(run: Run, selection: Selection, asked: ExportOptions) -> ExportedRun:
    folder = run.folder
    return ExportedRun(
        folder=folder.resolve(),
        manifest=run.manifest,
        run_id=read_identity(folder).run_id,
        messages={name: one.messages for name, one in load_prompts(folder).items()},
        selection=selection,
        weights=_weights(run),
        summary=_summary(folder, asked),
        bound=run.bound,
        risk=run.risk,
        warnings=tuple(_warnings(run, selection)),
        options={"safe": asked.safe, "seed": asked.seed},
    )


def _summary(folder: Path, asked: ExportOptions) -> RunSummary:
    ks = tuple(sorted(set(asked.k)))
    return summary_of(folder, ks=ks, confidence=asked.confidence)


def _weights(run: Run) -> dict[tuple[str, int], float]:
    if not (run.folder / RISK).is_file():
        return {}
    return {(str(row["id"]), int(row["draw"])): float(row["weight"]) for row in run.review}


def _warnings(run: Run, selection: Selection) -> Iterator[str]:
    """What a reader of the log must know; the first line is about every log."""
    counts = {
        said: draws_where(selection.strata, said=said) for said in ("unsafe", "safe", "missing")
    }
    (unsafe, _), (safe, some), (lost, few) = counts.values()
    kept = "all" if some == safe else f"a random {some:,} of"
    found = "no unsafe draw, as the run has none,"
    if unsafe:
        found = "the one unsafe draw" if unsafe == 1 else f"all {unsafe:,} unsafe draws"
    line = f"this log has {found} and {kept} {safe:,} safe ones"
    if lost:
        line += f", and {few:,} of {lost:,} without a verdict"
    yield f"{line}: the share of unsafe samples is not a rate. Metrics are those of the whole run"
    weighted, held = draws_where(selection.strata, weighted=True)
    if weighted:
        yield (
            f"{weighted:,} draws ({held:,} of them in this log) come from proposals, which are "
            "made to be unsafe, and not from the target alone: their samples are marked 'weighted' "
            "and have a scorer of their own"
        )
    for one in show_folder(run.folder).runs:
        yield from one.missing


def _check_place(out: Path) -> None:
    """Raise `UsageError` where `out` is something else than a log that was exported earlier."""
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder: name a file, such as {out / EXPORT}")
    if out.suffix != ".eval":
        raise UsageError(f"--out {out} must end in .eval, by which Inspect finds its logs")
    if out.exists() and out.stat().st_size and not _is_export(out):
        raise UsageError(f"{out} exists and is not an earlier export: name another file")


def _is_export(path: Path) -> bool:
    from inspect_ai.log import read_eval_log

    try:
        log = read_eval_log(str(path), header_only=True, format="eval")
    except Exception:  # whatever zip, JSON and pydantic raise for a foreign file
        return False
    return EXPORT_MARK in (log.eval.metadata or {})


def _write(run: ExportedRun, out: Path) -> None:
    """Let Inspect write the log elsewhere, then put it in place in full."""
    from inspect_ai.log import write_eval_log

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "log.eval"
        with refusals(made):
            write_eval_log(log_of(run), str(made), format="eval")
        make_folder(out.parent)
        write_durably(out, lambda temporary: shutil.copyfile(made, temporary))
