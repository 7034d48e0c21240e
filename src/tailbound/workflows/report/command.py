"""`report` from its arguments to the files that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.errors import UsageError
from tailbound.runs.layout import REPORT
from tailbound.storage.files import check_replaceable, make_folder, write_atomically
from tailbound.workflows.report.page import Browser, Page
from tailbound.workflows.report.reading import ReportedRun, reported
from tailbound.workflows.report.result import Report, ReportAnswer
from tailbound.workflows.report.settings import ReportOptions


def report_command(folders: Sequence[Path], given: Mapping[str, Any]) -> Report:
    """Everything that `tailbound report` does; `given` are options of `ReportOptions` by name.

    Raises `UsageError` for a folder that is no run, and for a file to write that is something else
    than an earlier report; `LedgerError` where a file of a run is damaged.
    """
    asked = make(ReportOptions, given)
    out = _place(folders, asked)
    with step("reading the runs"):
        runs = reported(folders)
        page = _page(runs, asked)
    with step("writing the report"):
        files = _write(page, out, asked)
    return _result(page, runs, files, asked)


def _place(folders: Sequence[Path], asked: ReportOptions) -> Path:
    """Where the page goes, checked before anything is read."""
    name = f"{REPORT}.{asked.format}"
    out = asked.out or (folders[0] / name if len(folders) == 1 else Path(name))
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder: name a file, such as {out / name}")
    from tailbound.workflows.report.html import MARK as HTML
    from tailbound.workflows.report.markdown import MARK as MARKDOWN

    mark = HTML if asked.format == "html" else MARKDOWN
    check_replaceable(out, mark, what="an earlier report of that format")
    return out


def _page(runs: Sequence[ReportedRun], asked: ReportOptions) -> Page:
    from tailbound.workflows.report.sections import page_of

    moment = datetime.now().astimezone()
    made = f"Written {moment:%Y-%m-%d %H:%M %Z} by tailbound {version('tailbound')}."
    return page_of(runs, show_unsafe=asked.show_unsafe, made=made)


def _write(page: Page, out: Path, asked: ReportOptions) -> tuple[Path, ...]:
    """The page, and with Markdown its figures first; returns the files, the page first."""
    make_folder(out.parent)
    if asked.format == "html":
        from tailbound.workflows.report.html import html

        write_atomically(out, html(page))
        return (out,)
    from tailbound.workflows.report.markdown import markdown

    folder = out.with_name(f"{out.stem}-figures")
    text, figures = markdown(page, figures=folder.name)
    if figures:
        make_folder(folder)
    for name, drawing in figures.items():
        write_atomically(folder / name, drawing)
    write_atomically(out, text)
    return (out, *(folder / name for name in figures))


def _result(
    page: Page, runs: Sequence[ReportedRun], files: Sequence[Path], asked: ReportOptions
) -> Report:
    from tailbound.workflows.report.sections.answers import answers_of

    return Report(
        files=tuple(map(str, files)),
        format=asked.format,
        runs=tuple(run.name for run in runs),
        prompts=sum(
            block.total
            for section in page.prompts
            for block in section.blocks
            if isinstance(block, Browser)
        ),
        answers=tuple(
            ReportAnswer(
                run=run.name,
                question=one.question,
                answer=one.sentence,
                guarantee=one.guarantee,
                warnings=one.warnings,
            )
            for run in runs
            for one in answers_of(run)
        ),
    )
