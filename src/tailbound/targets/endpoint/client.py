"""One request to a server, repeated until it is answered or given up.

Overload (429), failures of the server (5xx), timeouts, broken connections and answers that cannot
be read are tried again after a wait that doubles, with jitter, or as `Retry-After` says. Everything
else is the caller's mistake and is said at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from tailbound.core.outside import one_line, parse_json
from tailbound.errors import MissingExtraError, TargetError, UsageError
from tailbound.targets.endpoint.answers import Answer
from tailbound.targets.endpoint.cost import SpendLimit, Usage
from tailbound.targets.endpoint.protocol import (
    MOST_BYTES,
    MalformedResponseError,
    is_cut_short,
    read,
)
from tailbound.targets.endpoint.refusals import Refusal, prompt_refusal
from tailbound.targets.endpoint.settings import EndpointSettings
from tailbound.targets.endpoint.waiting import hopeless, retry_after, wait_seconds

OVERLOADED = 429
_KEY_REFUSED = (401, 403)
_HINTS = {
    404: ": does --base-url end as the server's does (mostly /v1), and is the model's name right?",
}
_PASSING = (408, 409, 425, OVERLOADED)
_CONNECT_SECONDS = 30.0
_MOST_OF_AN_ERROR = 2**16
_MOST_OF_A_LIST = 2**24
_MODELS = 2000


class RefusedError(TargetError):
    """The server does not take the request, however often it is sent.

    `refusal` is set where it turns away this prompt and may well take others; `said` are the words
    of the server.
    """

    def __init__(
        self, message: str, status: int, *, said: str = "", refusal: Refusal | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.said = said
        self.refusal = refusal


class Client:
    """Requests to one server, from one event loop: `open`, `ask` many times, `close`.

    Raises `MissingExtraError` without aiohttp.
    """

    def __init__(self, settings: EndpointSettings, usage: Usage, spend_limit: SpendLimit) -> None:
        try:
            import aiohttp
            import yarl
        except ImportError as error:
            raise MissingExtraError("a target behind an endpoint", "endpoint") from error
        self._aiohttp = aiohttp
        self._settings = settings
        self._usage = usage
        self._purse = spend_limit
        self._session: Any = None
        self._random = random.Random()
        self._base = settings.base_url.rstrip("/")
        try:
            yarl.URL(self._base)
        except ValueError as error:
            raise UsageError(
                f"the base URL {self._base!r} is not a URL ({error}): correct --base-url"
            ) from None
        self._urls: dict[str, Any] = {}
        self._giving_up = asyncio.Event()
        self._failures = (TimeoutError, aiohttp.ClientError, OSError)
        self._unsent = aiohttp.ClientConnectorError

    async def open(self) -> None:
        """Make ready; no connection is made before the first request."""
        headers = {"Content-Type": "application/json"}
        if self._settings.key:
            headers["Authorization"] = f"Bearer {self._settings.key}"
        self._session = self._aiohttp.ClientSession(
            headers=headers,
            timeout=self._aiohttp.ClientTimeout(
                total=self._settings.timeout, sock_connect=_CONNECT_SECONDS
            ),
            connector=self._aiohttp.TCPConnector(limit=0),
            cookie_jar=self._aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
            trust_env=not self._settings.local,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def give_up(self) -> None:
        """Let requests that were sent finish, and try none again."""
        self._giving_up.set()

    async def ask(
        self, path: str, body: bytes, *, most: float = 0.0, retry_timeout: float | None = None
    ) -> Answer:
        """The answer to `body`; `most`, what it can cost, is held in the spend_limit by the caller.

        Raises `RefusedError` where it will never be answered and `TargetError` when retry_timeout
        ends.
        """
        url = self._url(path)
        started, attempt = time.monotonic(), 0
        limit = self._settings.retry_timeout if retry_timeout is None else retry_timeout
        while True:
            attempt += 1
            self._usage.requests += 1
            asked: float | None = None
            lost = False
            try:
                async with self._session.post(url, data=body, allow_redirects=False) as response:
                    whole = response.status == 200
                    said = await _body(response, MOST_BYTES if whole else _MOST_OF_AN_ERROR)
                    said = self._settings.without_key(said)
            except asyncio.CancelledError:
                self._purse.lost(most)  # the server may have worked on it
                raise
            except self._failures as error:
                cure = hopeless(error)
                if cure is not None:
                    self._purse.released(most)
                    raise TargetError(
                        self._settings.redacted(f"{url} cannot be used: {cure}")
                    ) from None
                reason = self._name(error)
                lost = not isinstance(error, self._unsent)
            else:
                if response.status == 200:
                    try:
                        answer = read(said)
                    except MalformedResponseError as error:
                        refusal = prompt_refusal(200, said)
                        if refusal is not None:
                            self._purse.lost(most)
                            raise self._refused(url, 200, said, refusal) from None
                        reason, lost = str(error), True
                    else:
                        self._purse.answered(answer, most)
                        return answer
                else:
                    if is_cut_short(response.status, said):
                        self._purse.lost(most)  # the tokens of the thought are paid for
                        return Answer.cut_short()
                    reason = f"status {response.status}: {_short(said)}"
                    refusal = prompt_refusal(response.status, said)
                    if refusal is not None or not _passes(response.status, said):
                        self._purse.released(most)
                        moved = response.headers.get("Location")
                        raise self._refused(url, response.status, said, refusal, moved)
                    asked = retry_after(response.headers.get("Retry-After"))
            wait = wait_seconds(
                attempt,
                asked,
                first=self._settings.first_wait,
                longest=self._settings.longest_wait,
                rng=self._random,
            )
            if lost:
                self._purse.lost(most)
            if self._giving_up.is_set() or time.monotonic() + wait > started + limit:
                if not lost:
                    self._purse.released(most)
                raise self._failed(url, attempt, reason, time.monotonic() - started, asked)
            if lost and not self._purse.hold(most):
                raise self._purse.exceeded(most)
            self._usage.retries += 1
            await self._pause(wait)

    async def models(self) -> tuple[str, ...] | None:
        """The names that the server lists its models by; None where it does not say."""
        try:
            async with self._session.get(self._url("models"), allow_redirects=False) as response:
                if response.status != 200:
                    return None
                listed = parse_json(await _body(response, _MOST_OF_A_LIST))["data"]
                names = tuple(one_line(model["id"], 200) for model in listed[:_MODELS])
        except (*self._failures, ValueError, KeyError, TypeError):
            return None
        return names or None

    def _url(self, path: str) -> Any:
        if path not in self._urls:
            from yarl import URL

            self._urls[path] = URL(f"{self._base}/{path}")
        return self._urls[path]

    def _hint(self, status: int) -> str:
        """What to look at first where the server refuses with `status`."""
        if status not in _KEY_REFUSED:
            return _HINTS.get(status, "")
        name = self._settings.key_name
        if self._settings.key is None:
            return f": no key was sent: set {name}, or name another variable with --key-env"
        return f": is the key in {name} right? (--key-env names another variable)"

    def _name(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._settings.timeout:g} s"
        return one_line(f"{type(error).__name__}: {error}".removesuffix(": "), 300)

    def _refused(
        self, url: Any, status: int, said: bytes, refusal: Refusal | None, moved: str | None = None
    ) -> RefusedError:
        # a server that has answered knows the key, the address and the model
        hint = "" if self._purse.answers else self._hint(status)
        return RefusedError(
            self._settings.redacted(
                f"{url} refuses the request with status {status}: {_short(said)}"
                + (f" (it has moved to {moved})" if moved else "")
                + hint
            ),
            status,
            said=said[:10_000].decode(errors="replace"),
            refusal=refusal,
        )

    def _failed(
        self, url: Any, attempts: int, reason: str, seconds: float, asked: float | None
    ) -> TargetError:
        waits = f"; it asks to wait {asked:.0f} s" if asked else ""
        return TargetError(
            self._settings.redacted(
                f"{url} gave no answer in {attempts} attempts over {seconds:.0f} s (the last: "
                f"{reason}{waits}): see to the server, then run the same command again"
            )
        )

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._giving_up.wait(), seconds)
        except TimeoutError:
            return


def _passes(status: int, body: bytes) -> bool:
    """Whether trying again may help."""
    if status == OVERLOADED and b"insufficient_quota" in body:
        return False
    return status in _PASSING or status >= 500


async def _body(response: Any, most: int) -> bytes:
    """The first `most` bytes of an answer, and one more where there are more."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > most:
            response.close()
            break
    return bytes(body[: most + 1])


def _short(body: bytes) -> str:
    return one_line(body[:300].decode(errors="replace"), 300) or "(nothing said)"
