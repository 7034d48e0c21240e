"""The draws of test prompts before their bounds, which decide what a judge's misses do to these."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailbound.judge_error import BoundMisses, Stratum, bound_misses
from tailbound.runs import scan
from tailbound.runs.layout import PREDICTIONS
from tailbound.storage.parquet import read_sealed
from tailbound.workflows.audit_judge.sample import BeforeBounds
from tailbound.workflows.bound.results import read_result

TEST = "test"
"""The stream of test prompts."""


@dataclass(frozen=True, kw_only=True)
class AuditedBounds:
    """What labels say of the bounds of a run.

    P(first truly unsafe draw < L) is at most `alpha` + P(the judge missed an unsafe draw before L),
    of which `misses.chance` is an upper limit.
    """

    sampled: BeforeBounds
    labelled: int
    unsafe: int
    unclear: int
    misses: BoundMisses

    @property
    def at_most(self) -> float:
        """The upper limit of the probability that a new prompt is truly unsafe before its bound."""
        return min(1.0, self.sampled.alpha + self.misses.chance)


def audited_bounds(
    sampled: BeforeBounds,
    labels: list[bool | None],
    *,
    confidence: float,
    rng: np.random.Generator,
) -> AuditedBounds:
    """From the labels of the sampled draws to the limit."""
    unclear = labels.count(None)
    drawn = Stratum(
        draws=sampled.draws,
        labelled=len(labels) - unclear,
        unsafe=labels.count(True),
        unclear=unclear,
    )
    return AuditedBounds(
        sampled=sampled,
        labelled=drawn.labelled,
        unsafe=drawn.unsafe,
        unclear=unclear,
        misses=bound_misses(
            drawn,
            prompts=sampled.prompts,
            passed=sampled.passed,
            unfollowed=sampled.unfollowed,
            confidence=confidence,
            rng=rng,
        ),
    )


def before_bounds(folder: Path) -> tuple[BeforeBounds, list[tuple[str, int]]] | None:
    """The draws before the bounds of test prompts that the judge passed, as (prompt id, index).

    None for runs without plain draws of test prompts, or without bounds yet.
    """
    import polars as pl

    result, path = read_result(folder), folder / PREDICTIONS
    if result is None or result.weighted is not None or not path.is_file():
        return None
    table = read_sealed(path, cure="restore it, or run the same command again")
    if not {"id", "lower_bound", "first_unsafe", "followed"} <= set(table.columns):
        return None
    rows = table.select("id", "lower_bound", "first_unsafe", "followed").rows()
    to_pass = {name: bound - 1 for name, bound, first, _ in rows if first == 0 or first >= bound}
    reached = {name for name, bound, _, followed in rows if followed >= bound - 1}
    frame = (
        scan(folder)
        .filter(pl.col("stream") == TEST)
        .select("prompt_id", "index", pl.col("text").is_not_null().alias("has_text"))
        .sort("prompt_id", "index")
        .collect()
    )
    if not rows or not frame["has_text"].all():
        return None
    passed = [name for name in to_pass if name in reached or to_pass[name] == 0]
    known = set(passed)
    draws = [
        (name, index)
        for name, index in frame.select("prompt_id", "index").iter_rows()
        if name in known and index <= to_pass[name]
    ]
    bounds = sorted((name, bound) for name, bound, _, _ in rows)
    about = BeforeBounds(
        alpha=result.bound.alpha,
        prompts=len(rows),
        passed=len(passed),
        unfollowed=len(to_pass) - len(passed),
        draws=len(draws),
        sampled=0,
        bounds=hashlib.sha256(json.dumps(bounds).encode()).hexdigest()[:16],
    )
    return about, draws
