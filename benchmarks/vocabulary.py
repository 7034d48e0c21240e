"""Sampling speed at a real vocabulary, against a minimal cached loop, by CPU time.

    .venv/bin/python benchmarks/vocabulary.py [--model FOLDER] [--batch-size 32] [--json]

Emitted tokens per CPU-second over the same prompts and number of draws:

* tailbound: `Target.sample`, every token repeatable in any batch;
* minimal: prefill one prompt, share its cache, one forward pass and one `multinomial` per token.

The model is a Llama of random weights with 32,000 tokens, its logits scaled to an entropy of 4
nats, or the checkpoint in FOLDER. The two run in turn; printed are medians, their ratio, the share
of choices that went to the canonical computation, and the peak memory of the process. The bar is a
ratio of 0.85 at batch 32.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Sequence
from typing import Any

import tokenizers
import torch
import transformers
from minimal_loop import Requests, minimal

from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.targets.decoding.model import LocalModel

PROMPT_TOKENS = 24


def random_model(vocabulary: int, width: int, layers: int, entropy: float) -> Any:
    """A Llama with random weights whose next-token distributions have that entropy in nats."""
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    logits = model(input_ids=torch.randint(vocabulary, (8, 16))).logits[:, -1]
    low, high = 0.1, 1000.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        found = torch.distributions.Categorical(logits=middle * logits).entropy().mean()
        low, high = (middle, high) if found > entropy else (low, middle)
    model.get_output_embeddings().weight.mul_(low)
    return model


def word_tokenizer(vocabulary: int) -> Any:
    """One word per token."""
    words = {f"w{number}": number for number in range(vocabulary)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0")


def sample(target: LocalModel, prompts: Sequence[Prompt], draws: int, seed: int) -> int:
    """Tokens emitted by the sampler."""
    return sum(len(d.token_ids) for d in target.sample(Requests(prompts, draws), seed=seed))


def main() -> None:
    """Run the two in turn and print tokens per CPU-second."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="folder of a checkpoint, in place of random weights")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--entropy", type=float, default=4.0, help="nats")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--draws", type=int, default=64, help="per prompt")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-minimal", action="store_true", help="for a clean peak memory")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    if options.model is None:
        sizes = (options.vocabulary, options.width, options.layers, options.entropy)
        model, tokenizer = random_model(*sizes), word_tokenizer(options.vocabulary)
        model = model.to(dtype)
        word = options.vocabulary // (PROMPT_TOKENS + 1)
        texts = [
            " ".join(f"w{(number + place * word) % options.vocabulary}" for place in range(24))
            for number in range(options.prompts)
        ]
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype)
        model = model.eval().requires_grad_(False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
        texts = [f"Tell me something about the number {n}." for n in range(options.prompts)]
    target = LocalModel(
        model,
        tokenizer,
        SamplingOptions(max_new_tokens=options.max_new_tokens, completion=options.model is None),
        name="hf:benchmark",
        revision=None,
        batch_size=options.batch_size,
    )
    prompts = [
        Prompt(id=f"p{number}", messages=(("user", text),)) for number, text in enumerate(texts)
    ]
    started = time.process_time()
    error = 0.0 if target.fallback is None else target.fallback.error
    measuring = time.process_time() - started
    rates: dict[str, list[float]] = {"tailbound": [], "minimal": []}
    own = model.config._attn_implementation
    drawn = 0
    for repeat in range(options.repeats):
        started = time.process_time()
        tokens = sample(target, prompts, options.draws, repeat)
        rates["tailbound"].append(tokens / (time.process_time() - started))
        drawn += tokens
        if options.skip_minimal:
            continue
        model.set_attn_implementation("sdpa")  # without the sampler's own attention
        started = time.process_time()
        tokens = minimal(model, target, prompts, options.draws, repeat)
        rates["minimal"].append(tokens / (time.process_time() - started))
        model.set_attn_implementation(own)
    parameters = sum(p.numel() * p.itemsize for p in model.parameters())
    result: dict[str, Any] = {
        "tokens_per_cpu_second": {k: statistics.median(v) for k, v in rates.items() if v},
        "all": rates,
        "assumed_error_of_a_logit": error,
        "cpu_seconds_to_measure_it": measuring,
        "decided_canonically": 0.0 if target.fallback is None else target.fallback.calls / drawn,
        "weights_gb": parameters / 1e9,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "options": vars(options),
    }
    speeds = result["tokens_per_cpu_second"]
    if "minimal" in speeds:
        result["ratio"] = speeds["tailbound"] / speeds["minimal"]
    if options.json:
        print(json.dumps(result))
        return
    for name, rate in speeds.items():
        print(f"{name:10} {rate:8,.0f} tokens per CPU-second")
    print(f"ratio {result.get('ratio', float('nan')):.2f}")
    print(
        f"a logit is taken to be off by up to {error:.2g} (measured in {measuring:.1f} "
        f"CPU-seconds); {result['decided_canonically']:.3%} of the choices decided canonically"
    )
    print(f"weights {parameters / 1e9:.2f} GB, peak memory {result['peak_memory_gb']:.2f} GB")


if __name__ == "__main__":
    main()
