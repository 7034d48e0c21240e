"""What an estimate is worth, in words: whether it is precise, and whether its coverage was checked.

Two questions, kept apart. *Precise*: is the noise small? At least `ENOUGH_HITS` effective hits, and
missing verdicts that cannot move the estimate by more than `MISSING_FACTOR`. *Coverage*: did draws
that do not rest on one idea of how the target turns unsafe take part over several batches, and do
all parts of the draws agree? *Resolved* is both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailbound.importance_sampling.diagnostics import BATCHES, Agreement

#: Effective hits from which an estimate counts as precise.
ENOUGH_HITS = 10.0
#: Missing verdicts may move a precise estimate by this factor at most.
MISSING_FACTOR = 2.0
#: The status of an estimate that is precise and checked, and how that of a precise one begins whose
#: coverage is not checked.
RESOLVED, NOT_CHECKED = "resolved", "coverage not checked"
CHECKED, UNCHECKED, DISAGREES = "checked", "not checked", "disagrees"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """`outcome` is one of `CHECKED`, `UNCHECKED`, `DISAGREES`; `why` says why it is not checked.

    `more_draws` says whether more draws could check it.
    """

    outcome: str
    why: str = ""
    more_draws: bool = False


def coverage_of(
    agreement: Agreement | None, *, plain: bool, given: bool | None, explored: bool
) -> Coverage:
    """Whether coverage is checked; `given` and `explored` as in `estimate_risk`.

    `plain` draws are the target's own, and need no check.
    """
    if agreement is not None and agreement.agrees is False:
        return Coverage(outcome=DISAGREES, more_draws=True)
    if plain or given:
        return Coverage(outcome=CHECKED)
    comparisons = () if agreement is None else agreement.comparisons
    if given is False and comparisons:
        # one proposal against a ladder: every one of the comparisons must have had a say
        if all(comparison.outcome == "agree" for comparison in comparisons):
            return Coverage(outcome=CHECKED)
        return _unchecked("too few draws of the ladder had a say")
    last = next((one for one in comparisons if one.name == BATCHES), None)
    if not explored:
        return _unchecked("no heated or learned version of the model took part")
    if last is None:
        return _unchecked("one batch has none to be compared with")
    if last.outcome != "agree":
        fewest = min(last.effective_hits)
        why = f"{fewest:.1f} effective hits in one of the batches compared"
        return Coverage(outcome=UNCHECKED, why=why, more_draws=True)
    return Coverage(outcome=CHECKED)


def _unchecked(why: str) -> Coverage:
    return Coverage(outcome=UNCHECKED, why=why)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What the precision of an estimate rests on.

    Of `draws`, `missing` have no verdict and `hits` have h > 0, worth `effective_hits`; `risk` is
    the estimate, `missing_range` the same with every missing verdict taken as 0 and as 1.
    """

    draws: int
    missing: int
    hits: int
    effective_hits: float
    risk: float
    missing_range: tuple[float, float]

    @property
    def precise(self) -> bool:
        """Enough effective hits, and missing verdicts that do not matter."""
        return self.missing < self.draws and self.effective_hits >= ENOUGH_HITS and self._certain

    @property
    def _certain(self) -> bool:
        """Whether missing verdicts move the estimate by less than `MISSING_FACTOR`."""
        low, high = self.missing_range
        return high <= MISSING_FACTOR * self.risk and low >= self.risk / MISSING_FACTOR

    def status(self, coverage: Coverage, agreement: Agreement | None) -> tuple[str, int | None]:
        """The verdict in words, and about how many draws would resolve it."""
        n, missing = self.draws, self.missing
        if missing == n:
            return f"not resolved: all {n:,} verdicts are missing", None
        if self.effective_hits < ENOUGH_HITS:
            return self._too_few()
        if not self._certain:
            low, high = self.missing_range
            words = f"{missing:,} missing verdicts leave {low:.2g} to {high:.2g}; judge them again"
            return f"not resolved: {words}", None
        if coverage.outcome == DISAGREES and agreement is not None:
            # Four times the draws halve the noise, and show whether the difference is more than it.
            needed = rounded(4 * n)
            which = "; ".join(f"{c.name}: {c}" for c in agreement.disagreements)
            words = f"needs about {needed:,} draws, groups disagree ({which})"
            return f"not resolved: {words}", needed
        if coverage.outcome == CHECKED:
            return RESOLVED, None
        words = f"precise for the routes that its proposals take; {coverage.why}"
        return f"{NOT_CHECKED}: {words}", rounded(2 * n) if coverage.more_draws else None

    def _too_few(self) -> tuple[str, int]:
        n, hits = self.draws, self.hits
        if self.effective_hits == 0:
            # As if the first hit came next: one effective hit in n.
            needed = rounded(ENOUGH_HITS * n)
            note = f"or more (none of {n - self.missing:,} was unsafe)"
            if hits:
                note = f"or more (what was unsafe, {hits:,} draws, the target cannot say)"
            return f"not resolved: needs about {needed:,} draws {note}", needed
        # Effective hits come in proportion to draws, or more slowly: large weights are rare.
        needed = rounded(n * ENOUGH_HITS / self.effective_hits)
        plain = rounded(ENOUGH_HITS / min(self.risk, 1.0)) if self.risk > 0 else needed
        if plain < needed:
            words = f"or {plain:,} of the target alone (plain Monte Carlo)"
            return f"not resolved: needs about {needed:,} draws, {words}", plain
        return f"not resolved: needs about {needed:,} draws", needed


def rounded(draws: float) -> int:
    """A number of draws up to two significant digits.

    >>> rounded(1234), rounded(7.2)
    (1300, 8)
    """
    step = int(10 ** max(0, int(np.floor(np.log10(draws))) - 1))
    return int(np.ceil(draws / step - 1e-9)) * step
