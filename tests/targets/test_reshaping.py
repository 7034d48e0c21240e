"""Reshaped variants: their densities, by which they are sampled and scored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from tiny_models import local_model, network, prompt

from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.targets.decoding.distribution import Distribution
from tailbound.targets.decoding.proposals import ProposalModel, heated, reweighted
from tailbound.targets.decoding.reshaping import Heated, Reweighted
from tailbound.workflows.risk.scores import score_replies

LENGTH = 5


def engine(**options: object) -> ProposalModel:
    settings = SamplingOptions(max_new_tokens=LENGTH, completion=True, **options)  # type: ignore[arg-type]
    target = local_model(network("llama"), settings)
    table = ([3, 7], [2.0, 4.0])
    return ProposalModel(
        target,
        [
            heated(target, 4.0, name="heated"),
            reweighted(target, {"p1": table, "": ([9], [3.0])}, name="learned"),
        ],
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from([1.0, 2.0, 4.0]))
def test_heated_logits_are_those_of_the_formula(seed: int, tokens: int, heat: float) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 4, (3, 25))
    shaped = Heated(heat, tokens, 2.0)(torch.from_numpy(z), ["a"] * 3).numpy()
    for row, found in zip(z, shaped, strict=True):
        edge = np.sort(row)[::-1][min(tokens, 25) - 1]
        expected = np.where(row >= edge, row / heat, edge / heat + 2 * (row - edge))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_errors_of_logits_are_magnified_by_no_more_than_is_said(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.normal(0, 2, (1, 40)))
    wrong = z + torch.from_numpy(rng.uniform(-1e-3, 1e-3, (1, 40)))
    for reshape in (Heated(4.0, 5), Reweighted({"": (torch.tensor([3]), torch.tensor([2.0]))})):
        moved = reshape(wrong, ["a"]) - reshape(z, ["a"])
        assert (moved.abs() <= 1e-3 * reshape.error_factor + 1e-12).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 30.0]))
def test_densities_from_few_logits_are_those_of_all(seed: int, added: float) -> None:
    """Of several prompts, one without a table, and of tokens that are not kept."""
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.normal(0, 4, (6, 25)))
    z[rng.integers(6), rng.integers(25)] = -torch.inf
    token = torch.from_numpy(rng.integers(25, size=6))
    prompts = ["a", "a", "b", "c", "a", "b"]
    tables = {
        name: (torch.from_numpy(rng.permutation(25)[:4]), torch.from_numpy(added * rng.random(4)))
        for name in ("a", "b")
    }
    _, total = Distribution().log_prob_and_total(z, token)
    torch.testing.assert_close(total, z.logsumexp(1))
    for reshape in (Reweighted(tables), Heated(4.0, 5)):
        found = reshape.log_prob(z, total, token, prompts)
        shaped = reshape(z, prompts).log_softmax(1)
        torch.testing.assert_close(found, shaped.gather(1, token[:, None])[:, 0])


@pytest.mark.parametrize("options", [{}, {"temperature": 0.6}, {"top_k": 3}, {"top_p": 0.7}])
def test_the_sum_of_all_weights_is_that_of_the_scaled_logits(options: dict[str, float]) -> None:
    z = torch.from_numpy(np.random.default_rng(0).normal(0, 4, (5, 25)))
    distribution = Distribution(**options)  # type: ignore[arg-type]
    _, total = distribution.log_prob_and_total(z, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(total, distribution.scaled_logits(z).logsumexp(1))


def test_tokens_outside_the_kept_set_stay_outside() -> None:
    z = torch.tensor([[1.0, -torch.inf, 0.5, -torch.inf]])
    for reshape in (Heated(4.0, 20), Heated(4.0, 2), Heated(4.0, 1)):
        shaped = reshape(z, ["a"])
        assert shaped.isneginf().tolist() == [[False, True, False, True]]
        assert not shaped.isnan().any()


def test_each_prompt_has_its_own_table() -> None:
    own = (torch.tensor([1]), torch.tensor([2.0]))
    shared = (torch.tensor([0]), torch.tensor([5.0]))
    z = torch.zeros(3, 2)
    found = Reweighted({"a": own, "": shared})(z, ["a", "b", "a"])
    assert found.tolist() == [[0, 2], [5, 0], [0, 2]]
    assert z.abs().sum() == 0
    assert Reweighted({"a": own})(z, ["b"] * 3).tolist() == z.tolist()


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_k": 6}, {"top_p": 0.8}])
def test_scored_densities_are_those_of_the_reshaped_target(options: dict[str, object]) -> None:
    made = engine(**options)
    target = made.target
    for request in (prompt(1), prompt(2)):
        ids = target.encoder.encode(request)
        reply = (4, 9, 3, 7, 9)
        (scored,) = made.score(request, [reply])
        with torch.inference_mode():
            logits = target.model(input_ids=torch.tensor([[*ids, *reply[:-1]]])).logits
        z = target.distribution.scaled_logits(logits[0, len(ids) - 1 :])
        learned = z.clone()
        if request.id == "p1":
            learned[:, 3] += 2
            learned[:, 7] += 4
        else:
            learned[:, 9] += 3
        for row, shaped in enumerate((z, Heated(4.0)(z, ["x"] * LENGTH), learned)):
            expected = shaped.double().log_softmax(-1)[torch.arange(LENGTH), list(reply)].numpy()
            known = np.isfinite(expected)
            np.testing.assert_allclose(scored[row][known], expected[known], atol=2e-4)
            assert (np.isneginf(scored[row]) == ~known).all()


def test_replies_to_several_prompts_are_scored_as_each_alone() -> None:
    """In shared passes, with prompts and replies of several lengths, and replies that repeat."""
    made = engine()

    class Alone:
        """An engine that takes one prompt at a time, as those of plugins may."""

        score = staticmethod(made.score)

    asked = [prompt(1), prompt(2, words=9), prompt(1), prompt(3, words=1), prompt(2, words=9)]
    said = [(4, 9, 3, 7, 9), (4, 9, 3, 7, 9), (5,), (3, 7), (9, 9, 9)]
    for variants in (None, [2, 0]):
        for scoring in (made, Alone()):
            together = score_replies(scoring, asked, said, variants=variants)
            for request, reply, found in zip(asked, said, together, strict=True):
                (alone,) = made.score(request, [reply], variants=variants)
                np.testing.assert_allclose(found, alone, atol=1e-5)
    # the prompts do make a difference, else this could not fail
    ones = made.score_all(asked, [(4, 9)] * 5, variants=[0])
    assert len({round(float(table[0, 0]), 4) for table in ones}) == 3


@pytest.mark.parametrize("number", [1, 2])
def test_samples_have_the_scored_density(number: int) -> None:
    """First tokens of 4,000 draws: chi-square at the seed fixed here, p > 1e-4."""
    made = engine()
    request = prompt(1)
    draws = list(
        made.draw(
            [
                DrawRequest(prompt=request, stream="x", index=i, segments=((number, LENGTH),))
                for i in range(1, 4001)
            ],
            seed=0,
        )
    )
    vocabulary = made.target.network.vocabulary
    scored = made.score(request, [(token,) for token in range(vocabulary)], variants=[number])
    p = np.exp([table[0, 0] for table in scored])
    assert p.sum() == pytest.approx(1, abs=1e-4)
    seen = np.bincount([draw.token_ids[0] for draw in draws], minlength=vocabulary)
    many = p * 4000 > 5
    observed = np.append(seen[many], seen[~many].sum())
    expected = np.append(p[many], p[~many].sum()) * 4000
    statistic = ((observed - expected) ** 2 / np.maximum(expected, 1e-9)).sum()
    assert chi2.sf(statistic, many.sum()) > 1e-4


def test_sampled_and_scored_log_probs_agree_as_variants_take_turns() -> None:
    made = engine()
    segments = ((1, 1), (0, 2), (2, 4))
    requests = [
        DrawRequest(prompt=prompt(n), stream="x", index=1, segments=segments) for n in range(1, 5)
    ]
    traced = list(made.trace(requests, seed=0))
    assert len(traced) == 4
    for one in traced:
        speaker = [1, 0, 2, 2, 0][: len(one.draw.token_ids)]
        scored = one.scored[speaker, np.arange(len(speaker))]
        np.testing.assert_allclose(one.spoken, scored, atol=1e-4)


def test_a_draw_is_the_same_alone_and_in_company() -> None:
    made = engine()
    segments = ((1, 2), (0, 3), (2, 5))
    requests = [
        DrawRequest(prompt=prompt(n % 3), stream="x", index=1 + n, segments=segments)
        for n in range(30)
    ]
    together = {(d.prompt_id, d.index): d.token_ids for d in made.draw(requests, seed=0)}
    for request in requests[::7]:
        (alone,) = made.draw([request], seed=0)
        assert alone.token_ids == together[(request.prompt.id, request.index)]


def test_expected_numbers_of_tokens_are_sums_of_probabilities() -> None:
    """Of two prompts with tokens of their own, over all places and over first ones."""
    made = engine(temperature=0.7)
    replies, weights = [(4, 9, 3), (7,), (9, 9)], [0.5, 2.0, 1.0]
    asked, tokens = [prompt(1), prompt(1), prompt(2, words=9)], {"p1": [3, 9], "p2": [4, 7, 9]}
    expected = {name: np.zeros((2, len(some))) for name, some in tokens.items()}
    for request, reply, weight in zip(asked, replies, weights, strict=True):
        for place in range(len(reply)):
            said = [(*reply[:place], token) for token in tokens[request.id]]
            scored = made.score(request, said, variants=[0])
            chances = weight * np.exp([table[0, place] for table in scored])
            expected[request.id] += [chances, chances if place == 0 else 0 * chances]
    found = made.expected(asked, replies, weights, tokens)
    for name in tokens:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)
