"""What the synthetic study found, as a value: its calibrations, and means over repeats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tailbound.storage.plain import finite, from_plain
from tailbound.workflows.reproduce.synthetic.settings import Method
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
STUDY_NAME = "synthetic"


@dataclass(frozen=True, kw_only=True)
class SyntheticCell:
    """One calibration: coverage, lengths on the test prompts, and cost per calibration prompt.

    `coverage` is P(T >= L), `coverage_beyond` the published P(T > L), both exact for the test
    prompts. `log_mean_bound` is the geometric mean of L, `share_at_cap` the share of prompts whose
    bound the cap of the design cut. `planned` are the draws that the design
    reckons with, `spent` those that the estimate used. `level` is the calibrated quantile level.
    """

    design: str
    guarantee: str
    budget: int
    repeat: int
    coverage: float
    coverage_beyond: float
    mean_bound: float
    median_bound: float
    log_mean_bound: float
    share_at_cap: float
    planned: float
    spent: float
    level: float
    limited_by: str


@dataclass(frozen=True, kw_only=True)
class SyntheticRow:
    """One design at one budget: means over the repeats, and standard deviations among them.

    Standard deviations are None where there is one repeat.
    """

    design: str
    guarantee: str
    budget: int
    repeats: int
    coverage: float
    coverage_sd: float | None
    coverage_beyond: float
    coverage_beyond_sd: float | None
    mean_bound: float
    mean_bound_sd: float | None
    median_bound: float
    log_mean_bound: float
    share_at_cap: float
    planned: float
    spent: float

    @property
    def method(self) -> Method:
        """Design and guarantee."""
        return Method(design=self.design, guarantee=self.guarantee)


def rows_of(cells: Sequence[SyntheticCell]) -> tuple[SyntheticRow, ...]:
    """Means and standard deviations over the repeats, in the order of the cells."""
    keys = dict.fromkeys((one.design, one.guarantee, one.budget) for one in cells)
    return tuple(
        _row([one for one in cells if (one.design, one.guarantee, one.budget) == key])
        for key in keys
    )


def _row(cells: Sequence[SyntheticCell]) -> SyntheticRow:
    first = cells[0]

    def mean(name: str) -> float:
        return float(np.mean([getattr(one, name) for one in cells]))

    def sd(name: str) -> float | None:
        return float(np.std([getattr(c, name) for c in cells], ddof=1)) if cells[1:] else None

    return SyntheticRow(
        design=first.design,
        guarantee=first.guarantee,
        budget=first.budget,
        repeats=len(cells),
        coverage=mean("coverage"),
        coverage_sd=sd("coverage"),
        coverage_beyond=mean("coverage_beyond"),
        coverage_beyond_sd=sd("coverage_beyond"),
        mean_bound=mean("mean_bound"),
        mean_bound_sd=sd("mean_bound"),
        median_bound=mean("median_bound"),
        log_mean_bound=mean("log_mean_bound"),
        share_at_cap=mean("share_at_cap"),
        planned=mean("planned"),
        spent=mean("spent"),
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class SyntheticResult(Result):
    """Everything that the synthetic study found: `cells`, and `rows` that sum them up."""

    options: dict[str, Any]
    versions: dict[str, str]
    rows: tuple[SyntheticRow, ...]
    cells: tuple[SyntheticCell, ...]

    @classmethod
    def of(
        cls,
        cells: Iterable[SyntheticCell],
        *,
        options: Mapping[str, Any],
        versions: Mapping[str, str],
    ) -> SyntheticResult:
        """The result of these calibrations, by method, then budget, then repeat."""
        held = tuple(cells)
        return cls(options=dict(options), versions=dict(versions), rows=rows_of(held), cells=held)

    @property
    def alpha(self) -> float:
        """The miscoverage that was asked for."""
        return float(self.options["alpha"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: what `study.json` holds."""
        plain: dict[str, Any] = finite(
            {
                "schema": SCHEMA,
                "study": STUDY_NAME,
                "options": self.options,
                "versions": self.versions,
                "rows": [asdict(one) for one in self.rows],
                "cells": [asdict(one) for one in self.cells],
            }
        )
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SyntheticResult:
        """Inverse of `to_dict`."""
        return cls(
            options=dict(document["options"]),
            versions=dict(document["versions"]),
            rows=from_plain(tuple[SyntheticRow, ...], document["rows"]),
            cells=from_plain(tuple[SyntheticCell, ...], document["cells"]),
        )

    def facts(self) -> dict[str, object]:
        """What was compared, and the coverage and length of each method at the largest budget."""
        most = max(row.budget for row in self.rows)
        found: dict[str, object] = {
            "study": STUDY_NAME,
            "prompts": self.options["prompts_count"],
            "repeats": self.options["repeats"],
        }
        for row in self.rows:
            if row.budget == most:
                shown = f"coverage {row.coverage:.4f}, mean bound {row.mean_bound:,.0f}"
                found[f"{row.method.name} at {most:,}"] = shown
        return found

    def frame(self) -> pl.DataFrame:
        """One row per design and budget: what `rows` holds."""
        import polars as pl

        floats = {f for f, kind in SyntheticRow.__annotations__.items() if "float" in str(kind)}
        texts = {"design", "guarantee"}
        schema: dict[str, Any] = {
            name: pl.Float64 if name in floats else pl.String if name in texts else pl.Int64
            for name in SyntheticRow.__annotations__
        }
        return pl.DataFrame([asdict(one) for one in self.rows], schema=schema)
