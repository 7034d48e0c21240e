"""Bounds from weighted draws beside bounds from plain ones, on the demo, whose risks are exact.

    python benchmarks/beyond_the_budget.py --seeds 20

Every seed splits 1,100 prompts of the demo into 900 for the run and 200 held out, and makes a bound
with `method="importance"` through the real sampler. The coverage P(T >= L) of the held-out prompts
follows from their exact risks. The direct method beside it has the same prompts, features and
split, 200 plain draws per training prompt and a budget of 120; its draws are simulated from the
exact risks, which is the law of sampling the model. `--variant fixture` takes the other model,
which has a route that ablation misses; `--proposal` another proposal.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import tailbound
from tailbound.core.contract import SamplingOptions
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts, model_folder
from tailbound.predictors import fit
from tailbound.prompts import PromptSet
from tailbound.survival import calibrate, quantile
from tailbound.targets.huggingface import load_checkpoint
from tailbound.workflows.bound import divide
from tailbound.workflows.bound.importance.options import MethodOptions
from tailbound.workflows.bound.settings import BoundSettings

TRAIN_DRAWS, BUDGET, TOKENS_PER_DRAW = 200, 120, 11.0


def coverage(bounds: Any, risks: Any) -> float:
    """Mean of P(T >= L) = (1 - p)^(L - 1)."""
    return float(np.exp((bounds - 1) * np.log1p(-risks)).mean())


def main() -> None:
    """Print a row per seed, and means."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--draws", type=int, default=15)
    parser.add_argument("--prompts", type=int, default=1100)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--cross-check", type=float, default=0.1)
    parser.add_argument("--variant", choices=("model", "fixture"), default="model")
    parser.add_argument("--proposal", action="append")
    parser.add_argument("--no-explore", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("tailbound").setLevel(logging.ERROR)
    everyone = default_prompts(asked.prompts)
    truth = dict(
        zip(
            (prompt.id for prompt in everyone),
            (found.risk for found in exact_risks(everyone, variant=asked.variant)),
            strict=True,
        )
    )
    target = load_checkpoint(
        model_folder(asked.variant), SamplingOptions(max_new_tokens=32), spec="demo"
    )
    reached = MethodOptions(method="importance", draws=asked.draws).cap
    rows = []
    for seed in range(asked.first, asked.first + asked.seeds):
        order = np.random.default_rng([seed, 7]).permutation(len(everyone))
        held_out = [everyone[place] for place in order[: asked.held_out]]
        prompts = PromptSet(
            prompts=tuple(everyone[place] for place in order[asked.held_out :]),
            field="prompt",
            source="the demo prompts",
        )
        p = np.array([truth[prompt.id] for prompt in held_out])
        options: dict[str, Any] = {"split": (1 / 3, 2 / 3, 0.0), "seed": seed}
        given = {"proposal": tuple(asked.proposal)} if asked.proposal else {}
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            found = tailbound.bound(
                prompts,
                out=run,
                target=target,
                method="importance",
                draws=asked.draws,
                cross_check=asked.cross_check,
                explore=not asked.no_explore,
                progress=None,
                **options,
                **given,
            )
            predicted = tailbound.predict(run, held_out, target=target, progress=None)
            stages = json.loads((run / "spend.json").read_text())["stages"]
        assert found.weighted is not None
        q = np.array([one.p_hat for one in predicted])
        bounds = np.array([one.lower_bound for one in predicted])
        tokens = sum(one["tokens"] for one in stages.values())
        # a scoring pass reads prompts too; about 14 of 23 positions are of the reply
        scored = stages["scoring"]["positions"] if "scoring" in stages else 0
        other = stages["direction"]["positions"] if "direction" in stages else 0

        settings = BoundSettings(budget=BUDGET, shares=(1 / 3, 2 / 3, 0.0), seed=seed)
        parts = divide(prompts, settings)
        rng = np.random.default_rng([seed, 1])
        train, calibration = (
            np.array([truth[prompt.id] for prompt in part])
            for part in (parts.train, parts.calibration)
        )
        counts = rng.binomial(TRAIN_DRAWS, train)
        predictor = fit(
            target.features(parts.train), counts, np.full(counts.size, TRAIN_DRAWS), rng=seed
        )
        times = rng.geometric(calibration)

        def observe(indices: Any, horizons: Any, times: Any = times) -> Any:
            return np.where(times[indices] <= horizons, times[indices], 0)

        plain = calibrate(
            predictor.predict(target.features(parts.calibration)),
            observe,
            budget=BUDGET,
            rng=seed,
        )
        direct = plain.predict(predictor.predict(target.features(held_out)))
        direct_tokens = (counts.size * TRAIN_DRAWS + plain.spent) * TOKENS_PER_DRAW
        capped = np.minimum(quantile(q, found.bound.level), reached)
        assert (capped == bounds).all()
        row = {
            "seed": seed,
            "coverage": coverage(bounds, p),
            "median": float(np.median(bounds)),
            "geometric mean": float(np.exp(np.log(bounds).mean())),
            "longest": int(bounds.max()),
            "tokens": tokens + scored + other,
            "ideal median": float(np.median(quantile(p, 0.1))),
            "ideal geometric mean": float(np.exp(np.log(quantile(p, 0.1)).mean())),
            "direct coverage": coverage(direct, p),
            "direct median": float(np.median(direct)),
            "direct geometric mean": float(np.exp(np.log(direct).mean())),
            "direct longest": int(direct.max()),
            "direct tokens": direct_tokens,
            "expected": found.weighted.curve.miscoverage,
            "error": found.weighted.curve.standard_error,
        }
        fifths = np.array_split(np.argsort(p), 5)
        row |= {f"fifth {n}": coverage(bounds[one], p[one]) for n, one in enumerate(fifths, 1)}
        row |= {
            f"direct fifth {n}": coverage(direct[one], p[one]) for n, one in enumerate(fifths, 1)
        }
        if found.weighted.cross_check is not None:
            row["observed"] = found.weighted.cross_check.observed
        rows.append(row)
        print(json.dumps({k: round(v, 4) for k, v in row.items()}), flush=True)
    print(f"{'':18} {'mean':>12} {'sd':>10}")
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        print(f"{name:18} {values.mean():12,.4g} {values.std(ddof=1):10.4g}")


if __name__ == "__main__":
    main()
