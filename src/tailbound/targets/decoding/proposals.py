"""The target and its unsafe versions in one engine: draws by any schedule of variants, and their
densities under every variant.

All variants speak under the target's contract: its temperature, top-p, top-k, stop tokens and
length, with log-probs of one numerics, so that a weight is a ratio of like to like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailbound.core.contract import Draw, DrawRequest, SamplingContract
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.targets.base import DrawSource
from tailbound.targets.capabilities import Traced, WhiteBox
from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.encoding import Encoder
from tailbound.targets.decoding.interventions import Intervention
from tailbound.targets.decoding.prompt_cache import Prefixes
from tailbound.targets.decoding.reshaping import Heated, Reweighted
from tailbound.targets.decoding.scoring import expected_tokens, score_reshaped
from tailbound.targets.decoding.variant import ModelVariant


def steered(
    target: WhiteBox, intervention: Intervention, strength: float, *, name: str
) -> ModelVariant:
    """The target steered by `intervention` at `strength` times its own, on the whole sequence.

    ModelVariants of one intervention share the target's network and its batch. Another intervention
    besides gets a batch of its own; the weights are shared in either case.
    """
    if strength == 0:
        raise UsageError(f"variant {name!r} has strength 0: that is the target itself")
    network = target.network
    if network.intervention is None:
        network.steer(intervention)
    elif network.intervention.id != intervention.id:
        network = BatchedModel(target.model)
        network.steer(intervention)
    made = _voice(target, network, target.encoder, strength=strength, name=name)
    recipe = partial(steered, intervention=intervention, strength=strength, name=name)
    return replace(made, recipe=recipe)


def instructed(target: WhiteBox, system: str, *, name: str) -> ModelVariant:
    """The target under the system prompt `system` in place of its contract's own."""
    made = _voice(target, target.network, target.encoder.with_system(system), name=name)
    return replace(made, recipe=partial(instructed, system=system, name=name))


def other_model(target: WhiteBox, model: WhiteBox, *, name: str) -> ModelVariant:
    """Another network, a checkpoint or an adapter of the target, with the same vocabulary.

    It reads the prompt as the target does: the same template and the same token ids.
    """
    if model.network.vocabulary != target.network.vocabulary:
        raise UsageError(
            f"{model.contract.target} has a vocabulary of {model.network.vocabulary} tokens and the"
            f" target one of {target.network.vocabulary}: a proposal needs the same tokenizer"
        )
    if model.tokenizer.get_vocab() != target.tokenizer.get_vocab():
        raise UsageError(
            f"{model.contract.target} has another tokenizer than the target: its token ids mean "
            "other words"
        )
    return _voice(target, model.network, target.encoder, name=name)


def adapted(target: WhiteBox, model: Any, *, name: str) -> ModelVariant:
    """`model`, a copy of the target's with an adapter, in the target's place."""
    return _voice(target, BatchedModel(model, check=False), target.encoder, name=name)


def heated(target: WhiteBox, temperature: float, *, name: str) -> ModelVariant:
    """The target's likeliest tokens at `temperature` times the contract's (`reshaping.Heated`)."""
    recipe = partial(heated, temperature=temperature, name=name)
    return replace(target.variant, name=name, reshape=Heated(temperature), recipe=recipe)


def reweighted(
    target: WhiteBox,
    tables: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    *,
    name: str,
) -> ModelVariant:
    """The target with some tokens more likely (`reshaping.Reweighted`).

    `tables` holds token ids and what is added to their logits, by prompt id, "" for all others.
    """
    device = target.network.device
    held = {
        prompt: (
            torch.tensor(list(ids), dtype=torch.int64, device=device),
            torch.tensor(list(added), dtype=torch.float64, device=device),
        )
        for prompt, (ids, added) in tables.items()
    }
    plain = {prompt: (list(ids), list(added)) for prompt, (ids, added) in tables.items()}
    recipe = partial(reweighted, tables=plain, name=name)
    return replace(target.variant, name=name, reshape=Reweighted(held), recipe=recipe)


def _voice(
    target: WhiteBox, network: BatchedModel, encoder: Encoder, *, name: str, strength: float = 0.0
) -> ModelVariant:
    from tailbound.targets.decoding.fp64_fallback import Fp64Fallback

    fallback = target.fallback
    if fallback is not None and network is not target.network:
        fallback = Fp64Fallback(network, tolerance=fallback.tolerance)
    return ModelVariant(
        name=name,
        network=network,
        prefixes=Prefixes(network, limit=target.prompt_cache_bytes, strength=strength),
        encode=encoder.encode,
        fallback=fallback,
        strength=strength,
    )


class ProposalModel:
    """A `ProposalEngine`: draws may be spoken by other variants, as `segments` of requests say.

    `variants` leave the target itself out; here it is `self.variants[0]`. Without segments it
    samples as the target does, token by token.
    """

    def __init__(self, target: WhiteBox, variants: Sequence[ModelVariant]) -> None:
        names = [variant.name for variant in variants]
        if len(set(names)) < len(names):
            raise UsageError(f"variants must have different names, not {names}")
        self.target = target
        self.variants: tuple[ModelVariant, ...] = (target.variant, *variants)
        self.notices = target.notices

    @property
    def contract(self) -> SamplingContract:
        """The target's."""
        return self.target.contract

    @property
    def reproducible(self) -> str:
        """As the target's: steered tokens are decided like all others."""
        return self.target.reproducible

    @property
    def batch_size(self) -> int:
        """Rows sampled at once."""
        return self.target.batch_size

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws in the order in which they finish, until `source` is finished."""
        return self.target.decoder(self.variants).run(source, seed=seed)

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """The longest reading of each prompt by any variant, in tokens, shape (len(prompts),)."""
        longest = [max(len(v.encode(prompt)) for v in self.variants) for prompt in prompts]
        return np.array(longest, dtype=np.int64)

    def score(
        self,
        prompt: Prompt,
        responses: Sequence[Sequence[int]],
        *,
        variants: Sequence[int] | None = None,
    ) -> list[NDArray[np.float64]]:
        """Log-probability of every token of every response under each variant, in nats.

        One array (variants, tokens) per response, all variants in their order or those of the
        numbers `variants`: each token given all before it, as read by that variant; -inf for a
        token outside the kept set. Equal responses are scored once. Raises `UsageError` for an
        empty response or a token that the model does not have.
        """
        return self.score_all([prompt] * len(responses), responses, variants=variants)

    def score_all(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        *,
        variants: Sequence[int] | None = None,
    ) -> list[NDArray[np.float64]]:
        """`score` of responses to several prompts, one prompt each, in shared passes."""
        known = {prompt.id: prompt for prompt in prompts}
        keys = [(p.id, tuple(said)) for p, said in zip(prompts, responses, strict=True)]
        distinct = list(dict.fromkeys(keys))
        names, said = [name for name, _ in distinct], [response for _, response in distinct]
        numbers = list(range(len(self.variants)) if variants is None else variants)
        tables = [np.empty((len(numbers), len(response))) for response in said]
        waiting = numbers
        while waiting:
            # variants that differ in their reshaping alone share a pass
            first = self.variants[waiting[0]]
            together = [n for n in waiting if self.variants[n].continues(first)]
            waiting = [n for n in waiting if n not in together]
            ids = {name: first.encode(prompt) for name, prompt in known.items()}
            scored = score_reshaped(
                first.network,
                first.prefixes,
                self.target.distribution,
                [ids[name] for name in names],
                said,
                [self.variants[number].reshape for number in together],
                prompt_ids=names,
                strength=first.strength,
            )
            rows = [numbers.index(number) for number in together]
            for table, values in zip(tables, scored, strict=True):
                table[rows] = values
        found = dict(zip(distinct, tables, strict=True))
        return [found[key] for key in keys]

    def expected(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        weights: Sequence[float],
        tokens: Mapping[str, Sequence[int]],
    ) -> dict[str, NDArray[np.float64]]:
        """How often the target would say `tokens` in the places of `responses`, by prompt id.

        Each response has its prompt, each prompt its tokens: (2, tokens), the sum over all places
        and that over first places alone.
        """
        target = self.target
        return expected_tokens(
            target.network,
            target.variant.prefixes,
            target.distribution,
            [target.variant.encode(prompt) for prompt in prompts],
            responses,
            weights,
            tokens,
            prompt_ids=[prompt.id for prompt in prompts],
        )

    def add_reweighted(
        self, name: str, tables: Mapping[str, tuple[Sequence[int], Sequence[float]]]
    ) -> int:
        """Let a version of the target speak that says some tokens more often; its number.

        `tables` holds token ids and what is added to their logits, by prompt id, "" for all others.
        """
        return self.add_variant(reweighted(self.target, tables, name=name))

    def add_variant(self, variant: ModelVariant) -> int:
        """Let one more version of the target speak; its number."""
        self.variants = (*self.variants, variant)
        return len(self.variants) - 1

    def draw(self, requests: Sequence[DrawRequest], *, seed: int) -> Iterator[Draw]:
        """The draws that `requests` ask for, in the order in which they finish."""
        return self.sample(_Once(requests), seed=seed)

    def trace(self, requests: Sequence[DrawRequest], *, seed: int) -> Iterator[Traced]:
        """Draw `requests` and score every token of them: for checks, not for speed."""
        prompts = {request.prompt.id: request.prompt for request in requests}
        found = list(self.target.decoder(self.variants).trace(_Once(requests), seed=seed))
        asked = [prompts[draw.prompt_id] for draw, _ in found]
        tables = self.score_all(asked, [draw.token_ids for draw, _ in found])
        for (draw, spoken), scored in zip(found, tables, strict=True):
            yield Traced(draw=draw, spoken=spoken, scored=scored)

    @torch.inference_mode()
    def effect(self, number: int, prompt: Prompt, response: Sequence[int]) -> NDArray[np.float64]:
        """How far variant `number` moves the logits before each token of `response`, (tokens,).

        The largest difference from the target's, up to a common shift; 0 where it does nothing.
        """
        variant = self.variants[number]
        own = self._logits(self.variants[0], prompt, response)
        # what is only reshaped reads as the target does
        same = variant.continues(self.variants[0])
        other = own if same else self._logits(variant, prompt, response)
        if variant.reshape is not None:
            other = variant.reshape(other, [prompt.id] * len(other))
        shift = other - own
        spread: NDArray[np.float64] = (shift.amax(1) - shift.amin(1)).cpu().numpy()
        return spread

    def _logits(
        self, variant: ModelVariant, prompt: Prompt, response: Sequence[int]
    ) -> torch.Tensor:
        """Logits before each token of `response`, not reshaped, fp64, (tokens, vocabulary)."""
        network, ids = variant.network, variant.encode(prompt)
        cache = network.cache(rows=1, columns=len(ids) + len(response))
        cache.load(0, variant.prefixes.get([ids[:-1]])[0])
        strength = None
        if variant.strength:
            strength = torch.tensor([variant.strength], dtype=network.dtype, device=network.device)
        logits = network.forward(
            torch.tensor([[ids[-1], *response[:-1]]], device=network.device),
            torch.tensor([len(ids) - 1], device=network.device),
            cache,
            columns=len(ids) + len(response) - 1,
            strength=strength,
        )
        return logits[0].double()


class _Once:
    """A source of requests that are given out once."""

    def __init__(self, requests: Sequence[DrawRequest]) -> None:
        self._waiting = list(requests)

    def take(self, limit: int, *, wait: bool) -> list[DrawRequest]:
        given, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return given
