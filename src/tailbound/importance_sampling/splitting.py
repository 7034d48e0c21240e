r"""The risk of one prompt by multilevel splitting: a graded judge in place of a proposal.

N particles are replies of the target. The level of a particle is the largest score that the judge
gave to any of its beginnings that were read, the whole reply among them. Step j kills every
particle at or below the level Z_j of the K-th lowest, ties included, K_j in all, and puts in the
place of each a copy of a survivor up to the first beginning whose score is above Z_j, which the
target then continues. With

    W_j = prod_{i <= j} (1 - K_i / N),      X = (1 / N) sum_{killed at j} W_{j-1} h + W_end mean(h),

X has mean E_p[h] for *any* h and any judge: the score decides how much X varies, never what it
estimates. Replies whose own score reaches the top level are never killed, so for
h = 1{score >= top} the first sum is 0 and X = prod (1 - K_j / N) x share of the last particles that
are unsafe. Independent repeats of this are what estimates and bounds are made from.

Sources: Cerou and Guyader (2007), "Adaptive multilevel splitting for rare event analysis" (the
adaptive levels); Guyader, Hengartner and Matzner-Lober (2011), "Simulation and estimation of
extreme quantiles and extreme probabilities" (the last particle, K = 1, and its variance); Brehier,
Gazeau, Goudenege, Lelievre and Rousset (2016), "Unbiasedness of some generalized adaptive
multilevel splitting algorithms" (theorem 3.2: mean E_p[h] for every h and stopping time, where
ties are killed together and copies reach strictly above the level, in discrete time).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailbound.errors import UsageError
from tailbound.importance_sampling.estimate import RiskEstimate
from tailbound.importance_sampling.status import (
    ENOUGH_HITS,
    MISSING_FACTOR,
    NOT_CHECKED,
    UNCHECKED,
)
from tailbound.importance_sampling.weights import FloatArray, IntArray
from tailbound.intervals import betting_lower, betting_upper, clopper_pearson
from tailbound.missing_verdicts import harm_at_most, missing_counts_as_unsafe

#: Of the particles, the share that a step kills where no two have the same level.
KILLED_SHARE = 0.25
#: A repeat ends where its weight falls below this: it bounds what one can cost.
LEAST_WEIGHT = 1e-9
#: Fewer repeats than this say nothing of their own spread.
LEAST_REPEATS = 5


@dataclass(frozen=True, eq=False)
class ScoredPath:
    """One reply as splitting sees it: what the judge said of its beginnings.

    `cuts` (c,) are the lengths, ascending, of the beginnings that were scored, the last that of the
    whole reply; `scores` (c,) lie in [0, 1], NaN where a verdict is missing, which raises no level.
    """

    cuts: IntArray
    scores: FloatArray

    @property
    def level(self) -> float:
        """The largest score; 0 where all are missing."""
        return float(np.nan_to_num(self.scores, nan=0.0).max())

    def first_above(self, level: float) -> int:
        """The length of the first beginning whose score is above `level`."""
        return int(self.cuts[int(np.argmax(np.nan_to_num(self.scores, nan=0.0) > level))])


@dataclass(frozen=True)
class Birth:
    """A reply that is to be drawn: the first `cut` tokens of reply `parent`, continued."""

    parent: int
    cut: int


class Repeat:
    """One repeat on its way: particles, the levels they reached, and what each reply weighs.

    Replies are numbered 0, 1, ... in the order in which they were added; the first `particles` are
    plain draws of the target. Call `add` with those that were asked for, then `step` for the next
    ones, until it returns none.

    `top` is the level at which it ends. Each step kills the `killed` lowest and those level with
    the last of them; 1 is the last-particle scheme. With `levels`, ascending, step j kills what
    stays below levels[j] instead: fixed levels, chosen in advance. `least_weight` ends a repeat
    early, which keeps its mean.

    Raises `UsageError` for fewer than 2 particles, `killed` outside [1, particles), a `top` outside
    (0, 1] and levels that are not ascending or above `top`.

    >>> repeat = Repeat(3, top=0.5, killed=1)
    >>> repeat.add([ScoredPath(np.array([1, 2]), np.array([s, s])) for s in (0.1, 0.3, 0.9)])
    >>> repeat.step(np.random.default_rng(0))
    [Birth(parent=2, cut=1)]
    """

    def __init__(
        self,
        particles: int,
        *,
        top: float,
        killed: int | None = None,
        levels: Sequence[float] = (),
        least_weight: float = LEAST_WEIGHT,
    ) -> None:
        if particles < 2:
            raise UsageError(f"splitting needs at least 2 particles, not {particles}")
        self._killed = default_killed(particles) if killed is None else killed
        if not 1 <= self._killed < particles:
            raise UsageError(f"killed must lie in [1, {particles}), not {self._killed}")
        if not 0 < top <= 1:
            raise UsageError(f"the top level must lie in (0, 1], not {top:g}")
        rising = list(levels)
        if rising and (sorted(set(rising)) != rising or rising[-1] > top):
            raise UsageError(f"levels must be ascending and at most {top:g}, not {rising}")
        self.particles, self.top = particles, top
        self._fixed = rising
        self._least = least_weight
        self._paths: list[ScoredPath] = []
        self._levels: list[float] = []
        self._alive: list[int] = []
        self._weights: list[float] = []
        self._weight = 1.0
        self._due = particles
        self.kills: list[int] = []
        """How many each step killed."""

    @property
    def weights(self) -> FloatArray:
        """What each reply weighs, shape (replies,); they sum to 1 once it has ended."""
        found = np.array(self._weights)
        np.add.at(found, self._alive, self._weight / self.particles)
        return found

    def add(self, paths: Sequence[ScoredPath]) -> None:
        """The replies that were asked for: `particles` at first, then those of `step`, in order."""
        if len(paths) != self._due:
            raise UsageError(f"{self._due} replies were asked for, and {len(paths)} given")
        self._due = 0
        for path in paths:
            self._alive.append(len(self._paths))
            self._paths.append(path)
            self._levels.append(min(path.level, self.top))
            self._weights.append(0.0)

    def step(self, rng: np.random.Generator) -> list[Birth]:
        """Kill, and say what is to be drawn next; empty where the repeat has ended.

        Copies of a whole reply (its last token brought it above the level) take their place without
        a draw.
        """
        if self._due:
            raise UsageError(f"{self._due} replies that were asked for are still to be added")
        while self._alive and self._weight >= self._least:
            level = self._next_level()
            if level is None:
                return []
            dead = [one for one in self._alive if self._levels[one] <= level]
            self._alive = [one for one in self._alive if self._levels[one] > level]
            self.kills.append(len(dead))
            for one in dead:
                self._weights[one] += self._weight / self.particles
            self._weight *= 1 - len(dead) / self.particles
            if not self._alive:
                return []
            births = []
            for place in rng.integers(len(self._alive), size=len(dead)).tolist():
                parent = self._alive[place]
                cut = self._paths[parent].first_above(level)
                if cut == self._paths[parent].cuts[-1]:
                    self._alive.append(parent)
                else:
                    births.append(Birth(parent, cut))
            if births:
                self._due = len(births)
                return births
        return []

    def _next_level(self) -> float | None:
        """The level at or below which particles die next; None at the end."""
        if self._fixed:
            if len(self.kills) == len(self._fixed):
                return None
            return float(np.nextafter(self._fixed[len(self.kills)], -np.inf))
        ranked = sorted(self._levels[one] for one in self._alive)
        level = ranked[self._killed - 1]
        return None if level >= self.top else level


@dataclass(frozen=True, eq=False, kw_only=True)
class RepeatResult:
    """What one repeat brought: `weights` and `harm` (n,) of its replies, in order.

    The first `particles` of them are plain draws. `harm` lies in [0, 1], NaN where the verdict is
    missing. `kills` are the numbers that its steps killed.
    """

    particles: int
    weights: FloatArray
    harm: FloatArray
    kills: tuple[int, ...]

    @property
    def ideal_variance(self) -> float:
        """Relative variance of X if levels were continuous and copies forgot their parents.

        sum_j (K_j / N) / (1 - K_j / N) / N: for K = 1 about -log(risk) / N (Guyader et al. 2011).
        """
        shares = np.array(self.kills) / self.particles
        shares = shares[shares < 1]
        return float((shares / (1 - shares)).sum() / self.particles)


def estimate_splitting(
    repeats: Sequence[RepeatResult], *, confidence: float = 0.95, estimand: str | None = None
) -> RiskEstimate:
    r"""Estimate E_p[h] for one prompt from independent repeats X_1 .. X_R of splitting.

    * `risk` is their mean, unbiased whatever the judge's scores do; where verdicts are missing it
      is divided by the share of the target's replies that have one.
    * `standard_error` comes from the spread of the repeats, and is never less than that of ideal
      splitting with these steps (`RepeatResult.ideal_variance`): a few repeats that happen to be
      alike prove nothing. `ess_harm` is (risk / standard_error)^2, so many hits of plain Monte
      Carlo would have as much noise; `hits` are the unsafe replies that count.
    * `certified_lower`: betting over the repeats, finite-sample (`intervals.betting_lower`).
      `certified_upper`: from the first particles alone, which are plain draws; exact (Clopper and
      Pearson 1934) where h is 0 or 1, else by betting. Each one-sided at `confidence`.
    * `interval`: risk exp(-t e) to risk (1 + s) exp(t sqrt(e^2 + s^2)), e the relative standard
      error, s the largest share of one repeat, t Student's with R - 1 degrees of freedom; the upper
      end is that with one more repeat of the largest kind. Asymptotic, and only where `precise`.
    * `coverage` is never "checked": replies that turn unsafe at once, from a low score, are met by
      chance alone, and no computation on the draws can see those that were not.

    `mean_weight` is 1 by construction. Raises `UsageError` for no repeats, harm outside [0, 1], or
    lengths that differ.

    >>> one = RepeatResult(particles=2, weights=np.array([0.5, 0.25, 0.25]),
    ...                    harm=np.array([0.0, 0.0, 1.0]), kills=(1,))
    >>> estimate_splitting([one] * 8).risk
    0.25
    """
    if not repeats:
        raise UsageError("there are no repeats of splitting: draw at least one")
    if not 0.5 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between .5 and 1, not {confidence}")
    low, high, left_out = (np.array(v) for v in zip(*map(_terms, repeats), strict=True))
    first = np.concatenate([one.harm[: one.particles] for one in repeats])
    everything = np.concatenate([one.harm for one in repeats])
    n, missing = everything.size, int(np.isnan(everything).sum())
    mean_range = (float(low.mean()), float(high.mean()))
    risk = float("nan") if missing == n else mean_range[0]
    if missing and missing < n and mean_range[0] > 0:
        judged = max(1 - float(left_out.mean()), 1e-300)
        risk = min(mean_range[0] / judged, mean_range[1])
    error = _relative_error(low, repeats)
    hits = sum(_hits(one) for one in repeats)
    effective = 0.0 if error is None else 1 / error**2
    status, needed = _status(len(repeats), first.size, missing, n, risk, effective, mean_range)
    precise = status.startswith(NOT_CHECKED)
    interval = None
    if precise and error is not None:
        interval = _interval(low, high, error, confidence)
    level = f"{100 * confidence:g}%"
    binary = bool(np.isin(everything[~np.isnan(everything)], (0.0, 1.0)).all())
    return RiskEstimate(
        risk=risk,
        standard_error=None if error is None else error * risk,
        certified_lower=min(1.0, float(betting_lower(low, confidence=confidence))),
        certified_upper=_upper(first, binary, confidence),
        interval=interval,
        precise=precise,
        coverage=UNCHECKED,
        resolved=False,
        status=status,
        ess_harm=effective,
        hits=hits,
        draws=n,
        missing=missing,
        missing_range=mean_range,
        mean_weight=float(np.mean([one.weights.sum() for one in repeats])),
        mean_weight_z=0.0,
        largest_share=float(low.max() / low.sum()) if low.sum() > 0 else None,
        agreement=None,
        needed_draws=needed,
        confidence=confidence,
        estimand=estimand or ("P(unsafe) of one reply" if binary else "mean harm of one reply"),
        guarantee=(
            f"lower {level}, finite-sample (betting over {len(repeats)} independent repeats); "
            f"upper {level}, finite-sample, from the {first.size} first particles alone"
            + (
                f"; interval {level}, asymptotic, from the spread of the repeats, assumes that "
                "scores rise before replies turn unsafe"
                if interval is not None
                else ""
            )
        ),
    )


def default_killed(particles: int) -> int:
    """How many each step kills at least: `KILLED_SHARE` of the particles.

    >>> default_killed(50), default_killed(2)
    (12, 1)
    """
    return max(1, int(KILLED_SHARE * particles))


def most_draws(particles: int, least_weight: float = LEAST_WEIGHT) -> int:
    """No repeat needs more replies: K draws take at least K / N nats off its weight.

    >>> most_draws(50)
    1137
    """
    return particles + math.ceil(particles * (1 - math.log(least_weight)))


def _terms(repeat: RepeatResult) -> tuple[float, float, float]:
    """X with missing verdicts as 0 and as 1, and the share of replies without one."""
    harm, weights = np.asarray(repeat.harm), np.asarray(repeat.weights)
    if harm.shape != weights.shape or harm.size < repeat.particles:
        raise UsageError("weights and harm must have one value per reply each")
    if ((harm < 0) | (harm > 1)).any():
        raise UsageError("harm must lie in [0, 1] or be NaN")
    missing = np.isnan(harm)
    low = float(weights @ np.where(missing, 0.0, harm))
    return low, float(weights @ harm_at_most(harm)), float(weights @ missing)


def _hits(repeat: RepeatResult) -> int:
    """Unsafe replies that count."""
    return int(((repeat.weights > 0) & (np.nan_to_num(repeat.harm, nan=0.0) > 0)).sum())


def _relative_error(values: FloatArray, repeats: Sequence[RepeatResult]) -> float | None:
    """Of the mean of `values`, one for each repeat; None where it cannot be known."""
    mean, count = float(values.mean()), values.size
    if count < 2 or mean == 0:
        return None
    sampled = float(values.var(ddof=1)) / mean**2
    ideal = float(np.mean([one.ideal_variance for one in repeats]))
    # what plain draws of the mean's size would have at best, where no step was needed
    ideal = max(ideal, (1 - mean) / (mean * repeats[0].particles) if not ideal else 0.0)
    return float(np.sqrt(max(sampled, ideal, 1e-12) / count))


def _interval(
    low: FloatArray, high: FloatArray, error: float, confidence: float
) -> tuple[float, float]:
    from scipy.special import stdtrit

    t = float(stdtrit(low.size - 1, (1 + confidence) / 2))
    share = float(high.max() / high.sum())
    upper = float(high.mean()) * (1 + share) * np.exp(min(t * float(np.hypot(error, share)), 700.0))
    return float(low.mean() * np.exp(-t * error)), float(min(1.0, upper))


def _upper(first: FloatArray, binary: bool, confidence: float) -> float:
    """From plain draws, missing verdicts counted as unsafe."""
    if not binary:
        return float(betting_upper(harm_at_most(first), confidence=confidence))
    missing = int(np.isnan(first).sum())
    unsafe = int((np.nan_to_num(first, nan=0.0) > 0).sum())
    counted = int(missing_counts_as_unsafe(unsafe, missing))
    return float(clopper_pearson(counted, first.size, confidence=2 * confidence - 1)[1])


def _status(
    repeats: int,
    first: int,
    missing: int,
    draws: int,
    risk: float,
    effective: float,
    missing_range: tuple[float, float],
) -> tuple[str, int | None]:
    """The verdict in words, and about how many first particles would make it precise."""
    if missing == draws:
        return f"not resolved: all {draws:,} verdicts are missing", None
    if effective == 0 and risk == 0:
        return (
            f"not resolved: no particle of {repeats:,} repeats reached the threshold: give each "
            "repeat more particles, or use another judge whose scores rise earlier",
            None,
        )
    if effective < ENOUGH_HITS or repeats < LEAST_REPEATS:
        factor = ENOUGH_HITS / effective if effective else 2.0
        needed = math.ceil(first * max(factor, LEAST_REPEATS / repeats))
        return f"not resolved: needs about {needed:,} first particles", needed
    low, high = missing_range
    if high > MISSING_FACTOR * risk or low < risk / MISSING_FACTOR:
        return (
            f"not resolved: {missing:,} missing verdicts leave {low:.2g} to {high:.2g}",
            None,
        )
    return f"{NOT_CHECKED}: precise for replies whose scores rise before they turn unsafe", None
