"""The canonical decision where rounding could change a token.

Logits in fp32 differ by 1e-5 to 1e-4 between batch shapes. Where that could change a token, the row
is decided by one computation that depends on its tokens alone: a batch of one, the prompt read in
pieces of fixed length, and the response after it likewise. Small models have a copy in fp64 for
this; a larger one, whose copy would take twice the memory of its weights, does it itself, in its
own precision. Either way the canonical logits are a function of (prompt, response, strength) on one
machine with one number of threads; in fp64 they hardly depend on the machine either.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.cache import RowCache
from tailbound.targets.decoding.interventions import Intervention
from tailbound.targets.decoding.prompt_cache import Prefixes, Tokens

FP64_BYTES = 1 << 28
"""The largest copy in fp64 that is made: 33 million parameters.

A bound on the size, not on the memory that is free: what decides must be the same in every run.
"""

PROMPT_BYTES = 1 << 28
"""Memory for prompts that have been read, at each strength."""

RESPONSE_BYTES = 1 << 27
"""Memory for what has been read of responses."""

PIECE = 32
"""Tokens of a response that are read in one pass; the last piece may be shorter."""

SAFETY = 3.0
"""The error that is assumed of logits, in units of the largest one measured."""

PROBE_ROWS, PROBE_STEPS = 8, 24
"""What the error is measured on: texts, and tokens of each."""


class Fp64Fallback:
    """Canonical next-token logits of `network`, and how far those of a batch lie from them.

    `tolerance` is the error that is assumed of a logit, None to measure it. A copy in fp64, where
    there is one, is made at the first call.
    """

    def __init__(self, network: BatchedModel, *, tolerance: float | None = None) -> None:
        self.tolerance = tolerance
        size = sum(parameter.numel() for parameter in network.model.parameters())
        #: Whether canonical logits are made by a copy in fp64, or by the model itself.
        self.copies = network.dtype != torch.float64 and 8 * size <= FP64_BYTES
        self._original = network
        self._network: BatchedModel | None = None
        self._intervention: Intervention | None = None
        self._prefixes: dict[float, Prefixes] = {}
        self._responses: OrderedDict[tuple[float, Tokens], list[Tensor]] = OrderedDict()
        self._bytes = 0
        self._measured: float | None = None
        self.calls = 0

    @property
    def precision(self) -> str:
        """The precision of the canonical logits, by the names of torch: "float64" or "float32"."""
        dtype = torch.float64 if self.copies else self._original.dtype
        return str(dtype).removeprefix("torch.")

    @property
    def error(self) -> float:
        """How far a logit of a batch may lie from the canonical one, up to a shift of its row.

        `tolerance`, or else `SAFETY` times the largest error among all logits of `PROBE_ROWS` texts
        of `PROBE_STEPS` tokens, which the model draws in one batch, each from another first token.
        It is an estimate and not a bound. What rests on it is that a draw gives the same tokens in
        every batch; that draws follow their density does not. If the error were sometimes k times
        what is assumed, one of about 1 / (4 (k - 1) error) such tokens could change.
        """
        if self.tolerance is not None:
            return self.tolerance
        if self._measured is None:
            self._measured = SAFETY * self._largest_error()
        return self._measured

    @torch.inference_mode()
    def logits(self, prompt: Tokens, response: Sequence[int], strength: float = 0.0) -> Tensor:
        """Logits after `prompt` and `response`, steered at `strength`, (1, vocabulary)."""
        network = self._ready(strength)
        self.calls += 1
        said = (prompt[-1], *response)
        # the last piece holds at least one token, which gives the logits
        whole = (len(said) - 1) // PIECE
        held = whole
        while held and (strength, prompt[:-1] + said[: held * PIECE]) not in self._responses:
            held -= 1
        if held:
            key = (strength, prompt[:-1] + said[: held * PIECE])
            banks = self._responses[key]
            self._responses.move_to_end(key)
        else:
            banks = self._prefixes[strength].get([prompt[:-1]])[0]
        columns = len(prompt) + len(response)
        cache = network.cache(rows=1, columns=columns)
        cache.load(0, banks)
        logits = None
        for piece in range(held, whole + 1):
            ids = said[piece * PIECE : (piece + 1) * PIECE]
            start = len(prompt) - 1 + piece * PIECE
            logits = self._read(network, ids, start, cache, strength)
            if piece == whole - 1:
                read = prompt[:-1] + said[: whole * PIECE]
                self._hold((strength, read), cache.save(0, len(read)))
        assert logits is not None
        return logits

    def _read(
        self,
        network: BatchedModel,
        ids: Sequence[int],
        start: int,
        cache: RowCache,
        strength: float,
    ) -> Tensor:
        steered = None
        if strength:
            steered = torch.tensor([strength], dtype=network.dtype, device=network.device)
        logits = network.forward(
            torch.tensor([list(ids)], device=network.device),
            torch.tensor([start], device=network.device),
            cache,
            columns=start + len(ids),
            last=True,
            strength=steered,
        )
        return logits[:, -1]

    def _hold(self, key: tuple[float, Tokens], banks: list[Tensor]) -> None:
        self._responses[key] = banks
        self._bytes += self._cost(key)
        while self._bytes > RESPONSE_BYTES:
            oldest, _ = self._responses.popitem(last=False)
            self._bytes -= self._cost(oldest)

    def _cost(self, key: tuple[float, Tokens]) -> int:
        network = self._network
        assert network is not None
        return len(key[1]) * network.layout.bytes_per_token

    def _ready(self, strength: float) -> BatchedModel:
        """The network of the canonical logits, steered as the original is."""
        if self._network is None:
            self._network = self._original
            if self.copies:
                with self._original.bare() as model:
                    self._network = BatchedModel(copy.deepcopy(model).double(), check=False)
        network = self._network
        if strength and self._intervention is not self._original.intervention:
            # what was read under another intervention is of no use
            self._intervention = self._original.intervention
            if network is not self._original:
                network.steer(self._intervention)
            self._prefixes = {0.0: self._prefixes[0.0]} if 0.0 in self._prefixes else {}
            for key in [key for key in self._responses if key[0]]:
                del self._responses[key]
                self._bytes -= self._cost(key)
        if strength not in self._prefixes:
            self._prefixes[strength] = Prefixes(network, limit=PROMPT_BYTES, strength=strength)
        return network

    @torch.inference_mode()
    def _largest_error(self) -> float:
        """Half the spread of (logit of a batch - canonical logit) over a row, the largest seen."""
        batched, canonical = self._original, self._ready(0.0)
        steps = min(PROBE_STEPS, batched.context or PROBE_STEPS)
        vocabulary = int(batched.model.get_input_embeddings().weight.shape[0])
        generator = torch.Generator().manual_seed(0)
        pending = torch.randint(vocabulary, (PROBE_ROWS,), generator=generator)
        cache = batched.cache(rows=PROBE_ROWS, columns=steps)
        texts: list[Tensor] = []
        seen: list[Tensor] = []
        for step in range(steps):
            texts.append(pending)
            logits = batched.forward(
                pending[:, None].to(batched.device),
                torch.full((PROBE_ROWS,), step, device=batched.device),
                cache,
                columns=step + 1,
                last=True,
            )[:, -1]
            seen.append(logits.double())
            exponential = torch.empty(logits.shape).exponential_(generator=generator)
            pending = (logits - exponential.log()).argmax(1).clamp(max=vocabulary - 1)
        largest = 0.0
        for row, text in enumerate(torch.stack(texts, 1)):
            exact = canonical.forward(
                text[None],
                torch.zeros(1, dtype=torch.int64),
                canonical.cache(rows=1, columns=steps),
                columns=steps,
            )[0].double()
            difference = torch.stack([logits[row] for logits in seen]) - exact
            # an impossible token stays one; NaN is found when the first token is drawn
            spread = _spread(torch.where(torch.isfinite(difference), difference, torch.nan))
            largest = max(largest, spread / 2)
        return largest


def _spread(difference: Tensor) -> float:
    """The largest spread within a row, NaN left out."""
    highest = difference.nan_to_num(nan=-torch.inf).amax(1)
    lowest = difference.nan_to_num(nan=torch.inf).amin(1)
    return max(0.0, float((highest - lowest).nan_to_num(nan=0.0).max()))
