"""Parameters that go into every request: `--extra-body`, and `engine.extra_body` of judges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tailbound.errors import UsageError

_OWN = {
    "model": "--target",
    "messages": "the prompts",
    "prompt": "the prompts",
    "temperature": "--temperature",
    "top_p": "--top-p",
    "top_k": "--top-k",
    "max_tokens": "--max-new-tokens",
    "max_completion_tokens": "--max-new-tokens",
    "stop": "--stop",
    "seed": "--seed",
    "n": "--per-request",
    "logprobs": None,
    "top_logprobs": None,
    "best_of": None,
    "echo": None,
    "stream": None,
    "stream_options": None,
}
"""What is set elsewhere, and where; None: what would break the reading of answers."""

_SECRET = re.compile(
    r"api[-_ ]?key|authori[sz]ation|secret|passw|credential|headers"
    r"|^(access|api|auth|bearer|id|refresh|session)?[-_]?token$",
    re.IGNORECASE,
)
"""Names under which servers and proxies take keys."""

_LEAVE_THE_DENSITY = frozenset(
    {
        *("chat_template_kwargs", "enable_thinking", "reasoning", "reasoning_effort"),
        *("thinking", "think", "verbosity", "provider", "models", "metadata", "user"),
        *("safety_identifier", "service_tier", "store"),
    }
)
"""Parameters after which the log-probabilities that servers report are still the draws' own."""


def canonical(given: str | Mapping[str, Any] | None) -> str | None:
    """The JSON object in `given` with sorted keys and no spaces, None for an empty one or none.

    Raises `UsageError` for what is not a JSON object, and for parameters that are set elsewhere.

    >>> canonical('{"reasoning_effort": "low"}')
    '{"reasoning_effort":"low"}'
    """
    if given is None:
        return None
    example = 'write for instance \'{"reasoning_effort": "low"}\''
    try:
        found = json.loads(given) if isinstance(given, str) else given
        text = json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)
        text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be sent"
        raise UsageError(f"--extra-body is not a valid JSON object ({reason}): {example}") from None
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise UsageError(f"--extra-body is not a JSON object: {example}")
    for name in found:
        if name in _OWN:
            option = _OWN[name]
            where = "tailbound sets it" if option is None else f"{option} sets it"
            raise UsageError(f"--extra-body must not hold {name!r}: {where}")
    for name in _names(found):
        if _SECRET.search(name):
            raise UsageError(
                f"--extra-body must not hold {name!r}: it is kept in run.yaml, where no secret may "
                "stand; keys are read from the environment (--key-env)"
            )
    return text if found else None


def _names(value: Any) -> Iterator[str]:
    """The names in a document, at every depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _names(inner)


def parameters(extra_body: str | None) -> dict[str, Any]:
    """The parameters in a canonical `extra_body`."""
    return {} if extra_body is None else dict(json.loads(extra_body))


def keeps_density(extra_body: str | None) -> bool:
    """Whether none of the parameters changes how tokens are drawn from the model's distribution."""
    return parameters(extra_body).keys() <= _LEAVE_THE_DENSITY
