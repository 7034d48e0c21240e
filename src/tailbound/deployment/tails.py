r"""Two tails of psi = -log(-log p), fitted to its k largest values among m queries.

    Gumbel-type           log P(psi > x) = a x + b: least squares on log(i / m) at the i-th largest
    generalised Pareto    P(psi > x) = (k / m) (1 + xi (x - u) / sigma)^(-1 / xi) beyond u

The first is the published one; the second adds a shape, of which xi = 0 is the first.

Uncertainty of the first: with an exponential tail the k largest are theta + sigma X, X the k
largest of m standard exponentials, and the regression is equivariant, so (theta, sigma) has an
exact fiducial distribution, theta* = mean - sigma* mean(X), sigma* = scale / scale(X). Of the
second: fits to draws from the fitted tail, reflected around it.

Sources: Jones et al. (2025), arXiv 2502.16797, section 3; Rényi (1953) for exponential spacings;
Hosking and Wallis (1987) for probability-weighted moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailbound.deployment.queries import FloatArray

_SHAPES = (-1.0, 0.45)
"""Between these the moments exist and the fit is stable."""


def largest(psi: FloatArray, k: int) -> FloatArray:
    """The k largest of each row, in descending order: (..., m) to (..., k).

    >>> largest(np.array([3.0, 1.0, 2.0]), 2).tolist()
    [3.0, 2.0]
    """
    m = psi.shape[-1]
    top = np.partition(psi, m - k, axis=-1)[..., m - k :]
    return np.asarray(-np.sort(-top, axis=-1))


def exponential_largest(rng: np.random.Generator, k: int, m: int, size: int) -> FloatArray:
    """The k largest of m standard exponentials, in descending order, `size` times: (size, k).

    >>> exponential_largest(np.random.default_rng(0), 3, 10, 2).shape
    (2, 3)
    """
    least = -np.log(rng.beta(k, m + 1 - k, size=(size, 1)))
    gaps = rng.standard_exponential((size, k - 1)) / np.arange(1, k)
    above = np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]
    return np.concatenate([above + least, least], axis=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class GumbelFit:
    """Least squares of log(i / m) on the i-th largest psi; arrays share any leading shape.

    `center` is the mean of the k values, `scale` is -1 / a, `level` the mean of log(i / m).
    """

    center: FloatArray
    scale: FloatArray
    level: float

    def quantile(self, queries: float) -> FloatArray:
        """The psi that one in so many queries exceeds: the published forecast."""
        return np.asarray(self.center + self.scale * (self.level + np.log(queries)))


def fit_gumbel(top: FloatArray, m: int) -> GumbelFit:
    """The regression on the k largest psi, shape (..., k), of m queries.

    >>> fit = fit_gumbel(np.array([np.log(8), np.log(4)]), 8)
    >>> round(float(fit.scale), 6), round(float(np.exp(fit.quantile(16))), 6)
    (1.0, 16.0)
    """
    y = np.log(np.arange(1, top.shape[-1] + 1) / m)
    center = top.mean(axis=-1)
    x = top - center[..., None]
    away = y - y.mean()
    squares = np.maximum((x * x).sum(axis=-1), 1e-300)
    slope = np.minimum((x * away).sum(axis=-1) / squares, -1e-12)
    return GumbelFit(center=center, scale=np.asarray(-1 / slope), level=float(y.mean()))


@dataclass(frozen=True, eq=False, kw_only=True)
class GumbelTails:
    """Fiducial draws (B,) of an exponential tail: P(psi > x) = exp(-(x - theta) / sigma)."""

    theta: FloatArray
    sigma: FloatArray

    def log_survival(self, psi: float) -> FloatArray:
        """log P(psi > x) for a query, at most 0."""
        return np.minimum(-(psi - self.theta) / self.sigma, 0.0)

    def worst(self, rng: np.random.Generator, queries: int) -> FloatArray:
        """A draw of the largest psi among new queries from each."""
        return np.asarray(self.theta - self.sigma * _log_least(rng, self.theta.size, queries))


def gumbel_tails(fit: GumbelFit, rng: np.random.Generator, *, k: int, m: int) -> GumbelTails:
    """One draw of (theta, sigma) for each of B fits of k values among m.

    >>> fit = fit_gumbel(exponential_largest(np.random.default_rng(1), 50, 500, 2), 500)
    >>> gumbel_tails(fit, np.random.default_rng(2), k=50, m=500).sigma.shape
    (2,)
    """
    other = fit_gumbel(exponential_largest(rng, k, m, fit.center.size), m)
    sigma = fit.scale / other.scale
    return GumbelTails(theta=np.asarray(fit.center - sigma * other.center), sigma=sigma)


def pooled_tails(
    top: FloatArray, rng: np.random.Generator, *, k: int, m: int, least: int = 5
) -> GumbelTails:
    """Draws of the tail from rows of largest psi, (B, >= k): of every other row, half of the k.

    >>> top = exponential_largest(np.random.default_rng(1), 50, 500, 4)
    >>> pooled_tails(top, np.random.default_rng(2), k=50, m=500).sigma.shape
    (4,)
    """
    parts = [
        gumbel_tails(fit_gumbel(rows[:, :size], m), rng, k=size, m=m)
        for rows, size in ((top[::2], k), (top[1::2], max(least, k // 2)))
    ]
    return GumbelTails(
        theta=np.concatenate([one.theta for one in parts]),
        sigma=np.concatenate([one.sigma for one in parts]),
    )


def finite_k_bias(
    rng: np.random.Generator, *, k: int, m: int, n: float, size: int = 4_000
) -> float:
    """Mean of the published forecast minus the true quantile, in units of the tail's scale.

    For an exactly exponential tail, by simulation of Rényi's spacings. It is positive for forecasts
    beyond the data: a convex function of the noisy slope is read off. The bias of finite k is
    analysed in Schwarzer and Niekum (2026), arXiv 2605.15134.

    >>> finite_k_bias(np.random.default_rng(0), k=10, m=100, n=10_000) > 0
    True
    """
    fits = fit_gumbel(exponential_largest(rng, k, m, size), m)
    return float(np.mean(fits.quantile(n)) - np.log(n))


@dataclass(frozen=True, eq=False, kw_only=True)
class ParetoTails:
    """Draws (B,) of a generalised Pareto tail beyond `threshold`, exceeded with chance `share`."""

    threshold: FloatArray
    share: FloatArray
    scale: FloatArray
    shape: FloatArray

    def log_survival(self, psi: float) -> FloatArray:
        """log P(psi > x) for a query; at and below the threshold, that of the threshold."""
        over = np.maximum(psi - self.threshold, 0.0) / self.scale
        shape = np.where(np.abs(self.shape) < 1e-9, 1e-9, self.shape)
        with np.errstate(divide="ignore"):
            within = np.log(np.maximum(1 + shape * over, 0.0)) / shape
        return np.asarray(np.log(self.share) - within)

    def worst(self, rng: np.random.Generator, queries: int) -> FloatArray:
        """A draw of the largest psi among new queries from each; at least the threshold."""
        depth = np.log(self.share) - _log_least(rng, self.share.size, queries)
        shape = np.where(np.abs(self.shape) < 1e-9, 1e-9, self.shape)
        over = np.expm1(shape * np.maximum(depth, 0.0)) / shape
        return np.asarray(self.threshold + self.scale * over)


def fit_pareto(excess: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(scale, shape) from excesses (..., k) in descending order, by weighted moments.

    >>> tail = exponential_largest(np.random.default_rng(0), 2_000, 2_000, 1)
    >>> [round(float(one), 1) + 0.0 for one in np.concatenate(fit_pareto(tail))]
    [1.0, 0.0]
    """
    k = excess.shape[-1]
    mean = np.maximum(excess.mean(axis=-1), 1e-300)
    below = (excess * (np.arange(1, k + 1) - 0.65) / k).mean(axis=-1)
    ratio = np.clip(below / mean, 1e-6, 0.5 - 1e-6)
    shape = np.clip(2 - 1 / (1 - 2 * ratio), *_SHAPES)
    return np.asarray(mean * (1 - shape)), np.asarray(shape)


def pareto_tails(
    top: FloatArray, threshold: FloatArray, rng: np.random.Generator, *, m: int
) -> ParetoTails:
    """A draw of the tail for each row of the k largest psi, (B, k), beyond `threshold`, (B,).

    >>> top = exponential_largest(np.random.default_rng(0), 11, 100, 5)
    >>> found = pareto_tails(top[:, :10], top[:, 10], np.random.default_rng(1), m=100)
    >>> found.shape.shape
    (5,)
    """
    size, k = top.shape
    scale, shape = fit_pareto(top - threshold[:, None])
    depth = rng.standard_exponential((size, k))
    safe = np.where(np.abs(shape) < 1e-9, 1e-9, shape)[:, None]
    again = -np.sort(-scale[:, None] * np.expm1(safe * depth) / safe, axis=1)
    other_scale, other_shape = fit_pareto(again)
    return ParetoTails(
        threshold=threshold,
        share=rng.beta(k, m + 1 - k, size=size),
        scale=scale**2 / other_scale,
        shape=np.clip(2 * shape - other_shape, *_SHAPES),
    )


def straightness(top: FloatArray) -> tuple[float, float]:
    """Two p-values of a log-linear tail from the k largest psi in descending order: (gap, bend).

    The scaled spacings i (psi_i - psi_(i+1)) are then independent exponentials of one mean. `gap`
    is the exact chance of so large a largest share of their sum (Fisher 1929): a second mode.
    `bend` compares the means of the first and second half by F, two-sided: a curved tail.

    >>> even = np.cumsum(1 / np.arange(10, 0, -1))[::-1]
    >>> [round(one, 2) for one in straightness(even)]
    [1.0, 0.98]
    """
    from scipy.special import fdtr

    spacings = np.arange(1, top.size) * -np.diff(top)
    total, count = spacings.sum(), spacings.size
    if count < 2 or not total > 0:
        return 1.0, 1.0
    half = count // 2
    first, second = spacings[:half].mean(), spacings[half:].mean()
    below = fdtr(2 * half, 2 * (count - half), first / second) if second > 0 else 1.0
    return _largest_share(spacings.max() / total, count), float(2 * min(below, 1 - below))


def _largest_share(share: float, count: int) -> float:
    """P(largest of `count` uniform spacings of [0, 1] > share), by inclusion and exclusion."""
    from scipy.special import gammaln

    j = np.arange(1, min(int(1 / share), count) + 1)
    j = j[1 - j * share > 0]
    logs = (
        gammaln(count + 1)
        - gammaln(j + 1)
        - gammaln(count - j + 1)
        + (count - 1) * np.log(1 - j * share)
    )
    # where terms cancel, the chance is near 1
    if logs.size and logs.max() > 20:
        return 1.0
    return float(np.clip(np.sum((-1.0) ** (j - 1) * np.exp(logs)), 0.0, 1.0))


def _log_least(rng: np.random.Generator, size: int, queries: int) -> FloatArray:
    """log of the least of `queries` uniform numbers."""
    return np.log(-np.expm1(np.log(rng.random(size)) / queries))
