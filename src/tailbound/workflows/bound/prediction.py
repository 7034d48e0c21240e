"""The calibrated bound for prompts that were never sampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.options import make
from tailbound.core.steps import notice
from tailbound.errors import ContractMismatchError, UsageError
from tailbound.predictors import FittedPredictor, NoveltyDetector
from tailbound.predictors.registry import HIDDEN
from tailbound.prompts import PromptSet, PromptSource, prompt_set
from tailbound.runs import manifest
from tailbound.runs.layout import NOVELTY, PREDICTOR
from tailbound.storage.plain import from_plain
from tailbound.survival import UpperPredictiveBound
from tailbound.targets import Target
from tailbound.workflows.bound.curve import Curve
from tailbound.workflows.bound.features import (
    check_installed,
    chosen_features,
    read_features,
    stored_features,
)
from tailbound.workflows.bound.results import read_bounds, read_curve, read_recalibration, supplied
from tailbound.workflows.opening import report, target_of_run
from tailbound.workflows.result import Result
from tailbound.workflows.settings import PromptOptions
from tailbound.workflows.table.settings import COMMAND as TABLE_COMMAND

if TYPE_CHECKING:
    import polars as pl


_OMITTED = ("unfamiliar", "at_alpha", "group", "two_sided")


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedBound:
    """The bound for one prompt. `unfamiliar`: it looks unlike the calibration prompts.

    `at_alpha` are its bounds at the smaller miscoverages of the run, by alpha as text. `group`
    names the group within which its bound holds, where the run has groups; None for a prompt of
    none of them, which is then `unfamiliar` and has the shortest of the groups' bounds.
    `upper_bound` is U with P(T <= U) >= 1 - alpha, None where it is unbounded; `two_sided` are both
    ends of P(L <= T <= U) >= 1 - alpha, None for an end that is unbounded or a run without them.
    """

    id: str
    lower_bound: int
    p_hat: float
    unfamiliar: bool
    at_alpha: dict[str, int] = field(default_factory=dict)
    group: str | None = None
    upper_bound: int | None = None
    two_sided: tuple[int, int | None] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `unfamiliar` and what the run has none of are left out."""
        plain = asdict(self)
        return {k: v for k, v in plain.items() if v or k not in _OMITTED}


@dataclass(frozen=True, kw_only=True, repr=False)
class PredictedBounds(Result):
    """The bounds of some prompts, in their order; a sequence of `PredictedBound`."""

    bounds: tuple[PredictedBound, ...]

    def __iter__(self) -> Iterator[PredictedBound]:
        return iter(self.bounds)

    def __len__(self) -> int:
        return len(self.bounds)

    def __getitem__(self, place: int) -> PredictedBound:
        return self.bounds[place]

    @property
    def unfamiliar(self) -> int:
        """How many prompts look unlike the calibration prompts."""
        return sum(one.unfamiliar for one in self.bounds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"predictions": [one.to_dict() for one in self.bounds]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> PredictedBounds:
        """Inverse of `to_dict`."""
        absent: dict[str, Any] = {"unfamiliar": False, "at_alpha": {}}
        absent |= {"group": None, "two_sided": None}
        rows = ({**absent, **row} for row in document["predictions"])
        return cls(bounds=tuple(from_plain(PredictedBound, row) for row in rows))

    def facts(self) -> dict[str, object]:
        """How many prompts, their median bound, and how many look unlike the calibration's."""
        limits = [one.lower_bound for one in self.bounds]
        return {
            "prompts": len(limits),
            "median bound": float(np.median(limits)) if limits else None,
            "unfamiliar prompts": self.unfamiliar,
        }

    def frame(self) -> pl.DataFrame:
        """One row per prompt; smaller miscoverages have columns `lower_bound_at_...`."""
        import polars as pl

        schema: dict[str, Any] = {
            "id": pl.String,
            "lower_bound": pl.Int64,
            "p_hat": pl.Float64,
            "unfamiliar": pl.Boolean,
        }
        grouped = any(one.group for one in self.bounds)
        schema |= {"upper_bound": pl.Int64, **({"group": pl.String} if grouped else {})}
        names = list(self.bounds[0].at_alpha) if self.bounds else []
        schema |= {f"lower_bound_at_{name}": pl.Int64 for name in names}
        rows = [
            (
                *(one.id, one.lower_bound, one.p_hat, one.unfamiliar, one.upper_bound),
                *((one.group,) if grouped else ()),
                *one.at_alpha.values(),
            )
            for one in self.bounds
        ]
        return pl.DataFrame(rows, schema=schema, orient="row")


def predict_command(
    folder: Path,
    prompts: PromptSource,
    given: Mapping[str, Any],
    *,
    target: Target | None = None,
) -> PredictedBounds:
    """Everything that `tailbound predict` does; the target is loaded where it is needed.

    `given` are options of `PromptOptions` by name. For a bound from a table `prompts` are a table
    of new units with their predictions.
    """
    asked = make(PromptOptions, given)
    document = manifest.read_manifest(folder)
    if document["command"] == TABLE_COMMAND:
        from tailbound.workflows.table.prediction import predict_table

        return PredictedBounds(bounds=predict_table(folder, prompts))
    chosen = prompt_set(prompts, field=asked.field, limit=asked.limit)
    report(*chosen.notices)
    check_prediction(folder, chosen)
    if target is None and needs_target(folder):
        target = target_of_run(document)
    found = PredictedBounds(bounds=tuple(predict_bounds(folder, chosen, target=target)))
    _report_unknown(folder, chosen)
    if found.unfamiliar:
        notice(
            f"{found.unfamiliar} of {len(found)} prompts look unlike the calibration prompts; the "
            "guarantee is for prompts from the same population"
        )
    return found


def _report_unknown(folder: Path, prompts: PromptSet) -> None:
    """Say which prompts belong to no group of the calibration."""
    groups = read_bounds(folder)[0].groups
    if groups is None or groups.column is None:
        return
    labels = prompts.labels(groups.column)
    unknown = [label for label in labels if label not in groups.bound.names]
    if unknown:
        shown = "no value" if unknown[0] is None else repr(unknown[0])
        notice(
            f"{len(unknown)} of {len(prompts)} prompts belong to no calibrated group of "
            f"{groups.column!r} (the first: {shown}): each has the shortest bound of all groups, "
            "and no guarantee covers it"
        )


def predict_bounds(
    folder: Path, prompts: PromptSet, *, target: Target | None
) -> Iterator[PredictedBound]:
    """The bound of the run in `folder` for each of `prompts`.

    `target` supplies the features where the predictor of the run reads hidden states; it must have
    the contract of the run. Where the run used p_hat of the user's own, the prompts must bring
    theirs.

    Raises `UsageError` where the run has no bound, p_hat is lacking, or the contract differs.
    """
    bound, *others = read_bounds(folder)
    labels = labels_for(folder, prompts)
    unlike = np.zeros(len(prompts), dtype=np.bool_)
    if not supplied(folder):
        if target is not None:
            check_contract(folder, target)
        elif chosen_features(folder) == HIDDEN:
            raise UsageError(f"{folder} predicts from hidden states: its target is needed")
        features = read_features(stored_features(folder, target), prompts.prompts, "new")
        p_hat = FittedPredictor.load(folder / PREDICTOR).predict(features)
        unlike = NoveltyDetector.load(folder / NOVELTY).unlike(features)
    else:
        _check_supplied(folder, prompts)
        assert prompts.p_hat is not None
        change = read_recalibration(folder)
        p_hat = prompts.p_hat if change is None else change(prompts.p_hat)
    groups, numbers = bound.groups, np.zeros(len(prompts), dtype=np.int64)
    if groups is not None:
        numbers = groups.numbers(p_hat, labels)
        unlike = unlike | (numbers < 0)
    limits = bound.predict(p_hat, numbers)
    above, both = _upper_bounds(read_curve(folder), p_hat, numbers)
    shorter = {f"{one.bound.alpha:.10g}": one.predict(p_hat, numbers) for one in others}
    for row, prompt in enumerate(prompts):
        yield PredictedBound(
            id=prompt.id,
            lower_bound=int(limits[row]),
            p_hat=float(p_hat[row]),
            unfamiliar=bool(unlike[row]),
            at_alpha={name: int(values[row]) for name, values in shorter.items()},
            group=None if groups is None or numbers[row] < 0 else groups.bound.names[numbers[row]],
            upper_bound=above[row],
            two_sided=both[row],
        )


def _upper_bounds(
    curve: Curve | None, p_hat: NDArray[np.float64], numbers: NDArray[np.int64]
) -> tuple[list[int | None], list[tuple[int, int | None] | None]]:
    """U and (L, U) of each prompt; None for what is unbounded, or for all where there is none."""

    def whole(upper: UpperPredictiveBound | None) -> list[int | None]:
        if upper is None:
            return [None] * len(p_hat)
        limits = upper.predict(p_hat)
        return [int(limit) if np.isfinite(limit) else None for limit in limits]

    if curve is None:
        return [None] * len(p_hat), [None] * len(p_hat)
    low = curve.two_sided.lower.calibrated.predict(p_hat, numbers).tolist()
    both = list(zip(low, whole(curve.two_sided.upper), strict=True))
    return whole(curve.upper), [*both]


def labels_for(folder: Path, prompts: PromptSet) -> list[str | None]:
    """The group of each prompt by the column that the bound in `folder` is calibrated by.

    All None where no column is needed. Raises `UsageError` where the prompts lack the column.
    """
    groups = read_bounds(folder)[0].groups
    if groups is None or groups.column is None:
        return [None] * len(prompts)
    return prompts.labels(groups.column)


def check_prediction(folder: Path, prompts: PromptSet) -> None:
    """Find what `predict_bounds` would refuse before a model is loaded; raises as it does."""
    labels_for(folder, prompts)
    if supplied(folder):
        _check_supplied(folder, prompts)
        return
    for name in (PREDICTOR, NOVELTY):
        if not (folder / name).is_file():
            raise UsageError(f"{folder} has no {name}: restore it, or run tailbound bound again")
    check_installed(chosen_features(folder))


def _check_supplied(folder: Path, prompts: PromptSet) -> None:
    if prompts.p_hat is None or np.isnan(prompts.p_hat).any():
        raise UsageError(
            f"the bound in {folder} was calibrated with predictions of the user's own: "
            f"{prompts.source} needs a column p_hat from the same predictor"
        )


def needs_target(folder: Path) -> bool:
    """Whether `predict_bounds` needs the target of the run: to read hidden states."""
    return not supplied(folder) and chosen_features(folder) == HIDDEN


def check_contract(folder: Path, target: Target) -> None:
    """Raise `ContractMismatchError` where the target is not the one of the run in `folder`."""
    held = manifest.read_manifest(folder)["contract"]
    mine = target.contract.to_dict()
    differing = [key for key, value in mine.items() if held.get(key) != value]
    if differing:
        key = differing[0]
        raise ContractMismatchError(
            f"the run in {folder} was made with {key} {held.get(key)!r}, and the target now has "
            f"{mine[key]!r}: its bound does not hold for another contract"
        )
