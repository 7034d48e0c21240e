r"""Boosted trees on top of the ridge fit, trained on unsafe counts.

With mu_i = n_i p_i the events that the current fit expects, each round grows a regression tree
(scikit-learn) on the ratios k_i / mu_i, weighted by mu_i, by the Poisson deviance: for rare events
that is the deviance of the counts with the current fit as offset. A leaf with K events among D
draws where M are expected moves the log-odds of its prompts by

    rate * (log((K + 1) / (M + 1)) - log((D - K + 1) / (D - M + 1))),

which is where the likelihood of the leaf is largest, but for one event of shrinkage. Boosting by
one Newton step per leaf, as libraries do, moves a rare risk by K / M - 1 instead: a leaf with a
hundred times the expected events would overshoot by far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from tailbound.predictors.likelihood import Array

MOST_TREES = 200
PATIENCE = 15
"""Rounds that are tried beyond the best one so far."""
RATE = 0.1
DEPTH = 3

_ROWS = 4096
"""Prompts that are looked up at a time."""
_DEEPEST = 32
_FARTHEST = 3.0
"""Log-odds that a leaf may move by, before `RATE`."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """A sum of regression trees, as flat arrays of their nodes, shape (nodes,).

    `left` and `right` are the children of a node, -1 for a leaf; prompts whose coordinate `feature`
    is at most `threshold`, in float32, go left. `value` counts at leaves. `starts`, shape (trees,),
    are the roots; a child comes after its parent, within its tree.
    """

    starts: Ints
    left: Ints
    right: Ints
    feature: Ints
    threshold: Array
    value: Array

    def __call__(self, z: Array) -> Array:
        """The sum over trees for z, shape (prompts, coordinates); shape (prompts,)."""
        single = z.astype(np.float32)
        found = np.empty(len(z))
        for start in range(0, len(z), _ROWS):
            mine = single[start : start + _ROWS]
            rows = np.arange(len(mine))[:, None]
            node = np.broadcast_to(self.starts, (len(mine), len(self.starts)))
            while (inner := self.left[node] >= 0).any():
                low = mine[rows, np.where(inner, self.feature[node], 0)] <= self.threshold[node]
                node = np.where(inner, np.where(low, self.left[node], self.right[node]), node)
            found[start : start + _ROWS] = self.value[node].sum(axis=1)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `from_arrays` reads."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], coordinates: int) -> BoostedTrees:
        """Inverse of `arrays`; `ValueError` for anything but trees that end."""
        whole = {name: arrays[name] for name in ("starts", "left", "right", "feature")}
        real = {name: arrays[name] for name in ("threshold", "value")}
        nodes = whole["left"].shape
        for name, values in (*whole.items(), *real.items()):
            kind = np.int64 if name in whole else np.float64
            if values.ndim != 1 or values.dtype != kind:
                raise ValueError(f"trees with {name} of type {values.dtype}, {values.shape}")
            if name != "starts" and values.shape != nodes:
                raise ValueError(f"trees with {name} for {values.shape} of {nodes} nodes")
        found = cls(**whole, **real)
        found._check(coordinates)
        return found

    def _check(self, coordinates: int) -> None:
        nodes, starts = len(self.left), self.starts
        if not (np.isfinite(self.threshold).all() and np.isfinite(self.value).all()):
            raise ValueError("trees with numbers that are not finite")
        if len(starts) == 0 or starts[0] != 0 or starts[-1] >= nodes or (np.diff(starts) < 1).any():
            raise ValueError("trees whose roots are out of order")
        ends = np.append(starts[1:], nodes)
        own = np.arange(nodes)
        end = ends[np.searchsorted(starts, own, side="right") - 1]
        leaf = self.left == -1
        if ((self.right == -1) != leaf).any():
            raise ValueError("a node of a tree with one child")
        for child in (self.left, self.right):
            if not (leaf | ((child > own) & (child < end))).all():
                raise ValueError("a tree that leaves its nodes or leads back")
        if not (leaf | ((self.feature >= 0) & (self.feature < coordinates))).all():
            raise ValueError("a tree that reads a coordinate which does not exist")
        at = starts
        for _ in range(_DEEPEST):
            at = at[~leaf[at]]
            if not at.size:
                return
            at = np.unique(np.concatenate([self.left[at], self.right[at]]))
        raise ValueError(f"a tree of more than {_DEEPEST} levels")


@dataclass(eq=False)
class Boosting:
    """Trees that grow one at a time, with the log-odds that they lead to for their own prompts.

    `z` has shape (prompts, coordinates); `log_odds` are those of the ridge fit at first, `events`
    in `draws`, all (prompts,).
    """

    z: Array
    log_odds: Array
    events: Array
    draws: Array
    _grown: list[BoostedTrees] = field(default_factory=list)

    def grow(self) -> BoostedTrees:
        """Add a tree; needs scikit-learn."""
        from sklearn.tree import DecisionTreeRegressor

        expected = self.draws * expit(self.log_odds)
        total = float(expected.sum())
        more = 0.5 * expected / total  # half an event in all: leaves without one are possible
        weight = expected + more
        single = self.z.astype(np.float32)
        tree = DecisionTreeRegressor(
            criterion="poisson",
            max_depth=DEPTH,
            min_samples_leaf=max(5, len(self.z) // 50),
            random_state=0,
        )
        used = weight > 0
        tree.fit(
            single[used],
            ((self.events + more)[used] / weight[used]),
            sample_weight=weight[used],
        )
        held = tree.tree_
        leaf = tree.apply(single)
        value = self._moves(leaf, held.node_count, expected)
        one = BoostedTrees(
            starts=np.zeros(1, dtype=np.int64),
            left=held.children_left.astype(np.int64),
            right=held.children_right.astype(np.int64),
            feature=held.feature.astype(np.int64),
            threshold=held.threshold.astype(np.float64),
            value=value,
        )
        self._grown.append(one)
        self.log_odds = self.log_odds + value[leaf]
        return one

    def trees(self) -> BoostedTrees:
        """All trees so far as one."""
        sizes = [len(one.left) for one in self._grown]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

        def child(name: str) -> Ints:
            every: list[Ints] = [getattr(one, name) for one in self._grown]
            moved = [
                np.where(own < 0, -1, own + start) for own, start in zip(every, starts, strict=True)
            ]
            return np.concatenate(moved)

        return BoostedTrees(
            starts=starts,
            left=child("left"),
            right=child("right"),
            feature=np.concatenate([one.feature for one in self._grown]),
            threshold=np.concatenate([one.threshold for one in self._grown]),
            value=np.concatenate([one.value for one in self._grown]),
        )

    def _moves(self, leaf: NDArray[np.intp], nodes: int, expected: Array) -> Array:
        """What each node adds to the log-odds, shape (nodes,); 0 for those that are no leaf."""

        def summed(values: Array) -> Array:
            return np.asarray(np.bincount(leaf, values, nodes), dtype=np.float64)

        seen, due = summed(self.events), summed(expected)
        drawn = summed(self.draws)
        move = np.log((seen + 1) / (due + 1)) - np.log((drawn - seen + 1) / (drawn - due + 1))
        return np.asarray(RATE * np.clip(move, -_FARTHEST, _FARTHEST), dtype=np.float64)
