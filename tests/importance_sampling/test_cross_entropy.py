"""The published family: its density token by token, and the choice over its grid."""

from __future__ import annotations

import numpy as np
import pytest

from reference_models.drawing import mixture_weights
from reference_models.enumerable import random_model
from tailbound.errors import UsageError
from tailbound.importance_sampling import Grid, MixSwitch, choose, published_grid
from tailbound.importance_sampling.mix_switch import log_densities


def test_density_is_a_product_over_tokens() -> None:
    rng = np.random.default_rng(0)
    base, hot = -rng.exponential(1, (4, 7)), -rng.exponential(1, (4, 7))
    base[0, 2] = hot[1, 3] = -np.inf
    lengths = np.array([7, 5, 0, 1])
    shares, switches = np.array([0.0, 0.3, 1.0]), np.array([0, 2, 7, 50])
    found = log_densities(base, hot, mixing=shares, switch=switches, lengths=lengths)
    for row, a in enumerate(shares):
        for column, switch in enumerate(switches):
            for i, end in enumerate(lengths):
                mixed = a * np.exp(hot[i]) + (1 - a) * np.exp(base[i])
                tokens = np.where(np.arange(7) < switch, mixed, np.exp(base[i]))[:end]
                assert np.exp(found[row, column, i]) == pytest.approx(tokens.prod(), rel=1e-9)


def test_densities_of_an_enumerable_model_sum_to_one() -> None:
    model = random_model(3, vocabulary=6, length=4)
    density = MixSwitch(1.0, 0.4, 3).log_density(
        model.all_unsteered, model.all_steered[0], lengths=model.lengths
    )
    assert np.exp(density).sum() == pytest.approx(1)


def test_published_grid() -> None:
    grid = published_grid(150)
    assert grid.intensities == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert len(grid.mixing) == 25
    assert (grid.mixing[0], grid.mixing[-1]) == (0, 1)
    assert grid.switches == tuple(range(0, 151, 5))
    assert published_grid(7).switches == (0, 5, 7)
    drawn = grid.draw(2000, rng=0)
    assert {d.intensity for d in drawn} == set(grid.intensities)
    assert {d.switch for d in drawn} == set(grid.switches)
    assert drawn == grid.draw(2000, rng=0)


def test_choice_minimises_the_exact_cross_entropy() -> None:
    """Every unsafe reply as a pilot draw of weight p: the loss is exact."""
    model = random_model(4, vocabulary=6, length=4, intensities=(0.5, 1.0))
    grid = Grid(intensities=(0.5, 1.0), mixing=(0.0, 0.25, 0.5, 0.75, 1.0), switches=(0, 2, 4))
    unsafe = ((model.replies == 4) | (model.replies == 5)).any(axis=1)
    p = model.all_unsteered.sum(axis=1)
    choice = choose(grid, p, unsafe, model.all_unsteered, list(model.all_steered))
    losses = np.array(
        [
            [
                [
                    -(np.exp(p) * unsafe)
                    @ MixSwitch(c, a, s).log_density(model.all_unsteered, model.all_steered[i])
                    / p.size
                    for s in grid.switches
                ]
                for a in grid.mixing
            ]
            for i, c in enumerate(grid.intensities)
        ]
    )
    np.testing.assert_allclose(choice.losses, losses)
    assert choice.loss == pytest.approx(losses.min())
    assert not choice.fell_back
    # the same from a pilot drawn from random settings, with the weights of those settings
    rng = np.random.default_rng(0)
    replies, weights = [], []
    for setting in grid.draw(300, rng=rng):
        place = grid.intensities.index(setting.intensity)
        reply = model.sample_mixture(place, setting.mixing, setting.switch, 20, rng)
        replies.append(reply)
        weights.append(mixture_weights(model, setting, reply, intensity=place))
    pilot = np.concatenate(replies)
    harm = ((pilot == 4) | (pilot == 5)).any(axis=1)
    sampled = choose(
        grid,
        np.concatenate(weights),
        harm,
        model.token_log_probs(model.target, pilot),
        [model.token_log_probs(tables, pilot) for tables in model.steered],
    )
    place = np.unravel_index(np.argmin(sampled.losses), sampled.losses.shape)
    # within 5% of the way from the least to the loss of the target itself
    assert losses[place] - losses.min() < 0.05 * (losses[0, 0, 0] - losses.min())


def test_infinite_loss_is_never_chosen() -> None:
    grid = Grid(intensities=(1.0,), mixing=(0.0, 0.5, 1.0), switches=(0, 2))
    base, hot = np.full((2, 2), -3.0), np.array([[-0.1, -0.1], [-np.inf, -0.1]])
    choice = choose(grid, [0.0, 0.0], [1.0, 1.0], base, [hot])
    assert choice.losses[0, 2, 1] == np.inf
    assert choice.proposal == MixSwitch(1.0, 0.5, 2)
    # a safe draw, or one of weight 0, that is impossible does not matter
    for weights, harm in (([0.0, 0.0], [1.0, 0.0]), ([0.0, -np.inf], [1.0, 1.0])):
        assert choose(grid, weights, harm, base, [hot]).proposal == MixSwitch(1.0, 1.0, 2)


def test_without_an_unsafe_draw_it_falls_back_and_says_so() -> None:
    grid = published_grid(10)
    tokens = np.full((3, 10), -1.0)
    choice = choose(grid, np.zeros(3), [0.0, np.nan, 0.0], tokens, [tokens] * 10)
    assert choice.fell_back
    assert choice.proposal == MixSwitch(1.0, 0.5, 10)
    assert "none of 3" in choice.reason
    other = choose(
        grid, np.zeros(3), np.zeros(3), tokens, [tokens] * 10, fallback=MixSwitch(1, 1, 1)
    )
    assert other.proposal == MixSwitch(1, 1, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: published_grid(0),
        lambda: choose(published_grid(5), [0.0], [1.0], [[-1.0]], [[[-1.0]]]),
        lambda: choose(published_grid(5), [0.0], [2.0], [[-1.0]], [[[-1.0]]] * 10),
        lambda: log_densities([[-1.0]], [[-1.0]], mixing=[1.5], switch=[1]),
        lambda: log_densities([[-1.0]], [[-1.0]], mixing=[0.5], switch=[0.5]),
        lambda: log_densities([[-1.0]], [[-1.0, -1.0]], mixing=[0.5], switch=[1]),
    ],
)
def test_bad_input(call: object) -> None:
    with pytest.raises(UsageError):
        call()  # type: ignore[operator]
