"""What the page says: one module per section, each from a run to plain values.

A section of one run is a function in `OF_A_RUN` that returns None where the run holds nothing to
say: a new kind of result is a new module and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tailbound.workflows.report.page import Page, RunPart, Section
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.report.sections import (
    answers,
    comparison,
    coverage,
    examples,
    forecast,
    judge_error,
    manifest,
    method,
    per_prompt,
    sensitivity,
    spend,
    survival,
    weights,
)
from tailbound.workflows.words import plural

OF_A_RUN: tuple[Callable[[ReportedRun], Section | None], ...] = (
    survival.section,
    coverage.section,
    weights.section,
    judge_error.section,
    forecast.section,
    sensitivity.section,
    spend.section,
    manifest.section,
)


def page_of(runs: Sequence[ReportedRun], *, show_unsafe: bool, made: str) -> Page:
    """The page about `runs`; `made` says when and by what. Unsafe responses only where asked."""
    asked = (*OF_A_RUN[:-1], examples.section, OF_A_RUN[-1]) if show_unsafe else OF_A_RUN
    return Page(
        title="How rarely it misbehaves: " + ", ".join(dict.fromkeys(run.target for run in runs)),
        subtitle=f"{plural(len(runs), 'run')}: {', '.join(run.name for run in runs)}. {made}",
        answers=answers.section(runs),
        prompts=(*comparison.sections(runs), *per_prompt.sections(runs)),
        runs=tuple(
            RunPart(
                id=run.id,
                name=run.name,
                subtitle=f"tailbound {run.command}: {run.target}, judged by {run.judge}",
                sections=tuple(part for ask in asked if (part := ask(run)) is not None),
            )
            for run in runs
        ),
        method=method.section(runs),
    )
