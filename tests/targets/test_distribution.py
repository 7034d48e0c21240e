"""Temperature, top-k, top-p, inverse CDF, density, and when rounding could change a token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tailbound.targets.decoding import distribution as module
from tailbound.targets.decoding.distribution import Distribution

SETTINGS = [
    Distribution(),
    Distribution(temperature=0.7),
    Distribution(top_k=3),
    Distribution(top_p=0.8),
    Distribution(temperature=1.5, top_k=5, top_p=0.6),
    Distribution(top_p=1e-9),
    Distribution(top_k=1),
]


def reference(logits: NDArray[np.float64], d: Distribution) -> NDArray[np.float64]:
    """Probabilities by the definition, token by token."""
    z = logits / d.temperature
    ranked = sorted(range(len(z)), key=lambda v: (-z[v], v))[: d.top_k]
    p = np.exp(z - z.max())
    mass = p[ranked].sum()
    kept, reached = [], 0.0
    for v in ranked:
        if reached >= d.top_p:
            break
        kept.append(v)
        reached += p[v] / mass
    out = np.zeros(len(z))
    out[kept] = p[kept] / p[kept].sum()
    return out


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_density_is_the_definition(setting: Distribution) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (50, 12))
    logits[:10] = np.round(logits[:10])  # many ties
    for row in logits:
        expected = reference(row, setting)
        found = setting.log_prob(torch.tensor(row).expand(12, 12), torch.arange(12)).exp()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_inverse_cdf_in_vocabulary_order(setting: Distribution) -> None:
    rng = np.random.default_rng(1)
    for row in rng.normal(0, 2, (20, 12)):
        cumulative = np.cumsum(reference(row, setting))
        u = np.concatenate([rng.random(200), [0.0, 1 - 2.0**-53]])
        decision = setting.draw(torch.tensor(row).expand(len(u), 12), torch.tensor(u))
        expected = np.searchsorted(cumulative / cumulative[-1], u, side="right")
        np.testing.assert_array_equal(decision.token, expected)
        density = setting.log_prob(torch.tensor(row).expand(len(u), 12), decision.token)
        np.testing.assert_allclose(decision.log_prob, density, atol=1e-12)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Distribution(top_p=0.9, top_k=20)
    logits, u = torch.randn(33, 50), torch.rand(33, dtype=torch.float64)
    whole = setting.draw(logits, u)
    density = setting.log_prob(logits, whole.token)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 50 * 4)
    parts = setting.draw(logits, u)
    assert torch.equal(whole.token, parts.token)
    assert torch.equal(whole.log_prob, parts.log_prob)
    assert torch.equal(whole.ambiguous, parts.ambiguous)
    assert torch.equal(density, setting.log_prob(logits, whole.token))


@pytest.mark.parametrize("offset", [-1e-6, -1e-7, 0.0, 1e-7, 1e-6])
def test_doubtful_at_the_edges_of_an_interval(offset: float) -> None:
    logits = torch.tensor([[0.3, -0.2, 0.9, 0.1]], dtype=torch.float64)
    for edge in logits.softmax(1).cumsum(1)[0, :-1]:
        assert Distribution().draw(logits, edge[None] + offset).ambiguous.all()
        assert not Distribution().draw(logits, edge[None] + offset + 1e-3).ambiguous.any()


def test_doubtful_where_the_kept_set_could_change() -> None:
    u = torch.tensor([0.3], dtype=torch.float64)
    swap = torch.tensor([[2.0, 1.0, 1.0 + 1e-6, 0.0]], dtype=torch.float64)
    assert Distribution(top_k=2).draw(swap, u).ambiguous.all()
    assert not Distribution(top_k=3).draw(swap, u).ambiguous.any()
    edge = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
    assert Distribution(top_p=0.8 + 1e-7).draw(edge, u).ambiguous.all()
    assert Distribution(top_p=0.8 - 1e-7).draw(edge, u).ambiguous.all()
    assert not Distribution(top_p=0.7).draw(edge, u).ambiguous.any()


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_errors_within_the_tolerance_never_change_a_certain_token(setting: Distribution) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(20_000, 30, generator=generator, dtype=torch.float64)
    u = torch.rand(20_000, generator=generator, dtype=torch.float64)
    # half of the uniforms sit within 1e-4 of an edge
    cumulative = setting._truncate(setting._scale(logits))[0].softmax(1).cumsum(1)
    picked = torch.randint(0, 30, (10_000, 1), generator=generator)
    shift = 2e-4 * (torch.rand(10_000, generator=generator, dtype=torch.float64) - 0.5)
    u[:10_000] = (cumulative[:10_000].gather(1, picked)[:, 0] + shift).clamp(0, 1 - 1e-12)
    exact = setting.draw(logits, u)
    scale = 0.999 * setting.error_spread * setting.temperature
    changed = 0
    for sign in (-1, 0, 1):
        error = torch.rand(logits.shape, generator=generator, dtype=torch.float64) - 0.5
        if sign:  # the worst case: tokens below the one picked against all others
            error = torch.where(torch.arange(30) <= exact.token[:, None], 0.5, -0.5) * sign
        noisy = setting.draw(logits + scale * error, u)
        certain = ~noisy.ambiguous
        assert torch.equal(noisy.token[certain], exact.token[certain])
        changed += int((noisy.token != exact.token).sum())
    assert changed > 0 or setting.top_k == 1 or setting.top_p < 0.01  # the test can fail


def test_logits_that_are_not_finite_are_doubtful() -> None:
    logits = torch.tensor([[0.0, torch.nan, 1.0]])
    decision = Distribution().draw(logits, torch.tensor([0.5], dtype=torch.float64))
    assert decision.ambiguous.all()
    assert decision.log_prob.isnan().all()
