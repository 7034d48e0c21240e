"""A model through Inspect's providers as a `Target`.

The caller's thread pulls work from the source and hands out draws; an event loop in another thread
asks for them. A draw that fails for good ends the run after every draw that was finished has been
handed out; nothing is ever made up for a draw that failed, and none is left out.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.contract import (
    Draw,
    DrawRequest,
    SamplingContract,
    SamplingOptions,
)
from tailbound.core.event_loop import EventLoop
from tailbound.core.extras import require
from tailbound.core.outside import one_line
from tailbound.core.prompt import Prompt
from tailbound.core.thinking import thinking_notice
from tailbound.errors import UsageError
from tailbound.targets.base import DrawSource
from tailbound.targets.endpoint.answers import Answer
from tailbound.targets.endpoint.protocol import cut
from tailbound.targets.endpoint.served import ServedModel
from tailbound.targets.endpoint.target import CHARACTERS_PER_TOKEN
from tailbound.targets.endpoint.thoughts import reply
from tailbound.targets.inspect_model.asking import Asking
from tailbound.targets.inspect_model.probe import probe
from tailbound.targets.provider import TargetProvider

if TYPE_CHECKING:
    from inspect_ai.model import Model

_LOOK_SECONDS = 0.05


class InspectModelTarget:
    """One model of Inspect under one contract; `found` says what it honours.

    `model` is one from `inspect_ai.model.get_model`, by default the one that `name` means there.
    `concurrency` responses are under way at once. Raises `UsageError` where the model is unknown or
    cannot be trusted, and `TargetError` where it does not answer.
    """

    def __init__(
        self,
        name: str,
        options: SamplingOptions,
        *,
        model: Model | None = None,
        base_url: str | None = None,
        concurrency: int = 16,
    ) -> None:
        check(name)
        if options.completion:
            raise UsageError(
                "--completion does not apply to inspect-model: targets, which are chat models: "
                "remove it"
            )
        if options.extra_body is not None:
            raise UsageError("--extra-body does not apply to inspect-model: targets: remove it")
        if concurrency < 1:
            raise UsageError(f"--concurrency must be at least 1, not {concurrency}")
        self.batch_size = concurrency
        self._name, self._options = name, options
        self._loop = EventLoop("inspect-model")
        self._given, self._base_url = model, base_url
        self._asking = Asking(name, options)
        with self._connected():
            self.found = self._loop.run(probe(self._asking))
        if self.found.thinking is not None:
            if self.found.thinking == "hidden" and options.thinking == "judge":
                raise UsageError(
                    f"inspect-model:{name} thinks and does not show what: --thinking judge is not "
                    "possible, remove it"
                )
            self._options = self._asking.options = options.with_room()
        self._served = ServedModel(name, self.found.served, ())
        self.notices: tuple[str, ...] = (
            *self.found.notices,
            *self._thinking_notice(),
            *self._served.notices,
            "through Inspect's providers draws are reproducible in distribution only",
        )
        self._contract = SamplingContract.resolved(
            self._options,
            target=f"inspect-model:{name}",
            revision=self._served.revision,
            precision="remote",
        )

    @property
    def contract(self) -> SamplingContract:
        """What is asked of the model."""
        return self._contract

    @property
    def reproducible(self) -> str:
        """Always `"distribution"`."""
        return "distribution"

    def spent(self, *, under_way: bool = False) -> dict[str, Any]:
        """Requests and tokens of this process so far, the probe included; prices are not known."""
        return {**asdict(self._asking.usage), "cost": 0.0}

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """About how many tokens each prompt has (four characters each), shape (len(prompts),).

        Raises `UsageError` for a prompt that cannot be asked under the contract.
        """
        for prompt in prompts:
            self._asking.check(prompt)
        lengths = [sum(len(text) for _, text in prompt.messages) for prompt in prompts]
        return np.array([-(-n // CHARACTERS_PER_TOKEN) for n in lengths], dtype=np.int64)

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws in the order in which they finish, until `source` is finished.

        Raises `TargetError` where the model fails for good, after every finished draw was handed
        out. `seed` says nothing here: none is sent.
        """
        with self._connected():
            yield from self._sampled(source)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """With a client of its own, which is closed in the end; a given model is the caller's."""
        model = self._given or _model(self._name, self._base_url, self.batch_size)
        self._asking.model = model
        try:
            yield
        finally:
            if self._given is None:
                self._loop.run(model.__aexit__(None, None, None))

    def _sampled(self, source: DrawSource) -> Iterator[Draw]:
        done: queue.SimpleQueue[Future[Draw]] = queue.SimpleQueue()
        pending: set[Future[Draw]] = set()
        failure: Exception | None = None
        self._asking.giving_up = False
        try:
            while True:
                room = self.batch_size - len(pending)
                if failure is None and room:
                    for request in source.take(room, wait=not pending):
                        future = asyncio.run_coroutine_threadsafe(
                            self._draw(request), self._loop.loop
                        )
                        pending.add(future)
                        future.add_done_callback(done.put)
                if not pending:
                    if failure is not None:
                        raise failure
                    return
                try:
                    some = failure is None and len(pending) < self.batch_size
                    future = done.get(timeout=_LOOK_SECONDS if some else None)
                except queue.Empty:
                    continue
                pending.discard(future)
                try:
                    draw = future.result()
                except Exception as error:
                    failure = failure or error
                    self._asking.giving_up = True
                else:
                    yield draw
        finally:
            for future in pending:
                future.cancel()

    async def _draw(self, request: DrawRequest) -> Draw:
        if request.segments or request.beginning is not None:
            raise UsageError(
                f"inspect-model:{self._name} has only its own variant: use --proposal none"
            )
        answer = await self._asking.ask(request.prompt)
        self._served.check(answer)
        return self._read(request, answer)

    def _read(self, request: DrawRequest, answer: Answer) -> Draw:
        (choice,) = answer.choices
        if self._options.stop and (short := cut(choice.text, self._options.stop)) is not None:
            choice = replace(choice, text=short, length=False)
        read = reply(choice, self._options, self.found.opening)
        reason, missing = choice.ending(read.missing)
        return Draw(
            prompt_id=request.prompt.id,
            stream=request.stream,
            index=request.index,
            token_ids=(),
            text=read.text,
            finish_reason=reason,
            log_prob=float("nan"),
            counted=choice.tokens,
            missing=missing,
        )

    def _thinking_notice(self) -> tuple[str, ...]:
        if self.found.thinking is None:
            return ()
        return (thinking_notice(self._options.thinking, self._options.max_new_tokens),)


def check(name: str, **_: Any) -> None:
    """Raise `UsageError` for a name that Inspect does not understand; loads nothing."""
    require("inspect-model: targets", "inspect")
    provider, slash, model = name.partition("/")
    if not (provider and slash and model):
        raise UsageError(
            f"inspect-model: needs PROVIDER/NAME, as Inspect names models (openai/gpt-4o-mini, "
            f"anthropic/..., vllm/...), not {name!r}"
        )


def _model(name: str, base_url: str | None, concurrency: int) -> Model:
    from inspect_ai.model import GenerateConfig, get_model

    config = GenerateConfig(max_connections=concurrency, adaptive_connections=False)
    try:
        return get_model(name, config=config, base_url=base_url, memoize=False)
    except Exception as error:  # an unknown provider, a package or a key that is missing
        line = one_line(f"{type(error).__name__}: {error}", 300)
        raise UsageError(f"inspect-model:{name} cannot be used ({line})") from error


def load(
    name: str,
    options: SamplingOptions,
    *,
    base_url: str | None = None,
    concurrency: int | None = None,
    batch_size: int = 64,
) -> InspectModelTarget:
    """The model `PROVIDER/NAME` of Inspect, whose keys are those of its provider's environment.

    `concurrency` responses are under way at once, by default `batch_size` and at most 64.
    """
    return InspectModelTarget(
        name,
        options,
        base_url=base_url,
        concurrency=min(batch_size, 64) if concurrency is None else concurrency,
    )


provider = TargetProvider(
    load=load,
    check=check,
    served=True,
    description="inspect-model:PROVIDER/NAME: a model through one of Inspect's providers",
)
