"""One repeat of the synthetic study: population, predictor and draws; then one calibration each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.studies import exact_coverage, synthetic_population
from tailbound.survival import RecalibratedHazard, calibrate, recalibrate_hazard
from tailbound.workflows.reproduce.synthetic.network import predicted_risks
from tailbound.workflows.reproduce.synthetic.results import SyntheticCell
from tailbound.workflows.reproduce.synthetic.settings import SHARES, Cell

TRAIN_DRAWS = 500
"""Draws per training prompt, as published."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """What all calibrations of one repeat share.

    `times` are T of the calibration prompts, `p_hat` and `test_p_hat` the predictions for them and
    for the test prompts, whose risks are `test_risks`; `hazard` is p_hat recalibrated on the
    training counts, with which `balanced` plans.
    """

    p_hat: NDArray[np.float64]
    times: NDArray[np.int64]
    test_p_hat: NDArray[np.float64]
    test_risks: NDArray[np.float64]
    hazard: RecalibratedHazard

    @classmethod
    def make(cls, prompts: int, *, seed: int, repeat: int) -> Trial:
        """Features, split, counts, predictor and times, from a seed of the repeat's own."""
        rng = np.random.default_rng([seed, repeat])
        population = synthetic_population(prompts, rng)
        train, end = round(SHARES[0] * prompts), round(sum(SHARES) * prompts)
        risks = population.risks  # in random order
        unsafe = rng.binomial(TRAIN_DRAWS, risks[:train])
        p_hat = predicted_risks(
            population.features[:train],
            unsafe,
            TRAIN_DRAWS,
            everyone=population.features,
            seed=int(rng.integers(2**31)),
        )
        return cls(
            p_hat=p_hat[train:end],
            times=rng.geometric(risks[train:end]).astype(np.int64),
            test_p_hat=p_hat[end:],
            test_risks=risks[end:],
            hazard=recalibrate_hazard(p_hat[:train], unsafe, np.full(train, TRAIN_DRAWS)),
        )

    def calibrate(self, cell: Cell, *, alpha: float, seed: int) -> SyntheticCell:
        """One calibration, and its exact coverage on the test prompts."""
        method = cell.method
        balanced = method.design == "balanced"
        bound = calibrate(
            self.p_hat,
            self._observe,
            budget=float(cell.budget),
            alpha=alpha,
            guarantee="marginal" if method.guarantee == "marginal" else "plug-in",
            design=method.design,
            planning_p_hat=self.hazard if balanced else None,
            rng=cell.seed(seed),
        )
        limits = bound.predict(self.test_p_hat)
        coverage = exact_coverage(self.test_risks, limits)
        return SyntheticCell(
            design=method.design,
            guarantee=method.guarantee,
            budget=cell.budget,
            repeat=cell.repeat,
            coverage=coverage.at_least,
            coverage_beyond=coverage.beyond,
            mean_bound=float(limits.mean()),
            median_bound=float(np.median(limits)),
            log_mean_bound=float(np.exp(np.log(limits).mean())),
            share_at_cap=float((limits >= bound.cap).mean()),
            planned=bound.planned / len(self.p_hat),
            spent=bound.spent / len(self.p_hat),
            level=bound.level,
            limited_by=bound.limited_by,
        )

    def _observe(
        self, indices: NDArray[np.int64], horizons: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return np.where(self.times[indices] <= horizons, self.times[indices], 0)
