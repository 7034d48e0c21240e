r"""The default family of proposals: the target with other models speaking in parts of a reply.

Proposal 0 is the target p itself. Every other proposal of the ladder lets one *variant* (the target
steered, heated or reweighted, or another model) speak in a window start <= t < stop of the reply's
tokens (t = 0 is its first), and the target everywhere else. Inside its window the variant s is
mixed in at every token,

    a s(v | y_<t) + (1 - a) p(v | y_<t),

with a = 1 where it speaks every token. The first token may be left to an *opening*, a variant of
its own, where routes part at the first word. Small a on the whole reply are explorers: a variant
that mostly says other things than the target may take any one turn, wherever it lies, and the
target continues. All proposals of one variant share two vectors per draw, the log-probability of
each of its tokens given what stands before it under the target and under the variant, so that their
log-densities are differences of prefix sums. Weights follow from `balance_heuristic`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError
from tailbound.importance_sampling.allocation import TARGET_SHARE, uniform_allocation
from tailbound.importance_sampling.diagnostics import Group, Grouping
from tailbound.importance_sampling.token_sums import PrefixSums, check_token_log_probs
from tailbound.importance_sampling.weights import FloatArray, IntArray, balance_heuristic

#: First tokens of the windows in which a variant speaks, and where windows end besides the last.
STARTS = (0, 2, 8, 32)
STOPS = (1, 2, 4, 16)
#: How many tokens of a reply of full length explorers change on average.
TURNS = (1, 2, 4, 8)


@dataclass(frozen=True)
class LadderProposal:
    """`variant` speaks the tokens `start` <= t < `stop`, each with chance `mixing`.

    `opening` names the variant that speaks token 0 before a window that starts later; without it
    the target does. The target itself is `LadderProposal("target", 0, 0)`.
    """

    variant: str
    start: int
    stop: int
    mixing: float = 1.0
    opening: str = ""

    def __post_init__(self) -> None:
        if self.opening and not 1 <= self.start < self.stop:
            raise UsageError(
                f"a window after an opening must start at 1 or later, not {self.start}-{self.stop}"
            )

    @property
    def speakers(self) -> tuple[str, ...]:
        """The variants that must be there for it to speak, the target left out."""
        if self.is_target:
            return ()
        return (self.variant, self.opening) if self.opening else (self.variant,)

    @property
    def is_target(self) -> bool:
        """Whether this proposal samples from the target itself."""
        return self.start == self.stop

    @property
    def name(self) -> str:
        """In words: `heated .125 on 0-16`."""
        share = "" if self.mixing == 1 else f" {self.mixing:.3g}"
        after = f" after {self.opening}" if self.opening else ""
        return f"{self.variant}{share} on {self.start}-{self.stop}{after}"


TARGET = LadderProposal("target", 0, 0)


@dataclass(frozen=True)
class Ladder:
    """The proposals for replies of at most `max_new_tokens` tokens; `rungs[0]` is the target.

    >>> ladder = make_ladder(8, variants=["steered"], explorers=[])
    >>> [rung.name for rung in ladder.rungs[1:4]]
    ['steered on 0-8', 'steered on 2-8', 'steered on 0-4']
    """

    max_new_tokens: int
    rungs: tuple[LadderProposal, ...]

    def __len__(self) -> int:
        return len(self.rungs)

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants that speak, in the order in which they first appear."""
        return tuple(dict.fromkeys(name for rung in self.rungs for name in rung.speakers))

    def with_rungs(self, rungs: Sequence[LadderProposal]) -> Ladder:
        """This ladder with more proposals at its end."""
        return Ladder(self.max_new_tokens, (*self.rungs, *rungs))

    def allot(self, draws: int, *, target_share: float = TARGET_SHARE) -> IntArray:
        """`uniform_allocation` for these proposals: integer counts that sum to `draws`, (K,).

        The remainder goes to the first ones, which are those with the longest windows.
        """
        return uniform_allocation(draws, len(self), target_share=target_share)

    def log_densities(
        self,
        target: ArrayLike,
        spoken: Mapping[str, ArrayLike],
        *,
        lengths: ArrayLike | None = None,
    ) -> FloatArray:
        """log q_k(y_i | x) for all proposals and draws, in nats, shape (K, n); row 0 is log p.

        `target` has shape (n, T): the log-probability of each token of each draw, its stop token
        included, given all before it; `spoken` the same (n, T) under each of `variants`. `lengths`
        (n,) are the numbers of tokens (default: T); what stands behind them is not read. -inf is
        allowed: a token which that model cannot say there. Raises `UsageError` for shapes that do
        not fit, a variant that is missing, NaN, values above 0 and T > `max_new_tokens`.

        >>> ladder = make_ladder(2, variants=["steered"], explorers=[])
        >>> found = ladder.log_densities(np.log([[0.9, 0.9]]), {"steered": np.log([[0.1, 0.1]])})
        >>> np.exp(found).round(2).tolist()
        [[0.81], [0.01], [0.09]]
        """
        base = check_token_log_probs(target, lengths, "target")
        if base.shape[1] > self.max_new_tokens:
            raise UsageError(
                f"draws of {base.shape[1]} tokens for a ladder of at most {self.max_new_tokens}"
            )
        outside = PrefixSums(base)
        inside: dict[tuple[str, float], PrefixSums] = {}
        end = base.shape[1]
        rows = [outside.between(0, end)]

        def sums(variant: str, mixing: float = 1.0) -> PrefixSums:
            if (variant, mixing) not in inside:
                said = _of(spoken, variant, base, lengths)
                inside[variant, mixing] = PrefixSums(_mixed(base, said, mixing))
            return inside[variant, mixing]

        for rung in self.rungs[1:]:
            start, stop = min(rung.start, end), min(rung.stop, end)
            first = min(1, end) if rung.opening else 0
            opened = sums(rung.opening).between(0, first) if rung.opening else 0.0
            rows.append(
                opened
                + outside.between(first, start)
                + sums(rung.variant, rung.mixing).between(start, stop)
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
        """Comparisons of parts of the draws, for `estimate_risk(..., groups=...)`.

        The first variant against the others (the target's draws left out); and the target's draws
        against the rest. `log_densities` (K, n), `counts` (K,), `rung_of_draw` (n,) the proposal
        that each draw came from, -1 for draws from elsewhere. A comparison with an empty side is
        left out.
        """
        densities = np.asarray(log_densities, dtype=np.float64)
        n_k = np.asarray(counts)
        label = np.asarray(rung_of_draw)
        ours = label >= 0
        if (np.bincount(label[ours], minlength=len(self)) != n_k).any():
            raise UsageError("rung_of_draw does not have the counts that were given")
        other = np.array([not rung.is_target for rung in self.rungs])
        names = self.variants
        first = np.array([not r.is_target and r.variant == names[0] for r in self.rungs])
        pairs = (
            ("variant", names[0], first, "others", other & ~first),
            ("target", "target", ~other, "variants", other),
        )

        def group(name: str, rungs: np.ndarray) -> Group:
            weights = balance_heuristic(densities[0], densities, np.where(rungs, n_k, 0))
            return Group(name=name, members=ours & rungs[label], log_weights=weights)

        return tuple(
            Grouping(name=name, first=group(a, one), second=group(b, two))
            for name, a, one, b, two in pairs
            if n_k[one].sum() > 0 and n_k[two].sum() > 0
        )


def _of(
    spoken: Mapping[str, ArrayLike],
    variant: str,
    base: FloatArray,
    lengths: ArrayLike | None,
) -> FloatArray:
    if variant not in spoken:
        raise UsageError(f"there are no log-probabilities of variant {variant!r}")
    values = check_token_log_probs(spoken[variant], lengths, variant)
    if values.shape != base.shape:
        raise UsageError(
            f"log-probabilities of variant {variant!r} must have shape (draws, tokens) = "
            f"{base.shape}, not {values.shape}"
        )
    return values


def _mixed(base: FloatArray, other: FloatArray, mixing: float) -> FloatArray:
    """Per-token log-density inside a window with chance `mixing` of the variant, (n, T)."""
    if mixing == 1:
        return other
    return np.asarray(
        np.logaddexp(np.log(mixing) + other, np.log1p(-mixing) + base), dtype=np.float64
    )


def make_ladder(
    max_new_tokens: int,
    *,
    variants: Sequence[str],
    explorers: Sequence[str] = ("heated",),
    starts: Sequence[int] = STARTS,
    stops: Sequence[int] = STOPS,
    turns: Sequence[float] = TURNS,
) -> Ladder:
    """The ladder for replies of at most `max_new_tokens` tokens.

    Each of `variants` speaks in all windows start < stop, `max_new_tokens` being one of the stops,
    distinct after clipping, longest first. Each of `explorers` is mixed into the whole reply, at
    shares that change on average `turns` of its tokens (of those that do not change all of them).
    Raises `UsageError` for a length below 1, no variant at all, names that repeat, or negative
    windows.

    >>> [rung.name for rung in make_ladder(16, variants=[]).rungs[1:]]
    ['heated 0.0625 on 0-16', 'heated 0.125 on 0-16', 'heated 0.25 on 0-16', 'heated 0.5 on 0-16']
    """
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    names = [*variants, *explorers]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"a ladder needs variants of different names, not {names}")
    if min(starts, default=0) < 0 or min(stops, default=1) < 0:
        raise UsageError("windows must start and stop at 0 or later")
    ends = {min(stop, max_new_tokens) for stop in (*stops, max_new_tokens)}
    windows = sorted(
        {(start, stop) for start in starts for stop in ends if start < stop},
        key=lambda window: (window[0] - window[1], window[0]),
    )
    if not windows:
        raise UsageError("no window fits: let one start at 0")
    shares = sorted({turn / max_new_tokens for turn in turns if turn < max_new_tokens} or {0.5})
    spoken = [LadderProposal(name, *window) for window in windows for name in variants]
    mixed = [
        LadderProposal(name, 0, max_new_tokens, share) for share in shares for name in explorers
    ]
    return Ladder(max_new_tokens, (TARGET, *spoken, *mixed))
