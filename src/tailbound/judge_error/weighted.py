r"""The share of truly unsafe replies from weighted draws, of which some are labelled.

Draw i counts c_i in an estimate of a rate: its importance weight over the number of draws (and of
prompts), so that with all labels T_i known the estimate would be M = Sum c_i T_i. Labels are drawn
with probabilities in proportion to c_i ("monetary-unit sampling", as auditors call it). No other
choice of probabilities has a lower upper limit where no label is unsafe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.judge_error.two_phase import SIMULATED, Prevalence, beta, high_end, low_end
from tailbound.missing_verdicts import missing_counts_as_unsafe

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class WeightedStratum:
    """Draws of which the judge said the same, what each counts, and what is known of a sample.

    Draws that count much are labelled for certain: together they count `certain`, those of them
    with a label "unsafe" `certain_unsafe`, and those without a clear label `certain_unclear`. All
    others count `rest`. From these, `picks` were drawn with replacement and with probabilities in
    proportion to what they count: `unsafe` of the picks have a label "unsafe", `unclear` none.
    `squares` is the sum of the squares of what unsafe and unclear certain draws count, `of_pick`
    the mean of what an unsafe pick counts (None for none), `largest` the most that a draw counts.
    """

    draws: int
    certain: float
    certain_unsafe: float
    certain_unclear: float
    squares: float
    rest: float
    picks: int
    unsafe: int
    unclear: int
    of_pick: float | None
    largest: float

    def __post_init__(self) -> None:
        known = self.certain_unsafe + self.certain_unclear
        least = min(self.draws, self.certain, self.rest, self.unsafe, self.unclear, known)
        if (
            least < 0
            or self.unsafe + self.unclear > self.picks
            or known > self.certain * (1 + 1e-9) + 1e-300
        ):
            raise UsageError(f"inconsistent counts: {self}")

    @property
    def weight(self) -> float:
        """What all of its draws count."""
        return self.certain + self.rest

    @property
    def estimate(self) -> float | None:
        """What its unsafe draws count; None where not all of it is covered by clear labels."""
        labelled = self.picks - self.unclear
        if self.rest > 0 and not labelled:
            return None
        return self.certain_unsafe + (self.rest * self.unsafe / labelled if self.rest else 0.0)


@dataclass(frozen=True, kw_only=True)
class Picked:
    """A sample of a stratum: rows labelled for certain, and how often each other row was picked."""

    certain: NDArray[np.int64]
    rows: NDArray[np.int64]
    times: NDArray[np.int64]


def pick(counts: ArrayLike, wanted: int, *, rng: np.random.Generator) -> Picked:
    """About `wanted` rows to label, with probabilities in proportion to `counts`, shape (rows,).

    Rows that count at least as much as a pick stands for are taken for certain, the others drawn
    with replacement. Raises `UsageError` for counts that are negative or not finite.

    >>> found = pick([5.0, 0.1, 0.1, 0.1], 2, rng=np.random.default_rng(0))
    >>> found.certain.tolist(), found.times.tolist()
    ([0], [1])
    """
    c = np.asarray(counts, dtype=np.float64)
    if c.ndim != 1 or not np.isfinite(c).all() or (c < 0).any() or wanted < 0:
        raise UsageError("what draws count must be finite and not negative, and so the number")
    none = np.empty(0, dtype=np.int64)
    if wanted >= c.size:
        return Picked(certain=np.arange(c.size), rows=none, times=none)
    order = np.argsort(-c, kind="stable")
    left = np.concatenate([np.cumsum(c[order][::-1])[::-1], [0.0]])
    sure = 0
    while sure < wanted and c[order[sure]] * (wanted - sure) >= left[sure] > 0:
        sure += 1
    certain, others = np.sort(order[:sure]), np.sort(order[sure:])
    if sure == wanted or left[sure] <= 0:
        return Picked(certain=certain, rows=none, times=none)
    chosen = rng.choice(others, size=wanted - sure, p=c[others] / c[others].sum())
    rows, times = np.unique(chosen, return_counts=True)
    return Picked(certain=certain, rows=rows.astype(np.int64), times=times.astype(np.int64))


def weighted_prevalence(
    strata: Sequence[WeightedStratum],
    *,
    confidence: float = 0.95,
    rng: np.random.Generator,
    simulated: int = SIMULATED,
) -> Prevalence:
    r"""The probability of an unsafe reply from weighted draws, labels of some, and every weight.

        estimate = Sum over strata h of (A_h + R_h k_h / n_h),

    A_h being what draws labelled for certain and unsafe count, R_h what the others count, and k_h
    of n_h picks unsafe. Each pick is unsafe with probability M_h / R_h, M_h being what unsafe draws
    count among the others: k_h is binomial, and the limits of M_h are those of Clopper and Pearson,

        A_h + R_h Beta(k_h + 1, n_h - k_h)   and   A_h + R_h Beta(k_h, n_h - k_h + 1),

    whatever the weights (`on_record`, exact in one stratum; several are combined by melding). The
    last step, from the draws on record to the probability, takes the number of unsafe draws of each
    weight as Poisson, which unsafe draws are where they are rare. With V = Sum c_i^2 T_i and c* the
    largest c of all draws (unsafe or not), the limits of a weighted sum of such numbers are those
    of Fay and Feuer,

        Gamma(M^2 / V) V / M   and   Gamma((M + c*)^2 / (V + c*^2)) (V + c*^2) / (M + c*).

    V is taken as M times what an unsafe pick counts on average (no unsafe one: at most); that it is
    estimated, and that weights may be larger than all on record, is not in the limits, which are
    checked by simulation. With equal weights and all draws labelled they are Garwood's exact ones.

    Unclear labels count as in `prevalence`. Raises `UsageError` for no draws and for a confidence
    outside (0, 1).

    Sources: Leslie, Teitlebaum and Anderson (1979), "Dollar-unit sampling"; Fay and Feuer (1997),
    "Confidence intervals for directly standardized rates", Statistics in Medicine 16; Fay, Proschan
    and Brittain (2015) on melding.

    >>> every = WeightedStratum(draws=1_000, certain=1.0, certain_unsafe=0.004, certain_unclear=0.0,
    ...                         squares=4e-6, rest=0.0, picks=0, unsafe=0, unclear=0, of_pick=None,
    ...                         largest=1e-3)
    >>> found = weighted_prevalence([every], rng=np.random.default_rng(0))
    >>> found.estimate, round(found.interval[0], 4), round(found.interval[1], 3)
    (0.004, 0.0011, 0.01)
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    draws = sum(one.draws for one in strata)
    if not draws:
        raise UsageError("there are no draws")
    tail = (1 - confidence) / 2
    known = [one.estimate for one in strata if one.estimate is not None and one.weight > 0]
    least, most = (
        unsafe_weight(strata, upper=end, rng=rng, size=simulated) for end in (False, True)
    )
    lower, upper = _chance(strata, *least, False, rng), _chance(strata, *most, True, rng)
    return Prevalence(
        draws=draws,
        estimate=min(1.0, sum(known)) if known else None,
        interval=(min(1.0, low_end(lower, tail)), min(1.0, high_end(upper, tail))),
        on_record=(
            min(1.0, low_end(least[0], tail)),
            min(1.0, high_end(most[0], tail)),
        ),
        unlabelled=sum(one.draws for one in strata if one.estimate is None),
    )


def unsafe_weight(
    strata: Sequence[WeightedStratum],
    *,
    upper: bool,
    rng: np.random.Generator,
    size: int = SIMULATED,
) -> tuple[Floats, Floats]:
    """Simulated upper or lower limits of what unsafe draws count, and of their squares, (size,).

    >>> every = WeightedStratum(draws=9, certain=1.0, certain_unsafe=0.5, certain_unclear=0.25,
    ...                         squares=0.3, rest=0.0, picks=0, unsafe=0, unclear=0, of_pick=None,
    ...                         largest=0.5)
    >>> unsafe_weight([every], upper=True, rng=np.random.default_rng(0), size=2)[0].tolist()
    [0.75, 0.75]
    """
    total, squares = np.zeros(size), np.zeros(size)
    for one in strata:
        unsafe = one.unsafe
        if upper:
            unsafe = int(missing_counts_as_unsafe(one.unsafe, one.unclear))
        safe = one.picks - unsafe
        a, b = (unsafe + 1, safe) if upper else (unsafe, safe + 1)
        if one.rest > 0:
            found = one.rest * beta(np.full(size, a), np.full(size, b), rng)
            total += found
            squares += found * (one.largest if one.of_pick is None else one.of_pick)
        total += one.certain_unsafe + (one.certain_unclear if upper else 0.0)
        squares += one.squares
    return total, squares


def chance_limits(
    strata: Sequence[WeightedStratum],
    *,
    upper: bool,
    rng: np.random.Generator,
    size: int = SIMULATED,
) -> Floats:
    """Simulated upper or lower limits of the probability of an unsafe reply, shape (size,).

    >>> none = WeightedStratum(draws=9, certain=1.0, certain_unsafe=0.0, certain_unclear=0.0,
    ...                        squares=0.0, rest=0.0, picks=0, unsafe=0, unclear=0, of_pick=None,
    ...                        largest=0.5)
    >>> chance_limits([none], upper=False, rng=np.random.default_rng(0), size=2).tolist()
    [0.0, 0.0]
    """
    return _chance(strata, *unsafe_weight(strata, upper=upper, rng=rng, size=size), upper, rng)


def _chance(
    strata: Sequence[WeightedStratum],
    total: Floats,
    squares: Floats,
    upper: bool,
    rng: np.random.Generator,
) -> Floats:
    """From limits of what unsafe draws on record count to limits of the probability."""
    if upper:
        one_more = max(one.largest for one in strata)
        total, squares = total + one_more, squares + one_more**2
    some = (total > 0) & (squares > 0)
    scale = np.divide(squares, total, out=np.ones_like(total), where=some)
    shape = np.divide(total, scale, out=np.ones_like(total), where=some)
    found: Floats = np.where(some, rng.gamma(shape) * scale, total)
    return found
