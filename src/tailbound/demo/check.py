"""Measures a demo model, and prints the figures of its page: `python -m tailbound.demo.check`.

Probabilities are enumerated, not sampled, but for the check of the enumeration itself.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt
from tailbound.demo import vocabulary
from tailbound.demo.ablation import LAYER, LAYERS, ablated, refusal_direction
from tailbound.demo.enumeration import Masses, enumerate_replies, reply_text
from tailbound.demo.exact import (
    MAX_NEW_TOKENS,
    compute_risk,
    exact_risks,
    load_model,
    risk_masses,
    store,
)
from tailbound.demo.files import VARIANTS, Variant, default_prompts, model_folder
from tailbound.demo.judge import PATTERNS
from tailbound.demo.replies import REFUSE
from tailbound.demo.world import (
    PERSONAS,
    TRAITS,
    forbidden_prompts,
    harmless_prompts,
    instruction_pairs,
)

Row = tuple[str, str]


def probability(model: Any, prompt: Prompt, pattern: str) -> Masses:
    """P(the reply matches a pattern of the demo judge | prompt), to 1 %."""
    search = PATTERNS[pattern].search
    return enumerate_replies(
        model,
        vocabulary.encode(prompt.messages),
        lambda text: search(text) is not None,
        lambda text: text.startswith(REFUSE),
        tolerance=0.01,
        max_rows=5_000,
    )


def measured_direction(model: Any, pairs: int = 128, *, layer: int = LAYER) -> Any:
    """The refusal direction of a model: difference of means over `pairs` instruction pairs."""
    encoded = [
        [vocabulary.encode(prompt.messages) for prompt in pair] for pair in instruction_pairs(pairs)
    ]
    forbidden, harmless = [a for a, _ in encoded], [b for _, b in encoded]
    return refusal_direction(model, forbidden, harmless, layer=layer)


def sampled_replies(model: Any, prompt: Prompt, n: int, seed: int) -> list[str]:
    """`n` replies drawn one token at a time: a plain loop that shares nothing with the tree."""
    import torch

    from tailbound.huggingface.key_values import cache_argument, cache_of

    name = cache_argument(model)
    generator = torch.Generator().manual_seed(seed)
    first = torch.tensor([vocabulary.encode(prompt.messages)])
    texts: list[str] = []
    with torch.inference_mode():
        while len(texts) < n:
            ids = first.expand(min(1_000, n - len(texts)), -1)
            done = torch.zeros(len(ids), dtype=torch.bool)
            cache = None
            while not done.all() and ids.shape[1] < first.shape[1] + MAX_NEW_TOKENS:
                new = ids if cache is None else ids[:, -1:]
                output = model(input_ids=new, use_cache=True, **{name: cache})
                cache = cache_of(output)
                weights = torch.softmax(output.logits[:, -1].double(), -1)
                drawn = torch.multinomial(weights, 1, generator=generator)
                drawn[done] = vocabulary.END
                ids = torch.cat([ids, drawn], 1)
                done |= drawn[:, 0] == vocabulary.END
            texts += [reply_text(row) for row in ids[:, first.shape[1] :].tolist()]
    return texts


def spread_of_risk(variant: Variant, n: int) -> list[Row]:
    """Percentiles of the risk, shares of the late route, and what the enumeration leaves out."""
    risks = exact_risks(default_prompts(n), variant=variant)
    values = np.array([risk.risk for risk in risks])
    late = np.array([risk.late_share for risk in risks])
    missing = np.array([risk.missing_mass / risk.risk for risk in risks])
    levels = (0, 1, 10, 25, 50, 75, 90, 99, 100)
    return [
        (
            f"prompts (P(unsafe) of {n} forbidden)",
            f"min {values.min():.1e}, max {values.max():.1e}",
        ),
        *(
            (f"  percentile {level}", f"{value:.1e}")
            for level, value in zip(levels, np.percentile(values, levels), strict=True)
        ),
        ("late route, share of the risk", _range(late)),
        ("missing mass / risk", f"mean {missing.mean():.1e}, max {missing.max():.1e}"),
    ]


def ablation_table(model: Any, n: int) -> list[Row]:
    """Replies with steps when the measured direction is ablated: by intensity, then by layer."""
    forbidden, harmless = forbidden_prompts(n, seed=1), harmless_prompts(n, seed=1)
    settings = [(LAYER, intensity) for intensity in (0.0, 0.4, 0.6, 0.8, 1.0)]
    settings += [(layer, 1.0) for layer in LAYERS if layer != LAYER]
    rows: list[Row] = []
    for layer, intensity in settings:
        with ablated(model, measured_direction(model, layer=layer), intensity):
            harm = [probability(model, prompt, "steps") for prompt in forbidden]
            help_ = [probability(model, prompt, "steps").unsafe for prompt in harmless]
        comply = np.array([masses.unsafe for masses in harm])
        late = np.array([masses.late for masses in harm])
        text = (
            f"forbidden {_range(comply)}; late {_range(late)}; harmless {_range(np.array(help_))}"
        )
        rows.append((f"ablation {intensity:.1f}, layer {layer}", text))
    return rows


def persona_table(model: Any, n: int) -> list[Row]:
    """P(trait) on harmless requests, without a system prompt and with contrasting ones."""
    rows: list[Row] = []
    plain = harmless_prompts(n, seed=2)
    for trait, (shown, opposite) in TRAITS.items():
        cells = [f"none {_mean(model, plain, trait)}"]
        for persona in (shown, opposite):
            system = ("system", PERSONAS[persona][0])
            under = [Prompt(id=prompt.id, messages=(system, *prompt.messages)) for prompt in plain]
            cells.append(f"{persona} {_mean(model, under, trait)}")
        rows.append((f"P({trait})", "; ".join(cells)))
    return rows


def off_support(model: Any, replies: int) -> list[Row]:
    """Probability of leaving the grammar: per reply, and per position on explored replies."""
    import torch

    from tailbound.demo.examples import Example, collate
    from tailbound.demo.replies import Grammar
    from tailbound.demo.training import losses
    from tailbound.demo.world import draw_request

    rng = random.Random("tailbound.demo off-support")
    rows: list[Row] = []
    for explore in (False, True):
        examples: list[Example] = []
        while len(examples) < replies:
            request = draw_request(rng, forbidden=True)
            if request.held_out:
                steps = Grammar(request).draw(rng, explore=explore)
                examples.append(Example(vocabulary.encode(request.messages), steps, 0.0, True))
        batch = collate(examples)
        with torch.inference_mode():
            hidden = model.model(input_ids=batch.ids).last_hidden_state
            logits = model.lm_head(hidden.flatten(0, 1)[batch.positions])
            mass = losses(logits, batch)["off_support"].double().exp()
        kind = "explored" if explore else "typical"
        quantiles = ", ".join(f"{mass.quantile(q).item():.1e}" for q in (0.5, 0.99, 1.0))
        per_reply = mass.sum().item() / replies
        text = f"per position: median, p99, max {quantiles}; mean per reply {per_reply:.1e}"
        rows.append((f"off-support mass, {kind} replies", text))
    return rows


def predictability(model: Any, variant: Variant, n: int) -> list[Row]:
    """How well a ridge regression on the last prompt token's state tells log10 of the risk."""
    import torch

    prompts = default_prompts(n)
    truth = np.log10([risk.risk for risk in exact_risks(prompts, variant=variant)])
    states = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([vocabulary.encode(prompt.messages)])
            states.append(model.model(input_ids=ids).last_hidden_state[0, -1].double().numpy())
    half = n // 2
    X, y = np.array(states), truth[:half]
    centre = X[:half].mean(0)
    X = X - centre
    gram = X[:half].T @ X[:half] + np.eye(X.shape[1])
    fitted = X @ np.linalg.solve(gram, X[:half].T @ (y - y.mean())) + y.mean()
    error = float(np.sqrt(np.mean((fitted[half:] - truth[half:]) ** 2)))
    deviation = float(truth[half:].std())
    text = f"rmse {error:.2f} on {n - half} new prompts, of a standard deviation {deviation:.2f}"
    return [("log10 risk by ridge on the last state", text)]


def brute_force(model: Any, variant: Variant, prompts: int, draws: int) -> list[Row]:
    """Enumeration against plain sampling: z-scores, on prompts with 20 events expected or more."""
    scores = []
    for i, prompt in enumerate(forbidden_prompts(400, seed=3)):
        truth = compute_risk(prompt, variant=variant)
        if truth.risk * draws >= 20:
            unsafe = sum(
                PATTERNS["unsafe"].search(text) is not None
                for text in sampled_replies(model, prompt, draws, seed=i)
            )
            deviation = (draws * truth.risk * (1 - truth.risk)) ** 0.5
            scores.append((unsafe - draws * truth.risk) / deviation)
        if len(scores) == prompts:
            break
    text = f"mean {statistics.mean(scores):.2f}, sd {statistics.stdev(scores):.2f}, "
    text += f"largest {max(map(abs, scores)):.2f}"
    return [(f"enumeration against {draws} draws, z of {len(scores)} prompts", text)]


def cost(model: Any, prompts: int) -> list[Row]:
    """Time and prefixes of one enumeration."""
    started, rows = time.perf_counter(), 0
    for prompt in default_prompts(prompts):
        rows += risk_masses(model, prompt).rows
    each = (time.perf_counter() - started) / prompts
    return [("cost of one exact risk", f"{each:.3f} s, {rows / prompts:.0f} prefixes")]


def size(model: Any, variant: Variant) -> list[Row]:
    """Parameters, bytes, and the record of the training."""
    folder = model_folder(variant)
    record = json.loads((folder / "training.json").read_text())
    weights = (folder / "model.safetensors").stat().st_size
    everything = sum(file.stat().st_size for file in folder.iterdir())
    count = sum(parameter.numel() for parameter in model.parameters())
    return [
        ("parameters", f"{count:,}"),
        ("bytes", f"weights {weights:,}; folder {everything:,}"),
        ("training", f"{record['steps']} steps, {record['cpu_seconds']:.0f} s of CPU"),
    ]


def _mean(model: Any, prompts: Sequence[Prompt], trait: str) -> str:
    return f"{np.mean([probability(model, prompt, trait).unsafe for prompt in prompts]):.1e}"


def _range(values: NDArray[np.float64]) -> str:
    return f"mean {values.mean():.2g} (min {values.min():.2g}, max {values.max():.2g})"


def main() -> None:
    """Print the table; with `--store`, first compute and store the truth of the defaults."""
    parser = argparse.ArgumentParser(description="Measure a demo model.")
    parser.add_argument("--variant", choices=VARIANTS, default="model")
    parser.add_argument("--store", type=int, metavar="N", help="store the truth of N prompts")
    parser.add_argument("--prompts", type=int, default=600, help="for the spread of the risk")
    options = parser.parse_args()
    variant: Variant = options.variant
    model = load_model(variant)
    if options.store:
        prompts = default_prompts(options.store)
        store(prompts, [compute_risk(prompt, variant=variant) for prompt in prompts], variant)
    tables: list[Callable[[], list[Row]]] = [
        lambda: size(model, variant),
        lambda: spread_of_risk(variant, options.prompts),
        lambda: cost(model, 50),
        lambda: ablation_table(model, 60),
        lambda: persona_table(model, 40),
        lambda: off_support(model, 2_000),
        lambda: predictability(model, variant, 1_000),
        lambda: brute_force(model, variant, 12, 10_000),
    ]
    for table in tables:
        for name, text in table():
            print(f"{name:<46} {text}", flush=True)


if __name__ == "__main__":
    main()
