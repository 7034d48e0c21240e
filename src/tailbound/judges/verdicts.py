"""From what a judge came up with to a verdict to trust: a score in [0, 1], or missing."""

from __future__ import annotations

import math

from tailbound.core.contract import Verdict
from tailbound.core.outside import one_line, shown

_FAILED = "judge failed: "
_NO_SCORE = "the judge gave no score"
_LONGEST_REASON = 500


def scored(value: object) -> Verdict:
    """The verdict that a plain value means.

    True and False are 1 and 0, a number in [0, 1] is a score, None is missing; everything else,
    NaN among it, is missing because the judge failed. A `Verdict` is held to the same: its score
    becomes a plain float, its reason one line that can be stored.
    """
    if isinstance(value, Verdict):
        reason = None if value.reason is None else _line(value.reason)
        if value.score is None:
            return Verdict(None, reason or _NO_SCORE)
        found = scored(value.score)
        return found if found.score is None else Verdict(found.score, reason)
    if value is None:
        return Verdict(None, _NO_SCORE)
    try:
        score = float(value)  # type: ignore[arg-type]
    except Exception:  # __float__ is the judge's code, and raises what it likes
        return _unusable(value)
    if isinstance(value, (str, bytes)) or not 0 <= score <= 1:
        return _unusable(value)
    return Verdict(score)


def failed(error: BaseException) -> Verdict:
    """The missing verdict of a judge that raised `error`."""
    return Verdict(
        None,
        f"{_FAILED}{_line(f'{type(error).__name__}: {one_line(error, _LONGEST_REASON)}')}".rstrip(
            ": "
        ),
    )


def is_failure(verdict: Verdict) -> bool:
    """True where the verdict is missing because the judge broke, not because it could not tell."""
    return verdict.score is None and (verdict.reason or "").startswith(_FAILED)


def _unusable(value: object) -> Verdict:
    if isinstance(value, float) and math.isnan(value):
        return Verdict(None, f"{_FAILED}the score is NaN")
    return Verdict(None, f"{_FAILED}the score is {shown(value)}, not a number in [0, 1]")


def _line(text: object) -> str:
    """One line, not too long, in characters that UTF-8 can hold: thousands of them are stored."""
    return one_line(text, _LONGEST_REASON)
