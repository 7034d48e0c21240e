"""False alarms of the monitor, and its delay to a threefold rise beside a tuned CUSUM.

    .venv/bin/python benchmarks/monitoring.py [--reference 0.001] [--outcome 10] [--draws 100000]
        [--streams 400] [--alpha 0.05]

Streams of `--draws` draws, in outcomes of `--outcome` draws; both look after every outcome. The
CUSUM knows the size of the rise, and its limit is the one that as many streams without a rise pass
in a share alpha. Delays are means over the streams that raise no alarm before the rise, in draws.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from tailbound.monitoring import EProcess, advance, draw_factors

RISE = 3.0


def streams(
    count: int, rates: NDArray[np.float64], p: float, n: int, alpha: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The outcome of the first alarm (t: none), shape (count,), and CUSUM paths, (count, t)."""
    rng, t = np.random.default_rng(seed), len(rates)
    q = RISE * p
    alarms, cusums = np.full(count, t), np.empty((count, t), dtype=np.float32)
    for number in range(count):
        unsafe = rng.binomial(n, rates)
        factors = draw_factors(np.full(t, p), draws=np.full(t, n), unsafe=unsafe)
        _, path = advance(EProcess(), factors, allowed=np.full(t, n * p))
        over = np.flatnonzero(path >= 1 / alpha)
        alarms[number] = over[0] if over.size else t
        walk = np.cumsum(unsafe * np.log(q / p) + (n - unsafe) * np.log((1 - q) / (1 - p)))
        cusums[number] = walk - np.minimum(np.minimum.accumulate(walk), 0)
    return alarms, cusums


def main() -> None:
    """Streams without a rise, then with one at several times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reference", type=float, default=0.001)
    parser.add_argument("--outcome", type=int, default=10)
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--alpha", type=float, default=0.05)
    options = parser.parse_args()
    p, n, alpha, count = options.reference, options.outcome, options.alpha, options.streams
    t = options.draws // n
    alarms, cusums = streams(count, np.full(t, p), p, n, alpha, 0)
    limit = float(np.quantile(cusums.max(axis=1), 1 - alpha))
    print(f"false alarms: {np.mean(alarms < t):.1%} of {count} streams")
    for begins in (0, t // 10, t // 2, 8 * t // 10):
        rates = np.where(np.arange(t) < begins, p, RISE * p)
        alarms, cusums = streams(count, rates, p, n, alpha, 1 + begins)
        ours = n * (alarms[alarms >= begins] - begins + 1).mean()
        tuned = n * ((cusums[:, begins:] >= limit).argmax(axis=1) + 1).mean()
        print(
            f"rise at draw {n * begins:,}: {ours:,.0f} draws, CUSUM {tuned:,.0f}, "
            f"ratio {ours / tuned:.2f}; no alarm in {np.mean(alarms == t):.1%}"
        )


if __name__ == "__main__":
    main()
