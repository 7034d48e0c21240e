"""What the audit reports while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where one stream of draws stands.

    `draws` and `tokens` were made by this process, `reused` were on record before it started;
    `remaining` is an upper bound on the draws still to come (prompts may stop early).
    """

    stream: str
    draws: int
    reused: int
    remaining: int
    tokens: int
    unsafe: int
    missing: int
    seconds: float


Reporter = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Tell nobody."""
