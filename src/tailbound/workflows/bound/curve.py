"""What a bound's draws say besides: event rates of the population, upper and two-sided bounds.

Training prompts are sampled a fixed number of times, so they show the whole curve up to there.
Where p_hat is the user's own there are none: the calibration prompts, weighted by their inclusion
probabilities, then show what they were followed far enough to show, as a bracket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import FixedCounts, Followed
from tailbound.storage.plain import finite, from_plain
from tailbound.survival import (
    Rates,
    UpperPredictiveBound,
    calibrate_upper,
    counted_prompts,
    quantile,
    rates,
    weighted_prompts,
)
from tailbound.workflows.bound.groups import Calibrated, Calibration, LowerBound
from tailbound.workflows.bound.replicates import stopped_by_missing
from tailbound.workflows.bound.settings import BoundSettings

TRAINING, CALIBRATION = "training draws", "calibration draws"


@dataclass(frozen=True, kw_only=True)
class TwoSided:
    """P(lower <= T <= upper) >= 1 - alpha: each end misses at most alpha / 2.

    `upper` is None where there are no training draws: unbounded above.
    """

    alpha: float
    lower: LowerBound
    upper: UpperPredictiveBound | None

    @property
    def statement(self) -> str:
        """What holds of both ends, in words."""
        above = "Unbounded for every prompt." if self.upper is None else self.upper.statement
        return (
            f"P(L <= T <= U) is at least {1 - self.alpha:.4g} if both of these hold. Lower end: "
            f"{self.lower.statement} Upper end: {above}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "alpha": self.alpha,
            "statement": self.statement,
            "lower": self.lower.to_dict(),
            "upper": _upper_document(self.upper),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> TwoSided:
        """Inverse of `to_dict`."""
        return cls(
            alpha=from_plain(float, document["alpha"]),
            lower=LowerBound.from_dict(document["lower"]),
            upper=_upper_of(document["upper"]),
        )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Event rates of the population, and upper bounds beside the lower ones, from the same draws.

    `source` says which draws the `rates` come from. `upper` is the upper predictive bound at the
    run's largest miscoverage, None where there are no training draws; `bounded` is the share of
    calibration prompts for which it is finite, `median_upper` its median over those.
    """

    source: str
    rates: Rates
    upper: UpperPredictiveBound | None
    bounded: float
    median_upper: float | None
    two_sided: TwoSided

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "source": self.source,
            "rates": finite(asdict(self.rates)),
            "upper": _upper_document(self.upper),
            "bounded": self.bounded,
            "median_upper": self.median_upper,
            "two_sided": self.two_sided.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Curve:
        """Inverse of `to_dict`."""
        return cls(
            source=from_plain(str, document["source"]),
            rates=from_plain(Rates, document["rates"]),
            upper=_upper_of(document["upper"]),
            bounded=from_plain(float, document["bounded"]),
            median_upper=from_plain(float | None, document["median_upper"]),
            two_sided=TwoSided.from_dict(document["two_sided"]),
        )


def curve_of(
    calibration: Calibration,
    settings: BoundSettings,
    *,
    p_hat: NDArray[np.float64],
    reference: NDArray[np.float64],
    counts: FixedCounts | None,
    units: Sequence[str],
    followed: Sequence[Followed],
) -> Curve | None:
    """The curve of a run; None with the design `naive` and p_hat of the user's own.

    `p_hat` are those of the calibration prompts, `reference` of the training prompts, whose `units`
    and `counts` are given where they were sampled; `followed` is where each copy of the calibration
    prompts stopped.
    """
    upper = half = None
    if counts is not None:
        source = TRAINING
        found = rates(
            counted_prompts(counts.unsafe, counts.draws, missing=counts.missing, units=units),
            within=(*settings.within, int(counts.draws.min())),
        )
        upper, half = (
            calibrate_upper(reference, counts.unsafe, counts.draws, alpha=alpha, units=units)
            for alpha in (settings.alpha, settings.alpha / 2)
        )
    elif settings.design == "naive":
        return None
    else:
        source = CALIBRATION
        found = _weighted(calibration, settings, p_hat, followed)
    limits = np.full(p_hat.shape, math.inf) if upper is None else upper.predict(p_hat)
    bounded = limits[np.isfinite(limits)]
    return Curve(
        source=source,
        rates=found,
        upper=upper,
        bounded=float(bounded.size / limits.size),
        median_upper=float(np.median(bounded)) if bounded.size else None,
        two_sided=TwoSided(
            alpha=settings.alpha,
            lower=LowerBound.of(calibration.at(settings.alpha / 2)),
            upper=half,
        ),
    )


def _weighted(
    calibration: Calibration,
    settings: BoundSettings,
    p_hat: NDArray[np.float64],
    followed: Sequence[Followed],
) -> Rates:
    """Rates from calibration prompts, each to the horizon that was fixed for it in advance.

    Copies of a prompt are one prompt, by their mean.
    """
    shape = (len(followed), *p_hat.shape)
    weights, horizons = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    first, lost = np.zeros_like(horizons), np.zeros_like(horizons)
    copies = np.ones(p_hat.shape, dtype=np.int64)
    whole: Calibrated = calibration.longest
    bounds = [whole.bound] if whole.groups is None else whole.groups.bound.bounds
    largest = 1.0
    for bound, (members, record) in zip(bounds, calibration.records, strict=True):
        horizons[:, members] = np.minimum(quantile(p_hat[members], record.sure_to), bound.cap) - 1
        copies[members] = bound.replicates
        mine = (record.copies, members[record.indices])
        # Prompts that were set aside to plan with are prompts that were not selected.
        share = len(members) / bound.n_calibration
        weights[mine] = share * bound.replicates * record.weights
        largest = max(largest, share * bound.weight_bound)
        missing = stopped_by_missing(followed, *mine)
        first[mine] = np.where(missing, 0, record.first_event)
        lost[mine] = np.where(missing, record.first_event, 0)
    made = np.arange(len(followed))[:, None] < copies
    return rates(
        weighted_prompts(
            *(first[made], horizons[made], weights[made]),
            first_missing=lost[made],
            weight_bound=largest,
            units=np.broadcast_to(np.arange(len(p_hat)), shape)[made],
        ),
        within=settings.within,
    )


def _upper_document(upper: UpperPredictiveBound | None) -> dict[str, Any] | None:
    return None if upper is None else {"statement": upper.statement, **asdict(upper)}


def _upper_of(document: Mapping[str, Any] | None) -> UpperPredictiveBound | None:
    if document is None:
        return None
    plain = {name: value for name, value in document.items() if name != "statement"}
    found: UpperPredictiveBound = from_plain(UpperPredictiveBound, plain)
    return found
