r"""The default family of proposals: the target, steered on a ladder of token windows.

LadderProposal 0 is the target p itself. Every other rung samples from the steered model on the
tokens start <= t < stop of a reply (t = 0 is its first token) and from the target on all others, at
one of a few intensities. All rungs of one intensity share two vectors per draw, the log-probability
of each of its tokens given what stands before it, unsteered and steered, so that the log-densities
of all rungs are differences of prefix sums. Weights follow from `balance_heuristic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError
from tailbound.importance_sampling.allocation import TARGET_SHARE, uniform_allocation
from tailbound.importance_sampling.diagnostics import Group, Grouping
from tailbound.importance_sampling.token_sums import PrefixSums, check_token_log_probs
from tailbound.importance_sampling.weights import FloatArray, IntArray, balance_heuristic

STARTS = (0, 2, 8, 32)
STOPS = (1, 2, 4, 8, 16, 32)
INTENSITIES = (1.0, 0.6)


@dataclass(frozen=True)
class LadderProposal:
    """Steered at `intensity` on the tokens `start` <= t < `stop`.

    The target itself is `LadderProposal(0.0, 0, 0)`.
    """

    intensity: float
    start: int
    stop: int

    @property
    def is_target(self) -> bool:
        """Whether this rung samples from the target itself."""
        return self.start == self.stop


@dataclass(frozen=True)
class Ladder:
    """The rungs for replies of at most `max_new_tokens` tokens; `rungs[0]` is the target.

    >>> ladder = make_ladder(4)
    >>> [(r.start, r.stop) for r in ladder.rungs if r.intensity == 1.0]
    [(0, 4), (0, 2), (2, 4), (0, 1)]
    """

    max_new_tokens: int
    intensities: tuple[float, ...]
    rungs: tuple[LadderProposal, ...]

    def __len__(self) -> int:
        return len(self.rungs)

    def allot(self, draws: int, *, target_share: float = TARGET_SHARE) -> IntArray:
        """`uniform_allocation` for these rungs: integer counts that sum to `draws`, shape (K,).

        The remainder goes to the first rungs, which are those with the longest windows.
        """
        return uniform_allocation(draws, len(self), target_share=target_share)

    def log_densities(
        self, unsteered: ArrayLike, steered: ArrayLike, *, lengths: ArrayLike | None = None
    ) -> FloatArray:
        """log q_k(y_i | x) for all rungs and draws, in nats, shape (K, n); row 0 is log p.

        `unsteered` has shape (n, T): the log-probability of each token of each draw, its stop token
        included, given all before it; `steered` (I, n, T), the same at each of `intensities`, or
        (n, T) if there is one. `lengths` (n,) are the numbers of tokens (default: T); what stands
        behind them is not read. -inf is allowed: a token which that model cannot say there. Raises
        `UsageError` for shapes that do not fit, NaN, values above 0 and T > `max_new_tokens`.

        >>> ladder = make_ladder(2, intensities=[1.0])
        >>> found = ladder.log_densities(np.log([[0.9, 0.9]]), np.log([[0.1, 0.1]]))
        >>> np.exp(found).round(2).tolist()
        [[0.81], [0.01], [0.09]]
        """
        base = check_token_log_probs(unsteered, lengths, "unsteered")
        hot = np.asarray(steered, dtype=np.float64)
        hot = hot[None] if hot.ndim == 2 else hot
        if hot.shape != (len(self.intensities), *base.shape):
            raise UsageError(
                "steered must have shape (intensities, draws, tokens) ="
                f" {(len(self.intensities), *base.shape)}, not {hot.shape}"
            )
        if base.shape[1] > self.max_new_tokens:
            raise UsageError(
                f"draws of {base.shape[1]} tokens for a ladder of at most {self.max_new_tokens}"
            )
        outside = PrefixSums(base)
        inside = {
            intensity: PrefixSums(check_token_log_probs(tokens, lengths, "steered"))
            for intensity, tokens in zip(self.intensities, hot, strict=True)
        }
        end = base.shape[1]
        rows = [outside.between(0, end)]
        for rung in self.rungs[1:]:
            start, stop = min(rung.start, end), min(rung.stop, end)
            rows.append(
                outside.between(0, start)
                + inside[rung.intensity].between(start, stop)
                + outside.between(stop, end)
            )
        return np.stack(rows)

    def log_weights(self, log_densities: ArrayLike, counts: ArrayLike) -> FloatArray:
        """Balance-heuristic log-weights (n,) from densities (K, n) and realised counts (K,)."""
        densities = np.asarray(log_densities, dtype=np.float64)
        return balance_heuristic(densities[0], densities, counts)

    def weight_bound(self, counts: ArrayLike) -> float | None:
        """The largest weight possible, n / n_target; None if the target had no draws."""
        n = np.asarray(counts, dtype=np.float64)
        return float(n.sum() / n[0]) if n[0] > 0 else None

    def groupings(
        self, log_densities: ArrayLike, counts: ArrayLike, rung_of_draw: ArrayLike
    ) -> tuple[Grouping, ...]:
        """The three fixed comparisons of `agreement`, for `estimate_risk(..., groups=...)`.

        By intensity (the target's draws left out); windows that start at 0 against later ones; the
        target's draws against the rest. `log_densities` (K, n), `counts` (K,), `rung_of_draw` (n,)
        the rung that each draw came from, -1 for draws from elsewhere. A comparison with an empty
        side is left out.
        """
        densities = np.asarray(log_densities, dtype=np.float64)
        n_k = np.asarray(counts)
        label = np.asarray(rung_of_draw)
        ours = label >= 0
        if (np.bincount(label[ours], minlength=len(self)) != n_k).any():
            raise UsageError("rung_of_draw does not have the counts that were given")
        steered = np.array([not rung.is_target for rung in self.rungs])
        first = steered & np.array([rung.start == 0 for rung in self.rungs])
        strong = steered & np.array([r.intensity == self.intensities[0] for r in self.rungs])
        pairs = (
            ("intensity", "strong", strong, "weak", steered & ~strong),
            ("window", "from the first token", first, "later", steered & ~first),
            ("target", "target", ~steered, "steered", steered),
        )

        def group(name: str, rungs: np.ndarray) -> Group:
            weights = balance_heuristic(densities[0], densities, np.where(rungs, n_k, 0))
            return Group(name=name, members=ours & rungs[label], log_weights=weights)

        return tuple(
            Grouping(name=name, first=group(a, one), second=group(b, other))
            for name, a, one, b, other in pairs
            if n_k[one].sum() > 0 and n_k[other].sum() > 0
        )


def make_ladder(
    max_new_tokens: int,
    *,
    intensities: Sequence[float] = INTENSITIES,
    starts: Sequence[int] = STARTS,
    stops: Sequence[int] = STOPS,
) -> Ladder:
    """The ladder for replies of at most `max_new_tokens` tokens.

    Windows are all pairs start < stop, `max_new_tokens` being one of the stops, distinct after
    clipping, longest first; each at every intensity, strongest first. Raises `UsageError` for a
    length below 1, no intensity, intensities that repeat or are not positive, or negative windows.

    >>> ladder = make_ladder(2, intensities=[1.0])
    >>> counts = ladder.allot(10)
    >>> counts.tolist(), ladder.weight_bound(counts)
    ([1, 5, 4], 10.0)
    """
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    levels = tuple(sorted((float(level) for level in intensities), reverse=True))
    if not levels or len(set(levels)) < len(levels) or not all(0 < i < np.inf for i in levels):
        raise UsageError(f"intensities must be positive and distinct, not {tuple(intensities)}")
    if min(starts, default=0) < 0 or min(stops, default=1) < 0:
        raise UsageError("windows must start and stop at 0 or later")
    ends = {min(stop, max_new_tokens) for stop in (*stops, max_new_tokens)}
    windows = sorted(
        {(start, stop) for start in starts for stop in ends if start < stop},
        key=lambda window: (window[0] - window[1], window[0]),
    )
    if not windows:
        raise UsageError("no window fits: let one start at 0")
    steered = [LadderProposal(level, start, stop) for start, stop in windows for level in levels]
    return Ladder(max_new_tokens, levels, (LadderProposal(0.0, 0, 0), *steered))
