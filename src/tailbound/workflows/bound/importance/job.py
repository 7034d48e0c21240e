"""The job of `--method importance`: weighted draws to train and calibrate, plain ones to check.

Round 1 of the plan draws from the training prompts, which give the predictor and the shares of the
proposals in the later rounds; round 2 draws from the calibration prompts, and round 3 from the test
prompts. What they need of the first stands in DIR/weighted.json before they are drawn. Where the
prompts bring p_hat, nothing is trained, and there is no such first round.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import Audit, Reporter, silent
from tailbound.audit.judge_queue import no_verdicts
from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.errors import ContractMismatchError
from tailbound.judges import Judge
from tailbound.predictors import FittedPredictor, NoveltyDetector
from tailbound.runs import Ledger, read
from tailbound.runs.layout import NOVELTY, PREDICTOR, WEIGHTED
from tailbound.runs.prompts import save_prompts
from tailbound.runs.spend import stages_kept
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.survival import LowerPredictiveBound, quantile
from tailbound.survival.importance import (
    MAX_LEVEL,
    WeightedCurve,
    WeightedDraws,
    examine,
    planned_positions,
)
from tailbound.survival.rules import least_prompts
from tailbound.workflows.bound.features import (
    choose_features,
    feature_source,
    read_features,
    store_features,
)
from tailbound.workflows.bound.groups import Calibrated
from tailbound.workflows.bound.importance.options import MethodOptions
from tailbound.workflows.bound.importance.report import (
    CrossCheck,
    WeightedCoverage,
    WeightedReport,
    cross_check,
    weighted_coverage,
)
from tailbound.workflows.bound.importance.sampling import (
    STREAM,
    PromptDraws,
    WeightedSampler,
    pooled_mean_weight,
)
from tailbound.workflows.bound.importance.training import fit_weighted
from tailbound.workflows.bound.job import evaluate_on_test
from tailbound.workflows.bound.p_hat import read_p_hat, write_p_hat
from tailbound.workflows.bound.parts import PromptSplit
from tailbound.workflows.bound.randomness import rng_for
from tailbound.workflows.bound.results import (
    BoundAtAlpha,
    BoundResult,
    MissingVerdicts,
    discard_stale,
    made_with,
    median,
    stream_spend,
    write_results,
)
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.risk.proposals.base import Proposals

CHECK = "cross-check"
SCHEMA = 1
FloatArray = NDArray[np.float64]


def run_importance(
    parts: PromptSplit,
    *,
    proposal: Proposals,
    judge: Judge,
    settings: BoundSettings,
    method: MethodOptions,
    folder: Path,
    report: Reporter = silent,
    width: int = 256,
) -> BoundResult:
    """Sample, fit, calibrate, check and test in the run folder `folder`; resumes what is there.

    `proposal` comes from `make_proposal` and holds the target. Raises as `run_bound` and `run_risk`
    do, with every finished draw kept.
    """
    threshold = settings.threshold if settings.threshold is not None else judge.threshold
    check_record(folder, parts, method)
    with (
        stages_kept(folder),
        Ledger.open(
            folder,
            run=folder.name,
            contract=proposal.target.contract,
            judge_id=judge.id,
            seed=settings.seed,
        ) as ledger,
    ):
        save_prompts(folder, parts.by_name())
        discard_stale(folder, settings, parts)
        first = parts.calibration if parts.supplied else parts.train
        sampler = WeightedSampler(
            proposal,
            judge,
            ledger,
            first,
            folder=folder,
            threshold=threshold,
            seed=settings.seed,
            report=report,
        )
        audit = Audit(
            proposal.target,
            judge,
            ledger,
            threshold=threshold,
            seed=settings.seed,
            width=width,
            report=report,
        )
        record = Record.of(folder, parts, method, sampler)
        predicted = Predicted.make(parts, proposal.target, sampler, record, settings, folder)
        return calibrate_weighted(
            parts, predicted, sampler, audit, ledger, settings, method, folder, record
        )


@dataclass(kw_only=True)
class Record:
    """DIR/weighted.json: for what the weighted draws were planned, and the shares of each round."""

    folder: Path
    made_for: dict[str, Any]
    shares: list[list[float]]

    @classmethod
    def of(
        cls,
        folder: Path,
        parts: PromptSplit,
        method: MethodOptions,
        sampler: WeightedSampler,
    ) -> Record:
        """That of the run in `folder`; the first round's shares are written where there is none."""
        held = read_record(folder)
        if held is not None:
            return held
        found = cls(
            folder=folder,
            made_for=made_for(parts, method),
            shares=[sampler.first_shares().tolist()],
        )
        found.write()
        return found

    def round(self, number: int) -> FloatArray:
        """The shares of round `number` (from 1), (K,)."""
        return np.array(self.shares[number - 1])

    def add(self, shares: FloatArray) -> None:
        """Write the shares of the next round down."""
        self.shares.append(shares.tolist())
        self.write()

    def write(self) -> None:
        """Write the file."""
        write_json(
            self.folder / WEIGHTED,
            {"schema": SCHEMA, "made_for": self.made_for, "shares": self.shares},
        )


def read_record(folder: Path) -> Record | None:
    """DIR/weighted.json, None where there is none; raises `LedgerError` for a damaged one."""
    path = folder / WEIGHTED
    if not path.is_file():
        return None
    document = read_json(path)
    with understood(path):
        return Record(
            folder=folder,
            made_for=dict(document["made_for"]),
            shares=[[float(share) for share in row] for row in document["shares"]],
        )


def check_record(folder: Path, parts: PromptSplit, method: MethodOptions) -> None:
    """Raise `ContractMismatchError` where the weighted draws in `folder` were made for others.

    Their number and their positions depend on the options and on all prompts: unlike plain draws
    they cannot be added to.
    """
    held = read_record(folder)
    asked = made_for(parts, method)
    if held is None or held.made_for == asked:
        return
    name = next(name for name in asked if held.made_for.get(name) != asked[name])
    words = {"draws": "--draws", "longest": "--longest", "prompts": "prompts, or predictions,"}.get(
        name, name
    )
    raise ContractMismatchError(
        f"{folder} holds weighted draws for other {words} ({held.made_for.get(name)}, not "
        f"{asked[name]}): use another --out, or the same as before"
    )


def made_for(parts: PromptSplit, method: MethodOptions) -> dict[str, Any]:
    """What the weighted draws of a run depend on besides the seed and the proposals."""
    known = [
        [name, prompt.id, parts.supplied.get(prompt.id)]
        for name, prompts in parts.by_name().items()
        for prompt in prompts
    ]
    digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
    return {"draws": method.weighted_draws, "longest": method.cap, "prompts": digest}


@dataclass(frozen=True, eq=False, kw_only=True)
class Predicted:
    """p_hat of every part, the report of the training, and the shares for the calibration draws."""

    train: FloatArray
    calibration: FloatArray
    test: FloatArray
    report: dict[str, Any] | None

    @classmethod
    def make(
        cls,
        parts: PromptSplit,
        target: Any,
        sampler: WeightedSampler,
        record: Record,
        settings: BoundSettings,
        folder: Path,
    ) -> Predicted:
        """The user's own predictions, or those of a predictor fitted to weighted draws."""
        if parts.supplied:
            return cls(
                train=parts.supplied_p_hat(parts.train),
                calibration=parts.supplied_p_hat(parts.calibration),
                test=parts.supplied_p_hat(parts.test),
                report=None,
            )
        chosen, _ = choose_features(settings.features, target)
        with step("preparing the features"):
            source = feature_source(chosen, target, parts.train)
        store_features(folder, chosen, source)
        draws = train_draws(parts, sampler, record, settings)
        _check_verdicts(draws, folder, sampler)
        with step("fitting the predictor"):
            predictor = fit_weighted(
                read_features(source, parts.train, "training"),
                [one.terms for one in draws],
                groups=[prompt.unit for prompt in parts.train],
                seed=(settings.seed, 1),
            )
        features = read_features(source, parts.calibration, "calibration")
        predictor.save(folder / PREDICTOR)
        NoveltyDetector.fit(features).save(folder / NOVELTY)
        if len(record.shares) < 2:
            record.add(sampler.better_shares(draws, predictor.out_of_fold, record.round(1)))
        return cls(
            train=predictor.out_of_fold,
            calibration=predictor.predict(features),
            test=predictor.predict(read_features(source, parts.test, "test")),
            report={"features": chosen, **predictor.report.to_dict()},
        )

    @classmethod
    def recorded(cls, parts: PromptSplit, folder: Path, features: str | None) -> Predicted:
        """The p_hat that the bound in `folder` rests on; nothing is predicted."""
        p_hat = read_p_hat(folder)
        train, calibration, test = (
            np.array([p_hat[prompt.id] for prompt in part], dtype=np.float64) for part in parts.all
        )
        report = None
        if features is not None:
            known = FittedPredictor.load(folder / PREDICTOR).report.to_dict()
            report = {"features": features, **known}
        return cls(train=train, calibration=calibration, test=test, report=report)


def train_draws(
    parts: PromptSplit, sampler: WeightedSampler, record: Record, settings: BoundSettings
) -> list[PromptDraws]:
    """The weighted draws of the training prompts, made where they are not on record."""
    shares = record.round(1)
    rng = rng_for(settings.seed, "importance/training")
    counts = rng.multinomial(int(record.made_for["draws"]), shares, size=len(parts.train))
    sampler.draw(1, parts.train, counts)
    draws = [sampler.found(prompt, shares) for prompt in parts.train]
    pooled_mean_weight(draws, shares)
    return draws


def calibrate_weighted(
    parts: PromptSplit,
    predicted: Predicted,
    sampler: WeightedSampler,
    audit: Audit,
    ledger: Ledger,
    settings: BoundSettings,
    method: MethodOptions,
    folder: Path,
    record: Record,
) -> BoundResult:
    """From p_hat to the bound, its check and its coverage; draws what is not on record."""
    write_p_hat(
        folder,
        parts,
        train=predicted.train,
        calibration=predicted.calibration,
        test=predicted.test,
    )
    p_hat, number = predicted.calibration, len(record.shares)
    shares = record.round(number)
    positions, chance = planned_positions(p_hat, method.weighted_draws, longest=method.cap)
    rng = rng_for(settings.seed, "importance/calibration")
    sizes = rng.binomial(positions, chance)
    sampler.draw(number, parts.calibration, rng.multinomial(sizes, shares))
    draws = [sampler.found(prompt, shares) for prompt in parts.calibration]
    _check_verdicts(draws, folder, sampler)
    mean, z = pooled_mean_weight(draws, shares)
    with step("calibrating"):
        curve = _curve(draws, p_hat, positions, chance, method)
        alphas = [settings.alpha, *settings.other_alphas]
        crossings = curve.first_crossings(alphas)
        found = [examine(curve, *pair) for pair in zip(crossings, alphas, strict=True)]
        levels = [
            level if one.reliable(alpha) else 0.0
            for level, one, alpha in zip(crossings, found, alphas, strict=True)
        ]
    bounds = [
        _bound(level, alpha, settings, curve, draws, method)
        for level, alpha in zip(levels, alphas, strict=True)
    ]
    checked = _cross_check(parts, audit, curve, bounds[0], p_hat, settings, method)
    test = _test(parts, sampler, predicted.test, bounds[0], number + 1, shares, settings, method)
    evaluations, tested = (
        evaluate_on_test(
            parts,
            audit,
            [Calibrated(one, None) for one in bounds],
            predicted.test,
            np.zeros(len(parts.test), dtype=np.int64),
            settings,
            folder,
        )
        if method.plain_test
        else ([], 0)
    )
    median_bound = median(bounds[0].predict(p_hat))
    safe = _if_missing_were_safe(draws, curve, positions, chance, method, levels[0], alphas[0])
    used = {STREAM: sum(total.draws for name, total in ledger.totals().items() if name == STREAM)}
    used |= {CHECK: checked.draws if checked else 0, "test": tested}
    result = BoundResult(
        bound=bounds[0],
        median_bound=median_bound,
        missing=MissingVerdicts(
            prompts_stopped=sum(bool(one.missing.any()) for one in draws),
            median_bound=median_bound,
            level_if_safe=safe,
            median_if_safe=median(np.minimum(quantile(p_hat, safe), method.cap)),
        ),
        predictor=predicted.report,
        constant=None,
        evaluation=evaluations[0] if evaluations else None,
        made_with=made_with(settings, parts),
        spend=stream_spend(ledger, used),
        at_alpha=tuple(
            BoundAtAlpha(
                bound=one,
                groups=None,
                median_bound=median(one.predict(p_hat)),
                coverage=evaluations[place].overall if evaluations else None,
            )
            for place, one in enumerate(bounds[1:], start=1)
        ),
        weighted=WeightedReport(
            draws_per_prompt=method.weighted_draws,
            draws=int(sum(one.terms.size for one in draws)),
            missing=int(sum(one.missing.sum() for one in draws)),
            proposals=tuple(
                name for name, share in zip(sampler.names, shares, strict=True) if share > 0
            ),
            explored=sampler.explored,
            mean_weight=mean,
            mean_weight_z=z,
            largest_weight=1 / float(shares[0]),
            curve=found[0],
            cross_check=checked,
            test=test,
        ),
    )
    write_results(folder, result)
    return result


def _curve(
    draws: Sequence[PromptDraws],
    p_hat: FloatArray,
    positions: NDArray[np.int64],
    chance: FloatArray,
    method: MethodOptions,
    *,
    missing_are_safe: bool = False,
) -> WeightedCurve:
    rows = zip(draws, positions.tolist(), chance.tolist(), strict=True)
    return WeightedCurve(
        prompts=[
            WeightedDraws(
                terms=np.where(one.missing, 0.0, one.terms) if missing_are_safe else one.terms,
                positions=places,
                chance=each,
            )
            for one, places, each in rows
        ],
        p_hat=p_hat,
        longest=method.cap,
    )


def _bound(
    level: float,
    alpha: float,
    settings: BoundSettings,
    curve: WeightedCurve,
    draws: Sequence[PromptDraws],
    method: MethodOptions,
) -> LowerPredictiveBound:
    n = len(draws)
    return LowerPredictiveBound(
        level=level,
        cap=method.cap,
        limited_by="max_level" if level >= MAX_LEVEL else "alpha",
        alpha=alpha,
        guarantee="plug-in",
        delta=settings.delta,
        design="importance",
        planned=float(n * method.weighted_draws),
        spent=int(sum(one.terms.size for one in draws)),
        n_calibration=n,
        n_selected=n,
        weight_bound=1.0,
        miscoverage=float(curve.miscoverage([level])[0]),
        prompts_needed=least_prompts(alpha),
    )


def _test(
    parts: PromptSplit,
    sampler: WeightedSampler,
    p_hat: FloatArray,
    bound: LowerPredictiveBound,
    number: int,
    shares: FloatArray,
    settings: BoundSettings,
    method: MethodOptions,
) -> tuple[WeightedCoverage, ...]:
    """Coverage of the test prompts by weighted draws of their own; none without test prompts."""
    if not parts.test:
        return ()
    positions, chance = planned_positions(p_hat, method.weighted_draws, longest=method.cap)
    rng = rng_for(settings.seed, "importance/test")
    sizes = rng.binomial(positions, chance)
    sampler.draw(number, parts.test, rng.multinomial(sizes, shares))
    draws = [sampler.found(prompt, shares) for prompt in parts.test]
    bounds = bound.predict(p_hat)
    curve = _curve(draws, p_hat, positions, chance, method)
    return weighted_coverage(curve.survival([bound.level])[:, 0], bounds, p_hat)


def _if_missing_were_safe(
    draws: Sequence[PromptDraws],
    curve: WeightedCurve,
    positions: NDArray[np.int64],
    chance: FloatArray,
    method: MethodOptions,
    level: float,
    alpha: float,
) -> float:
    """The level if every missing verdict were safe; not below `level`."""
    if not any(one.missing.any() for one in draws):
        return level
    other = _curve(draws, curve.p_hat, positions, chance, method, missing_are_safe=True)
    return max(level, *other.first_crossings([alpha]))


def _cross_check(
    parts: PromptSplit,
    audit: Audit,
    curve: WeightedCurve,
    bound: LowerPredictiveBound,
    p_hat: FloatArray,
    settings: BoundSettings,
    method: MethodOptions,
) -> CrossCheck | None:
    """Follow a random part of the calibration prompts by plain draws, and compare."""
    n = len(parts.calibration)
    count = min(n, round(method.checked_share * n))
    if not count:
        return None
    each = int(settings.budget)
    horizons = np.minimum(bound.predict(p_hat) - 1, each)
    chosen = np.sort(rng_for(settings.seed, "importance/cross-check").permutation(n)[:count])
    prompts: list[Prompt] = [parts.calibration[place] for place in chosen]
    follow = audit.follow(prompts, stream=CHECK)
    follow(np.arange(count), horizons[chosen])
    outcome = follow.outcome()
    events = outcome.first_event > 0
    expected = np.array(
        [
            1 - one.survival([time])[0]
            for one, time in zip(curve.prompts, horizons.tolist(), strict=True)
        ]
    )
    used = np.where(events, outcome.first_event, outcome.horizons)
    return cross_check(events, used, expected, each=each)


def _check_verdicts(draws: Sequence[PromptDraws], folder: Path, sampler: WeightedSampler) -> None:
    """Stop where not one draw has a verdict: no number would mean anything."""
    missing = np.concatenate([one.missing for one in draws])
    if missing.size and missing.all():
        reasons = read(folder, stream=STREAM)["reason"].to_list()
        raise no_verdicts(sampler.judge_id, missing.size, STREAM, reasons)
