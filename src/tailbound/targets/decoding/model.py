"""A local model behind the seam of `tailbound.targets`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailbound.core.contract import Beginning, Draw, SamplingContract, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.core.thinking import thinking_notice
from tailbound.errors import UsageError
from tailbound.targets.base import DrawSource
from tailbound.targets.decoding import memory
from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.decoder import Decoder
from tailbound.targets.decoding.distribution import Distribution
from tailbound.targets.decoding.encoding import Encoder
from tailbound.targets.decoding.fp64_fallback import Fp64Fallback
from tailbound.targets.decoding.prompt_cache import BATCH_TOKENS, Prefixes
from tailbound.targets.decoding.scoring import score_tokens
from tailbound.targets.decoding.variant import ModelVariant

if TYPE_CHECKING:
    from tailbound.targets.decoding.proposals import ProposalModel


class LocalModel:
    """A Hugging Face causal language model in this process: a `WhiteBox`.

    On a CPU in float32 or float64 the same (seed, prompt, stream, index) gives the same tokens
    whatever the batch; elsewhere draws are reproducible in distribution. `notices` are lines that
    a person should see before a run. Not safe for use by several threads at once.

    `tolerance` is the error that is assumed of a logit: choices that it could change are decided by
    the canonical computation. None measures it when the first draw is asked for; 0 decides nothing
    canonically. `prompt_cache_bytes` bounds the memory for prompts that have been read, for each
    variant; None takes an eighth of what is free.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        options: SamplingOptions,
        *,
        name: str,
        revision: str | None,
        batch_size: int = 256,
        tolerance: float | None = None,
        prompt_cache_bytes: int | None = None,
        notices: tuple[str, ...] = (),
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch-size must be at least 1, not {batch_size}")
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.network = BatchedModel(model)
        if options.top_k is not None and options.top_k > self.network.vocabulary:
            raise UsageError(
                f"top-k {options.top_k} is more than the vocabulary of "
                f"{self.network.vocabulary} tokens: leave it out for no limit"
            )
        if options.extra_body is not None:
            raise UsageError("--extra-body goes to a server, and this model is in this process")
        self.encoder = Encoder(
            tokenizer,
            options,
            context=self.network.context,
            # often more than there are logits, or than the tokenizer has: tables are padded
            vocabulary=int(model.get_input_embeddings().weight.shape[0]),
        )
        options = self.encoder.options
        stop_ids = _stop_ids(model, self.encoder, self.network.vocabulary)
        notices += (*self.network.notices, *_generation_notices(model, options))
        if self.encoder.thinks:
            notices += (thinking_notice(options.thinking, options.max_new_tokens),)
        if not stop_ids:
            notices += ("the model has no stop token: every response has max-new-tokens tokens",)
        self._contract = SamplingContract.resolved(
            options,
            target=name,
            revision=revision,
            precision=str(self.network.dtype).removeprefix("torch."),
            template=self.encoder.template_digest,
            stop_ids=stop_ids,
        )
        self.fallback = _fallback(self.network, tolerance)
        notices += _precision_notices(self.network, self.fallback, self._contract.precision)
        self.notices: tuple[str, ...] = notices
        self.distribution = Distribution(
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
        )
        self.options = options
        if prompt_cache_bytes is None:
            prompt_cache_bytes = memory.prompt_cache_bytes(self.network.device)
        self.prompt_cache_bytes: int = prompt_cache_bytes
        self.variant = ModelVariant(
            name="target",
            network=self.network,
            prefixes=Prefixes(self.network, limit=prompt_cache_bytes),
            encode=self.encoder.encode,
            fallback=self.fallback,
        )

    @property
    def contract(self) -> SamplingContract:
        """What p(response | prompt) means here."""
        return self._contract

    @property
    def reproducible(self) -> str:
        """`"draw"` on a CPU in float32 or float64, else `"distribution"`."""
        return "distribution" if self.fallback is None else "draw"

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws in the order in which they finish, until `source` is finished.

        Raises `UsageError` for a prompt that cannot be encoded (`prompt_tokens` finds it before
        anything is spent) and `TargetError` for logits that are not finite.
        """
        return self.decoder((self.variant,)).run(source, seed=seed)

    def check_continuing(self) -> None:
        """Any beginning can be continued."""

    def beginnings(self, prompt: Prompt, draw: Draw, *, every: int) -> list[Beginning]:
        """Where `draw` may be cut: after every so many tokens, the whole response left out."""
        ids = draw.token_ids
        cuts = range(every, len(ids), every)
        texts = self.encoder.decode([ids[:cut] for cut in cuts])
        found = []
        for cut, text in zip(cuts, texts, strict=True):
            reply = self.encoder.reply(prompt, text, cut=True)
            found.append(
                Beginning(
                    size=cut,
                    token_ids=ids[:cut],
                    text=reply.text,
                    counted=cut,
                    missing=reply.missing,
                )
            )
        return found

    def decoder(self, variants: Sequence[ModelVariant]) -> Decoder:
        """A decoder of this contract; `variants[0]` is the target's own."""
        return Decoder(
            variants,
            self.distribution,
            decode=self.encoder.decode,
            reply=self.encoder.reply,
            stop_ids=self._contract.stop_ids,
            stop=self._contract.stop,
            max_new_tokens=self._contract.max_new_tokens,
            rows=self.batch_size,
        )

    def with_variants(self, variants: Sequence[ModelVariant]) -> ProposalModel:
        """An engine in which `variants` of this model may speak; their names must differ."""
        from tailbound.targets.decoding.proposals import ProposalModel

        return ProposalModel(self, variants)

    def heated(self, temperature: float, *, name: str) -> ModelVariant:
        """The likeliest tokens at `temperature` times the contract's (`reshaping.Heated`)."""
        from tailbound.targets.decoding.proposals import heated

        return heated(self, temperature, name=name)

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """Tokens of each prompt as the model sees it, shape (len(prompts),)."""
        return np.array([len(self.encoder.encode(prompt)) for prompt in prompts], dtype=np.int64)

    def score(self, prompt: Prompt, responses: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """log p(response | prompt) in nats under the contract, shape (len(responses),).

        The density of the draws: temperature, top-k and top-p included, -inf for a token that is
        not kept, after a stop token, or beyond `max_new_tokens`. A response that has not ended
        gets the probability of beginning so. Whether a token at the very edge of the kept set is
        in it is subject to rounding (draws settle such cases canonically).
        """
        ids = self.encoder.encode(prompt)
        tokens = score_tokens(
            self.network, self.variant.prefixes, self.distribution, ids, responses
        )
        totals = np.array([values.sum() for values in tokens], dtype=np.float64)
        stop_ids = set(self._contract.stop_ids)
        for number, response in enumerate(responses):
            if len(response) > self._contract.max_new_tokens or stop_ids.intersection(
                response[:-1]
            ):
                totals[number] = -np.inf
        return totals

    @torch.inference_mode()
    def features(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Residual stream at the last prompt token, shape (len(prompts), 2 * dimension).

        The middle layer's output, then the last layer's after the final norm: how the model
        reads a request stands in the middle layers, how it begins its answer in the last one.
        """
        encoded = [self.encoder.encode(prompt) for prompt in prompts]
        order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
        rows: dict[int, NDArray[np.float32]] = {}
        while order:
            width = len(encoded[order[-1]])
            size = max(1, BATCH_TOKENS // width)
            chunk, order = order[-size:], order[:-size]
            ids = torch.zeros((len(chunk), width), dtype=torch.int64)
            for row, number in enumerate(chunk):
                ids[row, : len(encoded[number])] = torch.tensor(encoded[number])
            states = self.network.hidden(ids.to(self.network.device))
            last = torch.tensor([len(encoded[number]) - 1 for number in chunk])
            at = (torch.arange(len(chunk)), last)
            picked = torch.cat([states[len(states) // 2][at], states[-1][at]], 1).float().cpu()
            rows.update(zip(chunk, picked.numpy(), strict=True))
        if not rows:
            return np.empty((0, 2 * self.model.config.get_text_config().hidden_size), np.float32)
        return np.stack([rows[number] for number in range(len(encoded))])


def _stop_ids(model: Any, encoder: Encoder, vocabulary: int) -> tuple[int, ...]:
    """All ids that end a response; ids that the model does not have (-1 for "none") are none."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    own = [] if found is None else [found] if isinstance(found, int) else found
    return tuple(sorted({id for id in (*own, *encoder.stop_ids) if 0 <= id < vocabulary}))


_OFF: dict[str, Any] = {
    "min_p": 0.0,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "exponential_decay_length_penalty": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "bad_words_ids": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": 1.0,
    "num_beams": 1,
    "penalty_alpha": 0.0,
    "stop_strings": None,
}
"""Settings of `generate` that change the distribution, where they do not."""


def _exact(network: BatchedModel) -> bool:
    """Whether rounding alone separates two passes: a CPU in float32 or float64."""
    return network.device.type == "cpu" and network.dtype in (torch.float32, torch.float64)


def _fallback(network: BatchedModel, tolerance: float | None) -> Fp64Fallback | None:
    if tolerance is not None and not tolerance >= 0:
        raise UsageError(f"tolerance must be at least 0, not {tolerance}")
    if not _exact(network) or tolerance == 0:
        return None
    return Fp64Fallback(network, tolerance=tolerance)


def _precision_notices(
    network: BatchedModel, fallback: Fp64Fallback | None, precision: str
) -> tuple[str, ...]:
    if not _exact(network):
        return (
            f"{precision} on {network.device.type}: reproducible in distribution only (float32 "
            "on the CPU repeats every token)",
        )
    if fallback is not None and fallback.precision == "float32":
        return (
            "the model is too large for a copy in float64: where rounding could change a token, "
            "a float32 pass over that response alone decides",
        )
    return ()


def _generation_notices(model: Any, options: SamplingOptions) -> tuple[str, ...]:
    """A line if the model's own settings ask for another distribution."""
    settings = getattr(model, "generation_config", None)
    # a top_k of 0 is how a generation config says "off"
    ours = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k or 0,
        **_OFF,
    }
    asked = settings.to_diff_dict() if settings is not None else {}
    other = [
        f"{key}={asked[key]}" if isinstance(asked[key], int | float) else key
        for key, value in ours.items()
        if asked.get(key) is not None and asked[key] != value
    ]
    if not other:
        return ()
    return (
        f"the model's generation_config asks for {', '.join(other)}; not used: "
        "the contract's settings hold",
    )
