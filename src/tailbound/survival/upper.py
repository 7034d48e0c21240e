r"""Upper predictive bounds: P(T <= U(X)) >= 1 - alpha, where what was drawn allows one.

A prompt that was followed for n draws says nothing of what comes later, and a safe prompt is not
unsafe within any number of draws that one can pay for: most prompts have no upper bound that is
finite. Training prompts are sampled n times each whatever comes out, so that P(T > u | x) is seen
for u <= n, as C(n - c, u) / C(n, u) with c unsafe draws. The class of risky prompts is fixed by
n and alpha alone, as those whose predicted quantile at 1 - alpha is at most n / 2:

    p_hat >= p_0 = 1 - alpha^(2 / n).

Within it U(x) is the predicted quantile at a level tau, unbounded where that exceeds n, and the
loss P(T > U | x), 0 where U is unbounded, falls as tau grows. The level is the lowest of a fixed
grid with

    (N loss(tau) + 1) / (N + 1) <= alpha,

conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster, 2024) over the N training
prompts of the class. So P(T > U | p_hat >= p_0) <= alpha on average over training sets; outside the
class U is unbounded. The proof takes prompts and new ones to be predicted alike: exact for
predictions that were fixed before, about so for out-of-fold predictions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.intervals import none_among
from tailbound.survival.bound import check_probabilities
from tailbound.survival.geometric import quantile_at_rate, rate

#: Levels are 1 - exp(-j _STEP), j = 1 .. _LEVELS: times rise by 5% of the mean at a time, up to 20.
_STEP, _LEVELS = 0.05, 400


@dataclass(frozen=True, kw_only=True)
class UpperPredictiveBound:
    """U(x) = quantile of T at `level` under p_hat(x) >= `least_p_hat`; else unbounded.

    `longest` is the number of training draws: a U above it is unbounded too. `level` is None where
    no level qualified, and everything is unbounded. `prompts` are the independent training prompts
    of the class, of `of_prompts` in all; `prompts_needed` as many as a bound takes at least.
    `miss` is their mean P(T > U).

    >>> bound = UpperPredictiveBound(
    ...     alpha=0.1, level=0.95, least_p_hat=0.02, longest=200, prompts=60, of_prompts=300,
    ...     prompts_needed=9, miss=0.08,
    ... )
    >>> bound.predict([0.5, 0.02, 0.01]).tolist()
    [5.0, 149.0, inf]
    """

    alpha: float
    level: float | None
    least_p_hat: float
    longest: int
    prompts: int
    of_prompts: int
    prompts_needed: int
    miss: float | None

    def predict(self, p_hat: ArrayLike) -> NDArray[np.float64]:
        """U for prompts with predicted risks `p_hat` in (0, 1], shape (n,); infinite: unbounded."""
        p = check_probabilities(p_hat, "p_hat")
        if self.level is None:
            return np.full(p.shape, math.inf)
        time = quantile_at_rate(rate(p), self.level)
        bounded = (p >= self.least_p_hat) & (time <= self.longest)
        return np.where(bounded, time, math.inf)

    @property
    def statement(self) -> str:
        """The guarantee in one or two sentences, or why there is none."""
        if self.level is None:
            short = f" (at least {self.prompts_needed} are needed)"
            return (
                f"Unbounded for every prompt: {self.prompts} of {self.of_prompts} training prompts "
                f"have p_hat >= {self.least_p_hat:.2g}, from which on {self.longest} draws could "
                f"show an upper bound{short if self.prompts < self.prompts_needed else ''}, and no "
                "level qualified."
            )
        return (
            f"Among prompts with p_hat >= {self.least_p_hat:.2g} ({self.prompts} of "
            f"{self.of_prompts} training prompts), P(T <= U) is at least {1 - self.alpha:.4g} on "
            "average over training sets (conformal risk control, with out-of-fold predictions for "
            f"those of new prompts); unbounded for the others, which {self.longest} draws cannot "
            "tell."
        )


def calibrate_upper(
    p_hat: ArrayLike,
    unsafe: ArrayLike,
    draws: ArrayLike,
    *,
    alpha: float = 0.1,
    units: Sequence[str] | None = None,
) -> UpperPredictiveBound:
    """An upper predictive bound from `unsafe` of `draws` draws of each prompt, shapes (n,).

    `p_hat` are predictions that did not see the prompt's own draws. Missing verdicts must count as
    safe here: that is what makes T longer. Wordings of one of `units` count as one prompt. Raises
    `UsageError` for an alpha outside (0, 1), counts that contradict each other and without prompts.

    >>> rng = np.random.default_rng(0)
    >>> risk = 10 ** rng.uniform(-5, -0.5, 500)
    >>> bound = calibrate_upper(risk, rng.binomial(200, risk), 200)
    >>> bound.predict([0.1, 0.05, 0.001]).tolist()
    [23.0, 46.0, inf]
    """
    p = check_probabilities(p_hat, "p_hat")
    c = np.asarray(unsafe, dtype=np.float64)
    n = np.broadcast_to(np.asarray(draws, dtype=np.float64), p.shape)
    if not 0 < alpha < 1:
        raise UsageError(f"alpha must lie strictly between 0 and 1, not {alpha}")
    if p.size == 0 or c.shape != p.shape or (c < 0).any() or (c > n).any() or (n < 1).any():
        raise UsageError("give p_hat, unsafe and draws for the same prompts, 0 <= unsafe <= draws")
    names = np.arange(p.size) if units is None else np.asarray(list(units))
    if names.shape != p.shape:
        raise UsageError(f"units has shape {names.shape}, p_hat {p.shape}: they must be the same")
    longest = int(n.min())
    least = -math.expm1(2 * math.log(alpha) / longest)
    inside = p >= least
    _, unit = np.unique(names[inside], return_inverse=True)
    sizes = np.bincount(unit).astype(np.float64)
    rates_, c, n = rate(p[inside]), c[inside], n[inside]

    def missed(number: int) -> float:
        """Sum over the class of P(T > U) at level `number` of the grid; falls as that grows."""
        time = quantile_at_rate(rates_, -math.expm1(-_STEP * number))
        loss = np.where(time <= longest, none_among(n, c, np.minimum(time, longest)), 0.0)
        return float((np.bincount(unit, weights=loss) / sizes).sum())

    low, high = 0, _LEVELS + 1
    allowed = alpha * (sizes.size + 1) - 1 + 1e-9  # alpha (N + 1) may be 1 but for rounding
    while sizes.size and high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if missed(middle) <= allowed else (middle, high)
    found = high if high <= _LEVELS else None
    return UpperPredictiveBound(
        alpha=alpha,
        level=None if found is None else -math.expm1(-_STEP * found),
        least_p_hat=least,
        longest=longest,
        prompts=int(sizes.size),
        of_prompts=int(np.unique(names).size),
        prompts_needed=math.ceil(1 / alpha - 1 - 1e-9),
        miss=None if found is None else missed(found) / sizes.size,
    )
