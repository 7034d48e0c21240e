"""A model behind an endpoint as a `Target`.

The caller's thread pulls work from the source and hands out draws; a second thread runs the
requests. One that fails for good ends the run after every draw that was finished has been handed
out; nothing is ever made up for a draw that failed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailbound.core.contract import (
    Beginning,
    Draw,
    DrawRequest,
    SamplingContract,
    SamplingOptions,
)
from tailbound.core.prompt import Prompt
from tailbound.core.thinking import opening, thinking_notice
from tailbound.errors import TargetError, UsageError
from tailbound.targets.base import DrawSource
from tailbound.targets.endpoint import prefill as prefilling
from tailbound.targets.endpoint import probe as probing
from tailbound.targets.endpoint.answers import Answer, Choice
from tailbound.targets.endpoint.client import Client, RefusedError
from tailbound.targets.endpoint.cost import SpendLimit, Usage
from tailbound.targets.endpoint.extra_body import canonical, keeps_density
from tailbound.targets.endpoint.prefill import find_prefill
from tailbound.targets.endpoint.probe import Capabilities, probe
from tailbound.targets.endpoint.protocol import Dialect, RequestBuilder, cut
from tailbound.targets.endpoint.refusals import Refusal
from tailbound.targets.endpoint.served import ServedModel
from tailbound.targets.endpoint.session import Session
from tailbound.targets.endpoint.settings import (
    DEFAULT_KEY,
    DEFAULT_URL,
    EndpointSettings,
    environment,
    find_key,
)
from tailbound.targets.endpoint.thoughts import reply
from tailbound.targets.provider import TargetProvider

CHARACTERS_PER_TOKEN = 4
"""A rough guess, for plans only: the server counts."""
PER_REQUEST = 8
"""Draws per request where the server honours `n` and no seeds."""
_LOOK_SECONDS = 0.05

Found = TypeVar("Found")
Afford = Callable[[int, int], None]


class EndpointTarget:
    """One model of one server under one contract; `capabilities` say what the server honours.

    `usage` counts requests and tokens. `earlier_cost` was spent by earlier processes on the same
    run, and counts towards `max_cost`. Raises `TargetError` where the server cannot be reached,
    `UsageError` where it cannot be trusted, and `MissingExtraError` without aiohttp.
    """

    def __init__(
        self,
        model: str,
        options: SamplingOptions,
        settings: EndpointSettings,
        *,
        earlier_cost: float = 0.0,
    ) -> None:
        if not model:
            raise UsageError("openai: needs a model: openai:gpt-4o-mini, or as the server names it")
        self.usage = Usage()
        self.batch_size = settings.concurrency
        self._model = model
        self._options = options
        self._settings = settings
        self._purse = SpendLimit(settings, self.usage)
        self._earlier = earlier_cost
        self._purse.carry(earlier_cost)
        self._prefills = False
        self._too_long: dict[str, Refusal] = {}
        dialect = Dialect()
        self._phrasing = RequestBuilder(model, options, dialect)
        self.capabilities: Capabilities = self._probe(dialect)
        self._served = ServedModel(model, self.capabilities.served, self.capabilities.fingerprints)
        if self.capabilities.thinking is not None:
            self._options = options = options.with_room()
            self._phrasing = RequestBuilder(model, options, dialect)
        dialect.seed = self.capabilities.seed
        dialect.stop = self.capabilities.stop is not False
        wanted = settings.log_probs and self.capabilities.log_probs
        dialect.log_probs = wanted and self._whole and self.capabilities.own_distribution
        self.notices: tuple[str, ...] = (
            *self.capabilities.notices,
            *self._thinking_notice(),
            *self._other_name(),
            *(self._unused_log_probs() if wanted and not dialect.log_probs else ()),
            *self._served.notices,
            "behind an endpoint draws are reproducible in distribution only",
        )
        self._contract = SamplingContract.resolved(
            options,
            target=f"openai:{model}",
            revision=self._served.revision,
            precision="remote",
        )

    @property
    def contract(self) -> SamplingContract:
        """What is asked of the server; the capabilities say what it honours."""
        return self._contract

    @property
    def reproducible(self) -> str:
        """Always `"distribution"`."""
        return "distribution"

    @property
    def late_notices(self) -> tuple[str, ...]:
        """What a person should know after a run: a fingerprint that changed."""
        return self._served.late_notices

    @property
    def cost(self) -> float:
        """The price of everything that this process asked for so far, the probe included."""
        return self._purse.spent - self._earlier

    def spent(self, *, under_way: bool = False) -> dict[str, Any]:
        """Requests, tokens and cost of this process so far, as plain values.

        With `under_way`, the cost holds the most that requests not yet answered may come to.
        """
        held = self._purse.held if under_way else 0.0
        return {**asdict(self.usage), "cost": self.cost + held}

    @property
    def earlier_cost(self) -> float:
        """What earlier processes spent on the same run."""
        return self._earlier

    def price(self, tokens_in: float, tokens_out: float) -> float:
        """What so many tokens of prompts and of responses cost."""
        return self._settings.cost(tokens_in, tokens_out)

    def cost_at_most(self, prompts: Sequence[Prompt], draws: float) -> float:
        """What `draws` draws of each prompt cost if every response is as long as it may be."""
        each = [DrawRequest(prompt=prompt, stream="", index=0) for prompt in prompts]
        return draws * sum(self._most(request, 1) for request in each)

    def cost_at_least(self, prompts: Sequence[Prompt], draws: float) -> float:
        """What they cost if every response is one token; prompts are counted by a rough guess."""
        tokens = int(self.prompt_tokens(prompts).sum()) if prompts else 0
        return self._settings.cost(draws * tokens / self._per_request, draws * len(prompts))

    @property
    def max_cost(self) -> float | None:
        """The limit on the cost of a run."""
        return self._settings.max_cost

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """About how many tokens each prompt has (four characters each), shape (len(prompts),).

        Raises `UsageError` for a prompt that cannot be asked under the contract.
        """
        for prompt in prompts:
            self._phrasing.check(prompt)
        lengths = [sum(len(text) for _, text in prompt.messages) for prompt in prompts]
        return np.array([-(-n // CHARACTERS_PER_TOKEN) for n in lengths], dtype=np.int64)

    def check_continuing(self) -> None:
        """Raise `UsageError` where the server does not continue a response that is begun.

        Raw completions do by their nature. A chat server is asked whether it does.
        """
        name = f"openai:{self._model}"
        if self.capabilities.thinking is not None:
            raise UsageError(
                f"{name} thinks before it replies, and a reply that is begun holds no thought: "
                "--proposal splitting is not possible, use --proposal none"
            )
        if self._options.completion or self._prefills:
            return

        async def ask(client: Client, afford: Afford) -> dict[str, bool] | None:
            return await find_prefill(client, self._model, self._options, self._phrasing.dialect)

        found = self._asked(ask, [(prefilling.REQUESTS, prefilling.TOKENS)])
        if found is None:
            raise UsageError(
                f"{name} does not continue an answer that is begun for it: --proposal splitting "
                "needs --completion, or a server that does (vLLM, SGLang, llama.cpp); use "
                "--proposal none"
            )
        self._phrasing.dialect.prefill = found
        self._prefills = True

    def beginnings(self, prompt: Prompt, draw: Draw, *, every: int) -> list[Beginning]:
        """Where `draw` may be cut: before white space, about every so many tokens.

        There the tokens of what comes next seldom depend on whether it is continued or said at
        once. The number of tokens of a beginning is a guess, by its share of the characters.
        """
        text, found, last = draw.text, [], 0
        longest = self._options.max_new_tokens - 1
        for match in re.finditer(r"(?<=\S)(?=\s)", text):
            cut = match.start()
            if cut < last + every * CHARACTERS_PER_TOKEN:
                continue
            last = cut
            tokens = draw.counted
            share = cut / CHARACTERS_PER_TOKEN if not tokens else tokens * cut / len(text)
            found.append(
                Beginning(
                    size=cut,
                    token_ids=(),
                    text=text[:cut],
                    counted=max(1, min(round(share), longest)),
                )
            )
        return found

    def _other_name(self) -> tuple[str, ...]:
        """A notice where the server lists its models, and not this one."""
        listed = self.capabilities.models
        if listed is None or self._model in listed:
            return ()
        return (
            f"the server does not list {self._model!r}, but {', '.join(listed[:3])}: see that it "
            "is the model that you mean",
        )

    def _unused_log_probs(self) -> tuple[str, ...]:
        """Why log-probabilities that the server gives are not recorded."""
        why = (
            "the server is not known to heed the temperature"
            if self._whole
            else "they are those of temperature 1 without truncation or other parameters"
        )
        return (f"the server's log-probabilities are not used: {why}",)

    def _thinking_notice(self) -> tuple[str, ...]:
        if self.capabilities.thinking is None:
            return ()
        return (thinking_notice(self._options.thinking, self._options.max_new_tokens),)

    def _opening(self, prompt: Prompt) -> str | None:
        """The tag of the thought in which a response to `prompt` begins, None for none."""
        if self._options.completion:
            return opening(prompt.text)
        role, last = prompt.messages[-1]
        begun = opening("", prefill=last) if role == "assistant" else None
        return begun or self.capabilities.opening

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws in the order in which they finish, until `source` is finished.

        Raises `TargetError` where the server fails for good or the cost limit is reached, after
        every finished draw was handed out.
        """
        room = self._settings.concurrency * self._per_request
        seeds = _Seeds(seed)

        async def work(client: Client, group: list[DrawRequest]) -> list[Draw]:
            return await self._draws(client, group, seeds)

        client = Client(self._settings, self.usage, self._purse)
        waiting: deque[list[DrawRequest]] = deque()
        out = 0
        with Session(client, work) as session:
            while True:
                if session.error is None:
                    if room > out:
                        idle = not session.pending and not waiting
                        taken = source.take(room - out, wait=idle)
                        waiting.extend(self._groups(taken))
                        out += len(taken)
                    self._send(session, waiting)
                    if not session.pending:
                        if waiting:
                            first = waiting[0]
                            raise self._purse.exceeded(self._most(first[0], len(first)))
                        return
                elif not session.pending:
                    raise session.error
                draws = session.finished(_LOOK_SECONDS if room > out else None)
                out -= len(draws)
                yield from draws

    @property
    def _whole(self) -> bool:
        """Whether the contract is the model's own distribution, which is what servers report."""
        options = self._options
        plain = options.temperature == 1 and options.top_p == 1 and options.top_k is None
        return plain and keeps_density(options.extra_body)

    @property
    def _per_request(self) -> int:
        if not self.capabilities.n:
            return 1
        if self._settings.per_request is not None:
            return self._settings.per_request
        return 1 if self.capabilities.seed else PER_REQUEST

    def _groups(self, requests: Sequence[DrawRequest]) -> Iterator[list[DrawRequest]]:
        """Requests of one prompt, as many as are sent at once."""
        by_prompt: dict[tuple[str, str, str], list[DrawRequest]] = {}
        for request in requests:
            if request.segments:
                raise UsageError(
                    f"openai:{self._model} has only its own variant: use --proposal none"
                )
            name = (request.prompt.id, request.stream, _begun(request))
            by_prompt.setdefault(name, []).append(request)
        for group in by_prompt.values():
            for start in range(0, len(group), self._per_request):
                yield group[start : start + self._per_request]

    def _send(
        self, session: Session[list[DrawRequest], Draw], waiting: deque[list[DrawRequest]]
    ) -> None:
        """Send what there is room and money for."""
        ready: list[list[DrawRequest]] = []
        while waiting and session.pending + len(ready) < self._settings.concurrency:
            if not self._purse.hold(self._most(waiting[0][0], len(waiting[0]))):
                break
            ready.append(waiting.popleft())
        session.submit(ready)

    def _most(self, request: DrawRequest, draws: int) -> float:
        """The most that one request for `draws` draws like this one can cost."""
        if not self._settings.priced:
            return 0.0
        return self._settings.cost(
            self._phrasing.tokens_at_most(request.prompt, _begun(request)),
            draws * self._left(request),
        )

    def _left(self, request: DrawRequest) -> int:
        """The most tokens of what is still to be said."""
        given = 0 if request.beginning is None else request.beginning.counted
        return self._options.max_new_tokens - given

    async def _draws(
        self, client: Client, group: Sequence[DrawRequest], seeds: _Seeds
    ) -> list[Draw]:
        """One draw for each request of `group`, asked for again where an answer holds too few."""
        draws: list[Draw] = []
        while len(draws) < len(group):
            left = group[len(draws) :]
            most = self._most(left[0], len(left))
            if draws and not self._purse.hold(most):
                raise self._purse.exceeded(most)
            answer = await self._ask(client, left, seeds, most)
            draws += [
                self._draw(request, choice)
                for request, choice in zip(left, answer.choices, strict=False)
            ]
        return draws

    async def _ask(
        self, client: Client, group: Sequence[DrawRequest], seeds: _Seeds, most: float
    ) -> Answer:
        prompt = group[0].prompt
        if prompt.id in self._too_long:  # a filter may let the next draw pass, a limit does not
            self._purse.released(most)
            return Answer.refused(len(group), self._too_long[prompt.id])
        body = self._phrasing.request(
            prompt,
            seed=seeds.of(group[0]),
            n=len(group),
            begun=_begun(group[0]),
            max_tokens=self._left(group[0]),
        )
        try:
            answer = await client.ask(self._phrasing.path, body, most=most)
        except RefusedError as error:
            if error.refusal is not None:
                if error.refusal.kind == "filter":
                    self.usage.content_filter += len(group)
                else:
                    self._too_long[prompt.id] = error.refusal
                return Answer.refused(len(group), error.refusal)
            raise TargetError(f"prompt {prompt.id!r}: {error}; finished draws are kept") from None
        self._served.check(answer)
        return answer

    def _draw(self, request: DrawRequest, choice: Choice) -> Draw:
        if request.beginning is not None:
            tokens = None if choice.tokens is None else choice.tokens + request.beginning.counted
            text = request.beginning.text + choice.text
            choice = replace(choice, text=text, tokens=tokens, log_prob=None)
        if self._options.stop and (short := cut(choice.text, self._options.stop)) is not None:
            choice = replace(choice, text=short, length=False, log_prob=None)
        found = reply(choice, self._options, self._opening(request.prompt))
        text, log_prob = found.text, choice.log_prob
        reason, missing = choice.ending(
            found.missing, filtered_is_missing=self._settings.content_filter == "missing"
        )
        return Draw(
            prompt_id=request.prompt.id,
            stream=request.stream,
            index=request.index,
            token_ids=(),
            text=text,
            finish_reason=reason,
            log_prob=float("nan") if log_prob is None else log_prob,
            counted=choice.tokens,
            missing=missing,
        )

    def _probe(self, dialect: Dialect) -> Capabilities:
        """What the server honours."""

        async def ask(client: Client, afford: Afford) -> Capabilities:
            return await probe(client, self._model, self._options, dialect, afford=afford)

        longest = self._options.max_new_tokens
        return self._asked(ask, [(probing.REQUESTS, probing.TOKENS), (1, longest)])

    def _asked(
        self, ask: Callable[[Client, Afford], Awaitable[Found]], plan: Sequence[tuple[int, int]]
    ) -> Found:
        """What `ask` finds, in a session of its own: the caller may run an event loop itself.

        `plan` are the requests that it will make and the tokens of each answer; for more it calls
        `afford`, which raises `UsageError` where --max-cost leaves too little.
        """

        async def work(client: Client, _: None) -> list[Found]:
            return [await ask(client, afford)]

        held = 0.0

        def afford(requests: int, longest: int) -> None:
            nonlocal held
            most = requests * self._settings.cost(tokens, longest)
            if not self._purse.hold(most):
                raise UsageError(
                    f"--max-cost {self._settings.max_cost:g} leaves less than the {most:.4g} that "
                    "finding out what the server honours may cost "
                    f"({self._earlier:.4g} is spent): give a higher limit"
                )
            held += most

        client = Client(self._settings, self.usage, self._purse)
        tokens = self._phrasing.tokens_at_most(probing.PROMPT)
        for requests, longest in plan:
            afford(requests, longest)
        try:
            with Session(client, work) as session:
                session.submit([None])
                found = session.finished(None)
                if session.error is not None:
                    raise session.error
        finally:
            self._purse.released(held)
        return found[0]


def _begun(request: DrawRequest) -> str:
    """The text that the response begins with."""
    return "" if request.beginning is None else request.beginning.text


class _Seeds:
    """A seed of 31 bits for every draw; draws of one prompt and stream never share one.

    Multiples of an odd number are all different modulo 2**31, and far apart: servers that use the
    seeds that follow for the other responses of a request meet none that is used elsewhere.
    """

    _STEP, _MASK = 0x61C88647, 0x7FFFFFFF

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._starts: dict[tuple[str, str], int] = {}

    def of(self, request: DrawRequest) -> int:
        """A function of (seed of the run, prompt id, stream, index) alone."""
        key = request.prompt.id, request.stream
        if key not in self._starts:
            name = json.dumps([self._seed, *key]).encode()
            digest = hashlib.blake2b(name, digest_size=8).digest()
            self._starts[key] = int.from_bytes(digest, "big")
        return (self._starts[key] + request.index * self._STEP) & self._MASK


def load(
    name: str,
    options: SamplingOptions,
    *,
    base_url: str | None = None,
    key_env: str | None = None,
    concurrency: int | None = None,
    per_request: int | None = None,
    extra_body: str | Mapping[str, Any] | None = None,
    price_in: float | None = None,
    price_out: float | None = None,
    max_cost: float | None = None,
    earlier_cost: float = 0.0,
    timeout: float = 300.0,
    retry_timeout: float = 300.0,
    first_wait: float = 0.5,
    log_probs: bool = True,
    content_filter: str = "missing",
    batch_size: int = 64,
) -> EndpointTarget:
    """The model `name` at `base_url`, or OPENAI_BASE_URL; the key is OPENAI_API_KEY or `key_env`.

    All may be set in `.env`. `concurrency` requests are open at once, by default `batch_size`
    and at most 64; prices, limits and `content_filter` are as in `EndpointSettings`, `earlier_cost`
    as in `EndpointTarget`; `extra_body` goes before that of `options`. Raises whatever
    `EndpointTarget` raises.
    """
    known = environment()
    settings = EndpointSettings(
        base_url=base_url or known.get("OPENAI_BASE_URL") or DEFAULT_URL,
        key=find_key(known, key_env),
        key_name=key_env or DEFAULT_KEY,
        concurrency=min(batch_size, 64) if concurrency is None else concurrency,
        per_request=per_request,
        price_in=price_in,
        price_out=price_out,
        max_cost=max_cost,
        timeout=timeout,
        retry_timeout=retry_timeout,
        first_wait=first_wait,
        log_probs=log_probs,
        content_filter=content_filter,
    )
    if extra_body is not None:
        options = replace(options, extra_body=canonical(extra_body))
    return EndpointTarget(name, options, settings, earlier_cost=earlier_cost)


provider = TargetProvider(
    load=load,
    served=True,
    description="openai:NAME: a model behind an OpenAI-compatible server (--base-url)",
)
