"""Requests per second of the endpoint client, beside the openai client, against a local stub.

    pip install openai && .venv/bin/python benchmarks/client.py [--requests 4000]

The stub is a process of its own that answers at once; n = 1, 64 requests in flight on both sides,
one event loop each. The two run in turn, three times; printed are medians of requests per second of
the client's own CPU time and of the wall clock. The bars are 2,000 requests/s and 4 times the
openai client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.queues import Queue
from typing import Any

from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.targets.endpoint import EndpointTarget
from tailbound.targets.endpoint.settings import EndpointSettings

CONCURRENCY = 64
PROMPT = Prompt(id="p", messages=(("user", "Tell me something."),))


def serve(ports: Queue[int]) -> None:
    """A server whose answers differ, so that the probe is content, and cost next to nothing."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        asked = await request.json()
        seed = 0 if asked["temperature"] < 0.01 else asked.get("seed", 0)
        words = [f"w{seed}", *["word"] * (min(asked["max_tokens"], 8) - 1)]
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}
        choice["message"]["content"] = " ".join(words)  # type: ignore[index]
        usage = {"prompt_tokens": 9, "completion_tokens": len(words), "total_tokens": 17}
        document = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
        return web.json_response({**document, "choices": [choice], "usage": usage})

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.put(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


class Requests:
    """Draws of one prompt."""

    def __init__(self, count: int) -> None:
        self._left = count

    def take(self, limit: int, *, wait: bool) -> Sequence[DrawRequest]:
        """The next `limit` requests."""
        size = min(limit, self._left)
        first = self._left
        self._left -= size
        return [DrawRequest(prompt=PROMPT, stream="b", index=first - i) for i in range(size)]


def ours(target: EndpointTarget, count: int) -> None:
    """`count` draws through the target."""
    assert sum(1 for _ in target.sample(Requests(count), seed=0)) == count


def theirs(url: str, count: int) -> None:
    """`count` completions through the openai client."""
    from openai import AsyncOpenAI

    async def run() -> None:
        async with AsyncOpenAI(base_url=url, api_key="x") as client:
            room = asyncio.Semaphore(CONCURRENCY)

            async def one(seed: int) -> None:
                async with room:
                    found = await client.chat.completions.create(
                        model="m",
                        messages=[{"role": "user", "content": PROMPT.text}],
                        temperature=1.0,
                        top_p=1.0,
                        max_tokens=8,
                        n=1,
                        seed=seed,
                    )
                    assert found.choices[0].message.content

            await asyncio.gather(*(one(seed) for seed in range(count)))

    asyncio.run(run())


def main() -> None:
    """Run both in turn and print requests per second."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ports: Queue[int] = context.Queue()
    server = context.Process(target=serve, args=(ports,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ports.get()}/v1"
    settings = EndpointSettings(base_url=url, concurrency=CONCURRENCY)
    target = EndpointTarget("m", SamplingOptions(max_new_tokens=8), settings)
    methods: dict[str, Callable[[int], None]] = {
        "tailbound": lambda count: ours(target, count),
        "openai": lambda count: theirs(url, count),
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for method in methods.values():
        method(100)
    for _ in range(options.repeats):
        for name, method in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            method(options.requests)
            spent = time.process_time() - cpu, time.perf_counter() - wall
            rates[name].append((options.requests / spent[0], options.requests / spent[1]))
    server.terminate()
    result: dict[str, Any] = {
        name: {
            "per_cpu_second": statistics.median(r[0] for r in found),
            "per_second": statistics.median(r[1] for r in found),
        }
        for name, found in rates.items()
    }
    for kind in ("per_cpu_second", "per_second"):
        result[f"ratio_{kind}"] = result["tailbound"][kind] / result["openai"][kind]
    if options.json:
        print(json.dumps(result))
        return
    for name in methods:
        print(
            f"{name:10}{result[name]['per_cpu_second']:8,.0f} requests per CPU-second"
            f"{result[name]['per_second']:8,.0f} per second"
        )
    print(f"ratio     {result['ratio_per_cpu_second']:8.1f}{result['ratio_per_second']:27.1f}")


if __name__ == "__main__":
    main()
