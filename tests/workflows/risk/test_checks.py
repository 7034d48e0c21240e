"""The self-checks pass on every architecture, in single and in lower precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import ARCHITECTURES, local_model, network, prompt

from tailbound.core.contract import Draw, DrawRequest, SamplingOptions
from tailbound.errors import TargetError, UsageError
from tailbound.importance_sampling import make_ladder
from tailbound.steering import Ablate, Add
from tailbound.targets.decoding.proposals import ProposalModel, heated, steered
from tailbound.workflows.risk.checks import (
    check_engine,
    check_mean_weight,
    difference_of_densities,
)
from tailbound.workflows.risk.proposal_mixture import HEAT, HEATED, Family

PROMPTS = [prompt(number, words=2 + 4 * number) for number in range(3)]
FAMILY = Family(
    name="ladder",
    ladder=make_ladder(8, variants=["1", "0.6"]),
    variants={"1": 1, "0.6": 2, HEATED: 3},
)


def engine(kind: str, how: str, **options: object) -> ProposalModel:
    model = network(kind)
    if kind.startswith("gemma"):
        # their tied embeddings are so wide that every distribution would be on one token
        model.get_input_embeddings().weight.mul_(0.1)
    if options.pop("half", False):
        model = model.to(torch.bfloat16)
    target = local_model(model, SamplingOptions(max_new_tokens=8, **options))  # type: ignore[arg-type]
    vector = torch.randn(32, generator=torch.Generator().manual_seed(1))
    intervention = Ablate(vector) if how == "ablate" else Add(vector, 1, 0.5)
    return ProposalModel(
        target,
        [
            *(steered(target, intervention, s, name=f"{s:g}") for s in (1.0, 0.6)),
            heated(target, HEAT, name=HEATED),
        ],
    )


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
@pytest.mark.parametrize("how", ["ablate", "add"])
def test_they_pass_on_every_architecture(kind: str, how: str) -> None:
    found = check_engine(engine(kind, how), PROMPTS, seed=0)
    assert set(found["least_effect"]) == {"1", "0.6", HEATED}
    assert min(found["least_effect"].values()) > 1e-4


@pytest.mark.parametrize(
    "options", [{"top_p": 0.8}, {"top_k": 7}, {"temperature": 0.6}, {"half": True}]
)
def test_they_pass_under_other_contracts(options: dict[str, object]) -> None:
    found = check_engine(engine("llama", "ablate", **options), PROMPTS, seed=0)
    assert min(found["least_effect"].values()) > 1e-4


def test_nothing_is_drawn_for_the_mean_weight_alone() -> None:
    made = engine("llama", "ablate")

    def draw(requests: Sequence[DrawRequest], *, seed: int) -> Iterator[Draw]:
        raise AssertionError("trial draws are traced")

    made.draw = draw  # type: ignore[method-assign]
    check_engine(made, PROMPTS[:2], seed=0)


@pytest.mark.parametrize("chance", [1.0, 0.1])
def test_right_weights_pass_however_few_of_the_safe_draws_are_scored(chance: float) -> None:
    """2,000 runs of 40 draws, 4 of them of the target with most of the weight: none is refused."""
    rng = np.random.default_rng(5)
    for _ in range(2000):
        log_shares, strata = some_draws(rng, chance, wrong=1.0)
        check_mean_weight(log_shares, strata, largest=10 / chance)


def test_a_wrong_density_is_refused_in_the_end() -> None:
    """Weights that are three times too large, in runs of 24,000 draws of which a tenth is scored.

    z is about 10 there; in 4,000 draws it is 4, which chance explains.
    """
    rng = np.random.default_rng(6)
    for _ in range(20):
        drawn = [some_draws(rng, 0.1, wrong=3.0) for _ in range(600)]
        log_shares = np.concatenate([shares for shares, _ in drawn])
        strata = np.concatenate([2 * n + which for n, (_, which) in enumerate(drawn)])
        with pytest.raises(TargetError, match="a density is wrong"):
            check_mean_weight(log_shares, strata, largest=10 / 0.1)


def some_draws(
    rng: np.random.Generator, chance: float, *, wrong: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of 40 draws, a tenth from the target: log w / P(scored), and the proposal of each.

    The target says one of two replies with .99 and .01, the other proposal with .01 and .99;
    the second is unsafe, and always scored.
    """
    target, other = np.array([0.99, 0.01]), np.array([0.01, 0.99])
    strata = np.repeat([0, 1], [4, 36])
    said = np.where(rng.random(40) < np.where(strata == 0, target[1], other[1]), 1, 0)
    weights = target / (0.1 * target + 0.9 * other)
    scored = (said == 1) | (rng.random(40) < chance)
    shares = wrong * weights[said] / np.where(said == 1, 1.0, chance)
    with np.errstate(divide="ignore"):
        return np.where(scored, np.log(shares), -np.inf), strata


def test_a_variant_that_speaks_with_another_density_is_found_and_named() -> None:
    """The second of three, which all speak in one batch of trial draws."""
    made = engine("llama", "ablate")
    score = made.score_all

    def wrong(*args: Any, **options: Any) -> list[np.ndarray]:
        tables = score(*args, **options)
        for table in tables:
            table[2] -= 0.01
        return tables

    made.score_all = wrong  # type: ignore[method-assign]
    with pytest.raises(TargetError, match=r"proposal 0\.6: tokens of replies"):
        check_engine(made, PROMPTS, seed=0)


def test_a_variant_that_does_nothing_is_found_and_named() -> None:
    made = engine("llama", "ablate")
    made.variants = (*made.variants[:3], replace(made.variants[0], name=HEATED))
    with pytest.raises(UsageError, match="proposal heated does not change the model"):
        check_engine(made, PROMPTS, seed=0)


def test_densities_are_compared_as_the_precision_allows() -> None:
    """Rounding of half precision passes, however large its largest; a wrong density does not."""
    contract = local_model(network(), SamplingOptions(max_new_tokens=8)).contract
    half = replace(contract, precision="bfloat16")
    rng = np.random.default_rng(0)
    rounding = 0.08 * rng.standard_normal(300)
    rounding[7] = 0.52
    assert difference_of_densities(rounding, half) is None
    assert "nats apart" in str(difference_of_densities(rounding, contract))
    assert "nats apart" in str(difference_of_densities(4 * rounding, half))
    assert "nats apart" in str(
        difference_of_densities(rounding, replace(half, precision="float16"))
    )
    assert "mean ratio" in str(difference_of_densities(np.full(300, 0.09), half))

    exact = 1e-5 * rng.standard_normal(300)
    assert difference_of_densities(exact, contract) is None
    exact[0] = 5e-3
    assert difference_of_densities(exact, contract) is not None
    assert difference_of_densities(exact, replace(contract, top_p=0.9)) is None
    assert difference_of_densities(np.empty(0), contract) is None
