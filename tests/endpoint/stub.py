"""A server of the kind that endpoints are, in this process: honest by default, faulty on demand.

A draw's text is a function of its prompt and seed alone, which distinguishes faults from draws.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

WORDS = ("river", "stone", "water", "bridge", "unsafe", "boat", "fish", "rain")
LONGEST = 12
LISTS = {
    "Monday, Tuesday, Wednesday, Thursday,": " Friday, Saturday, Sunday",
    "one, two, three, four, five,": " six, seven, eight",
}
"""How lists continue that are begun."""

#: Answers with status 200 that are none, one after the other.
GARBAGE: tuple[bytes, ...] = (
    b"<html>not json",
    b'{"choices": [{"message": {"content": "cut off in mid',
    b'{"error": "overloaded"}',
    b'{"choices": []}',
    b'{"choices": [{}]}',
    b'{"choices": [{"message": {}}]}',
    b'{"choices": [{"message": {"content": "stopped halfway"}, "finish_reason": null}]}',
    b'{"choices": [{"message": {"content": "stopped half"}, "finish_reason": "abort"}]}',
    b'{"choices": [{"message": "text", "finish_reason": "stop"}]}',
    b"[1, 2]",
    b"null",
    b"",
)


@dataclass
class Faults:
    """What is wrong with the server; shares of requests are probabilities."""

    ignores: set[str] = field(default_factory=set)
    constant: bool = False
    repeats: bool = False
    """All choices of one request are the same."""
    most_choices: int = 100
    failing: float = 0.0
    garbage: float = 0.0
    stalling: float = 0.0
    hanging_up: float = 0.0
    delay: float = 0.0
    overloaded: int = 0
    retry_after: str | None = None
    status: int | None = None
    said: str | None = None
    unknown: set[str] = field(default_factory=set)
    """Parameters that it refuses, naming none."""
    lowest_top_k: int = -10
    strict: set[str] = field(default_factory=set)
    """Parameters that it refuses, naming the first."""
    usage: bool = True
    usage_of_one: bool = False
    """Of several responses of one request it counts the first."""
    prompt_words: bool = False
    """Prompts are counted by their words."""
    fingerprint: str | None = None
    model: str | None = None
    """Who answers, as it says itself."""
    filtering: str | None = None
    """Requests with this word are refused by a content filter, responses with it kept back."""
    refusal: tuple[int, str] | None = None
    """How requests are refused that the filter does not let pass: status and body."""
    filter_reason: str = "content_filter"
    """How responses end that are kept back."""
    ends: str | None = None
    """How every response ends."""
    message: dict[str, Any] | None = None
    """What every chat message says."""
    word_log_prob: float = -1.5
    """What it reports of every word (and of the end); the truth is log(1 / len(WORDS)), and 0."""
    prefill: str | None = None
    """Whether a chat continues the assistant's last message: "always", or if it is "asked" to."""


class Stub:
    """The server; a context manager. `url` is its base, `seen` counts what was asked."""

    def __init__(self, faults: Faults | None = None, *, seed: int = 0) -> None:
        self.faults = faults or Faults()
        self.models: list[str] = []
        self.payloads: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.seen: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self._random = random.Random(seed)
        # faults have a stream of their own: the k-th request's fate does not hang on what was asked
        self._fates = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def die(self) -> None:
        """Close the port and break every connection."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()

    def come_back(self) -> None:
        """Listen on the same port again."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._stop())
        self._loop.close()

    async def _stop(self) -> None:
        # the site first: nothing new comes in while what is there is broken off
        for site in list(self._runner.sites):
            await site.stop()
        for connection in list(self._runner.server.connections if self._runner.server else ()):
            connection.force_close()
            if connection.transport is not None:
                connection.transport.abort()
        own = asyncio.current_task()
        tasks = [t for t in asyncio.all_tasks() if t is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.cleanup()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/completions", self._answer)
        app.router.add_get("/v1/models", self._list)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _list(self, request: web.Request) -> web.Response:
        if not self.models:
            return web.Response(status=404)
        return web.json_response({"data": [{"id": name} for name in self.models]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._respond(request)
        finally:
            self.in_flight -= 1

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        faults = self.faults
        payload = await request.json()
        self.payloads.append(payload)
        self.headers.append(dict(request.headers))
        self.seen["requests"] += 1
        if faults.status is not None:
            said = faults.said or f"no, with {request.headers.get('Authorization')}"
            return web.Response(status=faults.status, text=said)
        if faults.filtering and faults.filtering in json.dumps(payload):
            if faults.refusal is not None:
                status, text = faults.refusal
                return web.Response(status=status, text=text, content_type="application/json")
            error = {"code": "content_filter", "message": "the prompt triggered the filter"}
            return web.json_response({"error": error}, status=400)
        if payload.keys() & faults.unknown or payload.get("top_k", 0) > faults.lowest_top_k > -10:
            return web.Response(status=400, text="unknown parameter")
        for name in sorted(payload.keys() & faults.strict):
            return web.Response(status=422, text=f"extra inputs are not permitted: {name}")
        if faults.overloaded > 0:
            faults.overloaded -= 1
            headers = {"Retry-After": faults.retry_after} if faults.retry_after else {}
            return web.Response(status=429, text="slow down", headers=headers)
        chance = self._fates.random()
        for name in ("failing", "garbage", "stalling", "hanging_up"):
            share = getattr(faults, name)
            if chance < share:
                self.seen[name] += 1
                return await self._misbehave(name, request)
            chance -= share
        await asyncio.sleep(faults.delay)
        return web.json_response(self._document(payload, chat="messages" in payload))

    async def _misbehave(self, kind: str, request: web.Request) -> web.StreamResponse:
        if kind == "failing":
            return web.Response(status=503, text="try later")
        if kind == "garbage":
            return web.Response(body=GARBAGE[self.seen["garbage"] % len(GARBAGE)])
        if kind == "stalling":
            await asyncio.sleep(30)
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=500)

    def _document(self, payload: dict[str, Any], *, chat: bool) -> dict[str, Any]:
        asked = {k: v for k, v in payload.items() if k not in self.faults.ignores}
        count = min(asked.get("n", 1), self.faults.most_choices)
        choices = [self._choice(asked, number, chat) for number in range(count)]
        counts = [c.pop("_tokens") for c in choices]
        tokens = counts[0] if self.faults.usage_of_one else sum(counts)
        words = len(json.dumps(payload).split()) if self.faults.prompt_words else 10
        document: dict[str, Any] = {"choices": choices}
        if self.faults.usage:
            document["usage"] = {"prompt_tokens": words, "completion_tokens": tokens}
            document["usage"]["total_tokens"] = words + tokens
        if self.faults.fingerprint:
            document["system_fingerprint"] = self.faults.fingerprint
        if self.faults.model:
            document["model"] = self.faults.model
        return document

    def _begun(self, asked: dict[str, Any], chat: bool) -> str:
        """What the response begins with, as far as this server heeds it."""
        if not chat:
            found = re.search(r"question \d+ (.+)$", asked["prompt"])
            return found[1] if found else ""
        last, mode = asked["messages"][-1], self.faults.prefill
        heeded = mode == "always" or (mode == "asked" and asked.get("continue_final_message"))
        return last["content"] if heeded and last["role"] == "assistant" else ""

    def _choice(self, asked: dict[str, Any], number: int, chat: bool) -> dict[str, Any]:
        prompt = asked.get("prompt") or json.dumps(asked["messages"])
        seed = asked.get("seed", self._random.random())
        one_token = asked.get("top_k") == 1 or asked.get("min_p") == 1
        if self.faults.constant or asked.get("temperature", 1.0) < 0.01 or one_token:
            seed, number = 0, 0
        if self.faults.repeats:
            number = 0
        name = hashlib.sha256(f"{prompt}|{seed}|{number}".encode()).digest()
        limit = asked.get("max_tokens", asked.get("max_completion_tokens", 30))
        begun = self._begun(asked, chat)
        left = LONGEST - len(begun.split())
        words = [WORDS[byte % len(WORDS)] for byte in name[: min(limit, left)]]
        text = " ".join(words)
        finish = "length" if limit < left else "stop"
        if begun:
            text = LISTS.get(begun, f" {text}" if text else "")
        for stop in asked.get("stop", []):
            if stop in text:
                text, finish = text[: text.find(stop)], "stop"
        choice: dict[str, Any] = {"finish_reason": finish, "_tokens": len(words)}
        if asked.get("logprobs"):
            said = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
            said += ["<end>"] if finish == "stop" else []
            each = self.faults.word_log_prob
            choice["logprobs"] = (
                {"content": [{"token": token, "logprob": each} for token in said]}
                if chat
                else {"tokens": said, "token_logprobs": [each] * len(said)}
            )
        if self.faults.filtering and self.faults.filtering in text:
            text, choice["finish_reason"] = "", self.faults.filter_reason
        if self.faults.ends is not None:
            choice["finish_reason"] = self.faults.ends
        message = self.faults.message or {"role": "assistant", "content": text}
        return choice | ({"message": message} if chat else {"text": text})
