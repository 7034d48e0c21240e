"""Lists of changed prompts with a limit on the false ones among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    r"""p-values adjusted so that those <= q have a false discovery rate of at most q.

        adjusted_(i) = min over j >= i of m p_(j) / j,  for p_(1) <= ... <= p_(m).

    Shape (m,). It holds for independent p-values and for positively dependent ones. Raises
    `UsageError` for values outside [0, 1].

    Source: Benjamini and Hochberg (1995), "Controlling the false discovery rate".

    >>> benjamini_hochberg([0.001, 0.04, 0.03, 0.8]).round(3).tolist()
    [0.004, 0.053, 0.053, 0.8]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise UsageError("p-values must be a list of numbers in [0, 1]")
    return _adjusted(p)


def e_benjamini_hochberg(e_values: ArrayLike) -> NDArray[np.float64]:
    r"""The same for e-values: those <= q have a false discovery rate of at most q.

        adjusted_(i) = min(1, min over j >= i of m / (j e_(j))),  for e_(1) >= ... >= e_(m).

    It holds under any dependence, and for e-processes at any time of stopping. Shape (m,); raises
    `UsageError` for negative values.

    Source: Wang and Ramdas (2022), "False discovery rate control with e-values".

    >>> e_benjamini_hochberg([1000.0, 2.0, 50.0, 0.0]).round(3).tolist()
    [0.004, 0.667, 0.04, 1.0]
    """
    e = np.asarray(e_values, dtype=np.float64)
    if e.ndim != 1 or not (e >= 0).all():
        raise UsageError("e-values must be a list of numbers of at least 0")
    with np.errstate(divide="ignore", over="ignore"):
        return _adjusted(1 / e)


def _adjusted(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """min over j >= i of m v_(j) / j, at most 1."""
    order = np.argsort(values, kind="stable")
    m = values.size
    steps = values[order] * m / np.arange(1, m + 1)
    found = np.empty(m)
    found[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return found
