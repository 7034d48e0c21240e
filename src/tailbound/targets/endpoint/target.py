"""A model behind an endpoint as a `Target`: requests in flight on an event loop of their own.

The caller's thread pulls work from the source and hands out draws; a second thread runs the event
loop. A request that fails for good ends the run after every draw that was finished has been handed
out; nothing is ever made up for a draw that failed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.contract import Draw, DrawRequest, FinishReason, SamplingContract, SamplingOptions
from tailbound.errors import TargetError, UsageError
from tailbound.prompts import Prompt
from tailbound.targets.base import DrawSource
from tailbound.targets.endpoint.client import Client, RefusedError, Usage
from tailbound.targets.endpoint.probe import NEUTRAL, Findings, probe
from tailbound.targets.endpoint.settings import DEFAULT_URL, EndpointSettings, environment

CHARACTERS_PER_TOKEN = 4
"""A rough guess, for plans only: the server counts."""
PROBE_PROMPT = Prompt(id="probe", messages=(("user", "Tell me something about rivers."),))


class EndpointTarget:
    """One model of one server under one contract; `findings` say what the server honours.

    `usage` counts requests and tokens; raises `UsageError` from the probe where the server cannot
    be trusted, and `TargetError` where it cannot be reached.
    """

    def __init__(self, model: str, options: SamplingOptions, settings: EndpointSettings) -> None:
        if not model:
            raise UsageError("openai: needs a model: openai:gpt-4o-mini, or as the server names it")
        self._model = model
        self._options = options
        self._settings = settings
        self.usage = Usage()
        self._neutral: dict[str, float] = {}
        self.batch_size = settings.concurrency
        self._contract = SamplingContract(
            target=f"openai:{model}",
            revision=None,
            template=None,
            system=options.system,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            max_new_tokens=options.max_new_tokens,
            stop_ids=(),
            stop=options.stop,
            precision="remote",
        )
        self.findings: Findings = asyncio.run(self._probe())
        self.notices: tuple[str, ...] = (
            *self.findings.notices,
            "behind an endpoint draws are reproducible in distribution only",
        )

    @property
    def contract(self) -> SamplingContract:
        """What was asked of the server; the probe says what it honours."""
        return self._contract

    @property
    def reproducible(self) -> str:
        """Always `"distribution"`."""
        return "distribution"

    @property
    def cost(self) -> float:
        """The price of the tokens so far, by the prices given."""
        return self._settings.cost(self.usage.tokens_in, self.usage.tokens_out)

    def spent(self) -> dict[str, Any]:
        """Requests, tokens and cost so far, as plain values."""
        return {**asdict(self.usage), "cost": self.cost}

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """About how many tokens each prompt has (four characters each), shape (len(prompts),)."""
        lengths = [sum(len(text) for _, text in prompt.messages) for prompt in prompts]
        return np.array([-(-n // CHARACTERS_PER_TOKEN) for n in lengths], dtype=np.int64)

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws in the order in which they finish, until `source` is finished.

        Raises `TargetError` where the server fails for good or the cost limit is reached, after
        every finished draw was handed out.
        """
        session = _Session(self, seed)
        session.start()
        try:
            while True:
                if session.error is None:
                    free = self._settings.concurrency * self._per_request - session.pending
                    requests = source.take(free, wait=session.pending == 0) if free > 0 else []
                    if not requests and session.pending == 0:
                        return
                    for group in self._groups(requests):
                        session.submit(group)
                elif session.pending == 0:
                    raise session.error
                yield from session.finished()
        finally:
            session.close()

    @property
    def _per_request(self) -> int:
        return self._settings.per_request if self.findings.n else 1

    def _groups(self, requests: Sequence[DrawRequest]) -> Iterator[list[DrawRequest]]:
        """Requests of one prompt, as many as are sent at once."""
        by_prompt: dict[str, list[DrawRequest]] = {}
        for request in requests:
            if request.segments:
                raise UsageError(f"{self._contract.target} cannot be steered: use --proposal none")
            by_prompt.setdefault(request.prompt.id, []).append(request)
        for group in by_prompt.values():
            for start in range(0, len(group), self._per_request):
                yield group[start : start + self._per_request]

    async def draw(self, client: Client, group: Sequence[DrawRequest], seed: int) -> list[Draw]:
        """The draws of one request: draws of one prompt, whose first names the seed."""
        self._check_cost(len(group))
        first = group[0]
        choices = await self._ask(
            client,
            first.prompt,
            n=len(group),
            seed=_seed(seed, first),
            temperature=self._options.temperature,
            max_tokens=self._options.max_new_tokens,
            stop=list(self._options.stop),
        )
        if len(choices) < len(group):
            raise TargetError(
                f"{self._contract.target} gave {len(choices)} of {len(group)} draws in one answer: "
                "use --per-request 1"
            )
        return [self._made(r, c) for r, c in zip(group, choices, strict=False)]

    def _made(self, request: DrawRequest, choice: dict[str, Any]) -> Draw:
        text: str = choice["text"]
        cuts = [at for stop in self._options.stop if (at := text.find(stop)) >= 0]
        reason: FinishReason = "length" if choice["finish"] == "length" and not cuts else "stop"
        return Draw(
            prompt_id=request.prompt.id,
            stream=request.stream,
            index=request.index,
            token_ids=(),
            text=text[: min(cuts)] if cuts else text,
            finish_reason=reason,
            log_prob=float("nan"),
        )

    def _check_cost(self, draws: int) -> None:
        limit = self._settings.max_cost
        if limit is None:
            return
        most = self._settings.cost(0, draws * self._options.max_new_tokens)
        if self.cost + most > limit:
            raise TargetError(
                f"--max-cost {limit:g} is reached: {self.cost:.4g} is spent, and the next request "
                f"may cost {most:.4g}; finished draws are kept"
            )

    async def _probe(self) -> Findings:
        async with Client(self._settings, self.usage) as client:

            async def ask(**options: Any) -> list[dict[str, Any]]:
                return await self._ask(client, PROBE_PROMPT, **options)

            for number, neutral in enumerate(NEUTRAL):
                self._neutral = neutral
                try:
                    await ask(seed=0, temperature=1.0, max_tokens=1)
                except RefusedError:
                    if number == len(NEUTRAL) - 1:
                        raise
                else:
                    break
            return await probe(ask, name=f"openai:{self._model}", neutral=bool(self._neutral))

    async def _ask(
        self,
        client: Client,
        prompt: Prompt,
        *,
        temperature: float,
        max_tokens: int,
        seed: int,
        n: int = 1,
        stop: list[str] | None = None,
        logprobs: bool = False,
    ) -> list[dict[str, Any]]:
        """The choices of one request; every sampling parameter is sent."""
        payload: dict[str, Any] = {
            "model": self._model,
            "temperature": temperature,
            "top_p": self._options.top_p,
            "max_tokens": max_tokens,
            "n": n,
            "seed": seed,
            **self._neutral,
        }
        if self._options.top_k is not None:
            payload["top_k"] = self._options.top_k
        if stop:
            payload["stop"] = stop
        if self._options.completion:
            payload["prompt"] = prompt.text
            if logprobs:
                payload["logprobs"] = 1
            answer = await client.post("completions", payload)
        else:
            payload["messages"] = self._messages(prompt)
            if logprobs:
                payload["logprobs"] = True
            answer = await client.post("chat/completions", payload)
        usage = answer.get("usage") or {}
        return [_choice(c, usage, len(answer["choices"])) for c in answer["choices"]]

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        messages = [{"role": role, "content": text} for role, text in prompt.messages]
        if self._options.system is not None:
            if messages[0]["role"] == "system":
                raise UsageError(
                    f"prompt {prompt.id!r} brings its own system prompt: drop --system"
                )
            messages.insert(0, {"role": "system", "content": self._options.system})
        return messages


class _Session:
    """The event loop in its thread, and the way back of its draws."""

    def __init__(self, target: EndpointTarget, seed: int) -> None:
        self._target = target
        self._seed = seed
        self._results: queue.Queue[tuple[int, list[Draw], Exception | None]] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="endpoint", daemon=True)
        self._ready = threading.Event()
        self._client: Client | None = None
        self.pending = 0
        self.error: Exception | None = None

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._open())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _open(self) -> None:
        self._client = await Client(self._target._settings, self._target.usage).__aenter__()

    async def _end(self) -> None:
        tasks = [t for t in asyncio.all_tasks(self._loop) if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert self._client is not None
        await self._client.__aexit__(None, None, None)

    def submit(self, group: list[DrawRequest]) -> None:
        """Send a request for the draws of `group`."""
        self.pending += len(group)
        asyncio.run_coroutine_threadsafe(self._draw(group), self._loop)

    async def _draw(self, group: list[DrawRequest]) -> None:
        assert self._client is not None
        try:
            draws = await self._target.draw(self._client, group, self._seed)
        except Exception as error:
            self._results.put((len(group), [], error))
        else:
            self._results.put((len(group), draws, None))

    def finished(self) -> Iterator[Draw]:
        """At least one result, and whatever else is there by now."""
        block = True
        while self.pending:
            try:
                size, draws, error = self._results.get(block=block)
            except queue.Empty:
                return
            block = False
            self.pending -= size
            if error is not None and self.error is None:
                self.error = error
            yield from draws

    def close(self) -> None:
        """Drop what is in flight and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def load(
    name: str,
    options: SamplingOptions,
    *,
    base_url: str | None = None,
    concurrency: int | None = None,
    per_request: int = 1,
    price_in: float = 0.0,
    price_out: float = 0.0,
    max_cost: float | None = None,
    timeout: float = 120.0,
    patience: int = 6,
    first_wait: float = 0.5,
    batch_size: int = 64,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
) -> EndpointTarget:
    """The model `name` at `base_url`, or OPENAI_BASE_URL; the key is OPENAI_API_KEY.

    Both may stand in `.env`. Raises `UsageError` for options that only a local model has.
    """
    for option, value, default in (("dtype", dtype, "auto"), ("device", device, "auto")):
        if value != default:
            raise UsageError(f"--{option} is the server's affair: drop it for openai:")
    if revision is not None:
        raise UsageError("--revision is the server's affair: drop it for openai:")
    known = environment()
    settings = EndpointSettings(
        base_url=base_url or known.get("OPENAI_BASE_URL") or DEFAULT_URL,
        key=known.get("OPENAI_API_KEY"),
        concurrency=concurrency or min(batch_size, 64),
        per_request=per_request,
        price_in=price_in,
        price_out=price_out,
        max_cost=max_cost,
        timeout=timeout,
        patience=patience,
        first_wait=first_wait,
    )
    return EndpointTarget(name, options, settings)


def _choice(choice: Any, usage: dict[str, Any], choices: int) -> dict[str, Any]:
    """Text, reason and log-probs of one choice, of a chat or of a raw completion."""
    if not isinstance(choice, dict):
        raise TargetError(f"the server's answer has no choices that can be read: {choice!r:.80}")
    message = choice.get("message")
    if isinstance(message, dict):
        # what a hosted model refuses may stand in a field of its own
        text = message.get("content") or message.get("refusal")
    else:
        text = choice.get("text")
    tokens = usage.get("completion_tokens")
    return {
        # a model that ends at once says nothing, which servers give as null
        "text": text or "",
        "finish": choice.get("finish_reason"),
        "log_probs": choice.get("logprobs"),
        "tokens": tokens if choices == 1 and isinstance(tokens, int) else None,
    }


def _seed(seed: int, request: DrawRequest) -> int:
    """A seed of 31 bits that is a function of the draw's name."""
    name = json.dumps([seed, request.prompt.id, request.stream, request.index]).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "big") >> 1
