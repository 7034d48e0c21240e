"""The loop that keeps the batch full.

Active draws occupy the first `active` rows. Each step is one forward pass of one token per row,
one sampling operation for all rows and one transfer to the host; then finished rows are handed
out, refilled from the source, or closed up by moving the last rows into the gaps.

A new row enters with the cached prompt less its last token, which is its first pending token: the
first token of a response is drawn like every other. Whatever gives a row other tokens (or, one
day, another network) up to some point only needs `_place`: a prefix, a pending token, a position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tailbound.contract import Draw, DrawRequest, FinishReason
from tailbound.errors import TargetError
from tailbound.prompts import Prompt
from tailbound.targets.base import DrawSource
from tailbound.targets.decoding.distribution import Distribution
from tailbound.targets.decoding.network import Network
from tailbound.targets.decoding.prefixes import Prefixes, Tokens
from tailbound.targets.decoding.referee import Referee
from tailbound.targets.decoding.uniforms import draw_key, uniforms

BLOCK = 64
"""Uniforms made at once for a row; a multiple of 4."""


class Decoder:
    """Samples draws of one contract.

    `encode` and `decode` translate prompts and responses; `referee` decides doubtful tokens, None
    where draws need not be reproducible token by token.
    """

    def __init__(
        self,
        network: Network,
        prefixes: Prefixes,
        distribution: Distribution,
        *,
        encode: Callable[[Prompt], Tokens],
        decode: Callable[[Sequence[Sequence[int]]], list[str]],
        stop_ids: tuple[int, ...],
        stop: tuple[str, ...],
        max_new_tokens: int,
        rows: int,
        referee: Referee | None,
    ) -> None:
        self._network = network
        self._prefixes = prefixes
        self._distribution = distribution
        self._encode = encode
        self._decode = decode
        self._stop = stop
        self._max_new_tokens = max_new_tokens
        self._rows = rows
        self._referee = referee
        self._ends = np.zeros(network.vocabulary, dtype=np.bool_)
        self._ends[[i for i in stop_ids if i < network.vocabulary]] = True

    def run(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws in the order in which they finish, until `source` is finished."""
        batch = _Batch(self._network, self._rows, self._max_new_tokens)
        gaps: list[int] = []
        while True:
            free = self._rows - batch.active + len(gaps)
            if free:
                waiting = len(gaps) == batch.active
                requests = source.take(free, wait=waiting)
                if waiting and not requests:
                    return
                gaps = self._admit(batch, requests, gaps, seed)
                batch.close(gaps)
            gaps = self._step(batch)
            if gaps:
                yield from self._finish(batch, gaps)

    def _admit(
        self, batch: _Batch, requests: Sequence[DrawRequest], gaps: list[int], seed: int
    ) -> list[int]:
        """Put new draws into the gaps, then after the last row; returns the gaps that remain."""
        if not requests:
            return gaps
        prompts = [self._encode(request.prompt) for request in requests]
        banks = self._prefixes.get([prompt[:-1] for prompt in prompts])
        batch.reserve(max(map(len, prompts)))
        for number, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            if number < len(gaps):
                row = gaps[number]
            else:
                row = batch.active
                batch.active += 1
            batch.cache.load(row, banks[number])
            batch.place(row, request, prompt, seed)
        return gaps[len(requests) :]

    @torch.inference_mode()
    def _step(self, batch: _Batch) -> list[int]:
        """One token for every active row; returns the rows that are finished."""
        n = batch.active
        device = self._network.device
        position = batch.position[:n]
        logits = self._network.forward(
            torch.from_numpy(batch.pending[:n, None]).to(device),
            torch.from_numpy(position).to(device),
            batch.cache,
            columns=int(position.max()) + 1,
            last=True,
        )[:, -1]
        uniform = batch.uniforms_now()
        decision = self._distribution.draw(logits, torch.from_numpy(uniform).to(device))
        # one transfer for all three: ids and flags are exact in fp64
        table = torch.stack(
            [decision.token.double(), decision.log_prob, decision.doubtful.double()]
        )
        host = table.cpu().numpy()
        token, log_prob = host[0].astype(np.int64), host[1]
        if self._referee is not None:
            for row in np.flatnonzero(host[2]).tolist():
                token[row], log_prob[row] = self._appeal(batch, row, uniform[row])
        if not np.isfinite(log_prob).all():
            raise TargetError(
                "the model's logits are not finite: its weights are damaged, or its precision "
                "too low (try --dtype float32)"
            )
        batch.append(token, log_prob)
        finished = self._ends[token] | (batch.step[:n] >= self._max_new_tokens)
        if self._stop:
            for row, text in enumerate(self._decode([batch.response(r) for r in range(n)])):
                if not finished[row] and any(stop in text for stop in self._stop):
                    finished[row] = True
        rows: list[int] = np.flatnonzero(finished).tolist()
        return rows

    def _appeal(self, batch: _Batch, row: int, uniform: float) -> tuple[int, float]:
        """The canonical token of a doubtful row, and its log-probability."""
        assert self._referee is not None
        logits = self._referee.logits([*batch.prompts[row], *batch.response(row)])
        decision = self._distribution.draw(
            logits, torch.tensor([uniform], dtype=torch.float64, device=logits.device)
        )
        return int(decision.token), float(decision.log_prob)

    def _finish(self, batch: _Batch, rows: Sequence[int]) -> Iterator[Draw]:
        responses = [batch.response(row) for row in rows]
        ended = [bool(self._ends[response[-1]]) for response in responses]
        texts = self._decode(
            [r[:-1] if end else r for r, end in zip(responses, ended, strict=True)]
        )
        for row, response, end, text in zip(rows, responses, ended, texts, strict=True):
            request = batch.requests[row]
            cuts = [at for stop in self._stop if (at := text.find(stop)) >= 0]
            reason: FinishReason = "stop" if end or cuts else "length"
            yield Draw(
                prompt_id=request.prompt.id,
                stream=request.stream,
                index=request.index,
                token_ids=tuple(response),
                text=text[: min(cuts)] if cuts else text,
                finish_reason=reason,
                log_prob=float(batch.log_prob[row]),
            )


class _Batch:
    """The rows in progress: what the model holds of them, and what the host knows."""

    def __init__(self, network: Network, rows: int, max_new_tokens: int) -> None:
        self.cache = network.cache(rows=rows, columns=1)
        self._device = network.device
        self._room = min(max_new_tokens, BLOCK)
        self._block = min(-(-max_new_tokens // 4) * 4, BLOCK)
        self.active = 0
        self.requests: list[DrawRequest] = [_NOBODY] * rows
        self.prompts: list[Tokens] = [()] * rows
        self.keys: list[int] = [0] * rows
        self.pending: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.position: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.step: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.log_prob: NDArray[np.float64] = np.zeros(rows)
        self._tokens: NDArray[np.int64] = np.zeros((rows, max_new_tokens), np.int64)
        self._uniforms: NDArray[np.float64] = np.zeros((rows, self._block))
        self._index = np.arange(rows)

    def reserve(self, prompt_length: int) -> None:
        """Columns for a prompt and the first steps of its response."""
        self.cache.reserve(prompt_length + self._room)

    def place(self, row: int, request: DrawRequest, prompt: Tokens, seed: int) -> None:
        """Start a draw in `row`, whose cache holds the prompt less its last token."""
        self.requests[row] = request
        self.prompts[row] = prompt
        self.keys[row] = draw_key(seed, request.prompt.id, request.stream, request.index)
        self.pending[row] = prompt[-1]
        self.position[row] = len(prompt) - 1
        self.step[row] = 0
        self.log_prob[row] = 0.0
        self._uniforms[row] = uniforms(self.keys[row], 0, self._block)

    def uniforms_now(self) -> NDArray[np.float64]:
        """The uniform of each active row's next step, shape (active,)."""
        n = self.active
        offset = self.step[:n] % self._block
        for row in np.flatnonzero((offset == 0) & (self.step[:n] > 0)):
            self._uniforms[row] = uniforms(self.keys[row], int(self.step[row]), self._block)
        now: NDArray[np.float64] = self._uniforms[self._index[:n], offset]
        return now

    def append(self, token: NDArray[np.int64], log_prob: NDArray[np.float64]) -> None:
        """Record a token of every active row; it is the pending one of the next step."""
        n = self.active
        self._tokens[self._index[:n], self.step[:n]] = token
        self.log_prob[:n] += log_prob
        self.step[:n] += 1
        self.position[:n] += 1
        self.pending[:n] = token

    def response(self, row: int) -> list[int]:
        """Tokens drawn so far in `row`."""
        ids: list[int] = self._tokens[row, : self.step[row]].tolist()
        return ids

    def close(self, gaps: list[int]) -> None:
        """Move the last rows into the gaps, so that the active rows are the first ones again."""
        if not gaps:
            return
        remaining = self.active - len(gaps)
        empty = set(gaps)
        source = [row for row in range(remaining, self.active) if row not in empty]
        target = [row for row in gaps if row < remaining]
        self.active = remaining
        if not source:
            return
        for old, new in zip(source, target, strict=True):
            self.requests[new] = self.requests[old]
            self.prompts[new] = self.prompts[old]
            self.keys[new] = self.keys[old]
        for table in (self.pending, self.position, self.step, self.log_prob):
            table[target] = table[source]
        self._tokens[target] = self._tokens[source]
        self._uniforms[target] = self._uniforms[source]
        self.cache.move(
            torch.tensor(source, device=self._device),
            torch.tensor(target, device=self._device),
            int(self.position[: self.active].max()),
        )


_NOBODY = DrawRequest(prompt=Prompt(id="", messages=(("user", ""),)), stream="", index=0)
