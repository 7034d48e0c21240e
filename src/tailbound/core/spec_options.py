"""Options inside the name of a judge or a target: `classifier:org/model?label=toxic`."""

from __future__ import annotations

import math
from collections.abc import Collection
from urllib.parse import unquote

from tailbound.errors import UsageError


class SpecOptions:
    """The options behind the `?` of a name, each read once; `done` refuses the rest.

    `%26` stands for `&` and `%25` for `%`; `+` is a plus. `kind` is what is named, for messages.
    Raises `UsageError` for what is not `key=value` and for a key that occurs twice.
    """

    def __init__(self, provider: str, name: str, *, kind: str = "judge") -> None:
        self.provider = provider
        self._who = f"{provider} {kind}"
        self.name, mark, tail = name.partition("?")
        self._given: dict[str, str] = {}
        self._known: list[str] = []
        for part in tail.split("&") if mark else ():
            key, equals, value = part.partition("=")
            if not (key and equals):
                raise UsageError(
                    f"{self._who}: {part!r} is not a valid option: "
                    f"write {provider}:NAME?key=value&key=value"
                )
            if key in self._given:
                raise UsageError(f"{self._who}: option {key!r} is given twice: keep one")
            self._given[key] = unquote(value)

    def has(self, key: str) -> bool:
        """Whether the option is given."""
        return key in self._given

    def text(self, key: str, default: str | None = None) -> str | None:
        """The value as it is written."""
        self._known.append(key)
        return self._given.pop(key, default)

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        """One of `choices`."""
        value = self.text(key, default)
        assert value is not None
        if value not in choices:
            raise UsageError(f"{self._who}: {key} is one of {', '.join(choices)}, not {value!r}")
        return value

    def whole(self, key: str, default: int, *, least: int = 1) -> int:
        """A whole number from `least` on."""
        value = self.text(key)
        if value is None:
            return default
        # more digits than any count has, and than Python turns into a number
        fits = value.isascii() and value.isdigit() and len(value) <= 12
        if not fits or int(value) < least:
            raise UsageError(
                f"{self._who}: {key} is a whole number from {least} on, not {value[:40]!r}"
            )
        return int(value)

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        value = self.text(key)
        try:
            # the default may come from a file
            found = float(default if value is None else value)
        except (TypeError, ValueError):
            found = math.nan
        if not math.isfinite(found):
            shown = default if value is None else value
            raise UsageError(f"{self._who}: {key} is a number, not {shown!r}")
        return found

    def threshold(self, given: float | None, default: float = 0.5) -> float:
        """The threshold: `given` (the command's own) before the spec's, in (0, 1]."""
        own = self.number("threshold", default)
        if not 0 < own <= 1:
            raise UsageError(f"{self._who}: the threshold must lie in (0, 1], not {own:g}")
        return own if given is None else given

    def beginning(self, prefix: str) -> dict[str, str]:
        """All options whose key begins with `prefix`, which is cut off."""
        self._known.append(f"{prefix}*")
        found = [key for key in self._given if key.startswith(prefix)]
        return {key.removeprefix(prefix): self._given.pop(key) for key in found}

    def done(self) -> None:
        """Refuse options that nobody has read."""
        for key in self._given:
            raise UsageError(
                f"{self._who}: unknown option {key!r}: known are {', '.join(sorted(self._known))}"
            )
