"""Which model answers: what the server calls it, and the build that it runs on.

Draws of two models must not be pooled. A server that comes back with another model in the middle of
a run says so in `model`, or, where it serves one build, in `system_fingerprint`. Hosted services
run several builds at a time and rotate fingerprints (`fp_44709d6fcb`) between them: such a change
says nothing about the model, and is only reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tailbound.errors import TargetError
from tailbound.targets.endpoint.answers import Answer

_ROTATING = re.compile(r"fp_[0-9a-f]{6,}")
SHOWN = 4


class ServedModel:
    """What the probe's answers said, held against every later answer."""

    def __init__(self, asked: str, names: Iterable[str], fingerprints: Iterable[str]) -> None:
        self._asked = asked
        self._names = frozenset(names)
        self._known = frozenset(fingerprints)
        self._seen = set(self._known)

    @property
    def revision(self) -> str | None:
        """The build, or else the name behind the one asked for; None where it is not stated."""
        if self._build is not None:
            return self._build
        (name,) = self._names if len(self._names) == 1 else (None,)
        return None if name == self._asked else name

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know before the run."""
        if len(self._names) < 2:
            return ()
        return (
            f"the server answers by several models ({_listed(self._names)}): draws are of their "
            "mixture, whatever it is from hour to hour",
        )

    @property
    def late_notices(self) -> tuple[str, ...]:
        """What came to light in the run."""
        if self._seen == self._known:
            return ()
        return (
            f"the server's system_fingerprint changed in the run ({_listed(self._seen)}): it may "
            "have been updated meanwhile, or runs several builds at a time",
        )

    def check(self, answer: Answer) -> None:
        """Raise `TargetError` where another model answers than before."""
        name, fingerprint = answer.model, answer.fingerprint
        if name is not None and len(self._names) == 1 and name not in self._names:
            raise _changed("model", next(iter(self._names)), name)
        if fingerprint is None:
            return
        if self._build is not None and fingerprint != self._build:
            raise _changed("system_fingerprint", self._build, fingerprint)
        self._seen.add(fingerprint)

    @property
    def _build(self) -> str | None:
        """The fingerprint of the one build that answered the probe."""
        (only,) = self._known if len(self._known) == 1 else (None,)
        return None if only is None or _ROTATING.match(only) else only


def _changed(what: str, before: str, now: str) -> TargetError:
    return TargetError(
        f"the server's {what} was {before!r} and is now {now!r}: draws of two models are not "
        "pooled; finished draws are kept. Serve the model of before and repeat the command, or use "
        "another --out folder"
    )


def _listed(names: Iterable[str]) -> str:
    ranked = sorted(names)
    more = f" and {len(ranked) - SHOWN} more" if len(ranked) > SHOWN else ""
    return ", ".join(ranked[:SHOWN]) + more
