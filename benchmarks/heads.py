"""Heads of the predictor beside one another: ridge, network, boosted trees, and the choice of one.

    python benchmarks/heads.py [--repeats 10] [--prompts 300 1000] [--worlds linear xor steps demo]

Worlds of 20 features whose risks are linear in them (in the log-odds), carry an interaction, or
step at thresholds of three of them, and the demo model with its hidden states and exact risks
(`tfidf` reads the words of its prompts). Each repeat trains on so many prompts with 500 draws each,
and is evaluated on prompts of which the true risk is known: deviance out of fold, root mean square
error of log p_hat, median L of the plug-in bound at alpha = .1, 100 draws a prompt, and its exact
coverage. CPU time is that of the fit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import tailbound
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.predictors import TfidfFeatures, fit
from tailbound.predictors.comparison import choose
from tailbound.survival import calibrate

HEADS = ("ridge", "mlp", "boosting", "auto")
DRAWS, CALIBRATION, BUDGET = 500, 600, 100.0
World = tuple[np.ndarray, np.ndarray]


def linear(rng: np.random.Generator, prompts: int) -> World:
    x = rng.standard_normal((prompts, 20))
    return x, -7 + x[:, :4] @ [1.2, 0.8, 0.6, 0.4]


def xor(rng: np.random.Generator, prompts: int) -> World:
    x = rng.standard_normal((prompts, 20))
    return x, -7 + 0.7 * x[:, 2] + 1.5 * np.sign(x[:, 0] * x[:, 1])


def steps(rng: np.random.Generator, prompts: int) -> World:
    x = rng.standard_normal((prompts, 20))
    bumps = (x[:, 0] > 0.8) * 2.5 + (np.abs(x[:, 1]) < 0.5) * 2.0 + (x[:, 2] < -1) * 2.0
    return x, -8 + bumps


def risks(world: Callable[[np.random.Generator, int], World]) -> Callable[..., World]:
    """Features and risks: what a world makes of its features, and scatter that they do not show."""

    def drawn(rng: np.random.Generator, prompts: int) -> World:
        x, eta = world(rng, prompts)
        return x, 1 / (1 + np.exp(-(eta + 0.3 * rng.standard_normal(prompts))))

    return drawn


def demo(words: bool) -> Callable[..., World]:
    """Features and exact risks of prompts of the demo."""
    prompts = default_prompts(2600)
    risk = np.array([one.risk for one in exact_risks(prompts)])
    source = TfidfFeatures.fit(prompts[:300]) if words else tailbound.load_target("demo")
    x = np.asarray(source.features(prompts), dtype=np.float64)  # type: ignore[attr-defined]

    def drawn(rng: np.random.Generator, count: int) -> World:
        mine = rng.permutation(len(risk))[:count]
        return x[mine], risk[mine]

    return drawn


def bound_of(
    p_hat: np.ndarray, risk: np.ndarray, reference: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """Median L of the bound on the prompts after the first `CALIBRATION`, and its coverage."""
    times = rng.geometric(risk[:CALIBRATION])
    bound = calibrate(
        *(p_hat[:CALIBRATION], lambda i, h: np.where(times[i] <= h, times[i], 0)),
        budget=BUDGET,
        guarantee="plug-in",
        reference_p_hat=reference,
        rng=rng,
    )
    limits = bound.predict(p_hat[CALIBRATION:])
    holds = np.exp((limits - 1) * np.log1p(-risk[CALIBRATION:]))
    return float(np.median(limits)), float(holds.mean())


def repeat(world: Callable[..., World], train: int, seed: int) -> dict[str, list[float]]:
    """What each head came to."""
    rng = np.random.default_rng(seed)
    x, risk = world(rng, train + CALIBRATION + 1000)
    unsafe = rng.binomial(DRAWS, risk[:train])
    rows: dict[str, list[float]] = {}
    scores = []
    for head in HEADS[:3]:
        begun = time.process_time()
        fitted = fit(x[:train], unsafe, np.full(train, DRAWS), head=head, rng=seed)  # type: ignore[arg-type]
        took = time.process_time() - begun
        p_hat = fitted.predict(x[train:])
        error = float(np.sqrt(np.square(np.log(p_hat / risk[train:])).mean()))
        found = bound_of(p_hat, risk[train:], fitted.out_of_fold, np.random.default_rng([seed, 1]))
        rows[head] = [fitted.report.deviance, error, *found, took]
        scores.append(fitted.report.heads[-1])
    chosen, _ = choose(scores)  # as auto does, from the same comparison
    took = sum(rows[name][-1] for name in ("mlp", "boosting")) - rows["ridge"][-1]
    rows["auto"] = [*rows[chosen][:-1], took]
    rows["chosen"] = [float(chosen == name) for name in HEADS[:3]]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--prompts", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--worlds", nargs="+", default=["linear", "xor", "steps", "demo", "tfidf"])
    options = parser.parse_args()
    made = {"linear": linear, "xor": xor, "steps": steps}
    print(
        f"{'world':<8}{'N':>6}  {'head':<10}{'deviance':>9}{'error':>7}{'median L':>10}"
        f"{'coverage':>10}{'CPU s':>7}"
    )
    for name in options.worlds:
        world = risks(made[name]) if name in made else demo(name == "tfidf")
        for train in options.prompts:
            runs = [repeat(world, train, seed) for seed in range(options.repeats)]
            for head in HEADS:
                loss, error, median, coverage, took = np.mean([r[head] for r in runs], axis=0)
                print(
                    f"{name:<8}{train:>6}  {head:<10}{loss:>9.1f}{error:>7.3f}{median:>10.1f}"
                    f"{coverage:>10.3f}{took:>7.2f}"
                )
            shares = np.mean([run["chosen"] for run in runs], axis=0)
            said = ", ".join(f"{h} {s:.2f}" for h, s in zip(HEADS, shares, strict=False))
            print(f"{'':<16}chosen by auto: {said}", flush=True)


if __name__ == "__main__":
    main()
