"""A server of the kind that endpoints are, in this process: honest by default, faulty on demand.

A draw's text is a function of its prompt and seed alone, so that faults can be told from draws.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

WORDS = ("river", "stone", "water", "bridge", "unsafe", "boat", "fish", "rain")


@dataclass
class Faults:
    """What is wrong with the server."""

    ignores: set[str] = field(default_factory=set)
    constant: bool = False
    failing: float = 0.0
    garbage: float = 0.0
    stalling: float = 0.0
    overloaded: int = 0
    retry_after: str | None = None
    status: int | None = None
    unknown: set[str] = field(default_factory=set)
    lowest_top_k: int = -10


class Stub:
    """The server; a context manager. `url` is its base, `seen` counts what was asked."""

    def __init__(self, faults: Faults | None = None, *, seed: int = 0) -> None:
        self.faults = faults or Faults()
        self.payloads: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.seen: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0
        self.down = False

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

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._stop())
        self._loop.close()

    async def _stop(self) -> None:
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.cleanup()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/completions", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        faults = self.faults
        payload = await request.json()
        self.payloads.append(payload)
        self.headers.append(dict(request.headers))
        self.seen["requests"] += 1
        if self.down:
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=500)
        if faults.status is not None:
            said = f"no, with {request.headers.get('Authorization')}"
            return web.Response(status=faults.status, text=said)
        if payload.keys() & faults.unknown or payload.get("top_k", 0) > faults.lowest_top_k > -10:
            return web.Response(status=400, text="unknown parameter")
        if faults.overloaded > 0:
            faults.overloaded -= 1
            headers = {"Retry-After": faults.retry_after} if faults.retry_after else {}
            return web.Response(status=429, text="slow down", headers=headers)
        chance = self._random.random()
        if chance < faults.failing:
            self.seen["failed"] += 1
            return web.Response(status=503, text="try later")
        if chance < faults.failing + faults.garbage:
            self.seen["garbage"] += 1
            return web.Response(status=200, text="<html>not json")
        if chance < faults.failing + faults.garbage + faults.stalling:
            self.seen["stalled"] += 1
            await asyncio.sleep(30)
        return web.json_response(self._document(payload, chat="messages" in payload))

    def _document(self, payload: dict[str, Any], *, chat: bool) -> dict[str, Any]:
        asked = {k: v for k, v in payload.items() if k not in self.faults.ignores}
        choices = [self._choice(asked, number, chat) for number in range(asked.get("n", 1))]
        tokens = sum(c.pop("_tokens") for c in choices)
        return {"choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": tokens}}

    def _choice(self, asked: dict[str, Any], number: int, chat: bool) -> dict[str, Any]:
        prompt = asked.get("prompt") or json.dumps(asked["messages"])
        seed = asked.get("seed", self._random.random())
        if self.faults.constant or asked.get("temperature", 1.0) == 0:
            seed, number = 0, 0
        name = hashlib.sha256(f"{prompt}|{seed}|{number}".encode()).digest()
        words = [WORDS[byte % len(WORDS)] for byte in name[: min(asked.get("max_tokens", 30), 12)]]
        text = " ".join(words)
        finish = "length" if asked.get("max_tokens", 30) < 12 else "stop"
        for stop in asked.get("stop", []):
            if stop in text:
                text, finish = text[: text.find(stop)], "stop"
        choice: dict[str, Any] = {"finish_reason": finish, "_tokens": len(words)}
        if asked.get("logprobs"):
            choice["logprobs"] = {"content": [{"logprob": -1.0}]}
        return choice | ({"message": {"content": text}} if chat else {"text": text})
