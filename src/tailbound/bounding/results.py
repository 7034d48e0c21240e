"""What a bound job found, as a value, and the files it is kept in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailbound.bounding.constant import ConstantBound
from tailbound.errors import UsageError
from tailbound.files import write_json
from tailbound.survival import Evaluation, LowerPredictiveBound

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
    """

    bound: LowerPredictiveBound
    median_bound: float
    missing: MissingVerdicts
    predictor: dict[str, Any] | None
    constant: ConstantBound | None
    evaluation: Evaluation | None
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
        }


def write_results(folder: Path, result: BoundResult) -> None:
    """Write `bound.json`, `evaluation.json` and `spend.json`."""
    write_json(folder / "bound.json", result.bound_document())
    evaluation = result.evaluation.to_dict() if result.evaluation else None
    write_json(folder / "evaluation.json", {"schema": SCHEMA, "evaluation": evaluation})
    spend = {name: asdict(spend) for name, spend in result.spend.items()}
    write_json(folder / "spend.json", {"schema": SCHEMA, "streams": spend})


def read_bound(folder: Path) -> LowerPredictiveBound:
    """The bound in `bound.json`; raises `UsageError` where the run has none yet."""
    path = folder / "bound.json"
    if not path.is_file():
        raise UsageError(
            f"{folder} holds no finished bound (no bound.json): run `tailbound bound` there first"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return LowerPredictiveBound.from_json(json.dumps(document["bound"]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a bound written by tailbound: {error}") from error


def median(values: np.ndarray[Any, Any]) -> float:
    """The median as a plain number."""
    return float(np.median(values))
