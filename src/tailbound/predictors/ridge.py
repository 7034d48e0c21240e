"""Ridge logistic regression on counts, in the row space of the features.

Features are standardised and rotated to their principal components. A ridge penalty is blind to
rotations, and weights outside of the row space only cost, so the solution is that of the full
problem while the work is that of min(prompts, dimension) columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.special import expit

from tailbound.predictors.likelihood import Array, log_likelihood

MAX_COMPONENTS = 512
"""Principal components kept at most: beyond it the fit is that of the leading ones."""

_NEWTON_STEPS = 100
_TOLERANCE = 1e-6
"""In nats: Newton stops where the next step would gain less than half of it."""


@dataclass(frozen=True, eq=False)
class RowSpace:
    """A linear map from features to `coordinates`, whose rows have mean square norm 1.

    `mean` has shape (dimension,), `rotation` (dimension, components), `coordinates`
    (prompts, components).
    """

    mean: Array
    rotation: Array
    coordinates: Array

    @classmethod
    def of(cls, features: Array) -> RowSpace:
        """The row space of `features`, shape (prompts, dimension); constant columns get 0."""
        mean, inverse_scale = standardisation(features)
        standard = (features - mean) * inverse_scale
        directions = principal_directions(standard, MAX_COMPONENTS)
        coordinates = standard @ directions
        size = np.sqrt(np.square(coordinates).sum(axis=1).mean()) if directions.size else 1.0
        return cls(mean, inverse_scale[:, None] * directions / size, coordinates / size)


def standardisation(features: Array) -> tuple[Array, Array]:
    """Mean and 1 / standard deviation of each column, 0 where it is constant."""
    mean = features.mean(axis=0)
    scale = features.std(axis=0)
    constant = scale <= 1e-9 * np.maximum(1.0, np.abs(mean))
    return mean, np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, scale))


def principal_directions(standard: Array, components: int) -> Array:
    """Leading directions of the rows of `standard`, shape (dimension, at most components).

    Orthonormal columns, those of (numerically) no extent left out.
    """
    prompts, dimension = standard.shape
    tall = dimension <= prompts
    gram = standard.T @ standard if tall else standard @ standard.T
    size = len(gram)
    values, vectors = eigh(gram, subset_by_index=[max(0, size - components), size - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > 1e-10 * max(float(values[0]), 1e-300)
    values, vectors = values[kept], vectors[:, kept]
    directions: Array = vectors if tall else standard.T @ (vectors / np.sqrt(values))
    return directions


def fit_ridge(x: Array, events: Array, draws: Array, penalty: float, start: Array) -> Array:
    """Intercept and weights, shape (1 + components,), that minimise

        -log-likelihood + penalty / 2 * |weights|^2

    by Newton's method from `start`, its equations solved by conjugate gradients. The intercept is
    not penalised. The problem is convex, and strictly so for penalty > 0.
    """
    ridge = np.full(len(start), penalty)
    ridge[0] = 0.0
    squares = np.square(x)

    def objective(weights: Array) -> float:
        size = float((ridge * np.square(weights)).sum())
        return 0.5 * size - log_likelihood(_log_odds(x, weights), events, draws)

    weights, value = start, objective(start)
    for _ in range(_NEWTON_STEPS):
        p = expit(_log_odds(x, weights))
        curvature = draws * p * (1 - p)
        gradient = _back(x, draws * p - events) + ridge * weights
        diagonal = _back(squares, curvature) + ridge
        step = _solve(x, curvature, ridge, diagonal, gradient)
        decrease = float((gradient * step).sum())
        if decrease < _TOLERANCE:
            break
        size = 1.0
        while (reached := objective(weights - size * step)) > value - 1e-4 * size * decrease:
            size /= 2
            if size < 1e-9:
                return weights
        weights, value = weights - size * step, reached
    return weights


def _solve(x: Array, curvature: Array, ridge: Array, diagonal: Array, gradient: Array) -> Array:
    """The Newton step: (X' curvature X + ridge) step = gradient, to a hundredth."""
    step = np.zeros_like(gradient)
    rest = gradient.copy()
    scaled = rest / diagonal
    direction, product = scaled, float((rest * scaled).sum())
    enough = 1e-4 * product
    for _ in range(2 * len(gradient)):
        if product <= enough:
            break
        image = _back(x, curvature * _log_odds(x, direction)) + ridge * direction
        length = product / float((direction * image).sum())
        step = step + length * direction
        rest = rest - length * image
        scaled = rest / diagonal
        last, product = product, float((rest * scaled).sum())
        direction = scaled + product / last * direction
    return step


# Sums of products by einsum, which stays out of BLAS: they are small and many, and on a busy
# machine the threads of BLAS wait for one another a hundred times longer than each one takes.


def _log_odds(x: Array, weights: Array) -> Array:
    """Intercept + x . weights, shape (prompts,)."""
    return np.asarray(weights[0] + np.einsum("ij,j->i", x, weights[1:]), dtype=np.float64)


def _back(x: Array, values: Array) -> Array:
    """The transpose of `_log_odds`: sums of values, and of values by component."""
    return np.concatenate([[values.sum()], np.einsum("ij,i->j", x, values)])
