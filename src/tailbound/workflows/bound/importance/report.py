"""What a bound from weighted draws rests on, as a value: the curve, the weights, plain draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.intervals import clopper_pearson
from tailbound.survival.importance import LARGEST_ERROR, LEAST_EFFECTIVE, CurveAtLevel

CONFIDENCE, ALARM = 0.95, 0.99
"""Of the interval that is shown, and of the one outside which the two disagree."""
SHOWN_SHARE = 0.2
"""The share of missed risk whose consequence the statement names."""


@dataclass(frozen=True, kw_only=True)
class CrossCheck:
    """Plain draws of a random part of the calibration prompts beside what the weights expect.

    Each of `prompts` was followed to its bound, at most to `draws_each` draws, `draws` in all;
    `unsafe` of them were unsafe by then (a missing verdict counts), a share of `observed` with the
    exact 95% `interval`. `expected` is the same share by the weighted draws of all calibration
    prompts, with its `standard_error`. `agrees`: they do not exclude each other.
    """

    prompts: int
    draws: int
    draws_each: int
    unsafe: int
    observed: float
    interval: tuple[float, float]
    expected: float
    standard_error: float
    agrees: bool


def cross_check(
    events: NDArray[np.bool_], used: NDArray[np.int64], expected: NDArray[np.float64], *, each: int
) -> CrossCheck:
    """Compare `events` (m,) of checked prompts, after `used` (m,) draws, with `expected` (n,).

    `expected` are estimates of P(unsafe within min(L - 1, `each`) draws) for all n calibration
    prompts; the m are a random part of these. They disagree where the exact 99% interval of the
    plain draws and two standard errors around the expected share do not meet.
    """
    m, unsafe = events.size, int(events.sum())
    low, high = (float(end) for end in clopper_pearson(unsafe, m, confidence=CONFIDENCE))
    least, most = (float(end) for end in clopper_pearson(unsafe, m, confidence=ALARM))
    mean = float(expected.mean())
    error = float(expected.std(ddof=1) / np.sqrt(expected.size)) if expected.size > 1 else 0.0
    return CrossCheck(
        prompts=m,
        draws=int(used.sum()),
        draws_each=each,
        unsafe=unsafe,
        observed=unsafe / m,
        interval=(low, high),
        expected=mean,
        standard_error=error,
        agrees=bool(least - 2 * error <= mean <= most + 2 * error),
    )


@dataclass(frozen=True, kw_only=True)
class WeightedCoverage:
    """Coverage P(T >= L) of test prompts by weighted draws of their own, unbiased.

    `name` is "all" or a range of p_hat; `interval` is the asymptotic 95% one, cut at 0 and 1.
    """

    name: str
    prompts: int
    coverage: float
    standard_error: float
    interval: tuple[float, float]
    median_bound: float


def weighted_coverage(
    survival: NDArray[np.float64], bounds: NDArray[np.int64], p_hat: NDArray[np.float64]
) -> tuple[WeightedCoverage, ...]:
    """Of all test prompts, then by fifths of `p_hat`, from estimates of P(T >= L), all (n,)."""
    order = np.argsort(p_hat, kind="stable")
    fifths = np.array_split(order, 5) if order.size >= 10 else []
    parts = [("all", order)]
    parts += [(f"p_hat {p_hat[one[0]]:.0e} .. {p_hat[one[-1]]:.0e}", one) for one in fifths]
    return tuple(_coverage(name, survival[one], bounds[one]) for name, one in parts)


def _coverage(
    name: str, survival: NDArray[np.float64], bounds: NDArray[np.int64]
) -> WeightedCoverage:
    n, mean = survival.size, float(survival.mean())
    error = float(survival.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return WeightedCoverage(
        name=name,
        prompts=n,
        coverage=mean,
        standard_error=error,
        interval=(max(mean - 1.96 * error, 0.0), min(mean + 1.96 * error, 1.0)),
        median_bound=float(np.median(bounds)),
    )


@dataclass(frozen=True, kw_only=True)
class WeightedReport:
    """What a bound by `--method importance` rests on.

    `draws_per_prompt` weighted draws of each calibration prompt were planned on average, and
    `draws` made in all, from `proposals`; `explored` says whether heated versions of the target
    took part, which rest on no direction. `missing` of the draws had no verdict and count as
    unsafe. `mean_weight` must be near 1; `largest_weight` is the largest that can occur. `curve`
    is what the curve rests on at the level, `cross_check` its comparison with plain draws, `test`
    the coverage of the test prompts, all of them first.
    """

    draws_per_prompt: int
    draws: int
    missing: int
    proposals: tuple[str, ...]
    explored: bool
    mean_weight: float
    mean_weight_z: float
    largest_weight: float
    curve: CurveAtLevel
    cross_check: CrossCheck | None
    test: tuple[WeightedCoverage, ...]

    @property
    def statement(self) -> str:
        """What was checked of the assumption that the draws met every way to be unsafe."""
        return " ".join([self._checked, *self._missed])

    def too_noisy(self, alpha: float) -> str | None:
        """Why nothing can be said of a miscoverage of `alpha`; None where something can."""
        if self.curve.reliable(alpha):
            return None
        return (
            f"the {self.draws:,} weighted draws, {self.curve.hits:,} of them unsafe, leave the "
            f"miscoverage at {self.curve.miscoverage:.3g} with a standard error of "
            f"{self.curve.standard_error:.3g} and {self.curve.effective_prompts:.0f} effective "
            f"prompts (at most alpha x {LARGEST_ERROR:.2g} and at least {LEAST_EFFECTIVE:.0f} are "
            "needed): raise --draws, or use another --proposal"
        )

    @property
    def _checked(self) -> str:
        found = self.cross_check
        if found is None:
            return (
                "Coverage of routes: not checked by any plain draw (--cross-check 0); whether "
                f"{self._named} miss ways to be unsafe is not known."
            )
        seen = (
            f"plain draws of {found.prompts} prompts, at most {found.draws_each} each, were unsafe "
            f"within the bound for {found.observed:.3f} of them (95% interval "
            f"{found.interval[0]:.3f} to {found.interval[1]:.3f}), where the weights expect "
            f"{found.expected:.3f}"
        )
        if not found.agrees:
            return (
                f"Coverage of routes: the check DISAGREES, {seen}: the bound is not to be relied "
                "on; use --method direct, other proposals, or more --draws."
            )
        return (
            f"Coverage of routes: checked only so far, {seen}. Not checked: ways to be unsafe that "
            f"{self._named} hardly ever take and that these plain draws did not meet either."
        )

    @property
    def _missed(self) -> Sequence[str]:
        one = next((one for one in self.curve.if_missed if one.share == SHOWN_SHARE), None)
        if one is None:
            return ()
        return (
            f"If they carried {one.share:.0%} of every risk, the coverage would be about "
            f"{one.coverage:.3f}.",
        )

    @property
    def _named(self) -> str:
        return "the proposals" if len(self.proposals) > 1 else "so few draws of the target"
