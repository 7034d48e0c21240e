"""The calibrated bound for prompts that were never sampled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailbound.errors import ContractMismatchError, UsageError
from tailbound.predictors import FittedPredictor, NoveltyDetector
from tailbound.prompts import PromptSet
from tailbound.targets import Target
from tailbound.workflows.bound.features import (
    HIDDEN,
    check_installed,
    chosen_features,
    read_features,
    stored_features,
)
from tailbound.workflows.bound.job import NOVELTY_FILE, PREDICTOR_FILE
from tailbound.workflows.bound.results import read_bound, supplied


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedBound:
    """The bound for one prompt. `unfamiliar`: it looks unlike the calibration prompts."""

    id: str
    lower_bound: int
    p_hat: float
    unfamiliar: bool


def predict_bounds(
    folder: Path, prompts: PromptSet, *, target: Target | None
) -> Iterator[PredictedBound]:
    """The bound of the run in `folder` for each of `prompts`.

    `target` supplies the features where the predictor of the run reads hidden states; it must have
    the contract of the run. Where the run used p_hat of the user's own, the prompts must bring
    theirs.

    Raises `UsageError` where the run has no bound, p_hat is lacking, or the contract differs.
    """
    bound = read_bound(folder)
    unlike = np.zeros(len(prompts), dtype=np.bool_)
    if not supplied(folder):
        if target is not None:
            check_contract(folder, target)
        elif chosen_features(folder) == HIDDEN:
            raise UsageError(f"{folder} predicts from hidden states: its target is needed")
        features = read_features(stored_features(folder, target), prompts.prompts, "new")
        p_hat = FittedPredictor.load(folder / PREDICTOR_FILE).predict(features)
        unlike = NoveltyDetector.load(folder / NOVELTY_FILE).unlike(features)
    else:
        _check_supplied(folder, prompts)
        assert prompts.p_hat is not None
        p_hat = prompts.p_hat
    for prompt, limit, p, odd in zip(
        prompts, bound.predict(p_hat).tolist(), p_hat.tolist(), unlike.tolist(), strict=True
    ):
        yield PredictedBound(id=prompt.id, lower_bound=limit, p_hat=p, unfamiliar=odd)


def check_prediction(folder: Path, prompts: PromptSet) -> None:
    """Find what `predict_bounds` would refuse before a model is loaded; raises as it does."""
    read_bound(folder)
    if supplied(folder):
        _check_supplied(folder, prompts)
        return
    for name in (PREDICTOR_FILE, NOVELTY_FILE):
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
    from tailbound.runs import manifest

    held = manifest.read_manifest(folder)["contract"]
    mine = target.contract.to_dict()
    differing = [key for key, value in mine.items() if held.get(key) != value]
    if differing:
        key = differing[0]
        raise ContractMismatchError(
            f"the run in {folder} was made with {key} {held.get(key)!r}, and the target now has "
            f"{mine[key]!r}: its bound does not hold for another contract"
        )
