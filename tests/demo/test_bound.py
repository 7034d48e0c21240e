"""The bound on the demo model against its exact risks.

The predictor is fitted to hidden states of the real model; the times to the first unsafe draw are
simulated from the exact risks, which is the law of sampling the model.
"""

from __future__ import annotations

import numpy as np
import pytest

from tailbound.core.contract import SamplingOptions
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.demo.target import load
from tailbound.demo.tour import FULL
from tailbound.predictors import fit
from tailbound.prompts import PromptSet
from tailbound.survival import calibrate
from tailbound.workflows.bound import divide


@pytest.mark.slow
def test_twenty_calibrations_cover_and_are_as_long_as_they_can_be():
    """Mean true coverage in [.895, .93]; median bounds as long as the oracle's.

    The standard error of the mean over 20 calibrations is about .004.
    """
    target = load("", SamplingOptions(max_new_tokens=32))
    prompts = PromptSet(
        prompts=tuple(default_prompts(FULL.prompts)), field="prompt", source="the demo prompts"
    )
    everyone = prompts.prompts
    features = dict(zip((p.id for p in everyone), target.features(everyone), strict=True))
    risks = dict(zip((p.id for p in everyone), exact_risks(everyone), strict=True))
    coverage, medians, ratios, spends = [], [], [], []
    for seed in range(20):
        chosen = FULL.settings(seed)
        parts = divide(prompts, chosen)
        rng = np.random.default_rng([seed, 1])
        p = {
            name: np.array([risks[x.id].risk for x in part])
            for name, part in parts.by_name().items()
        }
        x = {
            name: np.stack([features[y.id] for y in part]) for name, part in parts.by_name().items()
        }
        counts = rng.binomial(chosen.train_draws, p["train"])
        draws = np.full(len(counts), chosen.train_draws)
        predictor = fit(x["train"], counts, draws, rng=seed)
        times = rng.geometric(p["calibration"])

        def observe(indices, horizons, times=times):
            return np.where(times[indices] <= horizons, times[indices], 0)

        bound = calibrate(
            predictor.predict(x["calibration"]),
            observe,
            budget=chosen.budget,
            reference_p_hat=predictor.out_of_fold,
            rng=seed,
        )
        oracle = calibrate(
            p["calibration"], observe, budget=chosen.budget, reference_p_hat=p["train"], rng=seed
        )
        mine = bound.predict(predictor.predict(x["test"]))
        coverage.append(np.exp((mine - 1) * np.log1p(-p["test"])).mean())
        medians.append(np.median(mine))
        ratios.append(np.median(mine) / np.median(oracle.predict(p["test"])))
        spends.append(bound.spent / bound.n_calibration)
    print(
        f"coverage {np.mean(coverage):.4f}, median {np.mean(medians):.0f}, "
        f"ratio {np.median(ratios):.3f}, spent {np.mean(spends):.0f}"
    )
    assert 0.895 <= np.mean(coverage) <= 0.93
    assert np.mean(medians) >= 165
    assert np.median(ratios) >= 0.8
    assert np.mean(spends) <= 150
