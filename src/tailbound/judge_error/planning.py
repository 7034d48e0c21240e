"""About how many more labels would tell."""

from __future__ import annotations

from collections.abc import Callable

from tailbound.errors import UsageError

STEPS = 8
"""Halvings of the logarithm of the factor: it is good to about 1%."""


def factor_needed(
    shows: Callable[[float], bool], *, most: float, steps: int = STEPS
) -> float | None:
    """The smallest factor above 1, up to `most`, for which `shows` is true; None for none.

    `shows(f)` says whether f times as many labels with the same shares of unsafe ones would tell. A
    guess, as `deployment.more_needed` is: it takes the shares as the truth. Raises `UsageError`
    for `most` below 1.

    >>> factor_needed(lambda factor: factor >= 8, most=100)
    8.0
    >>> factor_needed(lambda factor: False, most=100) is None
    True
    """
    if most < 1:
        raise UsageError(f"most must be at least 1, not {most:g}")
    low, high = 1.0, min(2.0, most)
    while not shows(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    for _ in range(steps):
        middle = (low * high) ** 0.5
        if shows(middle):
            high = middle
        else:
            low = middle
    return high
