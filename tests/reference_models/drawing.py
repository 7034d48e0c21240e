"""Draws from an enumerable model by each family of proposals, with everything an estimate needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reference_models.enumerable import EnumerableModel
from tailbound.importance_sampling import Ladder, MixSwitch, estimate_risk, make_ladder
from tailbound.intervals import betting_lower, betting_upper


def steered_ladder(length: int, variants: tuple[str, ...] = ("1", "0.6")) -> Ladder:
    """Steered at two intensities on many windows, without explorers."""
    return make_ladder(
        length, variants=variants, explorers=[], starts=(0, 2, 8, 32), stops=(1, 2, 4, 8, 16, 32)
    )


def spoken(ladder: Ladder, tables: Sequence[np.ndarray] | np.ndarray) -> dict[str, np.ndarray]:
    """Log-probs of tokens by variant of the ladder, in its order."""
    return dict(zip(ladder.variants, tables, strict=False))


@dataclass(frozen=True)
class Draws:
    """Replies, the rung that each came from, and log-densities of all rungs, row 0 the target."""

    replies: np.ndarray
    labels: np.ndarray
    log_densities: np.ndarray


def draw_ladder(
    model: EnumerableModel, ladder: Ladder, counts: np.ndarray, rng: np.random.Generator
) -> Draws:
    """Draws from every rung in these counts."""
    blocks = []
    for rung, count in zip(ladder.rungs, counts, strict=True):
        place = 0 if rung.is_target else ladder.variants.index(rung.variant)
        blocks.append(model.sample_window(place, rung.start, rung.stop, int(count), rng))
    replies = np.concatenate(blocks)
    return Draws(
        replies=replies,
        labels=np.repeat(np.arange(len(ladder)), counts),
        log_densities=ladder_densities(model, ladder, replies),
    )


def ladder_densities(model: EnumerableModel, ladder: Ladder, replies: np.ndarray) -> np.ndarray:
    """Log-densities of all rungs, through the public way, shape (K, n)."""
    return ladder.log_densities(
        model.token_log_probs(model.target, replies),
        spoken(ladder, [model.token_log_probs(tables, replies) for tables in model.steered]),
        lengths=(replies >= 0).sum(axis=1),
    )


def mixture_weights(
    model: EnumerableModel, proposal: MixSwitch, replies: np.ndarray, intensity: int = 0
) -> np.ndarray:
    """log p / q of replies under the family mix-switch, shape (n,)."""
    base = model.token_log_probs(model.target, replies)
    hot = model.token_log_probs(model.steered[intensity], replies)
    return np.asarray(base.sum(axis=1) - proposal.log_density(base, hot))


def certified_bounds(
    log_weights: np.ndarray, harm: np.ndarray, weight_bound: float, *, compared: int = 20
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`certified_lower`, `certified_upper` and `resolved` of every row of (rows, n), at once.

    The arrays go through the functions that `estimate_risk` calls one estimate at a time; the
    first rows are compared with it.
    """
    terms = np.exp(log_weights) * harm
    lows = np.minimum(1.0, betting_lower(terms))
    highs = np.minimum(1.0, betting_upper(np.minimum(terms, weight_bound), bound=weight_bound))
    squares = np.square(terms).sum(axis=1)
    resolved = np.square(terms.sum(axis=1)) >= 10 * np.where(squares > 0, squares, np.inf)
    for row in range(min(compared, len(terms))):
        one = estimate_risk(log_weights[row], harm[row], weight_bound=weight_bound)
        np.testing.assert_allclose(lows[row], one.certified_lower, rtol=1e-9)
        np.testing.assert_allclose(highs[row], one.certified_upper, rtol=1e-9)
        assert resolved[row] == one.precise
    return lows, highs, resolved
