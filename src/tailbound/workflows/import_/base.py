"""What every format is read into, and the reading of one score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tailbound.core.finish_reasons import (
    broken_reason,
    content_filter_reason,
    finish_kind,
    unknown_reason,
)
from tailbound.core.outside import OutsideError, clean_text, is_clean, parse_json
from tailbound.errors import UsageError
from tailbound.prompts.chat import Messages, NotMessagesError, parse_messages

NO_SCORE = "no score in the source"

UNSCORED = "unscored"
"""The judge of a source in which nothing was scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedDraw:
    """One draw of a source; `place` says where it stands there, for errors.

    `index` counts 1, 2, ... within the prompt. `score` lies in [0, 1], None with a `reason` where
    the source has none. `messages`, `group` and `text` (the response) are None where the source
    does not tell, `finish_reason` then `unknown`.
    """

    place: str
    prompt_id: str
    index: int
    score: float | None
    reason: str | None = None
    messages: Messages | None = None
    group: str | None = None
    text: str | None = None
    finish_reason: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class Source:
    """All draws of a source, who scored them, and what it tells about how they were made.

    `outputs` counts what the model said in the source, whether it became a draw or not.
    `contract` holds the known fields of a `SamplingContract` (temperature, top_p, ...); `notices`
    are lines that the user should know: what was left out, and why.
    """

    format: str
    draws: tuple[ImportedDraw, ...]
    judge: str
    outputs: int
    model: str | None = None
    contract: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def read_score(value: Any, place: str, name: str) -> tuple[float | None, str | None]:
    """(score, None), or (None, reason) where there is none: null, empty or NaN.

    Raises `UsageError` with the place where the value is not a number in [0, 1].
    """
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None, NO_SCORE
        words = {"true": 1.0, "false": 0.0}
        try:
            value = words[text.lower()] if text.lower() in words else float(text)
        except ValueError:
            raise UsageError(
                f"{place}: {name} {_short(value)} is not a number: give a score in [0, 1], or "
                "leave it empty"
            ) from None
    if value is None:
        return None, NO_SCORE
    if not isinstance(value, (bool, int, float, Decimal)):
        raise UsageError(f"{place}: {name} is {_short(value)}, not one number in [0, 1]")
    try:
        score = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        score = math.inf
    if math.isnan(score):
        return None, NO_SCORE
    if not 0 <= score <= 1:
        raise UsageError(
            f"{place}: {name} is {score:g}, outside [0, 1]: rescale it, 1 being surely unsafe"
        )
    return score, None


def read_ending(
    value: Any, score: float | None, reason: str | None
) -> tuple[str, float | None, str | None]:
    """(finish_reason, score, reason) of a draw whose source says that it ended with `value`.

    What a content filter withheld and what did not come whole is missing, whatever it was scored:
    a judge that is shown nothing calls it safe.
    """
    if not isinstance(value, str) or not value.strip():
        return "unknown", score, reason
    kind = finish_kind(value)
    if kind in ("finished", "length"):
        return ("stop" if kind == "finished" else "length"), score, reason
    if kind == "filter":
        return "content_filter", None, content_filter_reason(value)
    why = broken_reason(value) if kind == "broken" else unknown_reason(value)
    return "incomplete", None, why


def read_label(value: Any, place: str, name: str) -> str | None:
    """An id or a group as text; None where there is none.

    Raises `UsageError` with the place where the value is neither text nor a number.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise UsageError(f"{place}: {name} is {_short(value)}, neither text nor a number")
    text = str(value)
    if not is_clean(text):
        raise UsageError(f"{place}: {name} {_short(value)} has half a character: save it as UTF-8")
    return text


def read_identity(value: Any, place: str, name: str) -> str:
    """The id of a prompt as text; raises `UsageError` with the place where there is none."""
    label = read_label(value, place, name)
    if label is None:
        raise UsageError(f"{place} has no {name}: every draw belongs to a prompt")
    return label


def choose(asked: str | None, found: Mapping[str, int], *, what: str, source: str) -> str:
    """The one name among `found` (with how often each occurs) that is asked for, or the only one.

    `UNSCORED` where there are none and none is asked for. Raises `UsageError` that lists the names
    where it is not there or the choice is open.
    """
    if not found:
        if asked is None:
            return UNSCORED
        raise UsageError(
            f"{source} has no {what} with a score: leave --judge-name out to import the responses "
            "alone, for `tailbound rejudge`"
        )
    names = ", ".join(sorted(found))
    if asked is None:
        if len(found) > 1:
            raise UsageError(f"{source} has several {what}s ({names}): name one with --judge-name")
        return next(iter(found))
    if asked not in found:
        raise UsageError(f"{source} has no {what} {asked!r}: it has {names}")
    return asked


def read_messages(value: Any, place: str, name: str) -> Messages | None:
    """A prompt as messages: a text, chat messages, or those as JSON; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if value.lstrip().startswith("[{"):
            try:
                return read_messages(parse_json(value), place, name)
            except OutsideError:
                pass
        return (("user", clean_text(value)),)
    if isinstance(value, list) and value:
        try:
            return tuple(
                (clean_text(role), clean_text(text)) for role, text in parse_messages(value)
            )
        except NotMessagesError as error:
            raise UsageError(f"{place}: {name} holds {error}") from error
    raise UsageError(f"{place}: {name} is {_short(value)}, neither text nor chat messages")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
