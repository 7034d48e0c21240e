"""A model small enough to enumerate: the draws have exactly the density that is recorded."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from tiny_models import EOT, Queue, local_model, network, prompt, requests

from tailbound.core.contract import SamplingOptions

VOCABULARY = 9
LENGTH = 4
SETTINGS = {
    "plain": {},
    "temperature": {"temperature": 0.6},
    "top-k": {"top_k": 4},
    "top-p": {"top_p": 0.85},
    "all": {"temperature": 1.3, "top_k": 6, "top_p": 0.9},
}


def tree(stop_ids: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every complete response of at most LENGTH tokens."""
    going = [v for v in range(VOCABULARY) if v not in stop_ids]
    found: list[tuple[int, ...]] = []
    for length in range(1, LENGTH):
        found += [(*s, e) for s in itertools.product(going, repeat=length - 1) for e in stop_ids]
    return found + [
        (*s, v) for s in itertools.product(going, repeat=LENGTH - 1) for v in range(VOCABULARY)
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_draws_follow_the_enumerated_density(name: str) -> None:
    """Chi-square at a false-alarm rate of 1e-4 per setting, at a fixed seed."""
    model = network(vocabulary=VOCABULARY)
    model.generation_config.eos_token_id = [EOT, 5]
    options = SamplingOptions(max_new_tokens=LENGTH, **SETTINGS[name])
    target = local_model(model, options, batch_size=64)
    assert target.contract.stop_ids == (EOT, 5)
    question = prompt(0)
    responses = tree(target.contract.stop_ids)
    log_density = target.score(question, responses)
    density = dict(zip(responses, np.exp(log_density), strict=True))
    assert sum(density.values()) == pytest.approx(1, abs=1e-5)

    n = 4000
    draws = list(target.sample(Queue(requests([question], n)), seed=11))
    recorded = np.array([draw.log_prob for draw in draws])
    scored = np.array([np.log(density[draw.token_ids]) for draw in draws])
    np.testing.assert_allclose(recorded, scored, atol=1e-4)

    counts = Counter(draw.token_ids for draw in draws)
    common = [r for r in responses if density[r] * n >= 5]
    observed = np.array([counts[r] for r in common] + [0], dtype=float)
    expected = np.array([density[r] * n for r in common] + [0])
    observed[-1], expected[-1] = n - observed.sum(), n - expected.sum()
    if expected[-1] < 5:  # too few elsewhere to be a cell of its own
        observed, expected = observed[:-1], expected[:-1]
        observed[0] += n - observed.sum()
        expected[0] += n - expected.sum()
    assert len(expected) > 10
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_tokens_outside_the_kept_set_have_no_density() -> None:
    model = network(vocabulary=VOCABULARY)
    options = SamplingOptions(max_new_tokens=LENGTH, top_k=2)
    target = local_model(model, options)
    log_density = target.score(prompt(1), tree(target.contract.stop_ids))
    assert np.isneginf(log_density).any()
    assert np.exp(log_density).sum() == pytest.approx(1, abs=1e-5)


def test_impossible_responses_have_no_density() -> None:
    target = local_model(network(), SamplingOptions(max_new_tokens=3))
    after_stop, too_long, begun = target.score(prompt(0), [(EOT, 8), (8, 8, 8, 8), (8, 8)])
    assert after_stop == -np.inf
    assert too_long == -np.inf
    assert np.isfinite(begun)
