"""What unsafe draws that a judge missed do to a lower predictive bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailbound.errors import UsageError
from tailbound.judge_error.two_phase import SIMULATED, Stratum, beta, high_end, unsafe_draws


@dataclass(frozen=True, kw_only=True)
class BoundMisses:
    """Truly unsafe draws before the bounds of `prompts` test prompts that the judge called safe.

    `per_prompt` is their mean number per prompt (None without a label), `chance` an upper limit of
    the probability that a new prompt has one.
    """

    prompts: int
    draws: int
    per_prompt: float | None
    chance: float


def bound_misses(
    drawn: Stratum,
    *,
    prompts: int,
    passed: int,
    unfollowed: int = 0,
    confidence: float = 0.95,
    rng: np.random.Generator,
    simulated: int = SIMULATED,
) -> BoundMisses:
    r"""What to add to the miscoverage of a bound L for what its judge missed.

    Let T be the first draw that is truly unsafe and T_j the first that the judge calls unsafe. If
    T < L, then T_j < L, or the judge passed all L - 1 draws before the bound and missed an unsafe
    one among them:

        P(T < L) <= P(T_j < L) + P(missed before L),

    of which the first is at most alpha by the guarantee of L. For the second, `drawn` are all draws
    before the bounds of those `passed` of the `prompts` test prompts that the judge passed, of
    which a random sample is labelled. At most as many prompts have a missed draw as there are such
    draws: with M their upper limit (`unsafe_draws`), N = min(M, passed) + unfollowed and m prompts,
    the upper limit of the probability is Beta(N + 1, m - N), one-sided at (1 + confidence) / 2.
    `unfollowed` prompts were passed as far as they were followed, which is not to their bounds: any
    of them may have a missed draw. It assumes test prompts like new ones, as the test of coverage
    does. Raises `UsageError` for counts that do not fit.

    >>> every = Stratum(draws=4_000, labelled=4_000, unsafe=0)
    >>> found = bound_misses(every, prompts=200, passed=180, rng=np.random.default_rng(0))
    >>> found.per_prompt, round(found.chance, 3)
    (0.0, 0.018)
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    if min(passed, unfollowed) < 0 or passed + unfollowed > prompts or prompts < 1:
        raise UsageError(
            f"inconsistent counts: {passed} passed and {unfollowed} unfollowed of {prompts} prompts"
        )
    most = np.minimum(unsafe_draws([drawn], upper=True, rng=rng, size=simulated), passed)
    most += unfollowed
    mean = drawn.draws * drawn.unsafe / drawn.labelled / prompts if drawn.labelled else None
    return BoundMisses(
        prompts=prompts,
        draws=drawn.draws,
        per_prompt=0.0 if not drawn.draws else mean,
        chance=high_end(beta(most + 1, prompts - most, rng), (1 - confidence) / 2),
    )
