"""The main job: train, calibrate, test.

Each step asks the audit for draws and hands arrays to the statistics. A job that was interrupted
runs the same steps again; the audit finds the draws on record and continues from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import Audit, FixedCounts, Followed, Reporter, silent
from tailbound.audit.judge_queue import no_verdicts
from tailbound.core.prompt import Prompt
from tailbound.core.steps import notice, step
from tailbound.errors import UnreachableError
from tailbound.intervals import clopper_pearson
from tailbound.judges import Judge
from tailbound.predictors import FittedPredictor, NoveltyDetector, fit
from tailbound.runs import Ledger, read
from tailbound.runs.layout import NOVELTY, PREDICTIONS, PREDICTOR
from tailbound.runs.prompts import save_prompts
from tailbound.runs.spend import stages_kept
from tailbound.storage.parquet import write_sealed
from tailbound.survival import (
    Evaluation,
    RecalibratedHazard,
    evaluate,
    quantile,
    recalibrate_hazard,
)
from tailbound.survival.designs import as_hazard
from tailbound.targets import FeatureSource, Target
from tailbound.workflows.bound.baseline import ConstantBound, constant_bound
from tailbound.workflows.bound.curve import curve_of
from tailbound.workflows.bound.features import (
    choose_features,
    chosen_features,
    feature_source,
    learn_features,
    read_features,
    store_features,
)
from tailbound.workflows.bound.groups import Calibrated, Calibration
from tailbound.workflows.bound.p_hat import read_p_hat, write_p_hat
from tailbound.workflows.bound.parts import PromptSplit
from tailbound.workflows.bound.randomness import rng_for
from tailbound.workflows.bound.recalibration import Recalibration, recalibration_of
from tailbound.workflows.bound.replicates import (
    FollowedCopies,
    stopped_by_missing,
    used_draws,
)
from tailbound.workflows.bound.results import (
    BoundAtAlpha,
    BoundResult,
    MissingVerdicts,
    StreamSpend,
    discard_stale,
    made_with,
    median,
    stream_spend,
    write_results,
)
from tailbound.workflows.bound.settings import BoundSettings


def run_bound(
    parts: PromptSplit,
    *,
    target: Target,
    judge: Judge,
    settings: BoundSettings,
    folder: Path,
    report: Reporter = silent,
    width: int = 256,
    store_text: bool = True,
) -> BoundResult:
    """Sample, fit, calibrate and test in the run folder `folder`; resumes what is there.

    `parts` come from `divide`. `width` is the number of prompts worked on at a time: the rows of
    the target. Without `store_text` the ledger keeps scores but no responses. Raises what target
    and judge raise, with every finished draw kept, and `UnreachableError` where missing verdicts
    are too frequent for a useful bound.
    """
    threshold = settings.threshold if settings.threshold is not None else judge.threshold
    with (
        stages_kept(folder),
        Ledger.open(
            folder,
            run=folder.name,
            contract=target.contract,
            judge_id=judge.id,
            seed=settings.seed,
            store_text=store_text,
        ) as ledger,
    ):
        save_prompts(folder, parts.by_name())
        discard_stale(folder, settings, parts)
        audit = Audit(
            target,
            judge,
            ledger,
            threshold=threshold,
            seed=settings.seed,
            width=width,
            report=report,
        )
        predictions = Predictions.make(parts, target, audit, settings, folder)
        return calibrated(parts, predictions, audit, ledger, settings, folder)


def calibrated(
    parts: PromptSplit,
    predictions: Predictions,
    audit: Audit,
    ledger: Ledger,
    settings: BoundSettings,
    folder: Path,
) -> BoundResult:
    """From p_hat to the bound and its coverage, written to `folder`; draws what is not on record.

    Raises as `run_bound` does.
    """
    write_p_hat(
        folder,
        parts,
        recalibrated=predictions.recalibration is not None,
        train=predictions.reference,
        calibration=predictions.calibration,
        test=predictions.test,
    )
    follow = FollowedCopies(audit, parts.calibration)
    calibration = Calibration(
        parts,
        settings,
        follow,
        p_hat=predictions.calibration,
        reference=predictions.reference,
        budget=settings.budget,
        alpha=settings.alpha,
        guarantee=settings.guarantee,
        delta=settings.delta,
        design=settings.design,
        max_level=settings.max_level,
        planning_p_hat=predictions.hazard,
        max_draws=settings.max_draws,
        replicates=settings.most_replicates(trained=predictions.counts is not None),
        rng=rng_for(settings.seed, "selection"),
    )
    longest = calibration.longest
    numbers = calibration.numbers(parts.calibration, predictions.calibration)
    outcomes = follow.outcomes()
    missing = _missing(calibration, outcomes, predictions.calibration, numbers)
    shorter = [calibration.at(alpha) for alpha in settings.other_alphas]
    curve = curve_of(
        calibration,
        settings,
        p_hat=predictions.calibration,
        reference=predictions.reference,
        counts=predictions.counts,
        units=[prompt.unit for prompt in parts.train],
        followed=outcomes,
    )
    evaluations, tested = evaluate_on_test(
        parts,
        audit,
        [longest, *shorter],
        predictions.test,
        calibration.numbers(parts.test, predictions.test),
        settings,
        folder,
    )
    result = BoundResult(
        bound=longest.bound,
        median_bound=missing.median_bound,
        missing=missing,
        predictor=predictions.report,
        constant=predictions.constant,
        evaluation=evaluations[0] if evaluations else None,
        made_with=made_with(settings, parts),
        spend=_spend(ledger, parts, settings, outcomes, tested),
        groups=longest.groups,
        curve=curve,
        recalibration=predictions.recalibration,
        at_alpha=tuple(
            BoundAtAlpha(
                bound=one.bound,
                groups=one.groups,
                median_bound=median(one.predict(predictions.calibration, numbers)),
                coverage=evaluations[number].overall if evaluations else None,
            )
            for number, one in enumerate(shorter, start=1)
        ),
    )
    write_results(folder, result)
    return result


class Predictions:
    """p_hat for every part, from a predictor fitted here or from the user."""

    def __init__(
        self,
        *,
        calibration: NDArray[np.float64],
        test: NDArray[np.float64],
        reference: NDArray[np.float64],
        hazard: Any,
        report: dict[str, Any] | None,
        constant: ConstantBound | None,
        counts: FixedCounts | None = None,
        recalibration: Recalibration | None = None,
    ) -> None:
        self.calibration = calibration
        self.test = test
        self.reference = reference
        self.hazard = hazard
        self.report = report
        self.constant = constant
        self.counts = counts
        self.recalibration = recalibration

    @classmethod
    def make(
        cls, parts: PromptSplit, target: Target, audit: Audit, settings: BoundSettings, folder: Path
    ) -> Predictions:
        """Predictions of the user's own where there are any; else fit a predictor."""
        if parts.supplied:
            return cls._supplied(parts, audit, settings, folder)
        chosen, _ = choose_features(settings.features, target)
        with step("preparing the features"):
            features_of = feature_source(chosen, target, parts.train)
        store_features(folder, chosen, features_of)
        counts = audit.sample_fixed(parts.train, settings.train_draws, stream="train")
        _check_verdicts(counts, folder, audit.judge_id)
        with step("training the features", stage="features"):
            learn_features(
                chosen, features_of, parts.train, counts, folder=folder, seed=settings.seed
            )
        predictor, features = _fit(parts, features_of, counts, settings, folder)
        hazard = _hazard(predictor.out_of_fold, counts)
        calibration = predictor.predict(features)
        if not settings.allow_missing:
            _check_missing(counts, as_hazard(hazard, calibration), settings.alpha)
        test = predictor.predict(read_features(features_of, parts.test, "test"))
        return cls(
            calibration=calibration,
            test=test,
            reference=predictor.out_of_fold,
            hazard=hazard,
            report={"features": chosen, **predictor.report.to_dict()},
            constant=_constant(parts, counts, settings),
            counts=counts,
        )

    @classmethod
    def _supplied(
        cls, parts: PromptSplit, audit: Audit, settings: BoundSettings, folder: Path
    ) -> Predictions:
        """Predictions of the user's own, recalibrated on training draws where that is asked for."""
        train, calibration, test = (parts.supplied_p_hat(part) for part in parts.all)
        counts, recalibration, hazard = None, None, None
        if settings.recalibrate == "on":
            counts = audit.sample_fixed(parts.train, settings.train_draws, stream="train")
            _check_verdicts(counts, folder, audit.judge_id)
            recalibration = recalibration_of(train, counts.unsafe, counts.draws - counts.missing)
            if recalibration is None:
                notice("p_hat stays as it was given: not one training draw was unsafe")
            else:
                train, calibration, test = (recalibration(p) for p in (train, calibration, test))
            hazard = _hazard(train, counts)
            if not settings.allow_missing:
                _check_missing(counts, as_hazard(hazard, calibration), settings.alpha)
        return cls(
            calibration=calibration,
            test=test,
            reference=train,
            hazard=hazard,
            report=None,
            constant=None,
            counts=counts,
            recalibration=recalibration,
        )

    @classmethod
    def recorded(
        cls, parts: PromptSplit, audit: Audit, settings: BoundSettings, folder: Path
    ) -> Predictions:
        """The p_hat that the bound in `folder` rests on, with what follows from the draws.

        Nothing is predicted: the report of the training is read back.
        """
        if parts.supplied:
            return cls._supplied(parts, audit, settings, folder)
        p_hat = read_p_hat(folder)
        calibration, test, reference = (
            np.array([p_hat[prompt.id] for prompt in part], dtype=np.float64)
            for part in (parts.calibration, parts.test, parts.train)
        )
        counts = audit.sample_fixed(parts.train, settings.train_draws, stream="train")
        hazard = _hazard(reference, counts)
        known = FittedPredictor.load(folder / PREDICTOR).report.to_dict()
        report = {"features": chosen_features(folder), **known}
        constant = _constant(parts, counts, settings)
        return cls(
            calibration=calibration,
            test=test,
            reference=reference,
            hazard=hazard,
            report=report,
            constant=constant,
            counts=counts,
        )


def _constant(parts: PromptSplit, counts: FixedCounts, settings: BoundSettings) -> ConstantBound:
    """The bound under one p_hat for all prompts, from the training draws."""
    return constant_bound(
        counts.unsafe_or_missing,
        counts.draws,
        alpha=settings.alpha,
        units=[prompt.unit for prompt in parts.train],
    )


def _hazard(out_of_fold: NDArray[np.float64], counts: FixedCounts) -> RecalibratedHazard | None:
    """What planning reckons with: missing verdicts stop a prompt too. None where there are none."""
    if not counts.missing.any():
        return None
    return recalibrate_hazard(out_of_fold, counts.unsafe_or_missing, counts.draws)


def _fit(
    parts: PromptSplit,
    source: FeatureSource,
    counts: FixedCounts,
    settings: BoundSettings,
    folder: Path,
) -> tuple[FittedPredictor, NDArray[np.float32]]:
    """The predictor, saved, and the features of the calibration prompts."""
    train = read_features(source, parts.train, "training")
    with step("fitting the predictor"):
        predictor = fit(
            train,
            counts.unsafe,
            counts.draws - counts.missing,
            loss=settings.loss,
            head=settings.head,
            groups=[prompt.unit for prompt in parts.train],
            rng=rng_for(settings.seed, "folds"),
        )
    features = read_features(source, parts.calibration, "calibration")
    predictor.save(folder / PREDICTOR)
    NoveltyDetector.fit(features).save(folder / NOVELTY)
    return predictor, features


def _check_verdicts(counts: FixedCounts, folder: Path, judge_id: str) -> None:
    """Stop where no training draw has a verdict, and say why."""
    draws = int(counts.draws.sum())
    if int(counts.missing.sum()) == draws:
        raise no_verdicts(
            judge_id, draws, "training", read(folder, stream="train")["reason"].to_list()
        )


def _check_missing(counts: FixedCounts, planning: NDArray[np.float64], alpha: float) -> None:
    """Stop where missing verdicts, counted as unsafe, would use up alpha by themselves."""
    missing, draws = int(counts.missing.sum()), int(counts.draws.sum())
    typical = median(quantile(planning, alpha))
    lower, _ = clopper_pearson(missing, draws)
    if float(lower) > alpha / 10 / typical:
        raise UnreachableError(
            f"the judge gave no verdict on {missing} of {draws} training draws; counted as "
            f"unsafe, as they must be, that is too many for bounds of about {typical:.0f} draws: "
            "fix the judge, or continue with --allow-missing"
        )


def _missing(
    calibration: Calibration,
    followed: Sequence[Followed],
    p_hat: NDArray[np.float64],
    numbers: NDArray[np.int64],
) -> MissingVerdicts:
    longest = calibration.longest
    bounds = [longest.bound] if longest.groups is None else longest.groups.bound.bounds
    then = np.ones(len(p_hat), dtype=np.int64)
    stopped, levels = 0, []
    for bound, (members, record) in zip(bounds, calibration.records, strict=True):
        missing = stopped_by_missing(followed, record.copies, members[record.indices])
        dismissed = missing & (record.first_event > 0)
        without = record.level_without(dismissed) if dismissed.any() else 0.0
        levels.append(max(bound.level, without))
        then[members] = np.minimum(quantile(p_hat[members], levels[-1]), bound.cap)
        stopped += np.unique(record.indices[dismissed]).size
    return MissingVerdicts(
        prompts_stopped=stopped,
        median_bound=median(longest.predict(p_hat, numbers)),
        level_if_safe=min(levels),
        median_if_safe=median(then),
    )


def evaluate_on_test(
    parts: PromptSplit,
    audit: Audit,
    bounds: Sequence[Calibrated],
    p_hat: NDArray[np.float64],
    numbers: NDArray[np.int64],
    settings: BoundSettings,
    folder: Path,
) -> tuple[list[Evaluation], int]:
    """Follow the test prompts to L - 1 draws by the first and longest of `bounds`.

    At most to `test_draws`. Returns the evaluation of each bound, and the draws used; no evaluation
    without test prompts.
    """
    if not parts.test:
        return [], 0
    limits = bounds[0].predict(p_hat, numbers)
    groups = bounds[0].groups
    names = None if groups is None else [groups.bound.names[number] for number in numbers]
    follow = audit.follow(parts.test, stream="test")
    follow(np.arange(len(parts.test)), np.minimum(limits - 1, settings.test_draws))
    outcome = follow.outcome()
    event = outcome.first_event > 0
    unsafe = event & ~outcome.by_missing
    # What a missing verdict hides is not known: followed up to the draw before it.
    first = np.where(unsafe, outcome.first_event, 0)
    followed = np.where(event, outcome.first_event - 1, outcome.horizons)
    _write_predictions(folder, parts.test, p_hat, limits, first, followed, names)
    evaluations = [
        evaluate(
            one.predict(p_hat, numbers),
            first,
            followed,
            p_hat=p_hat,
            cap=one.caps(numbers),
            groups=names,
            bins=5 if groups is None or groups.column is not None else 0,
            groups_by_p_hat=groups is not None and groups.column is None,
        )
        for one in bounds
    ]
    used = int(np.where(event, outcome.first_event, outcome.horizons).sum())
    return evaluations, used


def _write_predictions(
    folder: Path,
    prompts: tuple[Prompt, ...],
    p_hat: NDArray[np.float64],
    bounds: NDArray[np.int64],
    first_unsafe: NDArray[np.int64],
    followed: NDArray[np.int64],
    names: Sequence[str] | None,
) -> None:
    import polars as pl

    frame = pl.DataFrame(
        {
            "id": [prompt.id for prompt in prompts],
            "group": pl.Series([prompt.group for prompt in prompts], dtype=pl.String),
            "p_hat": p_hat,
            "lower_bound": bounds,
            "first_unsafe": first_unsafe,
            "followed": followed,
        }
    )
    if names is not None:
        frame = frame.with_columns(pl.Series("coverage_group", names, dtype=pl.String))
    write_sealed(folder / PREDICTIONS, frame)


def _spend(
    ledger: Ledger,
    parts: PromptSplit,
    settings: BoundSettings,
    followed: Sequence[Followed],
    tested: int,
) -> dict[str, StreamSpend]:
    used = {
        "train": len(parts.train) * settings.train_draws,
        **used_draws(followed),
        "test": tested,
    }
    return stream_spend(ledger, used)
