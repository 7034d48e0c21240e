"""What an export wrote, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tailbound.workflows.export.selection import ExportedStratum, draws_where
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportResult(Result):
    """A file that was written, and which draws of the run it holds.

    `strata` count them by stream, by what was sampled (the target, or a proposal), and by verdict;
    `warnings` are what a reader of the file must know.
    """

    file: str
    format: str
    run: str
    prompts: int
    strata: tuple[ExportedStratum, ...]
    warnings: tuple[str, ...]

    @property
    def draws(self) -> int:
        """Draws of the run."""
        return draws_where(self.strata)[0]

    @property
    def exported(self) -> int:
        """Draws in the file."""
        return draws_where(self.strata)[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "schema": SCHEMA,
            "file": self.file,
            "format": self.format,
            "run": self.run,
            "prompts": self.prompts,
            "draws": self.draws,
            "exported": self.exported,
            "strata": [asdict(one) for one in self.strata],
            "warnings": list(self.warnings),
        }

    def facts(self) -> dict[str, object]:
        """Where the file is, and how much of the run it holds."""
        return {
            "file": self.file,
            "draws": self.draws,
            "exported": self.exported,
            **{
                f"{said} draws": "{1:,} of {0:,}".format(*draws_where(self.strata, said=said))
                for said in ("unsafe", "safe", "missing")
            },
        }

    def frame(self) -> pl.DataFrame:
        """One row per stratum."""
        import polars as pl

        schema: dict[str, Any] = {
            "stream": pl.String,
            "weighted": pl.Boolean,
            "said": pl.String,
            "draws": pl.Int64,
            "exported": pl.Int64,
        }
        return pl.DataFrame([asdict(one) for one in self.strata], schema=schema)
