r"""Do parts of the draws tell the same story? A heuristic, not a guarantee.

A *group* is the draws of some of the proposals. Its own estimate uses only these and the group's
own mixture q_g = sum_{k in g} (n_k / n_g) q_k, so it is unbiased by itself:

    r_g = (1 / n_g) sum_{i in g} w_g(y_i) h_i,        w_g = p / q_g.

How noisy r_g is cannot be read from the group's draws: a group that never visits one of the ways to
be unsafe looks precise and is low. But its density is known on *all* draws, so its second moment
E_p[h^2 w_g] is estimated from all of them, with the weights w of the whole mixture:

    m_g = (1 / n) sum_i w_i h_i^2 w_g(y_i),           e_g = n_g r^2 / m_g,

r being the estimate from all draws. e_g is the number of effective hits that the group should have
had; it is near 0 when the others met unsafe replies that this group would hardly ever produce, and
then the group has no say. Two groups that have are compared on the square-root scale, which makes
the noise of counts about equal whatever their mean:

    z = 2 (sqrt(r_1 / r) - sqrt(r_2 / r)) / sqrt(1 / e_1 + 1 / e_2).

`LIMIT` was set on exactly solvable models whose ways to be unsafe are all covered: all comparisons
of an estimate together raise a false alarm in fewer than 5% of estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.importance_sampling.weights import FloatArray, effective_sample_size, log_sum

#: Groups with fewer effective hits than this, as all draws predict it, have no say.
ENOUGH = 5.0
#: Name of the comparison of the last batch with those before.
BATCHES = "batches"
#: Groups disagree when |z| is beyond this.
LIMIT = 2.5


@dataclass(frozen=True, kw_only=True)
class Group:
    """The draws of some proposals, and the weights of *every* draw under their own mixture.

    `members` (n,) is True for the group's draws; `log_weights` (n,) is log p / q_g for all draws,
    members or not. +inf is allowed on other draws: the group cannot produce them.
    """

    name: str
    members: NDArray[np.bool_]
    log_weights: FloatArray


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """Two groups, without common draws, that should agree."""

    name: str
    first: Group
    second: Group


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two groups' own estimates. `outcome` is "agree", "disagree" or "too few" (no say).

    `estimates` are r_1 and r_2, `effective_hits` e_1 and e_2, `z` as in `agreement`; None
    without any hit.
    """

    name: str
    names: tuple[str, str]
    estimates: tuple[float, float]
    effective_hits: tuple[float, float]
    z: float | None
    outcome: str

    def __str__(self) -> str:
        one, other = self.estimates
        return f"{self.names[0]} {one:.2g}, {self.names[1]} {other:.2g}"


#: Batches with fewer effective hits than this have no say.
ENOUGH_IN_BATCH = 3.0


def compare_batches(
    log_weights: FloatArray, harm: FloatArray, batches: NDArray[np.int64]
) -> Comparison | None:
    r"""The last batch against all before it; None where there is one batch.

    Each estimate is unbiased by the weights of its own batch. Proposals of the last batch have
    learned most, so a route that the earlier ones missed shows as a rise,

        z = 2 (sqrt(r_1 / r) - sqrt(r_2 / r)) / sqrt(1 / e_1 + 1 / e_2),

    with e the effective hits of each side among its own draws. `batches` (n,) are numbers of
    batches, NaN in `harm` counts as 0.
    """
    last = batches == batches.max()
    if last.all():
        return None
    with np.errstate(divide="ignore"):
        terms = log_weights + np.log(np.nan_to_num(harm, nan=0.0))
    sides = (terms[~last], terms[last])
    logs = np.array([float(log_sum(side)) - np.log(side.size) for side in sides])
    effective = [effective_sample_size(side) for side in sides]
    z, outcome = None, "too few"
    if np.isfinite(logs).all():
        middle = float(log_sum(terms)) - np.log(terms.size)
        roots = np.exp((logs - middle) / 2)
        z = float(2 * (roots[0] - roots[1]) / np.sqrt(1 / effective[0] + 1 / effective[1]))
    if z is not None and min(effective) >= ENOUGH_IN_BATCH:
        outcome = "disagree" if abs(z) > LIMIT else "agree"
    with np.errstate(over="ignore"):
        first, second = np.exp(logs)
    return Comparison(
        name=BATCHES,
        names=("earlier batches", "last batch"),
        estimates=(float(first), float(second)),
        effective_hits=(effective[0], effective[1]),
        z=z,
        outcome=outcome,
    )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """All comparisons of one estimate."""

    comparisons: tuple[Comparison, ...]

    @property
    def agrees(self) -> bool | None:
        """False if any two groups disagree, None if no comparison could be made, else True."""
        outcomes = {comparison.outcome for comparison in self.comparisons}
        if "disagree" in outcomes:
            return False
        return True if "agree" in outcomes else None

    @property
    def disagreements(self) -> tuple[Comparison, ...]:
        """The comparisons that failed."""
        return tuple(c for c in self.comparisons if c.outcome == "disagree")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"agrees": self.agrees, **asdict(self)}


def coverage_check(
    name: str, log_weights: ArrayLike, subset_log_weights: ArrayLike, in_subset: ArrayLike
) -> Grouping:
    """Draws of one proposal against a subset of the draws that was made by a ladder.

    `in_subset` (n,) is True for the ladder's draws (a tenth of all, at least 50); `log_weights`
    (n,) is log p / q of *all* draws under the one proposal called `name`, `subset_log_weights` (n,)
    that of all draws under the ladder with the subset's counts. For `estimate_risk` with
    `groups=[check]` and `coverage_checked=False`, whose own log-weights are best those of the
    balance heuristic over the proposal and all rungs. A route that the proposal hardly ever takes
    leaves it with few effective hits and no say, so the status stays "coverage not checked", or
    the two disagree.

    >>> check = coverage_check("ablated", [0.0, -1.0], [0.0, -0.5], [False, True])
    >>> check.first.name, check.second.name, check.second.members.tolist()
    ('ablated', 'ladder subset', [False, True])
    """
    subset = np.asarray(in_subset, dtype=bool)
    return Grouping(
        name="coverage",
        first=Group(
            name=name, members=~subset, log_weights=np.asarray(log_weights, dtype=np.float64)
        ),
        second=Group(
            name="ladder subset",
            members=subset,
            log_weights=np.asarray(subset_log_weights, dtype=np.float64),
        ),
    )


def compare(groupings: Sequence[Grouping], log_weights: FloatArray, harm: FloatArray) -> Agreement:
    """Compare groups of draws with weights `log_weights` (n,) and `harm` (n,), NaN counted as 0.

    Raises `UsageError` where a group does not fit the draws, is empty, or shares draws with the
    other.
    """
    with np.errstate(divide="ignore"):
        log_harm = np.log(np.nan_to_num(harm, nan=0.0))
    return Agreement(
        comparisons=tuple(_compare(grouping, log_weights, log_harm) for grouping in groupings)
    )


def _compare(grouping: Grouping, log_weights: FloatArray, log_harm: FloatArray) -> Comparison:
    n = log_weights.size
    pair = (grouping.first, grouping.second)
    for group in pair:
        if group.members.shape != (n,) or group.log_weights.shape != (n,):
            raise UsageError(f"group {group.name!r} must describe all {n} draws")
        if not group.members.any():
            raise UsageError(f"group {group.name!r} has no draws: leave the comparison out")
        own = group.log_weights[group.members]
        if np.isnan(group.log_weights).any() or (own == np.inf).any():
            raise UsageError(
                f"group {group.name!r} has log-weights that are NaN, or +inf on its own"
            )
    if (pair[0].members & pair[1].members).any():
        raise UsageError(f"the groups of comparison {grouping.name!r} share draws")
    log_total = float(log_sum(log_weights + log_harm)) - np.log(n)
    sizes = np.array([group.members.sum() for group in pair], dtype=np.float64)
    hit = log_harm + log_weights > -np.inf
    # draws without harm or weight are left out first: +inf and -inf must not meet
    mine = [group.members & hit for group in pair]
    log_own = np.array(
        [log_sum(group.log_weights[m] + log_harm[m]) for group, m in zip(pair, mine, strict=True)]
    ) - np.log(sizes)
    terms = log_weights[hit] + 2 * log_harm[hit]
    log_second = np.array([log_sum(terms + group.log_weights[hit]) for group in pair]) - np.log(n)
    effective, z, outcome = np.zeros(2), None, "too few"
    with np.errstate(over="ignore", under="ignore"):
        if hit.any():
            effective = np.exp(np.log(sizes) + 2 * log_total - log_second)
        if (effective > 0).all():
            roots = np.exp((log_own - log_total) / 2)
            z = float(2 * (roots[0] - roots[1]) / np.sqrt((1 / effective).sum()))
            if effective.min() >= ENOUGH:
                outcome = "disagree" if abs(z) > LIMIT else "agree"
        estimates = np.exp(log_own)
    return Comparison(
        name=grouping.name,
        names=(pair[0].name, pair[1].name),
        estimates=(float(estimates[0]), float(estimates[1])),
        effective_hits=(float(effective[0]), float(effective[1])),
        z=z,
        outcome=outcome,
    )
