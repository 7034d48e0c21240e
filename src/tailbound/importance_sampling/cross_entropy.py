r"""Choosing the setting of `mix_switch` as published: the cross-entropy method over a grid.

The best proposal is p h / QRISK; the nearest to it in the family, in Kullback-Leibler divergence,
maximises E_p[h log q_phi], estimated from a pilot whose draws came from random settings of the
grid:

    loss(phi) = -(1 / k) sum_i w_i h_i log q_phi(y_i),        w_i = p(y_i) / q_i(y_i).

Prompts that were used here are left out of the evaluation. Source: Angell et al., arXiv 2604.22167
(choice of the proposal); Rubinstein and Kroese (2004), The Cross-Entropy Method, chapter 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError
from tailbound.importance_sampling.mix_switch import MixSwitch, log_densities
from tailbound.importance_sampling.weights import FloatArray, check_log_weights

#: The published grid.
INTENSITIES = tuple(round(0.1 * k, 1) for k in range(1, 11))
MIXING = tuple(float(a) for a in np.linspace(0, 1, 25))
SWITCH_STEP = 5


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Intensities (I,), mixing shares (A,) and switches (S,) to choose from.

    >>> grid = Grid(intensities=(0.5, 1.0), mixing=(0.0, 1.0), switches=(1, 2))
    >>> grid.at(1, 1, 0)
    MixSwitch(intensity=1.0, mixing=1.0, switch=1)
    >>> len(grid.draw(5, rng=0))
    5
    """

    intensities: tuple[float, ...]
    mixing: tuple[float, ...]
    switches: tuple[int, ...]

    def draw(self, count: int, *, rng: np.random.Generator | int | None = None) -> list[MixSwitch]:
        """`count` settings, each uniform over the grid and independent, for pilot draws."""
        generator = np.random.default_rng(rng)
        shape = (len(self.intensities), len(self.mixing), len(self.switches))
        cells = np.unravel_index(generator.integers(int(np.prod(shape)), size=count), shape)
        return [self.at(*map(int, cell)) for cell in zip(*cells, strict=True)]

    def at(self, intensity: int, mixing: int, switch: int) -> MixSwitch:
        """The setting at these places of the grid."""
        return MixSwitch(self.intensities[intensity], self.mixing[mixing], self.switches[switch])


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen `proposal`, its `loss` and all `losses` (I, A, S); NaN where nothing was learnt.

    `fell_back` is True when no pilot draw was unsafe; `reason` says in words what was done.
    """

    proposal: MixSwitch
    loss: float
    losses: FloatArray
    fell_back: bool
    reason: str


def published_grid(max_new_tokens: int) -> Grid:
    """Intensity .1, .2, .., 1; a in 25 even steps from 0 to 1; t_switch 0, 5, .., max.

    >>> grid = published_grid(12)
    >>> len(grid.intensities), len(grid.mixing), grid.switches
    (10, 25, (0, 5, 10, 12))
    """
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    switches = sorted({*range(0, max_new_tokens, SWITCH_STEP), max_new_tokens})
    return Grid(intensities=INTENSITIES, mixing=MIXING, switches=tuple(switches))


def choose(
    grid: Grid,
    log_weights: ArrayLike,
    harm: ArrayLike,
    unsteered: ArrayLike,
    steered: Sequence[ArrayLike],
    *,
    lengths: ArrayLike | None = None,
    fallback: MixSwitch | None = None,
) -> Choice:
    """The setting of least loss over `grid`.

    `log_weights` (k,) of the pilot draws under what each came from, pooled over the tuning prompts;
    `harm` (k,) in [0, 1], NaN counted as 0; `unsteered` (k, T) and `steered`, for each of the
    grid's intensities (k, T), log-probs of their tokens. A setting under which an unsafe pilot draw
    is impossible has infinite loss and is never chosen; ties go to the first. Without an unsafe
    draw the choice is `fallback`: by default full intensity, half mixed in, on all tokens.

    >>> grid = Grid(intensities=(0.5, 1.0), mixing=(0.0, 1.0), switches=(1, 2))
    >>> unsteered, weak, strong = (np.log([[p, 0.5]] * 3) for p in (0.1, 0.2, 0.8))
    >>> choice = choose(grid, [0.0, 0.0, 0.0], [1, 1, 0], unsteered, [weak, strong])
    >>> choice.proposal.intensity, choice.reason
    (1.0, 'least cross-entropy from 2 unsafe of 3 pilot draws')
    """
    weights = check_log_weights(log_weights)
    h = np.nan_to_num(np.asarray(harm, dtype=np.float64), nan=0.0)
    if h.shape != weights.shape or ((h < 0) | (h > 1)).any():
        raise UsageError("harm must be one number in [0, 1] (or NaN) per draw")
    if len(steered) != len(grid.intensities):
        raise UsageError(
            f"steered must be {len(grid.intensities)} arrays, one per intensity, not {len(steered)}"
        )
    used = (h > 0) & (weights > -np.inf)
    shape = (len(grid.intensities), len(grid.mixing), len(grid.switches))
    if not used.any():
        proposal = fallback or MixSwitch(max(grid.intensities), 0.5, max(grid.switches))
        return Choice(
            proposal=proposal,
            loss=float("nan"),
            losses=np.full(shape, np.nan),
            fell_back=True,
            reason=f"none of {h.size} pilot draws was unsafe: fell back to {proposal}",
        )
    # A common factor of the weights changes no choice and keeps them in range.
    terms = np.exp(weights[used] - weights[used].max()) * h[used]
    base = np.asarray(unsteered, dtype=np.float64)[used]
    ends = None if lengths is None else np.asarray(lengths)[used]
    losses = np.empty(shape)
    for row, tokens in enumerate(steered):
        density = log_densities(
            base,
            np.asarray(tokens, dtype=np.float64)[used],
            mixing=grid.mixing,
            switch=grid.switches,
            lengths=ends,
        )
        with np.errstate(invalid="ignore"):
            losses[row] = -np.where(terms > 0, terms * density, 0.0).sum(axis=-1)
    finite = np.isfinite(losses)
    if not finite.any():
        raise UsageError("every setting makes an unsafe pilot draw impossible: check the densities")
    best = np.unravel_index(int(np.argmin(np.where(finite, losses, np.inf))), shape)
    proposal = grid.at(*map(int, best))
    losses *= np.exp(weights[used].max()) / h.size
    return Choice(
        proposal=proposal,
        loss=float(losses[best]),
        losses=losses,
        fell_back=False,
        reason=f"least cross-entropy from {int(used.sum())} unsafe of {h.size} pilot draws",
    )
