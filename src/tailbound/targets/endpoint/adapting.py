"""What a refusal of a request names, and how the next request does without it.

OpenAI names the parameter in `error.param`; servers that check with pydantic name its place in
`detail`; others put it into a sentence. What is refused at the value that changes nothing is left
out. What was asked for and is refused is said in one line: another value would be another contract.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tailbound.core.contract import SamplingOptions
from tailbound.core.outside import one_line
from tailbound.errors import UsageError
from tailbound.targets.endpoint.extra_body import parameters
from tailbound.targets.endpoint.protocol import NEUTRAL, Dialect

_LIMITS = ("max_tokens", "max_completion_tokens")
_WORDS = ("stop",)
"""Names that are words of any sentence: they count in quotation marks alone."""
_NEUTRAL = {"temperature": 1, "top_p": 1, "top_k": None}
"""Options that may be left out at these values: they change nothing."""


def adapt(dialect: Dialect, options: SamplingOptions, said: str, name: str) -> bool:
    """Change `dialect` by what the server `said` of a request under `options`; False: no idea how.

    Raises `UsageError` where it refuses what was asked for.
    """
    named = _named(said, _sent(dialect, options))
    if named in _LIMITS and dialect.limit == "max_tokens":
        dialect.limit = "max_completion_tokens"
    elif named == "seed":
        dialect.seed = False
    elif named == "stop":
        dialect.stop = False  # responses are cut here
    elif named in _NEUTRAL and getattr(options, named) != _NEUTRAL[named]:
        raise UsageError(_refused(name, named, getattr(options, named), said))
    elif named in ("temperature", "top_p"):
        dialect.left_out.add(named)
    elif named in (None, "top_k") and dialect.extras.get("top_k") == NEUTRAL["top_k"]:
        dialect.extras["top_k"] = 0  # the other way to say "no limit"
    elif named in dialect.extras:
        del dialect.extras[named]
    elif named is None and dialect.extras:
        dialect.extras.clear()
    else:
        return False
    return True


def _refused(name: str, named: str, value: float, said: str) -> str:
    flag = f"--{named.replace('_', '-')}"
    line = one_line(said, 200)
    if named == "top_k":
        return f"{name} refuses top_k {value} ({line}): remove {flag}, or use another server"
    return (
        f"{name} refuses {named} {value:g} ({line}): use {flag} 1 (for a judge: {named}=1), or "
        "another model"
    )


def _sent(dialect: Dialect, options: SamplingOptions) -> tuple[str, ...]:
    """The parameters of a request that the server may take exception to."""
    tempering = [n for n in ("temperature", "top_p") if n not in dialect.left_out]
    return (
        *_LIMITS,
        *tempering,
        *(("top_k",) if options.top_k is not None else ()),
        *dialect.extras,
        *(("seed",) if dialect.seed else ()),
        *(("stop",) if dialect.stop and options.stop else ()),
        *parameters(options.extra_body),
    )


def _named(said: str, sent: tuple[str, ...]) -> str | None:
    """The parameter that a refusal is about: the one in its place for that, else the first."""
    for place in _places(said):
        if place in sent:
            return place
    found = []
    for name in sent:
        quote = "[\"'`]" if name in _WORDS else ""
        if at := re.search(rf"(?<![\w-]){quote}{re.escape(name)}{quote}(?![\w-])", said):
            found.append((at.start(), name))
    return min(found)[1] if found else None


def _places(said: str) -> list[str]:
    """The names in the fields of an error that are there to hold the name of a parameter."""
    try:
        document = json.loads(said)
    except (ValueError, RecursionError):
        return []
    document = document if isinstance(document, dict) else {}
    error = document.get("error")
    found: list[Any] = [error.get("param")] if isinstance(error, dict) else []
    found.append(document.get("param"))
    detail = document.get("detail")
    for item in detail if isinstance(detail, list) else ():
        place = item.get("loc") if isinstance(item, dict) else None
        found += place if isinstance(place, list) else ()
    return [place for place in found if isinstance(place, str)]
