"""Temperature, top-k, top-p, the two-level choice, density, and when rounding matters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from tailbound.targets.decoding import distribution as module
from tailbound.targets.decoding.distribution import (
    Distribution,
    block_size,
    numbers_per_token,
)
from tailbound.targets.decoding.rng import gumbels

SETTINGS = [
    {},
    {"temperature": 0.7},
    {"top_k": 3},
    {"top_p": 0.8},
    {"temperature": 1.5, "top_k": 5, "top_p": 0.6},
    {"top_p": 1e-9},
    {"top_k": 1},
]
ERROR = 1e-3


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


def gumbel_numbers(rows: int, vocabulary: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(gumbels(rng.random((rows, numbers_per_token(vocabulary)))))


def two_level(z: NDArray[np.float64], kept: NDArray[np.bool_], g: NDArray[np.float64]) -> int:
    """The choice by its definition, one row, block by block."""
    size = block_size(len(z))
    cells = [np.arange(start, min(start + size, len(z))) for start in range(0, len(z), size)]
    scores = []
    for cell, number in zip(cells, g, strict=False):
        inside = z[cell][kept[cell]]
        scores.append(np.logaddexp.reduce(inside) + number if len(inside) else -np.inf)
    cell = cells[int(np.argmax(scores))]
    inner = np.where(kept[cell], z[cell], -np.inf) + g[len(cells) :][: len(cell)]
    return int(cell[np.argmax(inner)])


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_density_is_the_definition(options: dict[str, float]) -> None:
    setting = Distribution(**options)  # type: ignore[arg-type]
    logits = np.random.default_rng(0).normal(0, 2, (50, 12))
    logits[:10] = np.round(logits[:10])  # many ties
    for row in logits:
        expected = reference(row, setting)
        found = setting.log_prob(torch.tensor(row).expand(12, 12), torch.arange(12)).exp()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("vocabulary", [1, 2, 9, 12, 300])
@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_the_choice_is_the_definition(options: dict[str, float], vocabulary: int) -> None:
    setting = Distribution(**options)  # type: ignore[arg-type]
    logits = np.random.default_rng(1).normal(0, 2, (40, vocabulary))
    logits[:10] = np.round(logits[:10])
    g = gumbel_numbers(40, vocabulary)
    decision = setting.draw(torch.tensor(logits), g)
    for row, token, density, numbers in zip(
        logits, decision.token.tolist(), decision.log_prob.tolist(), g.numpy(), strict=True
    ):
        p = reference(row, setting)
        assert token == two_level(row / setting.temperature, p > 0, numbers)
        assert density == pytest.approx(np.log(p[token]), abs=1e-12)


@pytest.mark.parametrize(("vocabulary", "size"), [(1, 1), (2, 2), (9, 4), (16, 4), (264, 32)])
def test_blocks_are_about_the_square_root(vocabulary: int, size: int) -> None:
    assert block_size(vocabulary) == size
    assert numbers_per_token(vocabulary) == -(-vocabulary // size) + size


def test_few_numbers_at_real_vocabularies() -> None:
    assert block_size(49_152) == block_size(32_000) == 256
    assert numbers_per_token(32_000) == 125 + 256


def frequencies_fit(logits: Tensor, setting: Distribution, draws: int, seed: int) -> float:
    """The p-value of a chi-square test of the choice against the definition."""
    p = reference(logits.double().numpy(), setting)
    g = gumbel_numbers(draws, len(logits), seed)
    tokens = setting.draw(logits.expand(draws, len(logits)), g).token.numpy()
    counts = np.bincount(tokens, minlength=len(p)).astype(float)
    assert counts[p == 0].sum() == 0
    common = p * draws >= 5
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(p[common] * draws, p[~common].sum() * draws)
    if expected[-1] < 5:
        observed[0], expected[0] = observed[0] + observed[-1], expected[0] + expected[-1]
        observed, expected = observed[:-1], expected[:-1]
    return float(stats.chisquare(observed, expected).pvalue) if len(expected) > 1 else 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", [*SETTINGS[:5], {"top_p": 0.95}], ids=str)
def test_frequencies_follow_the_softmax(options: dict[str, float], dtype: torch.dtype) -> None:
    """Chi-square at a false-alarm rate of 1e-4 per setting, at a fixed seed.

    A vocabulary that is no multiple of the block, with impossible tokens and ties.
    """
    generator = torch.Generator().manual_seed(5)
    logits = (2 * torch.randn(301, generator=generator)).to(dtype)
    logits[::7] = -torch.inf
    logits[40:60] = 1.5
    logits[256:] += 2  # the last block is short, and likely
    setting = Distribution(error=1e-4, **options)  # type: ignore[arg-type]
    assert frequencies_fit(logits, setting, 40_000, seed=3) > 1e-4


def test_the_test_of_frequencies_can_fail() -> None:
    logits = torch.linspace(-2, 2, 301)
    biased = Distribution(temperature=1.05)
    p = reference(logits.double().numpy(), Distribution())
    g = gumbel_numbers(200_000, 301, 3)
    tokens = biased.draw(logits.expand(200_000, 301), g).token.numpy()
    counts = np.bincount(tokens, minlength=301)
    assert stats.chisquare(counts, p * 200_000).pvalue < 1e-4


def test_a_vocabulary_of_one_token_and_one_possible_token() -> None:
    alone = Distribution(error=ERROR).draw(torch.tensor([[3.0]]), gumbel_numbers(1, 1))
    assert (alone.token.item(), alone.log_prob.item(), alone.ambiguous.item()) == (0, 0.0, False)
    logits = torch.full((50, 70), -torch.inf)
    logits[:, 65] = -4.0
    decision = Distribution(error=ERROR).draw(logits, gumbel_numbers(50, 70))
    assert set(decision.token.tolist()) == {65}
    assert not decision.ambiguous.any()
    assert float(decision.log_prob.abs().max()) == 0


def test_chunks_and_the_rows_beside_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Distribution(top_p=0.9, top_k=20, error=1e-5)
    logits, g = torch.randn(33, 50), gumbel_numbers(33, 50)
    whole = setting.draw(logits, g)
    density = setting.log_prob(logits, whole.token)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 50 * 4)
    parts = setting.draw(logits, g)
    assert torch.equal(whole.token, parts.token)
    assert torch.equal(whole.log_prob, parts.log_prob)
    assert torch.equal(whole.ambiguous, parts.ambiguous)
    assert torch.equal(density, setting.log_prob(logits, whole.token))


def test_top_p_beyond_the_first_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(20, 400, dtype=torch.float64) * torch.linspace(0, 3, 20)[:, None]
    setting = Distribution(top_p=0.9, error=1e-9)
    g = gumbel_numbers(20, 400)
    whole = Distribution(top_p=0.9, error=1e-9, top_k=400).draw(logits, g)
    monkeypatch.setattr(module, "FIRST_RANKED", 4)
    parts = setting.draw(logits, g)
    assert torch.equal(whole.token, parts.token)
    torch.testing.assert_close(whole.log_prob, parts.log_prob, rtol=0, atol=1e-12)
    for row, token, density in zip(logits.numpy(), parts.token, parts.log_prob, strict=True):
        assert float(density.exp()) == pytest.approx(reference(row, setting)[token])


@pytest.mark.parametrize("gap", [-1e-6, -1e-7, 0.0, 1e-7, 1e-6])
@pytest.mark.parametrize("level", ["block", "token"])
def test_ambiguous_where_two_scores_are_close(gap: float, level: str) -> None:
    logits = torch.tensor([[0.3, -0.2, 0.9, 0.1]], dtype=torch.float64)  # blocks of two
    blocks = logits.unflatten(1, (2, 2)).logsumexp(2)[0]
    g = torch.zeros(1, 4, dtype=torch.float64)
    if level == "block":
        g[0, 0] = blocks[1] - blocks[0] + gap
        g[0, 2] = 9.0
    else:
        g[0, 0] = 9.0
        g[0, 2] = -0.5 + gap
    setting = Distribution(error=1e-5)
    assert setting.draw(logits, g).ambiguous.all()
    g[0, 0 if level == "block" else 2] += 1e-3
    assert not setting.draw(logits, g).ambiguous.any()


def test_ambiguous_where_the_kept_set_could_change() -> None:
    g = torch.zeros(1, 4, dtype=torch.float64)

    def ambiguous(logits: Tensor, **options: float) -> bool:
        setting = Distribution(error=2e-5, **options)  # type: ignore[arg-type]
        return bool(setting.draw(logits, g).ambiguous.all())

    swap = torch.tensor([[2.0, 1.0, 1.0 + 1e-6, 0.0]], dtype=torch.float64)
    assert ambiguous(swap, top_k=2)
    assert not ambiguous(swap, top_k=3)
    edge = torch.tensor([[0.5, 0.3, 0.2, 1e-300]], dtype=torch.float64).log()
    assert ambiguous(edge, top_p=0.8 + 1e-7)
    assert ambiguous(edge, top_p=0.8 - 1e-7)
    assert not ambiguous(edge, top_p=0.7)


def test_a_border_of_little_weight_is_not_ambiguous() -> None:
    """Among thousands of tokens some sit at the border; that seldom matters."""
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(300, 32_000, generator=generator)
    setting = Distribution(top_p=0.9, error=1e-4)
    largest, weight = setting._weights(logits)
    assert setting._cut(logits, largest, weight).unsure.float().mean() > 0.2
    decision = setting.draw(logits, gumbel_numbers(300, 32_000))
    assert decision.ambiguous.float().mean() < 0.02


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("vocabulary", [30, 300])
def test_errors_within_the_bound_never_change_a_certain_token(
    options: dict[str, float], vocabulary: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    rows = 600_000 // vocabulary
    logits = 3 * torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64)
    g = gumbel_numbers(rows, vocabulary, 4)
    setting = Distribution(error=ERROR, **options)  # type: ignore[arg-type]
    exact = setting.draw(logits, g)
    assert exact.ambiguous.float().mean() < 0.2
    changed = 0
    for kind in range(4):
        error = 2 * torch.rand(logits.shape, generator=generator, dtype=torch.float64) - 1
        if kind == 1:  # the worst case: the token chosen against all others
            error = torch.full_like(error, 1.0).scatter(1, exact.token[:, None], -1.0)
        if kind == 2:
            error = error.sign()
        if kind == 3:  # every error the same: nothing at all
            error = torch.ones_like(error)
        noisy = setting.draw(logits + 0.999 * ERROR * error, g)
        certain = ~noisy.ambiguous
        assert torch.equal(noisy.token[certain], exact.token[certain])
        gap = (noisy.log_prob - exact.log_prob)[certain & ~exact.ambiguous].abs().max()
        assert float(gap) < 13 * ERROR / min(1.0, setting.temperature)
        changed += int((noisy.token != exact.token).sum())
    assert changed > 0 or setting.top_k == 1 or setting.top_p < 0.01  # the test can fail


@pytest.mark.parametrize("vocabulary", [32_000, 49_152])
def test_few_choices_are_ambiguous_at_real_vocabularies(vocabulary: int) -> None:
    """About 2 e at each level, whatever the vocabulary."""
    generator = torch.Generator().manual_seed(6)
    setting, ambiguous, rows = Distribution(error=5e-4), 0, 0
    for part in range(5):
        logits = 2.7 * torch.randn(200, vocabulary, generator=generator)
        decision = setting.draw(logits, gumbel_numbers(200, vocabulary, part))
        ambiguous, rows = ambiguous + int(decision.ambiguous.sum()), rows + 200
    assert ambiguous / rows < 4 * 5e-4 + 3 * (4 * 5e-4 / rows) ** 0.5


def test_logits_that_are_not_finite_are_ambiguous() -> None:
    logits = torch.tensor([[0.0, torch.nan, 1.0]])
    for options in ({}, {"top_k": 2}, {"top_p": 0.9}):
        setting = Distribution(**options)  # type: ignore[arg-type]
        decision = setting.draw(logits, gumbel_numbers(1, 3))
        assert decision.ambiguous.all()
        assert decision.log_prob.isnan().all()
