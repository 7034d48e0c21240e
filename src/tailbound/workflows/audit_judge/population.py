"""The draws that a rate is estimated from, and what the run's judge said of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.errors import UsageError
from tailbound.runs.manifest import read_manifest
from tailbound.runs.rounds import first_round
from tailbound.workflows.audit_judge.sample import LeftOut
from tailbound.workflows.rejudge.agreement import FIXED, RISK
from tailbound.workflows.summarize.counting import ordered_draws

if TYPE_CHECKING:
    import polars as pl


def population(folder: Path, threshold: float) -> tuple[pl.DataFrame, tuple[LeftOut, ...], bool]:
    """The draws that a rate is estimated from with what was `said` of them, and those left out.

    Weighted draws of `tailbound risk` also have what they count (`counts`); where there are any,
    they are all that is audited.
    """
    import polars as pl

    every = ordered_draws(folder, pl.col("text").is_not_null().alias("has_text"))
    if every.is_empty():
        raise UsageError(f"{folder} holds no draws: give the --out of a run")
    said = (
        pl.when(~pl.col("has_text"))
        .then(pl.lit("no text"))
        .when(pl.col("score").is_null())
        .then(pl.lit("missing"))
        .when(pl.col("score") >= threshold)
        .then(pl.lit("unsafe"))
        .otherwise(pl.lit("safe"))
    )
    risks = every.filter(pl.col("stream") == RISK)
    if risks["proposal"].is_not_null().any():
        frame, left = _weighted(folder, every, threshold)
        return frame.with_columns(said=said), tuple(left), True
    kept: list[pl.DataFrame] = []
    left = []
    for (stream,), part in sorted(every.partition_by("stream", as_dict=True).items()):
        plain = part.filter(part["proposal"].is_null())
        _leave(left, str(stream), part.height - plain.height, "drawn from a proposal")
        if plain.height and plain["stopping"][0] != FIXED:
            _leave(left, str(stream), plain.height, "stopped at the first unsafe draw")
            continue
        first = first_round(plain, folder) if stream == RISK else plain
        _leave(left, str(stream), plain.height - first.height, "of later rounds")
        kept.append(first)
    frame = pl.concat(kept) if kept else every.clear()
    return frame.with_columns(said=said), tuple(left), False


def _weighted(
    folder: Path, every: pl.DataFrame, threshold: float
) -> tuple[pl.DataFrame, list[LeftOut]]:
    """The draws of `tailbound risk` that count something, with what they count."""
    import polars as pl

    from tailbound.workflows.verify.draw_counts import draw_counts

    own = float(read_manifest(folder)["threshold"])
    if threshold != own:
        raise UsageError(
            f"--recorded-threshold {threshold:g} does not go with weighted draws: they have "
            f"weights for the threshold of the run, {own:g}"
        )
    counts = draw_counts(folder).of
    rows = [
        (RISK, name, index, value)
        for name, values in counts.items()
        for index, value in enumerate(values.tolist(), start=1)
    ]
    schema = {
        "stream": pl.String, "prompt_id": pl.String, "index": pl.Int64, "counts": pl.Float64,
    }  # fmt: skip
    table = pl.DataFrame(rows, schema=schema, orient="row")
    keys = ["stream", "prompt_id", "index"]
    joined = every.join(table, on=keys, how="left").sort(keys)
    left: list[LeftOut] = []
    for (stream,), part in sorted(joined.partition_by("stream", as_dict=True).items()):
        nothing = part.filter(part["counts"].fill_null(0.0) <= 0)
        if stream == RISK:
            _leave(left, RISK, nothing.height, "safe, without a weight on record")
        else:
            _leave(left, str(stream), nothing.height, "beside weighted draws")
    return joined.filter(pl.col("counts") > 0), left


def _leave(left: list[LeftOut], stream: str, draws: int, reason: str) -> None:
    if draws:
        left.append(LeftOut(stream=stream, draws=draws, reason=reason))
