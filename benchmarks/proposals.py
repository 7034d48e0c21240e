"""Speed of weighted draws: tailbound against a loop of two forward passes per step.

    .venv/bin/python benchmarks/proposals.py [--repeats 3] [--json]

A random Llama (width 512, 8 layers, vocabulary 32k), 64 rows, at most 64 new tokens, one CPU
thread. Both sides end with the text of every draw and its log-density under the target and under
the proposal. *Useful* tokens are those of the responses, stop token included. Neither side repeats
near-ties in fp64 (`tolerance=0`), as on a GPU: that is what token-by-token reproducibility costs.

* loop: the target and its steered version both read every new token of every row, finished or not,
  until the last row has finished (or 64 tokens);
* single: `ProposalModel` steered throughout, then a scoring pass per variant;
* ladder: the default family of a first batch, its windows steered and its explorers heated, then
  two scoring passes: the heated variant is read off the logits of the target.

As in a run, tailbound scores the unsafe draws (here one in three, at random) and a tenth of the
safe ones; the loop knows both densities of all draws at no further cost.

Short answers: each token ends the response with probability about 1/10. Long answers: none does.
The three run in turn; printed are medians and ratios of useful tokens per CPU-second. The bars are
2.0 (short) and 1.3 (long) for single, 1.5 and 1.1 for the ladder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from transformers import DynamicCache

from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.huggingface.key_values import cache_argument, cache_of
from tailbound.importance_sampling import make_ladder
from tailbound.steering import Ablate
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.decoding.proposals import ProposalModel, heated, steered
from tailbound.workflows.risk.plan import SCORED_SHARE
from tailbound.workflows.risk.proposal_mixture import HEAT, HEATED, Family, proposal_of_draw

VOCABULARY = 32_000
UNSAFE = 1 / 3
"""Share of the draws that a judge finds unsafe."""
STOP_SHARE = 10
"""Of the vocabulary, one token in so many is a stop token in the model of short answers."""
STEERED = "refusal"
"""The variant that speaks in the windows of the ladder."""
SHARPNESS = 140 / 512**0.5
"""Logits get a standard deviation of about 2.8."""


def tokenizer() -> Any:
    """One word per token."""
    words = {f"w{number}": number for number in range(VOCABULARY)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0")


def random_model(width: int, layers: int, device: str, dtype: torch.dtype) -> Any:
    """A Llama with random weights and uneven next-token distributions."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    # as uneven as a trained model: a perplexity of about 10, where init gives nearly 32,000
    model = model.eval().requires_grad_(False)
    model.get_output_embeddings().weight.mul_(SHARPNESS)
    return model


def engine(model: Any, answers: str, rows: int, tokens: int, tolerance: float) -> ProposalModel:
    """The target with its steered variants; `answers` is short or long."""
    stop = list(range(0, VOCABULARY, STOP_SHARE)) if answers == "short" else None
    model.generation_config.eos_token_id = stop
    target = LocalModel(
        model,
        tokenizer(),
        SamplingOptions(max_new_tokens=tokens, completion=True),
        name="hf:random",
        revision=None,
        batch_size=rows,
        tolerance=tolerance,
    )
    direction = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    ablate = Ablate(direction)
    return ProposalModel(
        target,
        [steered(target, ablate, 1.0, name=STEERED), heated(target, HEAT, name=HEATED)],
    )


class Requests:
    """A source that gives out each request once."""

    def __init__(self, requests: Sequence[DrawRequest]) -> None:
        self._waiting = list(requests)

    def take(self, limit: int, *, wait: bool) -> Sequence[DrawRequest]:
        """The next `limit` requests."""
        found, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return found


def ours(made: ProposalModel, prompts: Sequence[Prompt], draws: int, seed: int, family: str) -> int:
    """Useful tokens: `draws` of each prompt, sampled and scored."""
    longest = made.contract.max_new_tokens
    ladder = Family(
        name="ladder",
        ladder=make_ladder(longest, variants=[STEERED], explorers=[HEATED]),
        variants={STEERED: 1, HEATED: 2},
    )
    coins = np.random.default_rng([seed, 1])
    requests = []
    for prompt in prompts:
        if family == "single":
            schedules: list[tuple[tuple[int, int], ...]] = [((1, longest),)] * draws
        else:
            proposals = proposal_of_draw(ladder.counts(draws, []))
            schedules = [ladder.segments(proposal, coins) for proposal in proposals.tolist()]
        requests += [
            DrawRequest(prompt=prompt, stream="risk", index=index, segments=segments)
            for index, segments in enumerate(schedules, start=1)
        ]
    responses: dict[str, list[tuple[int, ...]]] = {prompt.id: [] for prompt in prompts}
    for draw in made.sample(Requests(requests), seed=seed):
        responses[draw.prompt_id].append(draw.token_ids)
    variants = (0, 1) if family == "single" else (0, 1, 2)
    rng = np.random.default_rng(seed)
    for prompt in prompts:
        due = rng.random(draws) < UNSAFE + (1 - UNSAFE) * SCORED_SHARE
        scored = [ids for ids, wanted in zip(responses[prompt.id], due, strict=True) if wanted]
        made.score(prompt, scored, variants=variants)
    return sum(len(ids) for found in responses.values() for ids in found)


@torch.inference_mode()
def loop(made: ProposalModel, prompts: Sequence[Prompt], draws: int, seed: int) -> int:
    """Useful tokens of the straightforward loop: both models read every token of every row."""
    target = made.target
    model, network = target.model, target.network
    assert network.intervention is not None
    network.steer(network.intervention)
    attached = network._attached
    assert attached is not None
    model.set_attn_implementation("sdpa")
    device = network.device
    torch.manual_seed(seed)
    stop = torch.zeros(VOCABULARY, dtype=torch.bool, device=device)
    stop[list(target.contract.stop_ids)] = True
    useful = 0

    def forward(strength: float, **inputs: Any) -> Any:
        rows = len(inputs["input_ids"])
        if strength:
            attached.strength = torch.full((rows,), strength, dtype=network.dtype, device=device)
        output = model(use_cache=True, **inputs)
        attached.strength = None
        return output

    name = cache_argument(model)
    for prompt in prompts:
        ids = torch.tensor([target.encoder.encode(prompt)], device=device)
        for start in range(0, draws, target.batch_size):
            rows = min(target.batch_size, draws - start)
            logits, caches = [], []
            for strength in (0.0, 1.0):
                output = forward(strength, input_ids=ids, logits_to_keep=1)
                caches.append(
                    DynamicCache(
                        [
                            (
                                layer.keys.expand(rows, -1, -1, -1),
                                layer.values.expand(rows, -1, -1, -1),
                            )
                            for layer in cache_of(output).layers
                        ]
                    )
                )
                logits.append(output.logits[:, -1].expand(rows, -1))
            log_p = torch.zeros(rows, dtype=torch.float64, device=device)
            log_q = torch.zeros(rows, dtype=torch.float64, device=device)
            going = torch.ones(rows, dtype=torch.bool, device=device)
            for step in range(target.contract.max_new_tokens):
                both = [value.float().log_softmax(1) for value in logits]
                token = torch.multinomial(both[1].exp(), 1)
                log_p += torch.where(going, both[0].gather(1, token)[:, 0].double(), 0.0)
                log_q += torch.where(going, both[1].gather(1, token)[:, 0].double(), 0.0)
                useful += int(going.sum())
                going = going & ~stop[token[:, 0]]
                if not bool(going.any()) or step == target.contract.max_new_tokens - 1:
                    break
                logits = [
                    forward(strength, input_ids=token, **{name: cache}).logits[:, -1]
                    for strength, cache in zip((0.0, 1.0), caches, strict=True)
                ]
    return useful


def measure(answers: str, options: argparse.Namespace) -> dict[str, Any]:
    """Useful tokens per CPU-second (of the wall clock on a GPU), and ratios to the loop."""
    dtype = getattr(torch, options.dtype)
    prompts = [
        Prompt(
            id=f"p{number}",
            messages=(
                ("user", " ".join(f"w{(97 * number + 31 * k) % VOCABULARY}" for k in range(32))),
            ),
        )
        for number in range(options.prompts)
    ]
    made = engine(
        random_model(options.width, options.layers, options.device, dtype),
        answers,
        options.rows,
        options.tokens,
        options.tolerance,
    )
    plain = engine(
        random_model(options.width, options.layers, options.device, dtype),
        answers,
        options.rows,
        options.tokens,
        options.tolerance,
    )
    methods: dict[str, Callable[[int, int], int]] = {
        "loop": lambda draws, seed: loop(plain, prompts, draws, seed),
        "single": lambda draws, seed: ours(made, prompts, draws, seed, "single"),
        "ladder": lambda draws, seed: ours(made, prompts, draws, seed, "ladder"),
    }
    clock = time.perf_counter if options.device.startswith("cuda") else time.process_time
    for method in methods.values():
        method(2, 99)
    rates: dict[str, list[float]] = {name: [] for name in methods}
    for repeat in range(options.repeats):
        for name, method in methods.items():
            started = clock()
            useful = method(options.draws, repeat)
            rates[name].append(useful / (clock() - started))
    median = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "answers": answers,
        "useful_tokens_per_second": median,
        "ratio": {name: median[name] / median["loop"] for name in ("single", "ladder")},
        "all": rates,
    }


def main() -> None:
    """Run the three in turn, for short and for long answers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=1)
    parser.add_argument("--draws", type=int, default=128, help="per prompt")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tolerance", type=float, default=0.0, help="2e-5 repeats near-ties")
    parser.add_argument("--answers", default="short,long")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(answers, options) for answers in options.answers.split(",")]
    if options.json:
        print(json.dumps(results))
        return
    for result in results:
        print(f"{result['answers']} answers, useful tokens per CPU-second:")
        for name, rate in result["useful_tokens_per_second"].items():
            ratio = result["ratio"].get(name)
            print(f"  {name:8}{rate:8,.0f}" + (f"   {ratio:.2f}x the loop" if ratio else ""))


if __name__ == "__main__":
    main()
