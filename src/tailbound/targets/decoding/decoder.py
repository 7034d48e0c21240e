"""The loop that keeps the batch full.

Active draws occupy the first `active` rows. Each step is one forward pass of one token per row,
one sampling operation for all rows and one transfer to the host; then finished rows are handed
out, refilled from the source, or closed up by moving the last rows into the gaps.

A new row enters with the cached prompt less its last token, which is its first pending token: the
first token of a response is drawn like every other. A row whose variant changes enters anew: the
next variant reads the prompt and what was said so far, less the last token. ModelVariants of one
network share a batch, steered rows beside unsteered ones; every other network has a batch of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailbound.core.contract import Draw, DrawRequest, FinishReason
from tailbound.core.prompt import Prompt
from tailbound.core.steps import count
from tailbound.core.thinking import Reply
from tailbound.errors import TargetError, UsageError
from tailbound.targets.base import DrawSource
from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.distribution import (
    Decision,
    Distribution,
    numbers_per_token,
)
from tailbound.targets.decoding.prompt_cache import Tokens
from tailbound.targets.decoding.rng import WORDS_PER_COUNTER, draw_key, gumbels, uniforms
from tailbound.targets.decoding.variant import ModelVariant

NUMBERS_AT_ONCE = 4096
"""Random numbers made at once for a row, about: those of the next steps."""

COLUMNS_AT_ONCE = 64
"""Columns of the cache that are added for the next steps of a new row."""

STOP_MARGIN = 8
"""Tokens, and characters, that are read beyond the length of the longest stop string."""

ADMITTED_PART = 8
"""New draws enter as soon as this part of the rows is free, where variants take turns."""

NEVER = 1 << 60
"""The step at which a row changes its variant where it never does."""


class ReadReply(Protocol):
    """Finds what is judged in the text of a response."""

    def __call__(self, prompt: Prompt, text: str, *, cut: bool) -> Reply:
        """The reply to `prompt` in `text`; `cut` where that reached the length limit."""
        ...


class Decoder:
    """Samples draws of one contract, spoken by `variants`; number 0 is the target.

    `decode` turns responses into text, `reply` finds in it what is judged: (prompt, text, whether
    it was cut). `rows` is the number of draws in progress.
    """

    def __init__(
        self,
        variants: Sequence[ModelVariant],
        distribution: Distribution,
        *,
        decode: Callable[[Sequence[Sequence[int]]], list[str]],
        reply: ReadReply,
        stop_ids: tuple[int, ...],
        stop: tuple[str, ...],
        max_new_tokens: int,
        rows: int,
    ) -> None:
        self._voices = tuple(variants)
        self._distribution = distribution
        self._decode = decode
        self._reply = reply
        self._stop = stop
        self._max_new_tokens = max_new_tokens
        self._rows = rows
        self._networks: list[BatchedModel] = []
        self._distributions: list[Distribution] = []
        for variant in variants:
            if variant.network not in self._networks:
                self._networks.append(variant.network)
                error = 0.0 if variant.fallback is None else variant.fallback.error
                self._distributions.append(replace(distribution, error=error))
        # rows that begin together change their variants together, by fewer passes
        several = any(not one.continues(variants[0]) for one in variants)
        self._admitted_at_once = max(1, rows // ADMITTED_PART) if several else 1
        self._batch_of = [self._networks.index(variant.network) for variant in variants]
        self._strength = np.array([variant.strength for variant in variants])
        vocabulary = self._networks[0].vocabulary
        self._ends = np.zeros(vocabulary, dtype=np.bool_)
        self._ends[[i for i in stop_ids if i < vocabulary]] = True

    def run(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws in the order in which they finish, until `source` is finished."""
        for draw, _ in self.trace(source, seed=seed):
            yield draw

    def trace(self, source: DrawSource, *, seed: int) -> Iterator[tuple[Draw, NDArray[np.float64]]]:
        """`run`, with the log-probability of each token under the variant that spoke it."""
        batches = [_Batch(network, self._rows, self._max_new_tokens) for network in self._networks]
        while True:
            busy = sum(batch.active - len(batch.gaps) for batch in batches)
            if busy == 0 or self._rows - busy >= self._admitted_at_once:
                requests = source.take(self._rows - busy, wait=busy == 0)
                if busy == 0 and not requests:
                    return
                self._admit(batches, requests, seed)
            for batch in batches:
                batch.close()
            for batch in batches:
                if batch.active:
                    finished = self._step(batch)
                    if finished:
                        yield from self._finish(batch, finished)
                    batch.gaps = finished
            self._change_voices(batches)

    def _admit(self, batches: list[_Batch], requests: Sequence[DrawRequest], seed: int) -> None:
        """Put new draws into the gaps, then after the last row of the batch of their variant."""
        by_voice: dict[int, list[DrawRequest]] = {}
        for request in requests:
            step = len(_begun(request))
            by_voice.setdefault(self._segment(request, step)[0], []).append(request)
        for number, group in by_voice.items():
            variant, batch = self._voices[number], batches[self._batch_of[number]]
            prompts = [variant.encode(request.prompt) for request in group]
            said = [_begun(request) for request in group]
            banks = self._banks(variant, prompts, said)
            longest = max(len(p) + len(s) for p, s in zip(prompts, said, strict=True))
            batch.reserve(longest, more=len(group))
            for request, prompt, bank in zip(group, prompts, banks, strict=True):
                row = batch.free_row()
                batch.cache.load(row, bank)
                batch.start(row, request, seed)
                self._speak(batch, row, number, prompt)

    def _banks(
        self, variant: ModelVariant, prompts: Sequence[Tokens], said: Sequence[Tokens]
    ) -> list[list[Tensor]]:
        """What the cache holds of prompts and what was said after them, less the last token."""
        banks = variant.prefixes.get([prompt[:-1] for prompt in prompts])
        begun = [number for number, tokens in enumerate(said) if tokens]
        longer = variant.prefixes.extended(
            [prompts[number] for number in begun], [said[number][:-1] for number in begun]
        )
        for number, bank in zip(begun, longer, strict=True):
            banks[number] = bank
        return banks

    def _speak(self, batch: _Batch, row: int, number: int, prompt: Tokens) -> None:
        """Give `row`, whose cache holds all but its last token, the variant of that number."""
        said = batch.response(row)
        batch.prompts[row] = prompt
        batch.variant[row] = number
        batch.pending[row] = said[-1] if said else prompt[-1]
        batch.position[row] = len(prompt) + len(said) - 1
        batch.change[row] = self._segment(batch.requests[row], len(said))[1]

    def _segment(self, request: DrawRequest, step: int) -> tuple[int, int]:
        """The variant of token `step`, and the step at which another one takes over."""
        for variant, stop in request.segments:
            if step < stop:
                if not 0 <= variant < len(self._voices):
                    raise UsageError(
                        f"draw {request.index} of prompt {request.prompt.id!r} asks for variant "
                        f"{variant}, but the engine has {len(self._voices)}: variants 0 .. "
                        f"{len(self._voices) - 1}"
                    )
                return variant, stop
        return 0, NEVER

    def _change_voices(self, batches: list[_Batch]) -> None:
        """Hand rows at the end of a segment to the next variant; rows may leave their batch."""
        moves: dict[int, list[tuple[_Batch, int]]] = {}
        for batch in batches:
            n = batch.active
            due = np.flatnonzero(batch.step[:n] >= batch.change[:n])
            for row in np.setdiff1d(due, batch.gaps).tolist():
                number, until = self._segment(batch.requests[row], int(batch.step[row]))
                if self._voices[number].continues(self._voices[batch.variant[row]]):
                    batch.variant[row], batch.change[row] = number, until
                    continue
                moves.setdefault(number, []).append((batch, row))
        for number, rows in moves.items():
            variant, target = self._voices[number], batches[self._batch_of[number]]
            prompts = [variant.encode(batch.requests[row].prompt) for batch, row in rows]
            # all that was said but the last token, which is pending
            said = [batch.response(row)[:-1] for batch, row in rows]
            banks = variant.prefixes.extended(prompts, said)
            longest = max(len(p) + len(s) for p, s in zip(prompts, said, strict=True))
            target.reserve(longest + 1, more=sum(batch is not target for batch, _ in rows))
            for (batch, row), prompt, bank in zip(rows, prompts, banks, strict=True):
                place = row
                if batch is not target:
                    place = target.free_row()
                    target.take_over(place, batch, row)
                    batch.gaps.append(row)
                target.cache.load(place, bank)
                self._speak(target, place, number, prompt)

    @torch.inference_mode()
    def _step(self, batch: _Batch) -> list[int]:
        """One token for every active row; returns the rows that are finished."""
        n = batch.active
        device = batch.network.device
        position = batch.position[:n]
        logits = batch.network.forward(
            torch.from_numpy(batch.pending[:n, None]).to(device),
            torch.from_numpy(position).to(device),
            batch.cache,
            columns=int(position.max()) + 1,
            last=True,
            strength=self._strengths(batch),
        )[:, -1]
        gumbel = torch.from_numpy(gumbels(batch.uniforms_now()))
        distribution = self._distributions[self._networks.index(batch.network)]
        decision = self._decide(batch, distribution, logits, gumbel.to(device))
        # one transfer for all three: ids and flags are exact in fp64
        table = torch.stack(
            [decision.token.double(), decision.log_prob, decision.ambiguous.double()]
        )
        host = table.cpu().numpy()
        token, log_prob = host[0].astype(np.int64), host[1]
        if self._voices[0].fallback is not None:
            for row in np.flatnonzero(host[2]).tolist():
                token[row], log_prob[row] = self._resolve(batch, row, gumbel[row : row + 1])
        if not np.isfinite(log_prob).all():
            raise TargetError(
                "the model's logits are not finite: its weights are damaged, or its precision "
                "too low (try --dtype float32)"
            )
        batch.append(token, log_prob)
        finished = self._ends[token] | (batch.step[:n] >= self._max_new_tokens)
        if self._stop:
            finished |= self._at_a_stop([batch.response(row) for row in range(n)])
        rows: list[int] = np.flatnonzero(finished).tolist()
        return rows

    def _at_a_stop(self, responses: list[list[int]]) -> NDArray[np.bool_]:
        """Whether the last token of each response completes a stop string.

        Only the last tokens become text, as many as give enough of it; what they seem to say at
        their very beginning is checked against the whole.
        """
        longest = max(map(len, self._stop))
        tail = longest + STOP_MARGIN
        texts = self._decode([response[-tail:] for response in responses])
        stopped = np.zeros(len(responses), dtype=np.bool_)
        for row, (response, text) in enumerate(zip(responses, texts, strict=True)):
            whole = len(response) <= tail
            if not whole and len(text) < longest + STOP_MARGIN:  # tokens without text
                (text,), whole = self._decode([response]), True
            found = any(stop in text for stop in self._stop)
            if found and not whole:
                (text,) = self._decode([response])
                found = any(stop in text for stop in self._stop)
            stopped[row] = found
        return stopped

    def _decide(
        self, batch: _Batch, distribution: Distribution, logits: Tensor, gumbel: Tensor
    ) -> Decision:
        """The tokens of all active rows, each under its own variant."""
        speaking = batch.variant[: batch.active]
        reshaped = [n for n in np.unique(speaking).tolist() if self._voices[n].reshape is not None]
        if not reshaped:
            return distribution.draw(logits, gumbel)
        rows = len(logits)
        token = torch.empty(rows, dtype=torch.int64, device=logits.device)
        log_prob = torch.empty(rows, dtype=torch.float64, device=logits.device)
        ambiguous = torch.empty(rows, dtype=torch.bool, device=logits.device)
        for number in (None, *reshaped):
            mine = np.flatnonzero(
                ~np.isin(speaking, reshaped) if number is None else speaking == number
            )
            if not mine.size:
                continue
            at = torch.from_numpy(mine).to(logits.device)
            if number is None:
                own = distribution.draw(logits[at], gumbel[at])
            else:
                ids = [batch.requests[row].prompt.id for row in mine.tolist()]
                variant = self._voices[number]
                own = _reshaped(variant, distribution, logits[at], gumbel[at], ids)
            token[at], log_prob[at], ambiguous[at] = own.token, own.log_prob, own.ambiguous
        return Decision(token=token, log_prob=log_prob, ambiguous=ambiguous)

    def _strengths(self, batch: _Batch) -> Tensor | None:
        """Strength of each active row; None where no row is steered."""
        strength = self._strength[batch.variant[: batch.active]]
        if not strength.any():
            return None
        network = batch.network
        return torch.from_numpy(strength).to(device=network.device, dtype=network.dtype)

    def _resolve(self, batch: _Batch, row: int, gumbel: Tensor) -> tuple[int, float]:
        """The canonical token of an ambiguous row, and its log-probability."""
        variant = self._voices[batch.variant[row]]
        if variant.fallback is None:
            raise RuntimeError(f"variant {variant.name!r} has no fallback, but the target has one")
        logits = variant.fallback.logits(
            batch.prompts[row], batch.response(row), strength=variant.strength
        )
        numbers = gumbel.to(logits.device)
        if variant.reshape is None:
            decision = self._distribution.draw(logits, numbers)
        else:
            prompt = batch.requests[row].prompt.id
            decision = _reshaped(variant, self._distribution, logits, numbers, [prompt])
        return int(decision.token), float(decision.log_prob)

    def _finish(
        self, batch: _Batch, rows: Sequence[int]
    ) -> Iterator[tuple[Draw, NDArray[np.float64]]]:
        responses = [batch.response(row) for row in rows]
        ended = [bool(self._ends[response[-1]]) for response in responses]
        texts = self._decode(
            [r[:-1] if end else r for r, end in zip(responses, ended, strict=True)]
        )
        for row, response, end, text in zip(rows, responses, ended, texts, strict=True):
            request = batch.requests[row]
            cuts = [at for stop in self._stop if (at := text.find(stop)) >= 0]
            reason: FinishReason = "stop" if end or cuts else "length"
            text = text[: min(cuts)] if cuts else text
            reply = self._reply(request.prompt, text, cut=reason == "length")
            log_probs = batch.log_probs[row, : len(response)].copy()
            draw = Draw(
                prompt_id=request.prompt.id,
                stream=request.stream,
                index=request.index,
                token_ids=tuple(response),
                text=reply.text,
                finish_reason=reason if reply.missing is None else "incomplete",
                # nobody told the probabilities of tokens that were given
                log_prob=float("nan" if request.beginning else log_probs.sum()),
                missing=reply.missing,
            )
            count(draws=1, tokens=len(response) - len(_begun(request)))
            yield draw, log_probs


def _reshaped(
    variant: ModelVariant,
    distribution: Distribution,
    logits: Tensor,
    gumbel: Tensor,
    prompts: Sequence[str],
) -> Decision:
    """Tokens of rows that all have one reshaped variant; `prompts` are the ids of theirs."""
    assert variant.reshape is not None
    shaped = variant.reshape(distribution.scaled_logits(logits), prompts)
    error = distribution.error / distribution.temperature * variant.reshape.error_factor
    return Distribution(error=error).draw(shaped, gumbel)


class _Batch:
    """The rows in progress of one network: what it holds of them, and what the host knows.

    Rows `gaps` among the active ones are finished, or have left.
    """

    def __init__(self, network: BatchedModel, rows: int, max_new_tokens: int) -> None:
        self.network = network
        self.cache = network.cache(rows=1, columns=1)
        self._device = network.device
        self._room = min(max_new_tokens, COLUMNS_AT_ONCE)
        numbers = numbers_per_token(network.vocabulary)
        self._numbers = -(-numbers // WORDS_PER_COUNTER) * WORDS_PER_COUNTER
        self._steps = max(1, min(max_new_tokens, NUMBERS_AT_ONCE // self._numbers))
        self.active = 0
        self.gaps: list[int] = []
        self.requests: list[DrawRequest] = [_NOBODY] * rows
        self.prompts: list[Tokens] = [()] * rows
        self.keys: list[int] = [0] * rows
        self.variant: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.change: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.pending: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.position: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.step: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.log_probs: NDArray[np.float64] = np.zeros((rows, max_new_tokens))
        self._tokens: NDArray[np.int64] = np.zeros((rows, max_new_tokens), np.int64)
        self._uniforms: NDArray[np.float64] = np.zeros((rows, self._steps, self._numbers))
        self._index = np.arange(rows)

    @property
    def _tables(self) -> tuple[NDArray[np.int64] | NDArray[np.float64], ...]:
        """Everything that is known of a row but its cache."""
        numbers = (self.variant, self.change, self.pending, self.position, self.step)
        return *numbers, self.log_probs, self._tokens, self._uniforms

    def reserve(self, length: int, *, more: int) -> None:
        """Columns for `length` tokens and some more steps, and rows for `more` new ones."""
        needed = self.active + max(0, more - len(self.gaps))
        held = self.cache.rows
        if needed > held:  # at least half as many again, but not more than there may be
            needed = max(needed, min(held + held // 2, len(self.requests)))
        self.cache.reserve(length + self._room, rows=needed)

    def free_row(self) -> int:
        """A gap, or else the row after the last one."""
        if self.gaps:
            return self.gaps.pop(0)
        self.active += 1
        return self.active - 1

    def start(self, row: int, request: DrawRequest, seed: int) -> None:
        """Begin a draw in `row`; the first variant is still to be given."""
        self.requests[row] = request
        self.keys[row] = draw_key(seed, request.prompt.id, request.stream, request.index)
        given = _begun(request)
        self.step[row] = len(given)
        self._tokens[row, : len(given)] = given
        self.log_probs[row, : len(given)] = 0.0
        self._make_uniforms(row)

    def take_over(self, row: int, other: _Batch, old: int) -> None:
        """Let `row` go on with the draw in row `old` of another network's batch."""
        self.requests[row] = other.requests[old]
        self.keys[row] = other.keys[old]
        for mine, theirs in zip(self._tables, other._tables, strict=True):
            mine[row] = theirs[old]

    def _make_uniforms(self, row: int) -> None:
        """The random numbers of the row's next steps."""
        first = int(self.step[row]) // self._steps * self._steps * self._numbers
        made = uniforms(self.keys[row], first, self._steps * self._numbers)
        self._uniforms[row] = made.reshape(self._steps, self._numbers)

    def uniforms_now(self) -> NDArray[np.float64]:
        """The uniforms of each active row's next step, shape (active, numbers of a step)."""
        n = self.active
        offset = self.step[:n] % self._steps
        for row in np.flatnonzero((offset == 0) & (self.step[:n] > 0)).tolist():
            self._make_uniforms(row)
        now: NDArray[np.float64] = self._uniforms[self._index[:n], offset]
        return now

    def append(self, token: NDArray[np.int64], log_prob: NDArray[np.float64]) -> None:
        """Record a token of every active row; it is the pending one of the next step."""
        n = self.active
        place = (self._index[:n], self.step[:n])
        self._tokens[place] = token
        self.log_probs[place] = log_prob
        self.step[:n] += 1
        self.position[:n] += 1
        self.pending[:n] = token

    def response(self, row: int) -> list[int]:
        """Tokens drawn so far in `row`."""
        ids: list[int] = self._tokens[row, : self.step[row]].tolist()
        return ids

    def close(self) -> None:
        """Move the last rows into the gaps, so that the active rows are the first ones again."""
        if not self.gaps:
            return
        remaining = self.active - len(self.gaps)
        empty = set(self.gaps)
        source = [row for row in range(remaining, self.active) if row not in empty]
        target = [row for row in self.gaps if row < remaining]
        self.active, self.gaps = remaining, []
        if not source:
            return
        for old, new in zip(source, target, strict=True):
            self.requests[new] = self.requests[old]
            self.prompts[new] = self.prompts[old]
            self.keys[new] = self.keys[old]
        for table in self._tables:
            table[target] = table[source]
        self.cache.move(
            torch.tensor(source, device=self._device),
            torch.tensor(target, device=self._device),
            int(self.position[: self.active].max()),
        )


def _begun(request: DrawRequest) -> Tokens:
    """The tokens of the response that are given."""
    return request.beginning.token_ids if request.beginning is not None else ()


_NOBODY = DrawRequest(prompt=Prompt(id="", messages=(("user", ""),)), stream="", index=0)
