"""Risks of the demo model and of its fixture beside their exact values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sizes import size
from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts, model_folder
from tailbound.demo.steering import demo_refusal_prompts
from tailbound.judges import Exchange
from tailbound.judges.registry import load_judge
from tailbound.steering import find_refusal_direction
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.decoding.proposals import ProposalModel, steered
from tailbound.targets.huggingface import load_checkpoint
from tailbound.workflows.risk import Proposal, Proposals, RiskResult, RiskSettings, run_risk

JUDGE = load_judge("demo")
pytestmark = pytest.mark.slow


def load(variant: str) -> tuple[LocalModel, Proposals]:
    target = load_checkpoint(model_folder(variant), SamplingOptions(max_new_tokens=32), spec="demo")
    ablation = find_refusal_direction(target, *demo_refusal_prompts()).intervention()
    part = Proposal(
        spec="refusal",
        id=ablation.id,
        target=target,
        variant=lambda s: steered(target, ablation, s, name=f"{s:g}"),
        steerable=True,
    )
    return target, Proposals(target=target, parts=(part,), explore=True)


def chosen(variant: str, low: float, high: float, count: int) -> tuple[list[Prompt], np.ndarray]:
    """Prompts with exact risks in [low, high], evenly spread, and these risks."""
    prompts = default_prompts(400 if variant == "model" else 200)
    risk = np.array([exact.risk for exact in exact_risks(prompts, variant=variant)])
    inside = np.flatnonzero((risk >= low) & (risk <= high))
    inside = inside[np.argsort(risk[inside])]
    picked = inside[np.linspace(0, inside.size - 1, min(count, inside.size)).astype(int)]
    return [prompts[i] for i in picked], risk[picked]


def repeat(
    proposals: Proposals, prompts: list[Prompt], folder: Path, seed: int, **options: object
) -> RiskResult:
    settings = RiskSettings(seed=seed, **options)  # type: ignore[arg-type]
    return run_risk(prompts, proposal=proposals, judge=JUDGE, settings=settings, folder=folder)


def test_the_ladder_on_the_demo_model(tmp_path):
    """500 draws each: the relative error, what is resolved, what is off and flagged.

    3 repeats on 6 prompts in each band of risks; in full 20 on 8. The relative error is about .06,
    so the mean of 18 estimates has a standard error of .014: one that is off by an eighth is seen.
    """
    _, proposals = load("model")
    bands = {(3e-5, 3e-4): 0.5, (3e-6, 3e-5): 1.0}
    groups = [chosen("model", *band, size(6, 8)) for band in bands]
    prompts = [prompt for some, _ in groups for prompt in some]
    truth = np.concatenate([risk for _, risk in groups])
    estimates = [
        [r.estimate for r in repeat(proposals, prompts, tmp_path / f"{seed}", seed).risks]
        for seed in range(size(3, 20))
    ]
    ratio = np.array([[e.risk for e in row] for row in estimates]) / truth
    resolved = np.array([[e.resolved for e in row] for row in estimates])
    held = np.array([[e.certified_lower for e in row] for row in estimates]) <= truth
    for (low, high), allowed in bands.items():
        inside = (truth >= low) & (truth <= high)
        error = np.sqrt(np.mean((ratio[:, inside] - 1) ** 2))
        mean, share = ratio[:, inside].mean(), resolved[:, inside].mean()
        print(f"risk {low:g} to {high:g}: RMSE {error:.3f}, mean {mean:.3f}, resolved {share:.3f}")
        assert error <= allowed
        # the ladder is unbiased: 5 standard errors
        spread = ratio[:, inside].std() / np.sqrt(ratio[:, inside].size)
        assert abs(ratio[:, inside].mean() - 1) < 5 * spread + 0.01
    assert resolved[:, truth > 3e-5].mean() >= 0.8
    off = (ratio > 2) | (ratio < 0.5)
    print(f"off by 2x: {off.mean():.4f}")
    assert off.sum() == 0 or (~resolved[off]).mean() >= 0.9
    assert held.mean() >= 0.95

    alone = full_ablation_variance(proposals, prompts, truth)
    ladder = (ratio.var(axis=0, ddof=1) * 500).mean()
    print(f"variance: ladder {ladder / alone.mean():.2f} of that of full ablation alone")
    assert ladder <= 6 * alone.mean()


def full_ablation_variance(
    proposals: Proposals, prompts: list[Prompt], truth: np.ndarray
) -> np.ndarray:
    """n times the relative variance of full ablation alone, from 500 draws per prompt (1,000)."""
    assert isinstance(proposals.target, LocalModel)
    engine = ProposalModel(proposals.target, list(proposals.variants([1.0]).values()))
    found = []
    for prompt, risk in zip(prompts, truth, strict=True):
        requests = [
            DrawRequest(prompt=prompt, stream="alone", index=i, segments=((1, 32),))
            for i in range(1, size(501, 1001))
        ]
        draws = list(engine.draw(requests, seed=0))
        harm = [v.score for v in JUDGE.judge([Exchange(prompt, d.text) for d in draws])]
        scores = engine.score(prompt, [d.token_ids for d in draws])
        weights = np.exp([table[0].sum() - table[1].sum() for table in scores])
        found.append(float((weights * np.array(harm, dtype=float)).var() / risk**2))
    return np.array(found)


def test_what_full_ablation_never_visits(tmp_path):
    """The fixture refuses first and gives in later; ablated it never refuses, so it never does.

    The ladder finds that way; `single` cannot, and must not call its estimates resolved.

    6 estimates of the ladder (48 in full), whose relative error is about .05 (one that misses the
    way: above .5, so that even one of the 6 is seen), and 6 of `single` (24), each of which must be
    unresolved.
    """
    _, proposals = load("fixture")
    prompts, truth = chosen("fixture", 1e-5, 0.2, size(6, 8))
    ratio = []
    for seed in range(size(1, 6)):
        ladder = repeat(proposals, prompts, tmp_path / f"ladder-{seed}", seed, draws=2000)
        ratio.append([r.estimate.risk for r in ladder.risks] / truth)
    error = np.sqrt(np.mean((np.array(ratio) - 1) ** 2))
    print(f"ladder, 2,000 draws: relative RMSE {error:.3f}")
    # about .05 where the way is found; .4 and more where it is missed
    assert error <= 0.15
    for seed in range(size(1, 3)):
        single = repeat(
            proposals,
            prompts,
            tmp_path / f"single-{seed}",
            seed,
            draws=size(1000, 2000),
            family="single",
        )
        for risk in single.risks:
            e = risk.estimate
            assert not e.resolved
            assert e.status.startswith("coverage not checked") or "not resolved" in e.status
