"""The bound of a run, made again from its draws and from the p_hat on record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tailbound.audit import Audit, FixedCounts
from tailbound.core.contract import SamplingContract
from tailbound.core.prompt import Prompt
from tailbound.predictors import FittedPredictor
from tailbound.runs import Ledger
from tailbound.runs.layout import BOUND, EVALUATION, FEATURES, P_HAT, PREDICTIONS, PREDICTOR, SPEND
from tailbound.runs.prompts import kept_table
from tailbound.survival import recalibrate_hazard
from tailbound.workflows.bound.features import WORDS, chosen_features
from tailbound.workflows.bound.job import Predictions, calibrated
from tailbound.workflows.bound.p_hat import given_p_hat, p_hat_table
from tailbound.workflows.bound.parts import PromptSplit
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.verify.compare import differences
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.importance import recompute_weighted
from tailbound.workflows.verify.prompts import prompts_of
from tailbound.workflows.verify.recorded import RecordedJudge, RecordedTarget, settings_of

RECORD = "the record"


def check_bound(findings: Findings, manifest: Mapping[str, Any], copy: Path) -> None:
    """Every file of results of `tailbound bound`, made again in `copy`."""
    folder = findings.folder
    names = [BOUND, EVALUATION, SPEND]
    if not (folder / BOUND).is_file():
        findings.missing(BOUND, "there is no bound: the run is not finished, or it was removed")
        return
    if not findings.sound:
        for name in (*names, PREDICTIONS):
            findings.not_recomputed(name, "the record that it rests on is damaged")
        return
    if not (folder / P_HAT).is_file():
        findings.missing(P_HAT, "the predictions that the bound rests on: restore it")
        for name in (*names, PREDICTIONS):
            findings.not_recomputed(name, f"{P_HAT} is missing")
        return
    against = f"{RECORD} (draws and {P_HAT})"
    if manifest["options"].get("method") == "importance":
        with findings.recomputing(copy, *names):
            recompute_weighted(findings, manifest, _parts(folder), copy)
            _compare(findings, copy, against=f"{RECORD} (draws, plan, scores and {P_HAT})")
        return
    with findings.recomputing(copy, *names, PREDICTIONS):
        predicted, counts = _recompute(folder, manifest, copy)
        _compare(findings, copy, against=against)
        if counts is not None:
            _check_training(findings, counts)
        _report_p_hat(findings, copy, predicted)


def _compare(findings: Findings, copy: Path, *, against: str) -> None:
    findings.document(BOUND, copy, against=against)
    findings.document(EVALUATION, copy, against=against)
    if (copy / PREDICTIONS).is_file():
        findings.table(PREDICTIONS, copy, against=against)
    findings.document(SPEND, copy, against="the ledger", only=("streams",))


def _recompute(
    folder: Path, manifest: Mapping[str, Any], copy: Path
) -> tuple[bool, FixedCounts | None]:
    """Make the results again in `copy`; whether p_hat was predicted again too, training counts."""
    settings = settings_of(BoundSettings, manifest["options"])
    target = RecordedTarget(contract=SamplingContract.from_dict(manifest["contract"]))
    judge = RecordedJudge(id=manifest["judge_id"], threshold=float(manifest["threshold"]))
    parts = _parts(folder)
    known = None if parts.supplied else FittedPredictor.load(folder / PREDICTOR).report
    again = (
        known is not None
        and known.head == "ridge"
        and chosen_features(folder) == WORDS
        and _has_words()
    )
    with Ledger.open(
        copy, run=copy.name, contract=target.contract, judge_id=judge.id, seed=settings.seed
    ) as ledger:
        audit = Audit(target, judge, ledger, threshold=judge.threshold, seed=settings.seed)
        if again:
            ridge = replace(settings, head="ridge")
            predictions = Predictions.make(parts, target, audit, ridge, copy)
            assert known is not None
            assert predictions.report is not None
            for name in ("heads", "choice"):  # other heads are fitted by iterations: not made again
                predictions.report[name] = known.to_dict()[name]
        else:
            predictions = Predictions.recorded(parts, audit, settings, copy)
        calibrated(parts, predictions, audit, ledger, settings, copy)
        counts = None
        if not parts.supplied:
            counts = audit.sample_fixed(parts.train, settings.train_draws, stream="train")
    return again, counts


def _check_training(findings: Findings, counts: FixedCounts) -> None:
    """What the predictor says that it was trained on is in the ledger and in `p_hat.parquet`.

    Its recalibration is made again from the training draws and its held-out predictions.
    """
    folder = findings.folder
    predictor = FittedPredictor.load(folder / PREDICTOR)
    report = predictor.report
    table = p_hat_table(folder)
    train = table.filter(table["part"] == "train")["p_hat"].to_list()
    recorded = {
        "draws": report.draws,
        "events": report.events,
        "quiet": report.quiet,
        "out_of_fold": predictor.out_of_fold.tolist(),
        "recalibrated": predictor.recalibration.recalibrated.tolist(),
    }
    again = predictor.recalibration
    if report.recalibrated:
        again = recalibrate_hazard(predictor.held_out, counts.unsafe, counts.draws - counts.missing)
    found = {
        "draws": int((counts.draws - counts.missing).sum()),
        "events": int(counts.unsafe.sum()),
        "quiet": float((counts.unsafe == 0).mean()),
        "out_of_fold": train,
        "recalibrated": again.recalibrated.tolist(),
    }
    findings.compare(
        f"{PREDICTOR} (counts)",
        differences(recorded, found, tolerance=findings.tolerance),
        against=f"the training draws and {P_HAT}",
    )


def _has_words() -> bool:
    """Whether what reads words is installed."""
    return find_spec("sklearn") is not None


def _parts(folder: Path) -> PromptSplit:
    """The prompts of each part, as the bound on record has them."""
    known = prompts_of(kept_table(folder))
    table = p_hat_table(folder)
    rows = table.select("id", "part", "p_hat").rows()

    def part(name: str) -> tuple[Prompt, ...]:
        return tuple(known[key] for key, own, _ in rows if own == name)

    supplied = given_p_hat(folder) if _supplied(folder) else {}
    labels = dict(table.select("id", "label").rows()) if "label" in table.columns else {}
    return PromptSplit(part("train"), part("calibration"), part("test"), supplied, labels)


def _supplied(folder: Path) -> bool:
    """Whether p_hat is the user's own: nothing was trained."""
    try:
        document = json.loads((folder / BOUND).read_text(encoding="utf-8"))
        return document["predictor"] is None
    except (OSError, ValueError, KeyError, TypeError):
        return not (folder / FEATURES).is_file()


def _report_p_hat(findings: Findings, copy: Path, predicted: bool) -> None:
    folder = findings.folder
    if predicted:
        findings.table(P_HAT, copy, against="the words of the prompts and the training draws")
        return
    if _supplied(folder):
        findings.not_recomputed(P_HAT, "these are predictions of the user's own")
        return
    chosen = chosen_features(folder)
    why = f"predicting takes the model that reads {chosen!r} features"
    if chosen == WORDS:
        why = "its head is not fitted again" if _has_words() else "scikit-learn is not installed"
    findings.not_recomputed(P_HAT, why)
    if chosen == WORDS:
        findings.not_recomputed(PREDICTOR, f"its report is that of {BOUND}")
        return
    findings.not_recomputed(
        PREDICTOR, f"fitting it takes the model too; its report is that of {BOUND}"
    )
