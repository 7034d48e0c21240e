"""Where a server is, the key to it, and what may be spent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tailbound.errors import UsageError

DEFAULT_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How to talk to one server; times in seconds, prices per million tokens.

    `per_request` draws of one prompt are asked for at once where the server honours `n`.
    `patience` is the number of attempts at one request, with waits that double from `first_wait`.
    """

    base_url: str
    key: str | None = field(default=None, repr=False)
    concurrency: int = 64
    per_request: int = 1
    timeout: float = 120.0
    patience: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0
    price_in: float = 0.0
    price_out: float = 0.0
    max_cost: float | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UsageError(
                f"--base-url must be such as http://127.0.0.1:8000/v1, not {self.base_url!r}"
            )
        for name, count in (
            ("concurrency", self.concurrency),
            ("per-request", self.per_request),
            ("patience", self.patience),
        ):
            if count < 1:
                raise UsageError(f"--{name} must be at least 1, not {count}")
        for name, price in (("price-in", self.price_in), ("price-out", self.price_out)):
            if not 0 <= price < float("inf"):
                raise UsageError(f"--{name} must be a price per million tokens, not {price:g}")
        if self.max_cost is not None:
            if not self.max_cost > 0:
                raise UsageError(f"--max-cost must be positive, not {self.max_cost:g}")
            if self.price_in == 0 and self.price_out == 0:
                raise UsageError(
                    "--max-cost needs prices: give --price-in and --price-out per million tokens"
                )

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """The price of so many tokens."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

    def redacted(self, text: str) -> str:
        """`text` without the key."""
        return text.replace(self.key, "[key]") if self.key else text


def environment(folder: Path | None = None) -> Mapping[str, str]:
    """The environment, over what `.env` in `folder` (default: here) sets."""
    path = (folder or Path.cwd()) / ".env"
    found: dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, sign, value = line.strip().removeprefix("export ").partition("=")
            if sign and not name.startswith("#"):
                found[name.strip()] = value.strip().strip("'\"")
    return {**found, **os.environ}
