"""The last look at a draw and its verdict before they are put on record.

What reaches the ledger went through `tailbound.core.outside` on its way in. A draw that cannot be
stored in spite of that, by a target or judge of somebody else's making, becomes a missing draw that
says why: thousands of others may wait in the same batch.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

from tailbound.core.contract import Draw, Verdict
from tailbound.core.outside import finite, is_clean, one_line, shown

_REASON = 500
_INT32 = 2**31 - 1


def storable(draw: Draw, verdict: Verdict) -> tuple[Draw, Verdict]:
    """The pair as it can be stored: itself, or a draw without text whose verdict is missing."""
    problem = _problem(draw) or _problem_of(verdict)
    if problem is None:
        return draw, verdict
    kept = replace(
        draw,
        text="",
        token_ids=(),
        counted=None,
        log_prob=math.nan,
        finish_reason=draw.finish_reason if is_clean(draw.finish_reason) else "stop",
    )
    return kept, Verdict(None, one_line(f"the draw cannot be stored: {problem}", _REASON))


def storable_verdict(verdict: Verdict) -> Verdict:
    """The verdict as it can be stored: itself, or a missing one with the reason."""
    problem = _problem_of(verdict)
    return verdict if problem is None else Verdict(None, f"cannot be stored: {problem}")


def _problem(draw: Draw) -> str | None:
    if not is_clean(draw.text):
        return f"its text is {shown(draw.text)}, which is not text that UTF-8 can hold"
    if not is_clean(draw.finish_reason):
        return f"its finish reason is {shown(draw.finish_reason)}"
    try:
        array("i", draw.token_ids)
    except (TypeError, OverflowError):
        return f"its token ids are {shown(draw.token_ids)}"
    tokens = draw.tokens
    if tokens is not None and not (isinstance(tokens, int) and 0 <= tokens <= _INT32):
        return f"its number of tokens is {shown(tokens)}"
    log_prob: object = draw.log_prob
    if not isinstance(log_prob, float):
        return f"its log-probability is {shown(log_prob)}"
    return None


def _problem_of(verdict: Verdict) -> str | None:
    if verdict.reason is not None and not is_clean(verdict.reason):
        return f"the reason of its verdict is {shown(verdict.reason)}"
    score = verdict.score
    if score is None:
        return None
    number = finite(score)
    if number is None or not 0 <= number <= 1:
        return f"its score is {shown(score)}, not a number in [0, 1]"
    return None
