"""How long to wait before a request is sent again, and which failures no waiting helps against."""

from __future__ import annotations

import math
import random
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tailbound.core.outside import one_line

LONGEST_ASKED = 86_400.0
"""Seconds: a server that asks for more is taken to ask for this."""
SHORT, FLOOR = 0.5, 5.0
"""Seconds that a request waits at least after the first, and after many refusals."""
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


def retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, which gives seconds or a date.

    Between 0 and `LONGEST_ASKED`; None where there is none, or nothing that can be understood.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            seconds = (date - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(0.0, seconds), LONGEST_ASKED)


def wait_seconds(
    attempt: int, asked: float | None, *, first: float, longest: float, rng: random.Random
) -> float:
    """Seconds until the next attempt, `attempt` (1, 2, ...) having failed.

    A wait that doubles from `first` to `longest`, less up to half of it by chance. Where the server
    `asked` for a time of its own (0 is none), that time and up to a tenth more, so that requests
    that were turned away together do not come back together; but never less than a wait that
    doubles from `SHORT` to `FLOOR`, for servers that ask for next to nothing time and again.
    """
    by_chance = 0.5 + rng.random() / 2
    doublings = 2.0 ** min(attempt - 1, 30)
    if not asked:
        return min(first * doublings, longest) * by_chance
    floor = min(min(first, SHORT) * doublings, longest, FLOOR)
    return max(asked * (0.9 + by_chance / 5), floor * by_chance)


def hopeless(error: BaseException) -> str | None:
    """What to do about a failure that comes back however often a request is sent; None for others.

    Those are certificates that are not trusted, and servers that speak no TLS where it is expected.
    """
    seen: list[Any] = [error, error.__cause__, getattr(error, "os_error", None)]
    seen += [getattr(error, "certificate_error", None)]
    for one in seen:
        if isinstance(one, ssl.CertificateError):
            why = one_line(getattr(one, "verify_message", "") or one, 120)
            return (
                f"its certificate is not trusted ({why}): name the file of its authority in "
                "SSL_CERT_FILE, or correct the name of the server in --base-url"
            )
        if isinstance(one, ssl.SSLError) and getattr(one, "reason", None) in _NOT_TLS:
            return "it does not speak TLS there: begin --base-url with http:// instead of https://"
    return None
