"""Arrays in, a bound out: calibration against a table of times, with numpy and scipy alone.

python examples/statistics_only.py
"""

import numpy as np
from numpy.typing import NDArray

from tailbound.survival import calibrate, forecast

PROMPTS = 4000


def main() -> None:
    """Calibrate on half of the simulated prompts, and see how the bounds do on the other half."""
    rng = np.random.default_rng(0)
    risk = 10 ** rng.uniform(-5, -1, size=PROMPTS)
    p_hat = np.clip(risk * np.exp(0.5 * rng.normal(size=PROMPTS)), 1e-9, 1)
    time = rng.geometric(risk)
    half = PROMPTS // 2

    def observe(indices: NDArray[np.int64], horizons: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first unsafe draw of each prompt, 0 where there is none up to its horizon."""
        times = time[:half][indices]
        return np.where(times <= horizons, times, 0)

    expected = forecast(p_hat[:half], prompts=half, budget=100)
    print(f"expected: {expected.draws:,} draws, median bound {expected.median_bound:g}")
    bound = calibrate(p_hat[:half], observe, budget=100, rng=1)
    lower = bound.predict(p_hat[half:])
    print(f"made: {bound.spent:,} draws, median bound {np.median(lower):g}")
    print(f"coverage on prompts never observed: {(time[half:] >= lower).mean():.3f} (target 0.9)")


if __name__ == "__main__":
    main()
