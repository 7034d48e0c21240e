"""A language model so small that every reply can be listed: all risks and variances are exact.

Token 0 ends a reply and belongs to it; a reply has at most `length` tokens. Conditional tables are
given per prefix: level t holds the prefixes of t tokens, none of which is 0, in lexicographic order
(a number in base V - 1), so a table of shape ((V - 1)^t, V). They may come from random numbers
(`random_model`) or from any causal model scored on `prefixes(V, t)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

Tables = list[np.ndarray]


def prefixes(vocabulary: int, length: int) -> np.ndarray:
    """All token prefixes of one length without the stop token, shape ((V - 1)^length, length)."""
    count = (vocabulary - 1) ** length
    grid = np.indices((vocabulary - 1,) * length).reshape(length, count).T
    return np.asarray(grid + 1, dtype=np.int64)


@dataclass(frozen=True)
class EnumerableModel:
    """`target[t]`, and `steered[i][t]` for each intensity: log-probs of the next token."""

    target: Tables
    steered: list[Tables]

    @property
    def length(self) -> int:
        return len(self.target)

    @property
    def vocabulary(self) -> int:
        return int(self.target[0].shape[1])

    @cached_property
    def replies(self) -> np.ndarray:
        """All replies, padded by -1, shape (R, length)."""
        rows = []
        for t in range(1, self.length + 1):
            stem = prefixes(self.vocabulary, t - 1)
            ended = np.column_stack([stem, np.zeros(len(stem), dtype=np.int64)])
            block = (
                ended if t < self.length else np.concatenate([ended, prefixes(self.vocabulary, t)])
            )
            rows.append(np.pad(block, ((0, 0), (0, self.length - t)), constant_values=-1))
        return np.concatenate(rows)

    @cached_property
    def lengths(self) -> np.ndarray:
        return (self.replies >= 0).sum(axis=1)

    def token_log_probs(self, tables: Tables, replies: np.ndarray) -> np.ndarray:
        """Log-prob of every token given those before it, 0 behind the end, shape of `replies`."""
        values = np.zeros(replies.shape)
        place = np.zeros(len(replies), dtype=np.int64)
        for t in range(self.length):
            here = replies[:, t] >= 0
            values[here, t] = tables[t][place[here], replies[here, t]]
            going = replies[:, t] > 0
            place = np.where(going, place * (self.vocabulary - 1) + replies[:, t] - 1, 0)
        return values

    @cached_property
    def all_unsteered(self) -> np.ndarray:
        return self.token_log_probs(self.target, self.replies)

    @cached_property
    def all_steered(self) -> np.ndarray:
        return np.stack([self.token_log_probs(tables, self.replies) for tables in self.steered])

    def sample(self, levels: list[Tables], draws: int, rng: np.random.Generator) -> np.ndarray:
        """`draws` replies, token t from `levels[t][t]`: which tables are in force at each token."""
        replies = np.full((draws, self.length), -1, dtype=np.int64)
        place = np.zeros(draws, dtype=np.int64)
        alive = np.ones(draws, dtype=bool)
        for t in range(self.length):
            cdf = np.cumsum(np.exp(levels[t][t][place[alive]]), axis=1)
            u = rng.random(len(cdf)) * cdf[:, -1]
            token = (u[:, None] >= cdf).sum(axis=1)
            replies[alive, t] = token
            rows = np.flatnonzero(alive)[token > 0]
            place[rows] = place[rows] * (self.vocabulary - 1) + token[token > 0] - 1
            alive[np.flatnonzero(alive)[token == 0]] = False
        return replies

    def sample_window(
        self, intensity: int, start: int, stop: int, draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Replies steered on start <= t < stop at the intensity of that index."""
        hot = self.steered[intensity]
        levels = [hot if start <= t < stop else self.target for t in range(self.length)]
        return self.sample(levels, draws, rng)

    def sample_mixture(
        self, intensity: int, mixing: float, switch: int, draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Replies of the family mix-switch."""
        with np.errstate(divide="ignore"):
            mixed = [
                np.logaddexp(np.log(mixing) + hot, np.log1p(-mixing) + base)
                for hot, base in zip(self.steered[intensity], self.target, strict=True)
            ]
        levels = [mixed if t < switch else self.target for t in range(self.length)]
        return self.sample(levels, draws, rng)


def random_model(
    seed: int, *, vocabulary: int = 10, length: int = 6, intensities: tuple[float, ...] = (1.0, 0.6)
) -> EnumerableModel:
    """A model that mostly refuses, and under steering mostly complies.

    Tokens 1-3 refuse, 4-6 comply, the others are neutral, 0 ends the reply. What was said last
    decides what comes next: at the start and after a refusal the target seldom complies (early and
    late flips), and after complying it tends to continue or to stop. Every prefix adds its own
    noise, to the target and to the steering.
    """
    rng = np.random.default_rng(seed)
    early, late, noise = rng.uniform(4, 13), rng.uniform(5, 13), rng.uniform(0.3, 0.7)
    # Steering complies about as often as not, at the start and after a refusal.
    lift, late_lift = early + rng.uniform(-1, 0.5), late - rng.uniform(0.5, 2)
    refuse, comply = slice(1, 4), slice(4, 7)
    target: Tables = []
    steered: list[Tables] = [[] for _ in intensities]
    for t in range(length):
        stems = prefixes(vocabulary, t)
        said = np.where((stems >= 1) & (stems < 4), 1, np.where((stems >= 4) & (stems < 7), 2, 0))
        state = np.zeros(len(stems), dtype=np.int64)
        for step in range(t):
            state = np.where(said[:, step] > 0, said[:, step], state)
        logits = rng.normal(0, noise, (len(stems), vocabulary))
        logits[:, 0] += np.where(state == 0, -1.5, 0.5)
        logits[:, refuse] += np.choose(state, [1.5, 0.5, 0.0])[:, None]
        logits[:, comply] += np.choose(state, [-early, -late, 1.0])[:, None]
        push = rng.normal(0, noise / 2, (len(stems), vocabulary))
        push[:, comply] += np.choose(state, [lift, late_lift, 0.5])[:, None]
        push[:, refuse] -= 0.5
        target.append(log_softmax(logits))
        for row, level in enumerate(intensities):
            steered[row].append(log_softmax(logits + level * push))
    return EnumerableModel(target, steered)


def events(replies: np.ndarray) -> dict[str, np.ndarray]:
    """Ways to be unsafe, from frequent to rare, as boolean rows over `replies` (R, length)."""
    comply = (replies >= 4) & (replies < 7)
    refuse = (replies >= 1) & (replies < 4)
    refused_before = np.cumsum(refuse, axis=1) > 0
    return {
        "complies": comply.any(axis=1),
        "complies twice and stops": (comply.sum(axis=1) >= 2) & (replies == 0).any(axis=1),
        "complies after a refusal": (comply & refused_before).any(axis=1),
        "says 4 5 after a refusal": (
            (replies[:, 1:-1] == 4) & (replies[:, 2:] == 5) & refused_before[:, :-2]
        ).any(axis=1),
    }


def log_softmax(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1, keepdims=True)
    return np.asarray(logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))
