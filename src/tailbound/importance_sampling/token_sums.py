"""Log-probabilities of the tokens of many draws, summed over any window at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError
from tailbound.importance_sampling.weights import FloatArray


class PrefixSums:
    """Sums over token windows of log-probs (n, T) that may be -inf, each in constant time."""

    def __init__(self, tokens: FloatArray) -> None:
        never = np.isneginf(tokens)
        self._sums = _cumulated(np.where(never, 0.0, tokens))
        self._never = _cumulated(never.astype(np.float64))

    def between(self, start: int, stop: int) -> FloatArray:
        """Sum over start <= t < stop, shape (n,)."""
        impossible = self._never[:, stop] > self._never[:, start]
        return np.where(impossible, -np.inf, self._sums[:, stop] - self._sums[:, start])

    def all_splits(self) -> tuple[FloatArray, FloatArray]:
        """Sums over t < s and over t >= s for s = 0..T, each of shape (n, T + 1)."""
        before = np.where(self._never > 0, -np.inf, self._sums)
        after_never = self._never[:, -1:] - self._never
        after = np.where(after_never > 0, -np.inf, self._sums[:, -1:] - self._sums)
        return before, after


def _cumulated(tokens: FloatArray) -> FloatArray:
    return np.concatenate([np.zeros((len(tokens), 1)), np.cumsum(tokens, axis=1)], axis=1)


def check_token_log_probs(tokens: ArrayLike, lengths: ArrayLike | None, name: str) -> FloatArray:
    """Per-token log-probs (n, T) as float64, 0 behind each draw's length, checked."""
    values = np.asarray(tokens, dtype=np.float64)
    if values.ndim != 2:
        raise UsageError(f"{name} must have shape (draws, tokens), not {values.shape}")
    if lengths is not None:
        ends = np.asarray(lengths)
        if ends.shape != values.shape[:1] or (ends < 0).any() or (ends > values.shape[1]).any():
            raise UsageError(
                f"lengths must be one number of tokens per draw, in 0..{values.shape[1]}"
            )
        values = np.where(np.arange(values.shape[1]) < ends[:, None], values, 0.0)
    # Rounding in a log-softmax may leave a certain token a little above 0.
    if np.isnan(values).any() or (values > 1e-3).any():
        wrong = values[np.isnan(values) | (values > 1e-3)][0]
        raise UsageError(f"{name} log-probabilities must be at most 0, but one is {wrong}")
    return values
