"""What a report says in short, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ReportAnswer:
    """One answer of the page: of which run, to which question, with its guarantee."""

    run: str
    question: str
    answer: str
    guarantee: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class Report(Result):
    """A report that was written: `files` are the page first, then its figures where they stand
    beside it; `prompts` the rows of its tables."""

    files: tuple[str, ...]
    format: str
    runs: tuple[str, ...]
    prompts: int
    answers: tuple[ReportAnswer, ...]

    @property
    def path(self) -> str:
        """The page itself."""
        return self.files[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "schema": SCHEMA,
            "files": list(self.files),
            "format": self.format,
            "runs": list(self.runs),
            "prompts": self.prompts,
            "answers": [{**vars(one), "warnings": list(one.warnings)} for one in self.answers],
        }

    def facts(self) -> dict[str, object]:
        """Where the page is, and its answers."""
        found: dict[str, object] = {"file": self.path, "runs": len(self.runs)}
        for one in self.answers:
            found[f"{one.run}: {one.question}"] = one.answer
        return found

    def frame(self) -> pl.DataFrame:
        """The answers, one row each."""
        import polars as pl

        names = ("run", "question", "answer", "guarantee")
        rows = [[getattr(one, name) for name in names] for one in self.answers]
        return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
