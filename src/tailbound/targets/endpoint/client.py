"""One request to a server, repeated until it is answered or patience ends.

Overload (429), failures of the server (5xx), timeouts, broken connections and answers that are no
JSON are tried again after a wait that doubles, with jitter, or as `Retry-After` says. Everything
else is the caller's mistake and is said at once.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tailbound.errors import MissingExtraError, TargetError
from tailbound.targets.endpoint.settings import EndpointSettings

OVERLOADED = 429


class RefusedError(TargetError):
    """The server will not have this request, however often it is asked."""


@dataclass(slots=True)
class Usage:
    """What a server has been asked and paid for so far; `retries` are requests sent again."""

    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Client:
    """Requests to one server; an async context manager, used in one event loop."""

    def __init__(self, settings: EndpointSettings, usage: Usage) -> None:
        try:
            import aiohttp
        except ImportError as error:
            raise MissingExtraError("a target behind an endpoint", "endpoint") from error
        self._aiohttp = aiohttp
        self._settings = settings
        self._usage = usage
        self._session: Any = None
        self._random = random.Random()

    async def __aenter__(self) -> Self:
        headers = {"Content-Type": "application/json"}
        if self._settings.key:
            headers["Authorization"] = f"Bearer {self._settings.key}"
        self._session = self._aiohttp.ClientSession(
            headers=headers,
            timeout=self._aiohttp.ClientTimeout(total=self._settings.timeout),
            connector=self._aiohttp.TCPConnector(limit=self._settings.concurrency),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def post(self, path: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The answer to `payload`; raises `TargetError` when patience ends or it is refused."""
        url = f"{self._settings.base_url.rstrip('/')}/{path}"
        reason = ""
        for attempt in range(self._settings.patience):
            if attempt:
                self._usage.retries += 1
            self._usage.requests += 1
            wait: float | None = None
            try:
                async with self._session.post(url, data=json.dumps(payload)) as response:
                    body = await response.read()
                    if response.status == 200:
                        answer = _document(body)
                        if answer is not None:
                            self._account(answer)
                            return answer
                        reason = f"an answer that is no JSON: {_short(body)!r}"
                    elif response.status == OVERLOADED or response.status >= 500:
                        reason = f"status {response.status}: {_short(body)}"
                        wait = _retry_after(response.headers.get("Retry-After"))
                    else:
                        raise RefusedError(
                            self._settings.redacted(
                                f"{url} refuses the request with status {response.status}: "
                                f"{_short(body)}"
                            )
                        )
            except (TimeoutError, self._aiohttp.ClientError, ConnectionError) as error:
                reason = f"{type(error).__name__} {error}".strip()
            if attempt + 1 < self._settings.patience:
                await asyncio.sleep(self._wait(attempt, wait))
        raise TargetError(
            self._settings.redacted(
                f"{url} failed {self._settings.patience} times in a row (the last time: {reason}): "
                "see to the server, then run the same command again"
            )
        )

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Seconds until the next attempt: what the server asks for, else doubling with jitter."""
        if asked is not None:
            return min(asked, self._settings.longest_wait)
        doubled = self._settings.first_wait * float(2**attempt)
        longest = min(doubled, self._settings.longest_wait)
        return longest * (0.5 + self._random.random() / 2)

    def _account(self, answer: dict[str, Any]) -> None:
        usage = answer.get("usage")
        if isinstance(usage, dict):
            self._usage.tokens_in += int(usage.get("prompt_tokens") or 0)
            self._usage.tokens_out += int(usage.get("completion_tokens") or 0)


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
        return None
    return answer if answer["choices"] else None


def _short(body: bytes) -> str:
    return " ".join(body[:300].decode(errors="replace").split())


def _retry_after(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None
