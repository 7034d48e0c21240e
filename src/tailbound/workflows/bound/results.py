"""What a bound job found, as a value, and the files it is kept in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tailbound.errors import LedgerError, UsageError
from tailbound.runs import Ledger
from tailbound.runs.history import keep_before, keep_result
from tailbound.runs.layout import BOUND, EVALUATION, P_HAT, PREDICTIONS
from tailbound.runs.spend import read_streams, write_streams
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import refusals, write_json
from tailbound.storage.plain import finite, from_plain
from tailbound.survival import Coverage, Evaluation, LowerPredictiveBound
from tailbound.workflows.bound.baseline import ConstantBound
from tailbound.workflows.bound.curve import Curve
from tailbound.workflows.bound.groups import Calibrated, Groups, LowerBound
from tailbound.workflows.bound.importance.report import WeightedReport
from tailbound.workflows.bound.parts import PromptSplit
from tailbound.workflows.bound.recalibration import Recalibration
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
NAME = "bound"
"""What bounds are called in `results/`."""
_CURE = "restore it, or run the same command again to make it again"


@dataclass(frozen=True, kw_only=True)
class MissingVerdicts:
    """Missing verdicts among the calibration draws, and what they could mean.

    They count as unsafe in the bound: `prompts_stopped` prompts stopped at one. `level_if_safe`
    and `median_if_safe` are the level and the median bound if every one of them were safe.
    """

    prompts_stopped: int
    median_bound: float
    level_if_safe: float
    median_if_safe: float


@dataclass(frozen=True, kw_only=True)
class StreamSpend:
    """What one stream cost: `generated` draws and tokens, `used` draws of the estimate."""

    prompts: int
    generated: int
    used: int
    tokens: int


def stream_spend(ledger: Ledger, used: Mapping[str, int]) -> dict[str, StreamSpend]:
    """What each stream on record cost; `used` says how many draws of some went into an estimate."""
    return {
        name: StreamSpend(
            prompts=total.prompts,
            generated=total.draws,
            used=used.get(name, 0),
            tokens=total.tokens,
        )
        for name, total in ledger.totals().items()
    }


@dataclass(frozen=True, kw_only=True)
class BoundAtAlpha(LowerBound):
    """The bound at a smaller miscoverage, from the same draws; it holds by itself.

    `median_bound` is that of the calibration prompts, `coverage` that of the test prompts.
    """

    median_bound: float
    coverage: Coverage | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            **super().to_dict(),
            "median_bound": self.median_bound,
            "coverage": finite(asdict(self.coverage)) if self.coverage else None,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> BoundAtAlpha:
        """Inverse of `to_dict`."""
        return cls(
            **vars(LowerBound.from_dict(document)),
            median_bound=from_plain(float, document["median_bound"]),
            coverage=from_plain(Coverage | None, document["coverage"]),
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class BoundResult(Result):
    """A bound, how it did on the test prompts, and what it cost.

    Everything but `spend` is a function of the draws alone: the same for every batch size and
    after every resume. `predictor` is the training report, None where the user gave p_hat;
    `constant` is the bound under one p_hat for all prompts, from the training draws, None likewise.
    `made_with` are the options, and a digest of the prompts and their parts. `bound` is the one at
    the largest miscoverage asked for, `at_alpha` those at smaller ones, descending. With
    `--coverage-by`, `groups` has the bound of each group, and `bound` is one that no group's falls
    short of, for prompts of any kind. `curve` has event rates and upper bounds from the same draws.
    `weighted` is what a bound from weighted draws rests on, None for one from plain draws.
    `recalibration` is what p_hat of the user's own became, None where it stayed as it was.
    """

    bound: LowerPredictiveBound
    median_bound: float
    missing: MissingVerdicts
    predictor: dict[str, Any] | None
    constant: ConstantBound | None
    evaluation: Evaluation | None
    made_with: dict[str, Any]
    spend: dict[str, StreamSpend]
    at_alpha: tuple[BoundAtAlpha, ...] = ()
    groups: Groups | None = None
    curve: Curve | None = None
    weighted: WeightedReport | None = None
    recalibration: Recalibration | None = None

    @property
    def statement(self) -> str:
        """The guarantee in words, and what was checked of what it rests on."""
        plain = self.bound.statement if self.groups is None else self.groups.bound.statement
        return plain if self.weighted is None else f"{plain} {self.weighted.statement}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            **self.bound_document(),
            "evaluation": finite(self.evaluation.to_dict()) if self.evaluation else None,
            "spend": {name: asdict(spend) for name, spend in self.spend.items()},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> BoundResult:
        """Inverse of `to_dict`."""
        return cls(
            bound=LowerPredictiveBound.from_json(json.dumps(document["bound"])),
            median_bound=from_plain(float, document["median_bound"]),
            missing=from_plain(MissingVerdicts, document["missing"]),
            predictor=document["predictor"],
            constant=from_plain(ConstantBound | None, document["constant"]),
            evaluation=from_plain(Evaluation | None, document["evaluation"]),
            made_with=dict(document["made_with"]),
            spend=from_plain(dict[str, StreamSpend], document["spend"]),
            at_alpha=tuple(BoundAtAlpha.from_dict(one) for one in document["at_alpha"]),
            groups=_groups(document),
            curve=_curve(document),
            weighted=from_plain(WeightedReport | None, document.get("weighted")),
            recalibration=from_plain(Recalibration | None, document.get("recalibration")),
        )

    def facts(self) -> dict[str, object]:
        """The guarantee, the median bound and the coverage of the test prompts."""
        found: dict[str, object] = {
            "median bound": self.median_bound,
            "longest bound possible": self.bound.cap,
            "calibration prompts": self.bound.n_calibration,
            "draws": sum(spend.generated for spend in self.spend.values()),
        }
        if self.evaluation is not None and self.evaluation.overall.lower is not None:
            found["coverage of test prompts, at least"] = self.evaluation.overall.lower
        for one in self.at_alpha:
            found[f"median bound at alpha = {one.bound.alpha:g}"] = one.median_bound
        return {**found, "guarantee": self.statement}

    def frame(self) -> pl.DataFrame:
        """Coverage of the test prompts, one row per stratum; empty without test prompts.

        The bound of each test prompt is in `predictions.parquet` (`Run.predictions`).
        """
        import polars as pl

        schema: dict[str, Any] = {
            "name": pl.String,
            "prompts": pl.Int64,
            "covered": pl.Int64,
            "missed": pl.Int64,
            "unresolved": pl.Int64,
            "lower": pl.Float64,
            "upper": pl.Float64,
            "interval": pl.List(pl.Float64),
            "median_bound": pl.Float64,
        }
        found = self.evaluation
        strata = () if found is None else (found.overall, *found.by_p_hat, *found.by_group)
        return pl.DataFrame([asdict(one) for one in strata], schema=schema)

    def bound_document(self) -> dict[str, Any]:
        """What `bound.json` holds."""
        return {
            "schema": SCHEMA,
            "estimand": "L(x) with P(T >= L(X)) >= 1 - alpha, T the index of the first unsafe draw",
            "statement": self.statement,
            "bound": json.loads(self.bound.to_json()),
            "groups": self.groups.to_dict() if self.groups else None,
            "median_bound": self.median_bound,
            "missing": asdict(self.missing),
            "predictor": finite(self.predictor),
            "constant": asdict(self.constant) if self.constant else None,
            "made_with": self.made_with,
            "at_alpha": [one.to_dict() for one in self.at_alpha],
            "curve": self.curve.to_dict() if self.curve else None,
            "weighted": finite(asdict(self.weighted)) if self.weighted else None,
            "recalibration": asdict(self.recalibration) if self.recalibration else None,
        }


def _groups(document: Mapping[str, Any]) -> Groups | None:
    return None if document["groups"] is None else Groups.from_dict(document["groups"])


def _curve(document: Mapping[str, Any]) -> Curve | None:
    return None if document["curve"] is None else Curve.from_dict(document["curve"])


def write_results(folder: Path, result: BoundResult) -> None:
    """Write `bound.json`, `evaluation.json` and `spend.json`; `read_result` reads them.

    What was there before stays in `results/` (`tailbound.runs.history`).
    """
    evaluation = finite(result.evaluation.to_dict()) if result.evaluation else None
    document = {**result.bound_document(), "evaluation": evaluation}
    keep_result(folder, NAME, document, before=lambda: kept_document(folder))
    write_json(folder / BOUND, result.bound_document())
    write_json(folder / EVALUATION, {"schema": SCHEMA, "evaluation": evaluation})
    spend = {name: asdict(spend) for name, spend in result.spend.items()}
    write_streams(folder, spend)


def kept_document(folder: Path) -> dict[str, Any] | None:
    """What `results/` holds of the bound under its plain names; None where there is none."""
    path = folder / BOUND
    if not path.is_file():
        return None
    held = folder / EVALUATION
    evaluation = read_json(held, cure=_CURE).get("evaluation") if held.is_file() else None
    return {**read_json(path, cure=_CURE), "evaluation": evaluation}


def read_result(folder: Path) -> BoundResult | None:
    """The result that was written to `folder`, None where there is no finished bound.

    Raises `LedgerError` where one of its files is damaged.
    """
    path = folder / BOUND
    if not path.is_file():
        return None
    document = read_json(path, cure=_CURE)
    with understood(path, cure=_CURE):
        evaluation = read_evaluation(folder)
        plain = None if evaluation is None else finite(evaluation.to_dict())
        return BoundResult.from_dict(
            {**document, "evaluation": plain, "spend": read_streams(folder)}
        )


def read_evaluation(folder: Path) -> Evaluation | None:
    """Coverage on the test prompts, None where none were followed; `LedgerError` for damage."""
    path = folder / EVALUATION
    if not path.is_file():
        return None
    document = read_json(path, cure=_CURE)
    with understood(path, cure=_CURE):
        found: Evaluation | None = from_plain(Evaluation | None, document["evaluation"])
    return found


def made_with(settings: BoundSettings, parts: PromptSplit) -> dict[str, Any]:
    """What a bound depends on besides the draws: options, prompts, parts, p_hat of the user's."""
    known = [
        [name, prompt.id, parts.supplied.get(prompt.id), *_label(parts, prompt.id)]
        for name, prompts in parts.by_name().items()
        for prompt in prompts
    ]
    digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
    return {**settings.to_dict(), "prompts": digest}


def _label(parts: PromptSplit, name: str) -> list[str]:
    return [parts.labels[name]] if name in parts.labels else []


def discard_stale(folder: Path, settings: BoundSettings, parts: PromptSplit) -> None:
    """Remove results that were made with other options or prompts: a new bound is on its way.

    A bound beside a predictor that it was not calibrated with would be wrong. It stays in
    `results/`.
    """
    try:
        held = read_json(folder / BOUND).get("made_with")
    except FileNotFoundError:
        return
    except LedgerError:
        held = None  # damaged: it is made again
    if held != made_with(settings, parts):
        keep_before(folder, NAME, lambda: kept_document(folder))
        for name in (BOUND, EVALUATION, P_HAT, PREDICTIONS):
            with refusals(folder / name):
                (folder / name).unlink(missing_ok=True)


def supplied(folder: Path) -> bool:
    """Whether the bound in `folder` was calibrated with predictions of the user's own."""
    return _document(folder)["predictor"] is None


def read_bounds(folder: Path) -> tuple[Calibrated, ...]:
    """The bounds in `bound.json`, by descending alpha; `UsageError` where the run has none yet."""
    document = _document(folder)
    return tuple(
        Calibrated(LowerPredictiveBound.from_json(json.dumps(one["bound"])), _groups(one))
        for one in (document, *document["at_alpha"])
    )


def read_recalibration(folder: Path) -> Recalibration | None:
    """What the bound in `folder` makes of p_hat of the user's own; None where nothing."""
    document = _document(folder)
    with understood(folder / BOUND, cure=_CURE):
        found: Recalibration | None = from_plain(
            Recalibration | None, document.get("recalibration")
        )
    return found


def read_curve(folder: Path) -> Curve | None:
    """Rates and upper bounds in `bound.json`; None where they have none."""
    return _curve(_document(folder))


def _document(folder: Path) -> dict[str, Any]:
    path = folder / BOUND
    if not path.is_file():
        raise UsageError(
            f"{folder} holds no finished bound (no bound.json): run `tailbound bound` there first"
        )
    document = read_json(path, cure=_CURE)
    with understood(path, cure=_CURE):
        for one in (document, *document["at_alpha"]):
            LowerPredictiveBound.from_json(json.dumps(one["bound"]))
            _groups(one)
        _curve(document)
        names = ("predictor", "bound", "groups", "at_alpha", "curve")
        held = {name: document[name] for name in names}
        return {**held, "recalibration": document.get("recalibration")}


def median(values: np.ndarray[Any, Any]) -> float:
    """The median as a plain number."""
    return float(np.median(values))
