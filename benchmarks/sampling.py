"""Sampling speed: tailbound against Hugging Face generate and a minimal cached loop.

    .venv/bin/python benchmarks/sampling.py [--target demo] [--batch-size 256] [--json]

Emitted tokens per second, stop tokens included, nothing after them, over the same prompts and
number of draws:

* tailbound: `Target.sample` every response judged and recorded in a ledger;
* generate: `model.generate(num_return_sequences=batch)`, prompt by prompt;
* minimal: prefill one prompt, share its cache, drop finished rows, continue with the next prompt.

The three run in turn, five times; printed are medians and the ratio to the better of the others.
The bar is 0.8.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from minimal_loop import Requests, minimal

from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.demo.files import default_prompts
from tailbound.demo.judge import DemoJudge
from tailbound.judges import Exchange
from tailbound.runs import Ledger
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.registry import load_target


def tailbound(target: LocalModel, prompts: Sequence[Prompt], draws: int, seed: int) -> int:
    """Tokens emitted by the sampler, every response judged and recorded on disk."""
    judge = DemoJudge()
    by_id = {prompt.id: prompt for prompt in prompts}
    tokens = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.open(
            folder, run="benchmark", contract=target.contract, judge_id=judge.id, seed=seed
        ) as ledger,
    ):
        for draw in target.sample(Requests(prompts, draws), seed=seed):
            (verdict,) = judge.judge([Exchange(by_id[draw.prompt_id], draw.text)])
            ledger.append(draw, verdict, stopping="fixed")
            tokens += len(draw.token_ids)
    return tokens


@functools.cache
def plain_model(target: LocalModel) -> Any:
    """The model as transformers loads it, without the sampler's own attention."""
    model = copy.deepcopy(target.model)
    model.set_attn_implementation("sdpa")
    return model


@torch.inference_mode()
def generate(target: LocalModel, prompts: Sequence[Prompt], draws: int, seed: int) -> int:
    """Tokens emitted by Hugging Face generate."""
    model = plain_model(target)
    torch.manual_seed(seed)
    stop = torch.tensor(target.contract.stop_ids)
    tokens = 0
    for prompt in prompts:
        ids = torch.tensor([target.encoder.encode(prompt)], device=target.network.device)
        for start in range(0, draws, target.batch_size):
            output: Any = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                top_p=1.0,
                temperature=1.0,
                max_new_tokens=target.contract.max_new_tokens,
                num_return_sequences=min(target.batch_size, draws - start),
                eos_token_id=list(target.contract.stop_ids),
                pad_token_id=0,
            )
            new = output[:, ids.shape[1] :].cpu()
            ended = torch.isin(new, stop).cumsum(1)
            # everything before the first stop token, and that token
            tokens += int(((ended == 0).sum(1) + (ended[:, -1] > 0)).sum())
    return tokens


def minimal_plain(target: LocalModel, prompts: Sequence[Prompt], draws: int, seed: int) -> int:
    """Tokens emitted by the minimal loop over a model without tailbound's attention."""
    return minimal(plain_model(target), target, prompts, draws, seed)


def main() -> None:
    """Run the three in turn and print tokens per second."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", default="demo")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--draws", type=int, default=256, help="per prompt")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    target = load_target(
        options.target,
        SamplingOptions(max_new_tokens=options.max_new_tokens),
        batch_size=options.batch_size,
        dtype=options.dtype,
        device=options.device,
    )
    if not isinstance(target, LocalModel):
        parser.error("this benchmark needs a target in this process")
    prompts = default_prompts(options.prompts)
    methods: dict[str, Callable[[LocalModel, Sequence[Prompt], int, int], int]] = {
        "tailbound": tailbound,
        "generate": generate,
        "minimal": minimal_plain,
    }
    for method in methods.values():
        method(target, prompts[:1], options.draws, 0)
    rates: dict[str, list[float]] = {name: [] for name in methods}
    for repeat in range(options.repeats):
        for name, method in methods.items():
            started = time.perf_counter()
            tokens = method(target, prompts, options.draws, repeat)
            rates[name].append(tokens / (time.perf_counter() - started))
    median = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "tokens_per_second": median,
        "ratio_to_generate": median["tailbound"] / median["generate"],
        "ratio_to_minimal": median["tailbound"] / median["minimal"],
        "ratio_to_better": median["tailbound"] / max(median["generate"], median["minimal"]),
        "all": rates,
        "threads": torch.get_num_threads(),
        "options": vars(options),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, rate in median.items():
        spread = ", ".join(f"{value:,.0f}" for value in rates[name])
        print(f"{name:10} {rate:10,.0f} tokens/s   ({spread})")
    print(f"tailbound / better of the others: {result['ratio_to_better']:.2f}")


if __name__ == "__main__":
    main()
