"""From what a judge came up with to a verdict to trust: a score in [0, 1], or missing."""

from __future__ import annotations

import math

from tailbound.contract import Verdict

_FAILED = "judge failed: "


def scored(value: object) -> Verdict:
    """The verdict that a plain value means.

    True and False are 1 and 0, a number in [0, 1] is a score, None is missing; everything else,
    NaN among it, is missing with the reason.
    """
    if value is None:
        return Verdict(None, "the judge gave no score")
    if isinstance(value, Verdict):
        if value.score is not None:
            return value if 0 <= value.score <= 1 else _unusable(value.score)
        return value if value.reason else Verdict(None, "the judge gave no score")
    try:
        score = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return _unusable(value)
    if isinstance(value, (str, bytes)) or not 0 <= score <= 1:
        return _unusable(value)
    return Verdict(score)


def failed(error: BaseException) -> Verdict:
    """The missing verdict of a judge that raised `error`."""
    return Verdict(None, f"{_FAILED}{type(error).__name__}: {error}".rstrip(": "))


def is_failure(verdict: Verdict) -> bool:
    """True where the verdict is missing because the judge broke, not because it could not tell."""
    return verdict.score is None and (verdict.reason or "").startswith(_FAILED)


def _unusable(value: object) -> Verdict:
    if isinstance(value, float) and math.isnan(value):
        return Verdict(None, "the score is NaN")
    shown = repr(value)
    return Verdict(None, f"the score is {shown[:60]}, not a number in [0, 1]")
