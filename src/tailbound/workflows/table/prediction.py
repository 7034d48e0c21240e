"""The calibrated bound for new units of a table."""

from __future__ import annotations

from pathlib import Path

from tailbound.errors import UsageError
from tailbound.runs.manifest import read_manifest
from tailbound.workflows.bound.prediction import PredictedBound
from tailbound.workflows.bound.results import read_bounds, read_recalibration
from tailbound.workflows.table.reading import TableSource, table_of


def predict_table(folder: Path, given: TableSource) -> tuple[PredictedBound, ...]:
    """The bound of each unit of a table with the predictions that the run in `folder` used.

    `p_hat` of a `PredictedBound` is the number of predicted events per draw, recalibrated as in the
    run. Raises `UsageError`
    where the predictions are of another kind: calibrated is the predictor, not the table.
    """
    bound, *others = (one.bound for one in read_bounds(folder))
    units = table_of(given, new=True)
    held = read_manifest(folder)["options"].get("predictions")
    if units.kind != held:
        raise UsageError(
            f"the bound in {folder} was calibrated with {held}, and {units.source} has "
            f"{units.kind}: give predictions of the same predictor"
        )
    units = units.recalibrated(read_recalibration(folder))
    predicted = units.predicted
    limits, risk = bound.predict(predicted), units.risk()
    shorter = {f"{one.alpha:.10g}": one.predict(predicted) for one in others}
    return tuple(
        PredictedBound(
            id=name,
            lower_bound=int(limits[row]),
            p_hat=float(risk[row]),
            unfamiliar=False,
            at_alpha={alpha: int(values[row]) for alpha, values in shorter.items()},
        )
        for row, name in enumerate(units.ids)
    )
