r"""A small network on top of the ridge fit, trained on unsafe counts.

With z the leading coordinates of the features and o(x) the log-odds of the ridge fit, it adds

    f(z) = b + sum_h v_h tanh(z . W_h + c_h)

to o(x) and minimises

    -log-likelihood + penalty / 2 (|W|^2 + |c|^2 + |v|^2)

by L-BFGS from fixed random W and c, with v = 0: it starts as the ridge fit, and a large penalty
keeps it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from tailbound.predictors.likelihood import Array, log_likelihood

HIDDEN, STARTS = 8, 3
"""Units of the hidden layer for each start of the training, and how many starts there are."""

NETWORK_PENALTIES: tuple[float, ...] = (10.0, 6.0, 4.0, 2.5, 1.5)

_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Network:
    """One hidden layer of tanh units with one output.

    `into` has shape (coordinates, units), `shift` and `out` (units,).
    """

    into: Array
    shift: Array
    out: Array
    bias: float

    def __call__(self, z: Array) -> Array:
        """f(z) of z, shape (prompts, coordinates); shape (prompts,)."""
        return np.asarray(self.bias + np.tanh(z @ self.into + self.shift) @ self.out)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `from_arrays` reads."""
        bias = np.array([self.bias])
        return {"into": self.into, "shift": self.shift, "out": self.out, "bias": bias}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], coordinates: int) -> Network:
        """Inverse of `arrays`; `ValueError` where shapes disagree or a number is not finite."""
        into, shift, out, bias = (arrays[name] for name in ("into", "shift", "out", "bias"))
        units = shift.shape[0] if shift.ndim == 1 else -1
        shapes = (into.shape, shift.shape, out.shape, bias.shape)
        if shapes != ((coordinates, units), (units,), (units,), (1,)):
            raise ValueError(f"a network of shapes {shapes}")
        for values in (into, shift, out, bias):
            if values.dtype != np.float64 or not np.isfinite(values).all():
                raise ValueError("a network with weights that are not finite numbers")
        return cls(into, shift, out, float(bias[0]))


def fit_network(z: Array, offset: Array, events: Array, draws: Array, penalty: float) -> Network:
    """The network that goes with `offset` log-odds, from `events` in `draws`, all (prompts,).

    `z` has shape (prompts, coordinates) and rows of mean square norm about 1. Several are trained
    from different starts, and their mean is one network with all their units. The same for the same
    data.
    """
    every = [_fit_one(z, offset, events, draws, penalty, seed) for seed in range(STARTS)]
    return Network(
        into=np.concatenate([one.into for one in every], axis=1),
        shift=np.concatenate([one.shift for one in every]),
        out=np.concatenate([one.out for one in every]) / STARTS,
        bias=sum(one.bias for one in every) / STARTS,
    )


def _fit_one(
    z: Array, offset: Array, events: Array, draws: Array, penalty: float, seed: int
) -> Network:
    """A network of `HIDDEN` units from the start that `seed` draws."""
    from scipy.optimize import minimize

    m = z.shape[1]
    rng = np.random.default_rng(seed)
    start = np.concatenate([rng.standard_normal(HIDDEN * (m + 1)), np.zeros(HIDDEN + 1)])

    def parts(theta: Array) -> tuple[Array, Array, Array]:
        into, shift, out = np.split(theta[:-1], [HIDDEN * m, HIDDEN * (m + 1)])
        return into.reshape(m, HIDDEN), shift, out

    def objective(theta: Array) -> tuple[float, Array]:
        into, shift, out = parts(theta)
        hidden = np.tanh(z @ into + shift)
        eta = offset + theta[-1] + hidden @ out
        slope = draws * expit(eta) - events
        back = (slope[:, None] * out) * (1 - np.square(hidden))
        gradient = np.concatenate([(z.T @ back).ravel(), back.sum(0), slope @ hidden, [0.0]])
        gradient += penalty * theta
        gradient[-1] = slope.sum()
        size = 0.5 * penalty * float(theta[:-1] @ theta[:-1])
        return size - log_likelihood(eta, events, draws), gradient

    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    )
    return Network(*parts(found.x), float(found.x[-1]))
