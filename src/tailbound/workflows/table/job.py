"""From a table of times to a bound, and its files: pure in the table, the options and the seed.

The table is complete data, or right-censored. A calibration unit that is censored before the
horizon that the design asks for counts as having its event at the next draw: T is replaced by the
earlier min(T, C + 1), so that a bound below it is one below T as well, and the guarantee needs no
assumption about why units were censored. What the bound would be if none of them had its event is
the other end of a bracket, as for missing verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt
from tailbound.errors import UnreachableError, UsageError
from tailbound.prompts.splits import one_per_group, split
from tailbound.runs.layout import BOUND, EVALUATION, PREDICTIONS, SPEND, TABLE
from tailbound.storage.parquet import read_sealed, write_sealed
from tailbound.survival import (
    MAX_TIME,
    CalibrationRecord,
    LowerPredictiveBound,
    bound_at,
    calibrate_with_record,
    evaluate,
)
from tailbound.survival.calibration import aside_size
from tailbound.workflows.bound.recalibration import (
    LEAST_UNITS,
    Recalibration,
    recalibration_of,
)
from tailbound.workflows.bound.results import (
    BoundAtAlpha,
    BoundResult,
    MissingVerdicts,
    StreamSpend,
    median,
    write_results,
)
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.table.reading import PARTS, TimeTable, table_of
from tailbound.workflows.table.settings import TableOptions

RESULTS = (BOUND, EVALUATION, PREDICTIONS, SPEND)
"""What `run_table` writes besides the table itself."""
_CURE = "restore it, or run the same command again to make it again"


@dataclass(frozen=True, eq=False)
class TableSplit:
    """The rows of each part, and how far anybody was followed.

    With `set_aside` the training units were taken from the calibration units.
    """

    train: NDArray[np.intp]
    calibration: NDArray[np.intp]
    test: NDArray[np.intp]
    follow_up: int
    set_aside: bool = False

    def needed(self, followed: int) -> int:
        """Calibration units in all from which on so many can be followed."""
        if not self.set_aside:
            return followed
        return next(n for n in count(followed) if n - aside_size(n) >= followed)


class _Follow:
    """`observe` of a calibration: looks up what the table says of its calibration units."""

    def __init__(self, table: TimeTable, *, after_censoring: bool = True) -> None:
        assert table.time is not None
        assert table.event is not None
        # Censored after C draws: no event is known of, and T is at least C + 1, or never comes.
        unseen = table.time + 1 if after_censoring else MAX_TIME
        self.time = np.where(table.event, table.time, unseen)
        self.censored = ~table.event

    def __call__(self, indices: NDArray[np.int64], horizons: NDArray[np.int64]) -> Any:
        found = self.time[indices]
        return np.where(found <= horizons, found, 0)


def divide_table(table: TimeTable, options: TableOptions) -> TableSplit:
    """Which units do what: as the table says, or by the hash of (seed, group or id).

    Calibration and test hold one unit of each group. Where the guarantee asks for a design that is
    fixed in advance and there are no training units, some calibration units are set aside for it,
    as `calibrate` does. Raises `UsageError` where there are too few.
    """
    assert table.time is not None
    units = [
        Prompt(id=name, messages=(), group=group)
        for name, group in zip(table.ids, table.groups, strict=True)
    ]
    if table.part is None:
        parts: tuple[tuple[Prompt, ...], ...] = split(
            units, shares=options.shares, seed=options.seed
        )
    else:
        by_part = list(zip(units, table.part, strict=True))
        parts = tuple(tuple(one for one, mine in by_part if mine == name) for name in PARTS)
        _check_groups(parts)
    train, calibration, test = parts
    calibration = one_per_group(calibration, seed=options.seed)
    set_aside = options.guarantee != "plug-in" and not train
    if set_aside:
        share = aside_size(len(calibration)) / max(len(calibration), 1)
        train, calibration, _ = split(calibration, shares=(share, 1 - share, 0), seed=options.seed)
    place = {name: row for row, name in enumerate(table.ids)}

    def rows(members: tuple[Prompt, ...]) -> NDArray[np.intp]:
        return np.array([place[one.id] for one in members], dtype=np.intp)

    found = TableSplit(
        rows(train),
        rows(calibration),
        rows(one_per_group(test, seed=options.seed)),
        # A cap that rests on the calibration units would not be fixed in advance.
        int(table.time[rows(train)].max() if train else table.time.max()),
        set_aside and bool(train),
    )
    _check_sizes(table, found)
    return found


def _check_groups(parts: tuple[tuple[Prompt, ...], ...]) -> None:
    seen: dict[str, str] = {}
    for name, members in zip(PARTS, parts, strict=True):
        for one in members:
            if one.group is not None and seen.setdefault(one.group, name) != name:
                raise UsageError(
                    f"the group {one.group!r} has units in {seen[one.group]} and in {name}: units "
                    "of one group are not independent, so they must share a part"
                )


def _check_sizes(table: TimeTable, parts: TableSplit) -> None:
    if parts.follow_up < 1:
        who = "nobody" if not len(parts.train) else "none of the training units"
        raise UsageError(f"{who} in {table.source} was followed for a single draw")
    if not len(parts.calibration):
        raise UsageError(
            f"{table.source} has no calibration units: name some in the column split, or give "
            "them a share by --split"
        )


def run_table(
    table: TimeTable, parts: TableSplit, options: TableOptions, folder: Path
) -> BoundResult:
    """Calibrate on `table`, test, and write the results and the table itself to `folder`.

    `parts` come from `divide_table`. Raises `UsageError` and `UnreachableError` where the table is
    too small, before anything is written.
    """
    settings = options.settings(parts.follow_up)
    recalibration = recalibration_by(table.take(parts.train), options)
    given, table = table, table.recalibrated(recalibration)
    calibration = table.take(parts.calibration)
    reference = table.take(parts.train).predicted if len(parts.train) else None
    predicted = calibration.predicted

    def calibrated(follow: _Follow) -> tuple[LowerPredictiveBound, CalibrationRecord]:
        return calibrate_with_record(
            *(predicted, follow),
            budget=settings.budget,
            alpha=settings.alpha,
            guarantee=settings.guarantee,
            delta=settings.delta,
            design=settings.design,
            max_weight=settings.largest_weight(len(calibration)),
            max_level=settings.max_level,
            reference_p_hat=reference,
            max_draws=settings.max_draws,
            max_follow_up=parts.follow_up,
            rng=np.random.default_rng([settings.seed, len(table)]),
        )

    follow = _Follow(calibration)
    bound, record = calibrated(follow)
    if bound.level == 0 and len(calibration) < bound.prompts_needed:
        held = len(calibration) + (len(parts.train) if parts.set_aside else 0)
        aside = " (some are set aside to plan with)" if parts.set_aside else ""
        raise UnreachableError(
            f"the guarantee {bound.guarantee!r} at alpha = {bound.alpha:g} needs at least "
            f"{parts.needed(bound.prompts_needed)} calibration units{aside} to state any bound, "
            f"and {table.source} has {held}: give more, or raise --alpha"
        )
    shorter = [bound_at(bound, record, alpha) for alpha in settings.other_alphas]
    dismissed = follow.censored[record.indices] & (record.first_event > 0)
    longest = bound
    if dismissed.any():  # the other end: none of the censored units ever has its event
        longest, _ = calibrated(_Follow(calibration, after_censoring=False))
    missing = MissingVerdicts(
        prompts_stopped=int(dismissed.sum()),
        median_bound=median(bound.predict(predicted)),
        level_if_safe=longest.level,
        median_if_safe=median(longest.predict(predicted)),
    )
    write_sealed(folder / TABLE, given.frame())
    result = _result(
        *(table, parts, settings, [bound, *shorter], missing, folder),
        made_from=made_with(given, options),
        recalibration=recalibration,
    )
    write_results(folder, result)
    return result


def recalibration_by(train: TimeTable, options: TableOptions) -> Recalibration | None:
    """What p_hat becomes by the times of the training units; None where it stays as it is.

    Raises `UsageError` where it was asked for and cannot be had.
    """
    if options.recalibrate == "off":
        return None
    found = None
    if train.p_hat is not None and train.time is not None and train.event is not None:
        found = recalibration_of(train.p_hat, train.event.astype(np.int64), train.time)
    if found is None and options.recalibrate == "on":
        raise UsageError(
            f"--recalibrate on needs p_hat, and at least {LEAST_UNITS} training units with an "
            "event among them: give more, or leave it out"
        )
    return found


def read_table(folder: Path) -> TimeTable:
    """The table that the bound in `folder` rests on; `LedgerError` where it is damaged."""
    frame = read_sealed(folder / TABLE, cure=_CURE)
    return table_of(frame)


def _result(
    table: TimeTable,
    parts: TableSplit,
    settings: BoundSettings,
    bounds: list[LowerPredictiveBound],
    missing: MissingVerdicts,
    folder: Path,
    *,
    made_from: dict[str, Any],
    recalibration: Recalibration | None,
) -> BoundResult:
    bound, *shorter = bounds
    predicted = table.take(parts.calibration).predicted
    evaluations = _evaluate(table.take(parts.test), bounds, settings, folder)
    return BoundResult(
        bound=bound,
        median_bound=median(bound.predict(predicted)),
        missing=missing,
        predictor=None,
        constant=None,
        evaluation=evaluations[0] if evaluations else None,
        made_with=made_from,
        recalibration=recalibration,
        spend={"calibration": _spend(bound, missing)},
        at_alpha=tuple(
            BoundAtAlpha(
                bound=one,
                median_bound=median(one.predict(predicted)),
                coverage=evaluations[number].overall if evaluations else None,
            )
            for number, one in enumerate(shorter, start=1)
        ),
    )


def made_with(table: TimeTable, options: TableOptions) -> dict[str, Any]:
    """What a bound depends on: options and the table."""
    return {**options.to_dict(), "predictions": table.kind, "prompts": table.digest()}


def _spend(bound: LowerPredictiveBound, missing: MissingVerdicts) -> StreamSpend:
    """Draws that the design used; the event assumed after a censored unit's last draw is none."""
    used = bound.spent - missing.prompts_stopped
    return StreamSpend(prompts=bound.n_selected, generated=used, used=used, tokens=0)


def _evaluate(
    test: TimeTable, bounds: list[LowerPredictiveBound], settings: BoundSettings, folder: Path
) -> list[Any]:
    """Coverage of each bound on the test units, all of their draws used; the first one is kept."""
    if not len(test):
        (folder / PREDICTIONS).unlink(missing_ok=True)
        return []
    assert test.time is not None
    assert test.event is not None
    predicted, risk = test.predicted, test.risk()
    limits = [bound.predict(predicted) for bound in bounds]
    first = np.where(test.event, test.time, 0)
    import polars as pl

    table = pl.DataFrame(
        {
            "id": pl.Series(test.ids, dtype=pl.String),
            "group": pl.Series(test.groups, dtype=pl.String),
            "p_hat": risk,
            "lower_bound": limits[0],
            "first_unsafe": first,
            "followed": test.time,
        }
    )
    write_sealed(folder / PREDICTIONS, table)
    return [
        evaluate(limit, first, test.time, p_hat=risk, cap=bound.cap)
        for bound, limit in zip(bounds, limits, strict=True)
    ]


def options_of_run(options: Mapping[str, Any]) -> TableOptions:
    """The options of a run from its `run.yaml`; raises `UsageError` for others."""
    names = TableOptions.__dataclass_fields__
    plain: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in options.items() if k in names
    }
    return TableOptions(**plain)
