"""The predicted risks that a bound rests on, on record: with them it follows from the draws alone.

    DIR/p_hat.parquet    id, part (train, calibration, test), p_hat; label, where a column of the
                         prompts names the groups that are calibrated; given, the p_hat of the
                         user's own, where it was recalibrated

Predicting takes the model; that of training prompts is out of fold: predicted by what was fitted on
the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from tailbound.runs.layout import P_HAT
from tailbound.storage.documents import understood
from tailbound.storage.parquet import read_sealed, write_sealed
from tailbound.workflows.bound.parts import PromptSplit

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

_CURE = "restore it, or run the same command again to make it again"


def write_p_hat(
    folder: Path,
    parts: PromptSplit,
    *,
    train: NDArray[np.float64],
    calibration: NDArray[np.float64],
    test: NDArray[np.float64],
    recalibrated: bool = False,
) -> None:
    """Write the p_hat of every prompt of `parts`, in their order; each array is (prompts,).

    With `recalibrated`, what the user gave stands beside it.
    """
    import polars as pl

    values = {"train": train, "calibration": calibration, "test": test}
    rows = [
        (prompt.id, part, p)
        for part, prompts in parts.by_name().items()
        for prompt, p in zip(prompts, values[part].tolist(), strict=True)
    ]
    schema = {"id": pl.String, "part": pl.String, "p_hat": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    if parts.labels:
        labels = [parts.labels[name] for name in frame["id"]]
        frame = frame.with_columns(pl.Series("label", labels, dtype=pl.String))
    if recalibrated:
        given = [parts.supplied[name] for name in frame["id"]]
        frame = frame.with_columns(pl.Series("given", given, dtype=pl.Float64))
    write_sealed(folder / P_HAT, frame)


def read_p_hat(folder: Path) -> dict[str, float]:
    """The p_hat of every prompt by its id; raises as `p_hat_table` does."""
    return dict(p_hat_table(folder).select("id", "p_hat").iter_rows())


def given_p_hat(folder: Path) -> dict[str, float]:
    """The p_hat of the user's own by prompt id, before any recalibration."""
    table = p_hat_table(folder)
    column = "given" if "given" in table.columns else "p_hat"
    return dict(table.select("id", column).iter_rows())


def p_hat_table(folder: Path) -> pl.DataFrame:
    """What was written, in its order; raises `LedgerError` where the file is missing or damaged."""
    path = folder / P_HAT
    frame = read_sealed(path, cure=_CURE)
    with understood(path, cure=_CURE):
        for name in ("id", "part", "p_hat"):
            if name not in frame.columns:
                raise KeyError(name)
    return frame
