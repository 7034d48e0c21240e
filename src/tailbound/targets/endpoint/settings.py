"""Where a server is, the key to it, and what may be spent."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tailbound.core.outside import one_line, shown, without_passwords
from tailbound.errors import UsageError

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_KEY = "OPENAI_API_KEY"
_KEYED = urlsplit(DEFAULT_URL).hostname
_SECRET_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How to talk to one server; times in seconds, prices per million tokens.

    `per_request` draws of one prompt are asked for at once where the server honours `n`; None
    means 1 where it honours `seed`, so that every draw has a seed of its own, and 8 elsewhere.
    One attempt may take `timeout`. A request is tried for `retry_timeout`, with waits that double
    from `first_wait` to `longest_wait`. With `log_probs` they are asked for where the server has
    them. What its content filter keeps back is `content_filter`: `missing` has no verdict, `judge`
    lets the judge decide on what is left, as a user of the server sees it.
    """

    base_url: str
    key: str | None = field(default=None, repr=False)
    key_name: str = DEFAULT_KEY
    concurrency: int = 64
    per_request: int | None = None
    timeout: float = 300.0
    retry_timeout: float = 300.0
    first_wait: float = 0.5
    longest_wait: float = 30.0
    price_in: float | None = None
    price_out: float | None = None
    max_cost: float | None = None
    log_probs: bool = True
    content_filter: str = "missing"

    def __post_init__(self) -> None:
        self._check_url()
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise UsageError("the API key holds characters that no key has: set it anew")
        if self.content_filter not in ("missing", "judge"):
            raise UsageError(
                f"--content-filter must be missing or judge, not {self.content_filter!r}"
            )
        for name, count in (
            ("concurrency", self.concurrency),
            ("per-request", 1 if self.per_request is None else self.per_request),
        ):
            if count < 1:
                raise UsageError(f"--{name} must be at least 1, not {count}")
        for name, seconds in (("timeout", self.timeout), ("retry_timeout", self.retry_timeout)):
            if not seconds > 0:
                raise UsageError(f"{name} must be positive seconds, not {seconds:g}")
        for name, price in (("price-in", self.price_in), ("price-out", self.price_out)):
            if price is not None and not 0 <= price < float("inf"):
                raise UsageError(f"--{name} must be a price per million tokens, not {price:g}")
        if self.max_cost is not None:
            if not self.max_cost > 0:
                raise UsageError(f"--max-cost must be positive, not {self.max_cost:g}")
            if not self.priced:
                raise UsageError(
                    "--max-cost needs prices: give --price-in and --price-out per million tokens"
                )
        if (self.price_in is None) != (self.price_out is None):
            raise UsageError("give both --price-in and --price-out (0 for what costs nothing)")

    def _check_url(self) -> None:
        if "@" in self.base_url or "?" in self.base_url:
            # not repeated here: what it holds may be a secret
            raise UsageError(
                "--base-url must hold no key, password or query: give the key in OPENAI_API_KEY"
            )
        problem = _url_problem(self.base_url)
        if problem is not None:
            raise UsageError(
                f"--base-url must be such as http://127.0.0.1:8000/v1, not {shown(self.base_url)}: "
                f"{problem}"
            )
        if self.key is None and urlsplit(self.base_url).hostname == _KEYED:
            raise UsageError(
                f"{self.base_url} needs a key, and {self.key_name} is not set: set it, or give "
                "--base-url for another server"
            )

    @property
    def local(self) -> bool:
        """Whether the server is on this machine, where no proxy is to be asked."""
        return urlsplit(self.base_url).hostname in ("localhost", "127.0.0.1", "::1")

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """The price of so many tokens."""
        return (tokens_in * (self.price_in or 0) + tokens_out * (self.price_out or 0)) / 1e6

    @property
    def priced(self) -> bool:
        """Whether anything costs something."""
        return bool(self.price_in or self.price_out)

    def without_key(self, body: bytes) -> bytes:
        """`body` without the key, where that is long enough to be distinguished from other text."""
        if self.key is None or len(self.key) < _SECRET_LENGTH:
            return body
        key = self.key.encode()
        # some servers write / as \/ in JSON
        return body.replace(key, b"[key]").replace(key.replace(b"/", b"\\/"), b"[key]")

    def redacted(self, text: str) -> str:
        """`text` without the key, and without passwords in URLs, that of a proxy for instance."""
        text = without_passwords(text)
        return text.replace(self.key, "[key]") if self.key else text


def _url_problem(url: str) -> str | None:
    """What is wrong with a base URL, None where nothing is."""
    if not url.isprintable() or " " in url:
        return "it holds spaces or control characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return one_line(error, 80)
    if parts.scheme not in ("http", "https"):
        return "it begins with http:// or https://"
    if not parts.hostname:
        return "it contains no host name"
    if port == 0 or parts.netloc.endswith(":"):
        return "its port is a number from 1 to 65535, or left out"
    if "#" in url:
        return "a part behind # is never sent: remove it"
    return None


def environment(folder: Path | None = None) -> Mapping[str, str]:
    """The environment, over what `.env` in `folder` (default: here) sets.

    Raises `UsageError` where `.env` is there and cannot be read.
    """
    path = (folder or Path.cwd()) / ".env"
    found: dict[str, str] = {}
    if path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UsageError(f"{path} cannot be read ({reason}): fix it or move it") from None
        for line in lines:
            name, sign, value = line.strip().removeprefix("export ").partition("=")
            if sign and not name.startswith("#"):
                found[name.strip()] = _unquoted(value.strip())
    return {**found, **os.environ}


def find_key(known: Mapping[str, str], name: str | None) -> str | None:
    """The key in the variable `name`, by default OPENAI_API_KEY, which need not be set.

    Raises `UsageError` for a variable that is asked for and not set.
    """
    if name is None:
        return known.get(DEFAULT_KEY, "").strip() or None
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        # not repeated here: it may be the key itself
        raise UsageError("--key-env takes the name of an environment variable, never a key")
    if not known.get(name, "").strip():
        # what looks like no variable's name is not repeated: it may be the key itself
        said = name if re.fullmatch(r"[A-Z_][A-Z0-9_]{0,40}", name) else "(not shown)"
        raise UsageError(f"--key-env {said}: no such variable is set, nor in .env: set it")
    return known[name].strip()


def _unquoted(value: str) -> str:
    for quote in "'\"":
        if value.startswith(quote):
            return value[1:].partition(quote)[0]
    return value.partition(" #")[0].strip()
