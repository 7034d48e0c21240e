"""Causal language models from a config whose replies can all be listed: exact truth for real code.

A Llama with nine words and a stop token. A direction of its stream stands for "refusal": every
embedding carries it, and the words w4, w5, w6 ("comply") are the less likely the more of it is
left, so that ablating it makes them frequent. All replies of at most `LENGTH` tokens are listed and
scored by plain forward passes of the model, without any code of the sampler.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers

from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.steering import Ablate
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.decoding.proposals import steered
from tailbound.workflows.risk import Proposal, Proposals
from tailbound.workflows.risk.proposal_mixture import HEAT, HEATED, Family

WORDS, LENGTH, WIDTH = 9, 6, 32
STOP = 0


class TinyLanguage:
    """One model, its prompts, and exact values for all of its replies."""

    def __init__(self, seed: int = 0, *, strength: float = 3.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.direction = torch.randn(WIDTH, generator=generator, dtype=torch.float64)
        self.direction /= self.direction.norm()
        self.model = _model(seed, self.direction.float(), strength)
        self.target = LocalModel(
            self.model,
            word_tokenizer(WORDS),
            SamplingOptions(max_new_tokens=LENGTH, completion=True),
            name="hf:tiny",
            revision=None,
            batch_size=4096,
        )

    @property
    def ablation(self) -> Ablate:
        """The intervention that makes it unsafe."""
        return Ablate(self.direction)

    def proposals(
        self, ablation: Any = None, *, explore: bool = True, learn: bool = False
    ) -> Proposals:
        """The unsafe version (another intervention than its own, if given), and explorers."""
        chosen = ablation or self.ablation
        self.target.network.steer(None)
        part = Proposal(
            spec="refusal",
            id=chosen.id,
            target=self.target,
            variant=lambda s: steered(self.target, chosen, s, name=f"s{s:g}"),
            steerable=True,
        )
        return Proposals(target=self.target, parts=(part,), explore=explore, learn=learn)

    @cached_property
    def _tails(self) -> np.ndarray:
        """All ways to say LENGTH - 1 words, shape (WORDS ** (LENGTH - 1), LENGTH - 1)."""
        axes = np.meshgrid(*[np.arange(1, WORDS + 1)] * (LENGTH - 1), indexing="ij")
        return np.stack([axis.reshape(-1) for axis in axes], axis=1)

    @cached_property
    def replies(self) -> np.ndarray:
        """All replies (R, LENGTH), -1 behind the end."""
        blocks = []
        for words in range(LENGTH):
            step = WORDS ** (LENGTH - 1 - words)
            said = self._tails[::step, :words]
            ends = range(WORDS + 1) if words == LENGTH - 1 else (STOP,)
            for last in ends:
                block = np.full((len(said), LENGTH), -1)
                block[:, :words], block[:, words] = said, last
                blocks.append(block)
        return np.concatenate(blocks)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each reply, shape (R,)."""
        return (self.replies >= 0).sum(axis=1)

    @cached_property
    def texts(self) -> list[str]:
        """The text of each reply as the target decodes it."""
        return [" ".join(f"w{token}" for token in row if token > 0) for row in self.replies]

    def tokens(self, prompt: Prompt, strength: float, *, heat: float = 1.0) -> np.ndarray:
        """Log-prob of every token of every reply, (R, LENGTH), 0 behind the end.

        All words are among the likeliest that a heated variant heats.
        """
        ids = self.target.encoder.encode(prompt)
        whole = torch.from_numpy(self._tails)
        attached = self.ablation.attach(self.model)
        tables = []
        with torch.inference_mode():
            for chunk in torch.split(whole, 8192):
                rows = torch.cat([torch.tensor([ids]).expand(len(chunk), -1), chunk], 1)
                if strength:
                    attached.strength = torch.full((len(chunk),), strength)
                logits = self.model(input_ids=rows, use_cache=False).logits[:, len(ids) - 1 :]
                tables.append((logits.double() / heat).log_softmax(-1).numpy())
        attached.remove()
        table = np.concatenate(tables)  # (tails, LENGTH, words and stop)
        place = np.zeros(len(self.replies), dtype=np.int64)
        for t in range(LENGTH - 1):
            said = np.maximum(self.replies[:, t], 1) - 1
            place = place * WORDS + said
        values = np.zeros(self.replies.shape)
        for t in range(LENGTH):
            here = self.replies[:, t] >= 0
            values[here, t] = table[place[here], t, self.replies[here, t]]
        return values

    def log_densities(self, family: Family, prompt: Prompt, strengths: list[float]) -> np.ndarray:
        """log q_k of every reply under every proposal of `family`, (K, R)."""
        variants = [self.tokens(prompt, strength) for strength in strengths]
        if HEATED in family.variants:
            variants.append(self.tokens(prompt, 0.0, heat=HEAT))
        return family.log_densities(np.stack(variants), self.lengths)


def prompts(count: int) -> list[Prompt]:
    """Short prompts."""
    return [
        Prompt(id=f"p{n}", messages=(("user", f"w{1 + n % 9} w{1 + 2 * n % 9} w{1 + 5 * n % 9}"),))
        for n in range(count)
    ]


def word_tokenizer(words: int) -> Any:
    """A tokenizer of the stop token, number 0, and so many words w1, w2, ..."""
    ids = {"<stop>": STOP, **{f"w{number}": number for number in range(1, words + 1)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="w1"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    # no unk_token here: it would count as special, and be left out of the text
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<stop>")


def _model(seed: int, direction: torch.Tensor, strength: float) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=WORDS + 1,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=STOP,
        pad_token_id=None,
    )
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.copy_(torch.randn_like(parameter) * (0.6 if "embed" in name else 0.12))
    embeddings = model.get_input_embeddings().weight
    embeddings.copy_(embeddings - (embeddings @ direction)[:, None] * direction + 2 * direction)
    head = model.get_output_embeddings().weight
    head.copy_(head * 3)
    for word in (4, 5, 6):
        head[word] -= strength * direction
    return model
