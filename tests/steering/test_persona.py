"""Persona vectors: missing verdicts, coherence by a judge, and the numbers of the search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tailbound.core.contract import SamplingOptions, Verdict
from tailbound.demo.steering import demo_trait
from tailbound.errors import UsageError
from tailbound.judges import Exchange, Judge
from tailbound.judges.registry import load_judge
from tailbound.steering import Add, Direction, Trait, find_persona_vector
from tailbound.steering.persona import _coherent
from tailbound.steering.reading import mean_stream
from tailbound.steering.replies import Rater, answers, log_prob_per_token
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.decoding.proposals import instructed, steered
from tailbound.targets.registry import load_target
from targets.tiny_models import local_model, network, prompt


@pytest.fixture(scope="module")
def demo() -> LocalModel:
    target = load_target("demo", SamplingOptions(max_new_tokens=32))
    assert isinstance(target, LocalModel)
    return target


@pytest.fixture(scope="module")
def flatter() -> Trait:
    """One system prompt of either kind, eight questions."""
    trait = demo_trait("flatter")
    return replace(
        trait,
        positive=trait.positive[:1],
        negative=trait.negative[:1],
        questions=trait.questions[:8],
    )


class Silent:
    """A judge that has no verdict on every `every`-th exchange, and asks `inner` for the rest."""

    id = "silent"
    threshold = 0.5

    def __init__(self, inner: Judge, every: int) -> None:
        self.inner, self.every, self.seen = inner, every, 0

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        given = []
        for verdict in self.inner.judge(exchanges):
            self.seen += 1
            given.append(Verdict(None, "asleep") if self.seen % self.every == 0 else verdict)
        return given


class Even:
    """Finds about half of all replies, by their letters, to show the trait."""

    id = "even"
    threshold = 0.5

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict(1.0 - sum(map(ord, one.response)) % 2) for one in exchanges]


def test_the_vector_is_the_difference_of_replies_as_asked(demo: LocalModel, flatter: Trait) -> None:
    judge = load_judge("demo:flatter")
    direction = find_persona_vector(demo, flatter, judge, replies=2, coefficients=(2.0,))
    means = []
    for asked, systems in (("positive", flatter.positive), ("negative", flatter.negative)):
        variant = instructed(demo, systems[0], name="by hand")
        draws = answers(
            demo, variant, flatter.questions, replies=2, seed=0, stream=f"persona-{asked}-0"
        )
        judged, _ = Rater(judge).rate(flatter.questions, draws)
        kept = [reply for reply in judged if reply.shown is (asked == "positive")]
        assert direction.evidence["kept_replies"][asked] == len(kept)
        states = mean_stream(
            demo, [variant.encode(k.question) for k in kept], [k.draw.token_ids for k in kept]
        )
        means.append(states[:, direction.layer].mean(0))
    torch.testing.assert_close(direction.vector.double(), means[0] - means[1], atol=1e-5, rtol=1e-5)
    layers = [setting["layer"] for setting in direction.evidence["settings"]]
    assert sorted(layers) == list(range(1, int(0.8 * len(demo.model.model.layers)) + 1))


def test_missing_verdicts_count_neither_way_and_are_told(demo: LocalModel, flatter: Trait) -> None:
    judge = Silent(load_judge("demo:flatter"), every=2)
    direction = find_persona_vector(demo, flatter, judge, replies=2, coefficients=(4.0,))
    assert direction.evidence["missing_verdicts"] == judge.seen // 2
    assert direction.evidence["trait_rate"]["positive_prompts"] > 0.7  # of those judged
    assert direction.evidence["kept_replies"]["positive"] <= 8
    assert (
        f"no verdict on {judge.seen // 2} of {judge.seen} replies"
        in (direction.evidence["warnings"][0])
    )


def test_a_judge_without_any_verdict_is_refused(demo: LocalModel, flatter: Trait) -> None:
    judge = Silent(load_judge("demo:flatter"), every=1)
    with pytest.raises(UsageError, match=r"silent has no verdict on any of 16 replies \(asleep\)"):
        find_persona_vector(demo, flatter, judge, replies=2)


def test_a_coherence_judge_decides_in_place_of_log_probs(demo: LocalModel, flatter: Trait) -> None:
    judge = load_judge("demo:flatter")
    # far too much of the vector: the replies are no longer what the model says
    both = {"replies": 2, "coefficients": (4.0, 64.0)}
    plain = find_persona_vector(demo, flatter, judge, **both)
    assert plain.evidence["coherence"] == {"judge": None, "plain": None, "steered": None}
    assert {(s["coefficient"], s["coherent"]) for s in plain.evidence["settings"]} == {
        (4.0, True),
        (64.0, False),
    }
    assert plain.coefficient == 4.0
    # a judge that finds everything sound lets the strongest setting win where it shows the trait
    lenient = find_persona_vector(demo, flatter, judge, coherence=load_judge("regex:^"), **both)
    assert all(s["coherent"] for s in lenient.evidence["settings"])
    rates = [s["trait_rate"] for s in lenient.evidence["settings"]]
    assert rates == sorted(rates, reverse=True)
    # and one that finds the trait's own words unsound forbids what shows it
    strict = find_persona_vector(
        demo,
        flatter,
        judge,
        coherence=load_judge("regex:^(?!.*(great question|so clever))"),
        **both,
    )
    for setting in strict.evidence["settings"]:
        assert setting["coherence"] == pytest.approx(1 - setting["trait_rate"])
        assert setting["coherent"] == (
            setting["coherence"] >= 0.75 * strict.evidence["coherence"]["plain"]
        )
    assert any(not s["coherent"] for s in strict.evidence["settings"])


def test_the_reported_rate_is_of_replies_that_chose_nothing(demo: LocalModel) -> None:
    trait = demo_trait("bold")
    direction = find_persona_vector(demo, trait, load_judge("demo:bold"), replies=2)
    chosen = direction.evidence["settings"][0]
    # known of this model: the vector is weak, a system prompt far better
    rates = direction.evidence["trait_rate"]
    assert rates["steered"] < 0.5 < rates["positive_prompts"]
    assert chosen["trait_rate"] == max(
        s["trait_rate"] for s in direction.evidence["settings"] if s["coherent"]
    )
    assert (rates["steered"] < 0.1) == any(
        "a system prompt may do better" in line for line in direction.evidence["warnings"]
    )
    assert demo.network.intervention is None
    # made again by hand, with what the direction says is to be done with it
    variant = steered(demo, direction.intervention(), 1.0, name="by hand")
    by_hand = {}
    for stream in ("persona-chosen", f"persona-{chosen['layer']}-{chosen['coefficient']:g}"):
        draws = answers(demo, variant, trait.questions, replies=2, seed=0, stream=stream)
        by_hand[stream] = (
            Rater(load_judge("demo:bold")).rate(trait.questions, draws)[1],
            log_prob_per_token(demo, trait.questions, draws),
        )
    demo.network.steer(None)
    assert list(by_hand.values()) == [
        (rates["steered"], pytest.approx(direction.evidence["log_prob_per_token"]["steered"])),
        (chosen["trait_rate"], pytest.approx(chosen["log_prob"])),
    ]


def test_when_replies_are_coherent() -> None:
    assert _coherent(-1.9, None, None)
    assert not _coherent(-2.1, None, None)
    # with a judge the log-probs do not matter, and its own strictness is allowed for
    assert _coherent(-9.0, 0.46, 0.6)
    assert not _coherent(0.0, 0.44, 0.6)


def test_a_token_counts_at_least_so_much(demo: LocalModel) -> None:
    question = demo_trait("bold").questions[0]
    (draw,) = answers(demo, demo.variant, [question], replies=1, seed=0, stream="x")
    plain = log_prob_per_token(demo, [question], [draw])
    assert plain * len(draw.token_ids) == pytest.approx(draw.log_prob, abs=1e-3)
    # the same with temperature 1/50: whatever is not the likeliest token has next to none
    cold = load_target("demo", SamplingOptions(max_new_tokens=32, temperature=0.02))
    assert isinstance(cold, LocalModel)
    odd = replace(draw, token_ids=(draw.token_ids[-1], *draw.token_ids[:3]))
    least = float(cold.score(question, [odd.token_ids])[0])
    assert least < -200
    assert -20 <= log_prob_per_token(cold, [question], [odd]) < -5


def test_a_trait_file_may_name_its_judges(tmp_path: Path) -> None:
    path = tmp_path / "kind.yaml"
    base = "positive: [be kind]\nnegative: [be rude]\nquestions: [who are you]\n"
    path.write_text(base + "name: kindly\njudge: 'regex:dear'\ncoherence: 'regex:\\w'\n")
    trait = Trait.read(path)
    assert (trait.name, trait.judge, trait.coherence) == ("kindly", "regex:dear", r"regex:\w")
    path.write_text(base)
    assert (Trait.read(path).judge, Trait.read(path).coherence) == (None, None)
    path.write_text(base + "judges: 'regex:dear'\n")
    with pytest.raises(UsageError, match="unknown key 'judges'"):
        Trait.read(path)
    path.write_text(base + "judge: [a, b]\n")
    with pytest.raises(UsageError, match="'judge' must be a text"):
        Trait.read(path)


def test_a_persona_vector_of_the_demo_model(demo):
    judge = load_judge("demo:flatter")
    direction = find_persona_vector(demo, demo_trait("flatter"), judge)
    rates = direction.evidence["trait_rate"]
    assert rates["positive_prompts"] > 0.8
    assert rates["negative_prompts"] < 0.1
    assert rates["plain"] < 0.05 < 0.3 < rates["steered"]
    best = direction.evidence["settings"][0]
    coherent = [s for s in direction.evidence["settings"] if s["coherent"]]
    assert best["trait_rate"] == max(s["trait_rate"] for s in coherent)
    assert direction.kind == "persona:flatter"
    intervention = direction.intervention()
    assert isinstance(intervention, Add)
    assert intervention.layer == direction.layer - 1


def test_a_trait_that_is_not_shown_makes_no_vector(demo):
    trait = demo_trait("bold")
    with pytest.raises(UsageError, match="positive system prompts of trait 'bold' were judged"):
        find_persona_vector(demo, trait, load_judge("regex:never said"))


def test_trait_files(tmp_path: Path):
    path = tmp_path / "kind.yaml"
    path.write_text("positive: [be kind]\nnegative: [be rude]\nquestions: [who are you, why]\n")
    trait = Trait.read(path)
    assert trait.name == "kind"
    assert [q.text for q in trait.questions] == ["who are you", "why"]
    path.write_text("positive: be kind\nnegative: [be rude]\nquestions: [why]\n")
    with pytest.raises(UsageError, match="needs 'positive': a list"):
        Trait.read(path)
    path.write_text("- a list")
    with pytest.raises(UsageError, match="must hold a mapping"):
        Trait.read(path)
    path.write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        Trait.read(path)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gpt2"])
def test_a_random_model_gets_a_vector(kind: str) -> None:
    """Whatever it says, about half of it has the trait."""
    trait = Trait(
        name="even",
        positive=("w9 w10",),
        negative=("w11 w12",),
        questions=tuple(prompt(n) for n in range(4)),
    )

    def searched() -> Direction:
        options = SamplingOptions(max_new_tokens=6, temperature=8.0)
        return find_persona_vector(
            local_model(network(kind), options), trait, Even(), replies=8, coefficients=(1.0, 2.0)
        )

    direction = searched()
    settings = direction.evidence["settings"]
    assert {(s["layer"], s["coefficient"]) for s in settings} == {
        (layer, coefficient) for layer in (1, 2) for coefficient in (1.0, 2.0)
    }
    assert all(0 <= s["trait_rate"] <= 1 and math.isfinite(s["log_prob"]) for s in settings)
    again = searched()
    assert torch.equal(again.vector, direction.vector)
    assert again.evidence == direction.evidence
