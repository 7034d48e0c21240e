"""One forward pass of many rows, each at its own position.

Everything that runs the model under audit goes through `BatchedModel.forward`: decoding (one token
per row), reading prompts (many tokens from position 0) and scoring (many tokens after a prompt). It
is the one place where a row-wise intervention on the model is switched on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tailbound.core.steps import count
from tailbound.errors import UsageError
from tailbound.huggingface.key_values import cache_argument
from tailbound.targets.decoding.attention import use_row_attention
from tailbound.targets.decoding.cache import Layout, LayoutProbe, RowCache
from tailbound.targets.decoding.interventions import Attached, Intervention

FULL, SLIDING = "full_attention", "sliding_attention"


class BatchedModel:
    """A Hugging Face causal language model, with rows in place of padded batches.

    Raises `UsageError` for architectures whose state is not keys and values per token.
    """

    def __init__(self, model: Any, *, check: bool = True) -> None:
        """`check` is for models that were not seen before, not for copies of one that was."""
        use_row_attention(model)
        _use_plain_experts(model)
        self.model = model
        self.intervention: Intervention | None = None
        self._attached: Attached | None = None
        parameter = next(model.parameters())
        self.device: torch.device = parameter.device
        self.dtype: torch.dtype = parameter.dtype
        config = model.config.get_text_config()
        self.context, self.notices = _context(config)
        self._window: int | None = getattr(config, "sliding_window", None)
        self._kinds = _attention_kinds(config, self._window)
        arguments = inspect.signature(model.forward).parameters
        if "position_ids" not in arguments:
            raise UsageError(
                f"{type(model).__name__} takes no position ids, which in-process sampling needs: "
                "serve it and use an endpoint target"
            )
        #: Asks the model for the logits after the last token alone, where it can be asked.
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in arguments else {}
        self._cache_argument = cache_argument(model)
        self._lowest = torch.finfo(self.dtype).min
        self._columns = torch.arange(0, device=self.device)
        try:
            self.layout: Layout = self._probe()
            if self._window is not None and getattr(config, "layer_types", None) is None:
                self._kinds = self._kinds_tried(config)
            if check:
                self._check()
        except (UsageError, Warning, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of the model's own code, which asks for something else
            raise self._cannot_decode(error) from error

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self._size)

    def cache(self, *, rows: int, columns: int) -> RowCache:
        """An empty cache."""
        return RowCache(self.layout, rows=rows, columns=columns)

    def steer(self, intervention: Intervention | None) -> None:
        """Hook `intervention` into the model in place of the one before; None takes it off.

        It acts only on rows that are given a strength.
        """
        if self._attached is not None:
            self._attached.remove()
        self.intervention, self._attached = intervention, None
        if intervention is not None:
            self._attached = intervention.attach(self.model)

    @contextmanager
    def bare(self) -> Iterator[Any]:
        """The model without any hooks of ours, to be copied."""
        intervention = self.intervention
        self.steer(None)
        try:
            yield self.model
        finally:
            self.steer(intervention)

    @contextmanager
    def _steered(self, strength: Tensor | None) -> Iterator[None]:
        if strength is None:
            yield
            return
        if self._attached is None:
            raise RuntimeError("rows were given a strength, but nothing steers this network")
        self._attached.strength = strength
        try:
            yield
        finally:
            self._attached.strength = None

    def forward(
        self,
        ids: Tensor,
        starts: Tensor,
        cache: RowCache,
        *,
        columns: int,
        last: bool = False,
        strength: Tensor | None = None,
    ) -> Tensor:
        """Logits after each of `ids` (n, width), row r standing at positions starts[r], ...

        Shape (n, width, vocabulary), or (n, 1, vocabulary) with `last`. The first n rows of
        `cache` must hold each row's tokens before `starts` (n,); `columns` is the largest
        position + 1. Positions past a row's real tokens may hold anything: no real token sees them.
        `strength` (n,) steers each row with the network's intervention; what a row's cache holds
        must have been read at the same strength.
        """
        count(positions=ids.numel())
        positions = starts[:, None] + torch.arange(ids.shape[1], device=self.device)
        cache.reserve(columns)
        cache.aim(positions, columns)
        with self._steered(strength):
            output = self.model(
                input_ids=ids,
                attention_mask=self._masks(positions, columns),
                position_ids=positions,
                use_cache=True,
                **{self._cache_argument: cache},
                **(self.last_only if last else {}),
            )
        logits: Tensor = output.logits
        return logits

    def logits(self, ids: Tensor, *, keep: int) -> Tensor:
        """Logits after each of the last `keep` of `ids` (n, width), (n, keep, vocabulary).

        Read from position 0 without a cache: for training. What follows a row's real tokens may be
        anything, as in `forward`.
        """
        count(positions=ids.numel())
        width = ids.shape[1]
        positions = torch.arange(width, device=self.device).expand(len(ids), width)
        output = self.model(
            input_ids=ids,
            attention_mask=self._masks(positions, width),
            position_ids=positions,
            use_cache=False,
            **({"logits_to_keep": keep} if self.last_only else {}),
        )
        logits: Tensor = output.logits[:, -keep:]
        return logits

    def hidden(
        self, ids: Tensor, *, start: int = 0, cache: RowCache | None = None
    ) -> tuple[Tensor, ...]:
        """Hidden states of `ids` (n, width) from position `start`: embeddings, then each layer.

        Each has shape (n, width, dimension); the last is after the final norm. The first n rows of
        `cache` hold the tokens before `start`, if any.
        """
        count(positions=ids.numel())
        columns = start + ids.shape[1]
        positions = torch.arange(start, columns, device=self.device).expand(len(ids), -1)
        before: dict[str, Any] = {}
        if cache is not None:
            cache.reserve(columns)
            cache.aim(positions, columns)
            before = {self._cache_argument: cache}
        output = self.model(
            input_ids=ids,
            attention_mask=self._masks(positions, columns),
            position_ids=positions,
            use_cache=cache is not None,
            **before,
            output_hidden_states=True,
            **self.last_only,
        )
        states: tuple[Tensor, ...] = output.hidden_states
        return states

    def _masks(self, positions: Tensor, columns: int) -> Tensor | dict[str, Tensor]:
        """Additive masks (n, 1, width, columns), one per kind of attention where there are two.

        Additive, because the eager attention of some models adds whatever it is given.
        """
        if len(self._columns) < columns:
            self._columns = torch.arange(2 * columns, device=self.device)
        column = self._columns[:columns]
        query = positions[:, None, :, None]
        masks = {}
        for kind in self._kinds:
            hidden = column > query
            if kind == SLIDING:
                assert self._window is not None
                hidden |= column <= query - self._window
            mask = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device)
            masks[kind] = mask.masked_fill_(hidden, self._lowest)
        return masks if len(masks) > 1 else masks[self._kinds[0]]

    @torch.inference_mode()
    def _probe(self) -> Layout:
        probe = LayoutProbe()
        positions = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
        output = self.model(
            input_ids=positions,
            attention_mask=self._masks(positions, 1),
            position_ids=positions,
            use_cache=True,
            **{self._cache_argument: probe},
        )
        self._size = output.logits.shape[-1]
        return probe.layout()

    @torch.inference_mode()
    def _kinds_tried(self, config: Any) -> tuple[str, ...]:
        """Whether the layers look through the window that the config names, or at everything.

        A window may be left over from a model that this one was made of. It is tried with one that
        is shorter than a few tokens, in which the two ways differ.
        """
        width, window = min(6, self.context or 6), self._window
        config.sliding_window = self._window = 2
        errors = {}
        try:
            for kind in (SLIDING, FULL):
                self._kinds = (kind,)
                errors[kind] = self._decoding_error(width)[0]
        finally:
            config.sliding_window = self._window = window
        return (FULL,) if errors[FULL] < errors[SLIDING] else (SLIDING,)

    @torch.inference_mode()
    def _check(self) -> None:
        """Cached rows of unequal lengths must agree with the model's own plain forward pass."""
        width = min(6, self.context or 6)
        if width < 3:
            return
        error, spread, size = self._decoding_error(width)
        # half precision rounds the logits themselves, however close to each other they are
        exact = self.dtype in (torch.float32, torch.float64)
        allowed = 1e-3 * spread + 1e-5 * size if exact else 0.1 * (1 + size)
        if not error <= allowed:
            raise UsageError(
                f"{type(self.model).__name__} does not decode row by row as it does in one pass "
                f"(logits differ by {error:.2g}): serve it and use an endpoint target"
            )

    @torch.inference_mode()
    def _cannot_decode(self, error: Exception) -> UsageError:
        """Why `error` stopped the trial: the model does not run at all, or not with our cache."""
        name = type(self.model).__name__
        try:
            self.model(input_ids=torch.zeros((1, 1), dtype=torch.int64, device=self.device))
        except Exception as plain:
            return UsageError(
                f"{name} fails in a plain forward pass of one token ({_words(plain)})"
            )
        return UsageError(
            f"{name} runs, but does not decode row by row with a cache of keys and values "
            f"({_words(error)}): serve it and use an endpoint target"
        )

    def _decoding_error(self, width: int) -> tuple[float, float, float]:
        """Largest difference of logits from the plain forward pass's; their spread and size."""
        ids = torch.arange(2 * width, device=self.device).view(2, width) % self.vocabulary
        plain = self.model(input_ids=ids, use_cache=False).logits[:, -1].float()
        cache = self.cache(rows=2, columns=width)
        starts = torch.tensor([0, 0], device=self.device)
        self.forward(ids[:, : width - 1], starts, cache, columns=width - 1)
        # row 1 restarts one token earlier, so that the two rows stand at different positions
        starts = torch.tensor([width - 1, width - 2], device=self.device)
        tokens = torch.stack([ids[0, width - 1], ids[1, width - 2]])[:, None]
        first = self.forward(tokens, starts, cache, columns=width)[0, -1].float()
        starts = torch.tensor([width - 1, width - 1], device=self.device)
        second = self.forward(ids[:, -1:], starts, cache, columns=width)[1, -1].float()
        error = (torch.stack([first, second]) - plain).abs().max().item()
        spread = (plain.amax(1) - plain.amin(1)).max().item()
        return error, spread, plain.abs().max().item()


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _use_plain_experts(model: Any) -> None:
    """Let a mixture of experts in float64 go expert by expert: grouped products know no float64."""
    if next(model.parameters()).dtype == torch.float64 and hasattr(
        model, "set_experts_implementation"
    ):
        model.set_experts_implementation("eager")


def _context(config: Any) -> tuple[int | None, tuple[str, ...]]:
    """The most positions of one sequence, and a line where that is less than the model's name says.

    "longrope" reads all positions by other frequencies as soon as one lies beyond the original
    length, in every row of the batch, while the keys of earlier tokens stay as they are.
    """
    context: int | None = getattr(config, "max_position_embeddings", None)
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in (ropes, *ropes.values()):
        if isinstance(rope, dict) and rope.get("rope_type") == "longrope":
            original = rope.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            if original is not None and (context is None or original < context):
                return int(original), (
                    f"prompt and response must fit in {original:,} tokens together: beyond, this "
                    "model (longrope) reads everything anew, which in-process sampling does not do",
                )
    return context, ()


def _attention_kinds(config: Any, window: int | None) -> tuple[str, ...]:
    """The kinds of attention mask that the model's layers ask for."""
    declared = getattr(config, "layer_types", None)
    if declared is None:
        if getattr(config, "attention_chunk_size", None) is not None:
            declared = ("chunked_attention",)
        else:
            declared = (FULL,) if window is None else (SLIDING,)
    kinds = tuple(sorted(set(declared)))
    unknown = [kind for kind in kinds if kind not in (FULL, SLIDING)]
    if unknown:
        raise UsageError(
            f"model type {config.model_type!r} has layers of kind {unknown[0]!r}, which in-process "
            "sampling does not know: serve it and use an endpoint target"
        )
    return kinds
