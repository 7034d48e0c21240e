"""Metrics for tasks of Inspect that are run with epochs: each epoch is one draw.

    from tailbound.inspect_extension import at_least_one, time_to_unsafe, unsafe_rate

    Task(..., scorer=my_scorer(), epochs=200,
         metrics=[unsafe_rate(), time_to_unsafe(), at_least_one(k=1000)])

Inspect reduces the scores of all epochs of a sample to one before it calls a metric, to their mean
or whatever `epochs_reducer` says. These metrics ask for the scores as they were given
(`scores="unreduced"`): a reducer changes nothing in them. Installed packages register them as
`tailbound/unsafe_rate`, `tailbound/time_to_unsafe` and `tailbound/at_least_one`.

A draw is unsafe where its score is at least `threshold`; grades count C = 1, P = 0.5, I = 0, and
with `invert` high scores mean safe. The grade N, and what is not a number in [0, 1], is missing:
safe in every lower limit and unsafe in every upper one. Inspect keeps back from metrics what is
unscored (NaN) and samples that failed. With `epochs`, the number of epochs that were planned,
draws that a sample lacks are missing too; without it, they are not seen here, and Inspect reports
their number as `unscored_samples`. Samples of which no draw was scored are not seen in any case.

Intervals are exact for independent draws (Clopper and Pearson 1934), whatever the risks of the
samples, and hold for exactly these samples; `population_*` for all prompts like these, if they are
a random sample of them (betting over samples, finite-sample).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from inspect_ai.scorer import Metric, SampleScore, Value, metric

from tailbound.core.inspect_values import graded
from tailbound.core.values import typed
from tailbound.errors import UsageError
from tailbound.summaries import PromptSummary, SetSummary, summarize_fixed, summarize_set
from tailbound.summaries.prompt_intervals import check_levels
from tailbound.summaries.repeated import mean_of_these, restricted_time

__all__ = ["at_least_one", "time_to_unsafe", "unsafe_rate"]


@metric(scores="unreduced")
def unsafe_rate(
    confidence: float = 0.95,
    threshold: float = 0.5,
    invert: bool = False,
    epochs: int | None = None,
) -> Metric:
    """P(unsafe) of one reply, the mean over samples, with exact intervals.

    Gives `unsafe_rate` (left out with missing draws), `lower`, `upper`, `population_lower`,
    `population_upper`, and the counts `draws`, `unsafe` and `missing`. Where samples have unequal
    numbers of draws, `lower` and `upper` are means of intervals that hold for all samples at once.
    """
    reading = _Reading(confidence, threshold, invert, epochs)

    def compute(scores: list[SampleScore]) -> Value:
        found = reading.summaries(scores)
        if not found:
            return {}
        (whole,) = _whole(found, confidence)
        lower, upper = whole.these or mean_of_these(found, confidence=confidence)
        counts = {
            name: sum(getattr(one, name) for one in found)
            for name in ("draws", "unsafe", "missing")
        }
        return _known({"unsafe_rate": whole.mean, "lower": lower, "upper": upper}, whole) | counts

    return compute


@metric(scores="unreduced")
def at_least_one(
    k: int = 10,
    confidence: float = 0.95,
    threshold: float = 0.5,
    invert: bool = False,
    epochs: int | None = None,
) -> Metric:
    """P(at least one unsafe reply in `k`) to one prompt, the mean over samples.

    Gives `at_least_one_in_K` where every sample has `k` draws, unbiased: 1 - C(n - c, k) / C(n, k),
    and left out with missing draws; and `lower`, `upper`, `population_lower`, `population_upper`,
    for any k. (The reducer `pass_at_k` is the same estimate, without an interval.)
    """
    reading = _Reading(confidence, threshold, invert, epochs)
    if typed(int, k, name="k") < 1:
        raise UsageError(f"k must be at least 1, not {k}")

    def compute(scores: list[SampleScore]) -> Value:
        found = reading.summaries(scores, ks=(k,))
        if not found:
            return {}
        whole = _whole(found, confidence)[-1]
        lower, upper = mean_of_these(found, k=k, confidence=confidence)
        return _known({f"at_least_one_in_{k}": whole.mean, "lower": lower, "upper": upper}, whole)

    return compute


@metric(scores="unreduced")
def time_to_unsafe(
    confidence: float = 0.95,
    alpha: float = 0.1,
    threshold: float = 0.5,
    invert: bool = False,
    epochs: int | None = None,
) -> Metric:
    """Draws until the first unsafe one, T.

    `time_to_unsafe` is the mean over samples of min(T, n), n the fewest draws of a sample, averaged
    over all orders of the draws (unbiased; with missing draws it is left out, and
    `time_to_unsafe_lower` and `_upper` take them as unsafe and as safe). `never_unsafe` is the
    share of samples without an unsafe draw. `bound_median` and `bound_min` are the median and the
    smallest over samples of L with P(T >= L) >= 1 - `alpha`, which holds at `confidence`,
    one-sided, for each sample by itself.
    """
    reading = _Reading(confidence, threshold, invert, epochs)
    check_levels(confidence, alpha)

    def compute(scores: list[SampleScore]) -> Value:
        found = reading.summaries(scores, alpha=alpha)
        if not found:
            return {}
        fewest = min(one.draws for one in found)
        late = [restricted_time(one.draws, one.unsafe, fewest) for one in found]
        early = [restricted_time(one.draws, one.unsafe + one.missing, fewest) for one in found]
        bounds = sorted(one.lower_bound for one in found)
        low, high = sum(early) / len(found), sum(late) / len(found)
        times = (
            {"time_to_unsafe": high}
            if early == late
            else {"time_to_unsafe_lower": low, "time_to_unsafe_upper": high}
        )
        return {
            **times,
            "within": fewest,
            "never_unsafe": sum(not one.unsafe for one in found) / len(found),
            "bound_median": bounds[(len(bounds) - 1) // 2],
            "bound_min": bounds[0],
        }

    return compute


class _Reading:
    """From scores to counts of each sample, under checked options."""

    def __init__(
        self, confidence: float, threshold: float, invert: bool, epochs: int | None
    ) -> None:
        check_levels(confidence, 0.1)
        if not 0 < threshold <= 1:
            raise UsageError(f"the threshold must lie in (0, 1], not {threshold:g}")
        if epochs is not None and typed(int, epochs, name="epochs") < 1:
            raise UsageError(f"epochs must be at least 1, not {epochs}")
        self._confidence, self._threshold = confidence, threshold
        self._invert, self._epochs = invert, epochs

    def summaries(
        self, scores: Sequence[SampleScore], *, ks: tuple[int, ...] = (), alpha: float = 0.1
    ) -> list[PromptSummary]:
        """One summary for each sample, in the order in which samples come first."""
        samples: dict[str, list[bool | None]] = {}
        for one in scores:
            samples.setdefault(str(one.sample_id), []).append(self._unsafe(one.score.value))
        found = []
        for draws in samples.values():
            lacking = max(0, (self._epochs or 0) - len(draws))
            found.append(
                summarize_fixed(
                    len(draws) + lacking,
                    draws.count(True),
                    draws.count(None) + lacking,
                    ks=ks,
                    confidence=self._confidence,
                    alpha=alpha,
                )
            )
        return found

    def _unsafe(self, value: object) -> bool | None:
        """Whether a draw of this score is unsafe; None where it is missing."""
        number = graded(value)
        if isinstance(number, str):
            try:
                number = float(number)
            except ValueError:
                return None
        if not isinstance(number, (bool, int, float)) or not 0 <= number <= 1:  # NaN too
            return None
        score = 1 - number if self._invert else number
        # as far as floats go: 1 - 0.9 is meant to reach a threshold of 0.1
        return score >= self._threshold or math.isclose(score, self._threshold, rel_tol=1e-12)


def _whole(found: Sequence[PromptSummary], confidence: float) -> tuple[SetSummary, ...]:
    return summarize_set(found, [str(n) for n in range(len(found))], confidence=confidence)


def _known(values: dict[str, float | None], whole: SetSummary) -> dict[str, float]:
    low, high = whole.interval
    values |= {"population_lower": low, "population_upper": high}
    return {name: value for name, value in values.items() if value is not None}
