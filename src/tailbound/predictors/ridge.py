"""Ridge logistic regression on counts, in the row space of the features.

Features are standardised and rotated to their principal components. A ridge penalty is blind to
rotations, and weights outside of the row space only cost, so the solution is that of the full
problem while the work is that of min(prompts, dimension) columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.special import expit

from tailbound.predictors.likelihood import Array, log_likelihood

MAX_COMPONENTS = 512
"""Principal components kept at most: beyond it the fit is that of the leading ones."""

_STEPS = 100
_TOLERANCE = 1e-9


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

    by Newton's method with step halving from `start`; the intercept is not penalised. The problem
    is convex, and strictly so for penalty > 0.
    """
    design = np.column_stack([np.ones(len(x)), x])
    ridge = np.full(design.shape[1], penalty)
    ridge[0] = 0.0

    def objective(weights: Array) -> float:
        size = float(ridge @ np.square(weights))
        return 0.5 * size - log_likelihood(design @ weights, events, draws)

    weights = start.copy()
    value = objective(weights)
    for _ in range(_STEPS):
        p = expit(design @ weights)
        gradient = design.T @ (draws * p - events) + ridge * weights
        curvature = (design.T * (draws * p * (1 - p))) @ design
        curvature[np.diag_indices_from(curvature)] += ridge + 1e-12
        step = cho_solve(cho_factor(curvature), gradient)
        decrease = float(gradient @ step)
        if decrease < _TOLERANCE * max(1.0, abs(value)):
            break
        size = 1.0
        while size > 1e-10:
            trial = weights - size * step
            reached = objective(trial)
            if reached <= value - 1e-4 * size * decrease:
                break
            size /= 2
        else:
            break
        weights, value = trial, reached
    return weights


def path(
    x: Array, events: Array, draws: Array, penalties: NDArray[np.float64], intercept: float
) -> list[Array]:
    """Solutions for descending `penalties`, each started from the one before."""
    weights = np.zeros(1 + x.shape[1])
    weights[0] = intercept
    solutions = []
    for penalty in penalties:
        weights = fit_ridge(x, events, draws, float(penalty), weights)
        solutions.append(weights)
    return solutions
