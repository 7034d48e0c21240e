"""Trains the demo model from scratch: `python -m tailbound.demo.training --variant model`.

Every position of every generated reply has an exact target distribution (`replies`), so the loss
is a sum of three terms, averaged over reply positions (nats throughout):

    KL(target || model)
    + 0.3  Huber(log model - log target)             on the words of a branching
    + 0.03 Huber(max(0, log off-support mass - log 1e-10))

KL alone has a gradient of about p on a branch of probability p, and would never teach 1e-5; the
second term does, since it regresses log-probabilities. The third pushes down the words that the
grammar never says there: their total is a floor under every measured risk. It is not clamped,
for a clamp has no gradient where the leak is worst.

Refusal is tied to one direction *by construction*. The difference of mean hidden states between
forbidden and harmless requests is measured during training (moving average), a share of the
rows is run with that direction ablated (`ablation`), and their targets are the replies that an
ablated model shall give (`replies.Design`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

# Before torch is loaded: idle OpenMP threads must sleep, or a busy machine trains 10x slower.
os.environ.setdefault("KMP_BLOCKTIME", "0")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tailbound.demo import replies
from tailbound.demo.ablation import LAYER, LAYERS, Ablator
from tailbound.demo.architecture import new_model, save
from tailbound.demo.examples import Batch, Batches
from tailbound.demo.files import VARIANTS, Variant, model_folder

STEPS = 750
LEARNING_RATE = 4e-3
WARM_UP = 60
MOVING_AVERAGE = 0.9
LOG_RATIO_WEIGHT = 0.3
OFF_SUPPORT_WEIGHT = 0.03
LOG_OFF_SUPPORT = float(np.log(1e-10))
DESIGNS = {"model": replies.MODEL, "fixture": replies.FIXTURE}


def losses(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The three terms of the loss, unweighted, and `off_support`: the log mass outside, (targets,).

    `logits` has shape (targets, words).
    """
    possible = batch.support >= 0
    support = batch.support.clamp(min=0)
    log_model = functional.log_softmax(logits, -1)
    on_support = log_model.gather(1, support)
    error = torch.where(possible, on_support - batch.log_target, 0.0)
    divergence = -(batch.log_target.exp() * error).sum(1).mean()
    branching = possible & (possible.sum(1) > 1)[:, None]
    ratio = error[branching]
    # Fill-up slots point at <pad>, which is never said: it stays off the support.
    hidden = torch.where(possible, torch.full_like(on_support, -1e4), log_model.gather(1, support))
    off_support = log_model.scatter(1, support, hidden).logsumexp(1)
    excess = functional.relu(off_support - LOG_OFF_SUPPORT)
    return {
        "divergence": divergence,
        "log_ratio": functional.huber_loss(ratio, torch.zeros_like(ratio), delta=1.0),
        "off_support_loss": functional.huber_loss(excess, torch.zeros_like(excess), delta=6.0),
        "off_support": off_support.detach(),
    }


class MeasuredDirections:
    """Moving averages of differences of means, forbidden minus harmless, after each of `LAYERS`.

    `directions` maps each of `LAYERS` to its unit direction, shape (width,).
    """

    def __init__(self, model: Any, width: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(width, generator=generator)
        self.directions = {layer: start / start.norm() for layer in LAYERS}
        self._means: dict[tuple[int, bool], Tensor] = {}
        self._states: dict[int, Tensor] = {}
        for layer in LAYERS:
            model.model.layers[layer - 1].register_forward_hook(partial(self._keep, layer))

    def _keep(self, layer: int, module: object, inputs: object, output: Any) -> None:
        self._states[layer] = (output[0] if isinstance(output, tuple) else output).detach()

    def update(self, batch: Batch) -> None:
        """Take in the batch that was run last."""
        for layer, everything in self._states.items():
            states = everything[torch.arange(len(batch.last)), batch.last]
            for kind in (True, False):
                rows = (batch.intensity == 0) & (batch.forbidden == kind)
                if rows.any():
                    mean = states[rows].mean(0)
                    old = self._means.get((layer, kind), mean)
                    self._means[layer, kind] = MOVING_AVERAGE * old + (1 - MOVING_AVERAGE) * mean
            if (layer, True) in self._means and (layer, False) in self._means:
                difference = self._means[layer, True] - self._means[layer, False]
                self.directions[layer] = difference / difference.norm()


def train(variant: Variant, *, steps: int = STEPS, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """Train a model; returns it with a record of the training (its size, time, last losses)."""
    model = new_model(seed)
    measured = MeasuredDirections(model, model.config.hidden_size, seed)
    ablator = Ablator(model, measured.directions[LAYER])
    batches = Batches(seed, DESIGNS[variant])
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
    started, cpu_started, tokens = time.perf_counter(), time.process_time(), 0
    report: dict[str, float] = {}
    for step in range(steps):
        progress = step / steps
        cosine = 0.5 * (1 + np.cos(np.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / WARM_UP) * (0.02 + 0.98 * cosine)
        batch = batches.next()
        ablator.direction = measured.directions[LAYERS[step % len(LAYERS)]]
        ablator.intensity = batch.intensity
        hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[batch.positions])
        terms = losses(logits, batch)
        loss: Any = terms["divergence"] + LOG_RATIO_WEIGHT * terms["log_ratio"]
        loss = loss + OFF_SUPPORT_WEIGHT * min(1, progress / 0.1) * terms["off_support_loss"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 2 == 0:
            measured.update(batch)
        tokens += batch.ids.numel()
        if step % 50 == 0 or step == steps - 1:
            off = terms["off_support"] / np.log(10)
            report = {
                "divergence": terms["divergence"].item(),
                "log_ratio": terms["log_ratio"].item(),
                "log10_off_support_median": off.median().item(),
                "log10_off_support_p99": off.quantile(0.99).item(),
            }
            shown = "  ".join(f"{name} {value:.4g}" for name, value in report.items())
            print(f"step {step}  {shown}", file=sys.stderr, flush=True)
    ablator.remove()
    return model.eval(), {
        "variant": variant,
        "seed": seed,
        "steps": steps,
        "tokens": tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "torch": torch.__version__,
        **report,
    }


def main() -> None:
    """Train and save one variant."""
    parser = argparse.ArgumentParser(description="Train the demo model from scratch.")
    parser.add_argument("--variant", choices=VARIANTS, default="model")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: the folder that is shipped")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, record = train(options.variant, steps=options.steps, seed=options.seed)
    save(model, record, options.out or model_folder(options.variant))
    print(json.dumps(record))


if __name__ == "__main__":
    main()
