"""Populations of prompts with known risks, and what `observe` sees of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Population:
    risk: np.ndarray
    p_hat: np.ndarray


def population(n: int, kind: str, rng: np.random.Generator) -> Population:
    """Risks log-uniform on 1e-6 .. 1e-1; a good, a useless or a far too high prediction."""
    risk = 10 ** rng.uniform(-6, -1, n)
    noise = np.exp(rng.normal(0, 0.5, n))
    if kind == "good":
        p_hat = risk * noise
    elif kind == "useless":
        p_hat = 10 ** rng.uniform(-6, -1, n)
    elif kind == "too high":
        p_hat = np.sqrt(risk) * noise
    else:
        raise ValueError(kind)
    return Population(risk, np.clip(p_hat, 1e-12, 0.999))


class Observed:
    """First unsafe draws at `times`; counts the draws that were asked for."""

    def __init__(self, times: np.ndarray) -> None:
        self.times = times
        self.reached = np.zeros(len(times), dtype=np.int64)

    def __call__(self, indices: np.ndarray, horizons: np.ndarray) -> np.ndarray:
        assert len(set(indices.tolist())) == len(indices)
        assert (horizons >= 1).all()
        self.reached[indices] = np.maximum(self.reached[indices], horizons)
        return np.where(self.times[indices] <= horizons, self.times[indices], 0)

    @property
    def draws(self) -> int:
        return int(np.minimum(self.times, self.reached).sum())


def true_coverage(bounds: np.ndarray, risk: np.ndarray) -> float:
    """Mean of P(T >= L) = (1 - p)^(L - 1)."""
    return float(np.exp((bounds - 1) * np.log1p(-risk)).mean())
