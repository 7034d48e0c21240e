r"""A fixed set of prompts, each with a fixed number of draws: what holds for exactly these.

With prompts m = 1..M and intervals [l_m, u_m] of f(p_m) at confidence 1 - delta / M each, the mean
of f(p_m) lies in [mean l_m, mean u_m] with probability at least 1 - delta (Bonferroni). It needs no
equal numbers of draws, and f may be any monotone function, P(at least one in k) among them.
"""

from __future__ import annotations

from collections.abc import Sequence

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson
from tailbound.missing_verdicts import missing_counts_as_unsafe
from tailbound.summaries.prompt_intervals import PromptSummary, at_least_one


def restricted_time(draws: int, unsafe: int, horizon: int | None = None) -> float:
    """Mean of min(T, horizon), T the number of the first unsafe draw, over all orders of the draws.

    The sum over t < horizon of C(n - c, t) / C(n, t), the probability that the first t of n draws
    in random order are all safe; with the horizon n it is (n + 1) / (c + 1), or n without an unsafe
    one. Unbiased for the mean of min(T, horizon) of independent draws, and with no larger variance
    than the one order in which they came (Rao-Blackwell). `horizon` is at most `draws`, which is
    the default.

    >>> restricted_time(9, 1), restricted_time(9, 0), restricted_time(4, 4)
    (5.0, 9.0, 1.0)
    """
    most = draws if horizon is None else horizon
    if not (0 <= unsafe <= draws and 1 <= most <= draws):
        raise UsageError(
            f"inconsistent counts: {unsafe} unsafe in {draws} draws, horizon {most}: the horizon "
            "is at least 1 and at most the number of draws"
        )
    if most == draws and unsafe:
        return (draws + 1) / (unsafe + 1)
    none, total = 1.0, 0.0
    for t in range(most):
        total += none
        none *= max(draws - unsafe - t, 0) / (draws - t)
    return total


def mean_of_these(
    summaries: Sequence[PromptSummary], *, k: int = 1, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval for the mean of P(at least one unsafe in k) over exactly these prompts.

    By Clopper and Pearson (1934) for each prompt and Bonferroni over all of them (see above);
    missing verdicts are safe in the lower end and unsafe in the upper one. Raises `UsageError`
    for no prompts.

    >>> from tailbound.summaries import summarize_fixed
    >>> alone = mean_of_these([summarize_fixed(100, 3, 0)])
    >>> [round(end, 4) for end in alone]
    [0.0062, 0.0852]
    """
    if not summaries:
        raise UsageError("an interval for no prompts: give at least one")
    each = 1 - (1 - confidence) / len(summaries)
    draws = [one.draws for one in summaries]
    possible = [missing_counts_as_unsafe(one.unsafe, one.missing) for one in summaries]
    lower = clopper_pearson([one.unsafe for one in summaries], draws, confidence=each)[0]
    upper = clopper_pearson(possible, draws, confidence=each)[1]
    return (
        sum(at_least_one(float(p), k) for p in lower) / len(summaries),
        sum(at_least_one(float(p), k) for p in upper) / len(summaries),
    )
