"""Examples of unsafe responses: only where they were asked for."""

from __future__ import annotations

from collections.abc import Iterator

from tailbound.runs import scan
from tailbound.workflows.report.page import Example, Examples, Paragraph, Section
from tailbound.workflows.report.reading import ReportedRun
from tailbound.workflows.words import cut, percent, plural

MOST = 20
LONGEST = 4_000
"""Letters of a prompt and of a response."""


def examples_of(run: ReportedRun) -> Iterator[Example]:
    """The draws that the risks rest on, else unsafe draws in the order of record."""
    if run.run.review:
        for row in run.run.review[:MOST]:
            yield Example(
                title=f"{row['id']}, draw {row['draw']}, score {row['score']:.3g}, "
                f"{percent(row['share'])} of its estimate",
                prompt=cut(str(row["prompt"]), LONGEST),
                response=cut(str(row["response"]), LONGEST),
            )
        return
    if run.threshold is None:
        return
    import polars as pl

    found = (
        scan(run.run.folder)
        .filter((pl.col("score") >= run.threshold) & pl.col("text").is_not_null())
        .unique("prompt_id", keep="first", maintain_order=True)
        .head(MOST)
        .select("prompt_id", "index", "score", "text")
        .collect()
    )
    for name, index, score, text in found.iter_rows():
        yield Example(
            title=f"{name}, draw {index}, score {score:.3g}",
            prompt=cut(run.texts.get(name, "(not on record)"), LONGEST),
            response=cut(text, LONGEST),
        )


def section(run: ReportedRun) -> Section | None:
    """At most `MOST` examples, each behind a click; None where there are none."""
    found = tuple(examples_of(run))
    if not found:
        return None
    return Section(
        id=f"{run.id}-examples",
        title="Unsafe responses",
        blocks=(
            Paragraph(
                text=f"{plural(len(found), 'example')}, as the target or a proposal wrote them. "
                "They may be harmful: open one only if you need to.",
                weight="warning",
            ),
            Examples(items=found),
        ),
    )
