"""What a bound job found, as a value, and the files it is kept in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailbound.errors import LedgerError, UsageError
from tailbound.runs.spend import write_streams
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import refusals, write_json
from tailbound.survival import Evaluation, LowerPredictiveBound
from tailbound.workflows.bound.baseline import ConstantBound
from tailbound.workflows.bound.parts import PromptSplit
from tailbound.workflows.bound.settings import BoundSettings

SCHEMA = 1


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


@dataclass(frozen=True, kw_only=True)
class BoundResult:
    """A bound, how it did on the test prompts, and what it cost.

    Everything but `spend` is a function of the draws alone: the same for every batch size and
    after every resume. `predictor` is the training report, None where the user gave p_hat;
    `constant` is the bound under one p_hat for all prompts, from the training draws, None likewise.
    `made_with` are the options, and a digest of the prompts and their parts.
    """

    bound: LowerPredictiveBound
    median_bound: float
    missing: MissingVerdicts
    predictor: dict[str, Any] | None
    constant: ConstantBound | None
    evaluation: Evaluation | None
    made_with: dict[str, Any]
    spend: dict[str, StreamSpend]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            **self.bound_document(),
            "evaluation": self.evaluation.to_dict() if self.evaluation else None,
            "spend": {name: asdict(spend) for name, spend in self.spend.items()},
        }

    def bound_document(self) -> dict[str, Any]:
        """What `bound.json` holds."""
        return {
            "schema": SCHEMA,
            "estimand": "L(x) with P(T >= L(X)) >= 1 - alpha, T the index of the first unsafe draw",
            "statement": self.bound.statement,
            "bound": json.loads(self.bound.to_json()),
            "median_bound": self.median_bound,
            "missing": asdict(self.missing),
            "predictor": self.predictor,
            "constant": asdict(self.constant) if self.constant else None,
            "made_with": self.made_with,
        }


def write_results(folder: Path, result: BoundResult) -> None:
    """Write `bound.json`, `evaluation.json` and `spend.json`."""
    write_json(folder / "bound.json", result.bound_document())
    evaluation = result.evaluation.to_dict() if result.evaluation else None
    write_json(folder / "evaluation.json", {"schema": SCHEMA, "evaluation": evaluation})
    spend = {name: asdict(spend) for name, spend in result.spend.items()}
    write_streams(folder, spend)


def made_with(settings: BoundSettings, parts: PromptSplit) -> dict[str, Any]:
    """What a bound depends on besides the draws: options, prompts, parts, p_hat of the user's."""
    known = [
        [name, prompt.id, parts.supplied.get(prompt.id)]
        for name, prompts in parts.by_name().items()
        for prompt in prompts
    ]
    digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
    return {**settings.to_dict(), "prompts": digest}


def discard_stale(folder: Path, settings: BoundSettings, parts: PromptSplit) -> None:
    """Remove results that were made with other options or prompts: a new bound is on its way.

    A bound beside a predictor that it was not calibrated with would be wrong.
    """
    try:
        held = read_json(folder / "bound.json").get("made_with")
    except FileNotFoundError:
        return
    except LedgerError:
        held = None  # damaged: it is made again
    if held != made_with(settings, parts):
        for name in ("bound.json", "evaluation.json", "predictions.parquet"):
            with refusals(folder / name):
                (folder / name).unlink(missing_ok=True)


def supplied(folder: Path) -> bool:
    """Whether the bound in `folder` was calibrated with predictions of the user's own."""
    return _document(folder)["predictor"] is None


def read_bound(folder: Path) -> LowerPredictiveBound:
    """The bound in `bound.json`; raises `UsageError` where the run has none yet."""
    return LowerPredictiveBound.from_json(json.dumps(_document(folder)["bound"]))


def _document(folder: Path) -> dict[str, Any]:
    path = folder / "bound.json"
    if not path.is_file():
        raise UsageError(
            f"{folder} holds no finished bound (no bound.json): run `tailbound bound` there first"
        )
    cure = "restore it, or run the same command again to make it again"
    document = read_json(path, cure=cure)
    with understood(path, cure=cure):
        LowerPredictiveBound.from_json(json.dumps(document["bound"]))
        return {"predictor": document["predictor"], "bound": document["bound"]}


def median(values: np.ndarray[Any, Any]) -> float:
    """The median as a plain number."""
    return float(np.median(values))
