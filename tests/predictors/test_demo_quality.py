"""On the demo model, whose true risks are known, the predictor is good enough to bound with."""

import numpy as np
import pytest

from tailbound.core.contract import SamplingOptions
from tailbound.demo.exact import exact_risks
from tailbound.demo.world import forbidden_prompts
from tailbound.predictors import LOSSES, NoveltyDetector, fit
from tailbound.survival import calibrate
from tailbound.targets.registry import load_target

TRAIN, CALIBRATION, TEST = slice(0, 300), slice(300, 900), slice(900, 1200)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_bounds_from_hidden_states_are_near_those_of_an_oracle(loss: str) -> None:
    prompts = forbidden_prompts(1200)
    p = np.array([risk.risk for risk in exact_risks(prompts)])
    features = load_target("demo", SamplingOptions(max_new_tokens=32)).features(prompts)  # type: ignore[attr-defined]

    def bound(p_hat: np.ndarray, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        times = rng.geometric(p[CALIBRATION])
        answer = calibrate(
            p_hat[CALIBRATION],
            lambda i, h: np.where(times[i] <= h, times[i], 0),
            budget=120,
            rng=rng,
        )
        return answer.predict(p_hat[TEST])

    errors, ranks, ratios = [], [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        unsafe, draws = rng.binomial(200, p[TRAIN]), np.full(300, 200)
        fitted = fit(features[TRAIN], unsafe, draws, loss=loss, rng=rng)  # type: ignore[arg-type]
        p_hat = fitted.predict(features)
        ours, oracle = bound(p_hat, seed), bound(p, seed)
        ratios.append(np.median(ours) / np.median(oracle))
        errors.append(np.sqrt(np.square(np.log10(p_hat[TEST] / p[TEST])).mean()))
        order = [values[TEST].argsort().argsort() for values in (p_hat, p)]
        ranks.append(np.corrcoef(*order)[0, 1])
    assert np.mean(ranks) > 0.97
    assert np.mean(errors) < 0.6
    assert np.median(ratios) > 0.8
    assert NoveltyDetector.fit(features[CALIBRATION]).unlike(features[TEST]).mean() < 0.04
