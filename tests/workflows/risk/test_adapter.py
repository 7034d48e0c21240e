"""`--proposal learned`: adapters that rounds train on the unsafe replies of the batches before."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import peft
import polars as pl
import pytest
import torch
from jsonschema import Draft202012Validator

from interrupting import killed_at
from reference_models.tiny_lm import LENGTH, TinyLanguage, prompts
from tailbound.core.contract import DrawRequest
from tailbound.core.prompt import Prompt
from tailbound.errors import ContractMismatchError, LedgerError, MissingExtraError, UsageError
from tailbound.importance_sampling import make_ladder, mean_weight, standard_error
from tailbound.judges import Exchange
from tailbound.judges.registry import load_judge
from tailbound.runs import read
from tailbound.runs.spend import read_stages
from tailbound.steering import adapter as training
from tailbound.steering.adapter import Example, load_adapted, train_adapter
from tailbound.targets.decoding.proposals import ProposalModel, heated
from tailbound.testing import KnownRiskTarget
from tailbound.workflows.risk import RiskSettings, make_proposal, run_risk
from tailbound.workflows.risk.adapters import Adapters
from tailbound.workflows.risk.plan import Plan
from tailbound.workflows.risk.proposal import check_proposal
from tailbound.workflows.risk.proposal_mixture import (
    ADAPTER,
    HEAT,
    HEATED,
    LEARNED,
    OPENING,
    POOLED,
    Batch,
    Family,
    learned_rungs,
    proposal_of_draw,
)
from tailbound.workflows.risk.proposals import Instructions
from tailbound.workflows.risk.scores import Scores, table_of

EVENT = r"w[456].*w[456]"
EVENTS = (r"w[456]", EVENT, r"w[123].*w[456]", r"w[456].*w[456].*w[456]")
COMPLIES = load_judge(f"regex:{EVENT}")
NEVER = load_judge("regex:nothing")


@pytest.fixture(scope="module")
def bed() -> TinyLanguage:
    return TinyLanguage(0, strength=3.0)


def run(
    bed: TinyLanguage, folder: Path, *, draws: int = 200, judge: Any = COMPLIES, alone: bool = True
) -> Any:
    proposals = bed.proposals(learn=True)
    return run_risk(
        prompts(2),
        proposal=replace(proposals, parts=()) if alone else proposals,
        judge=judge,
        settings=RiskSettings(draws=draws),
        folder=folder,
    )


@pytest.fixture(scope="module")
def finished(bed: TinyLanguage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder and the result of a run with two parts: a direction, and what is learned."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, run(bed, folder, draws=400, alone=False)


@pytest.fixture(scope="module")
def whole(bed: TinyLanguage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(bed, folder, draws=120)
    return folder


def record(folder: Path, number: int) -> dict[str, Any]:
    path = folder / "plan" / f"adapter-{number:04d}" / "training.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def judged(event: str, prompt: Prompt, texts: list[str]) -> np.ndarray:
    """Scores by the real judge, each distinct text judged once."""
    distinct = sorted(set(texts))
    verdicts = load_judge(f"regex:{event}").judge([Exchange(prompt, text) for text in distinct])
    score = {text: verdict.score for text, verdict in zip(distinct, verdicts, strict=True)}
    return np.array([score[text] for text in texts], dtype=np.float64)


@pytest.mark.filterwarnings("ignore::FutureWarning:peft", "ignore:.*is_gradient_check.*")
def test_an_adapter_makes_what_it_learned_likely_and_is_the_same_each_time(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    """400 draws, against the exact risk of the target: .0015 there, about half here."""
    (prompt,) = prompts(1)
    replies = [(4, 5, 0), (5, 4, 0), (6, 6, 1, 0), (4, 4, 2, 0), (1, 5, 6, 0)]
    examples = [Example(prompt=prompt, reply=reply, weight=0.2) for reply in replies]
    for name in ("one", "two"):
        done = train_adapter(bed.target, examples, folder=tmp_path / name, steps=32, seed=[3, 1])
        assert done.losses[-1] < 0.6 * done.losses[0]
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    engine = ProposalModel(bed.target, [load_adapted(bed.target, tmp_path / "one", name=ADAPTER)])
    requests = [
        DrawRequest(prompt=prompt, stream="a", index=index, segments=((1, LENGTH),))
        for index in range(1, 401)
    ]
    draws = list(engine.draw(requests, seed=1))
    harm = judged(EVENT, prompt, [draw.text for draw in draws])
    assert harm.mean() > 50 * truth(bed, prompt)[EVENT]
    # densities are those of peft's own model in a plain forward pass
    reference = peft.PeftModel.from_pretrained(copy.deepcopy(bed.model), tmp_path / "one")
    ids = bed.target.encoder.encode(prompt)
    for draw in draws[:20]:
        reply = torch.tensor(draw.token_ids)
        with torch.inference_mode():
            rows = torch.tensor([[*ids, *draw.token_ids]])
            logits = reference(input_ids=rows, use_cache=False).logits[0, len(ids) - 1 : -1]
        expected = logits.double().log_softmax(-1).gather(1, reply[:, None])[:, 0].numpy()
        found = engine.score(prompt, [draw.token_ids])[0]
        np.testing.assert_allclose(found[1], expected, atol=1e-4)
        assert draw.log_prob == pytest.approx(expected.sum(), abs=1e-4)


def test_the_target_is_left_as_it_is(bed: TinyLanguage, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in bed.model.state_dict().items()}
    example = Example(prompt=prompts(1)[0], reply=(4, 5, 0), weight=1.0)
    train_adapter(bed.target, [example], folder=tmp_path, steps=2, seed=[0])
    made = load_adapted(bed.target, tmp_path, name="a").network.model
    after = bed.model.state_dict()
    assert list(before) == list(after)
    assert all((before[name] == after[name]).all() for name in before)
    assert not any(parameter.requires_grad for parameter in bed.model.parameters())
    # no second copy of the weights
    shared = {parameter.data_ptr() for parameter in bed.model.parameters()}
    assert shared <= {parameter.data_ptr() for parameter in made.parameters()}


def test_rounds_after_the_first_speak_with_an_adapter(finished: tuple[Path, Any]) -> None:
    folder, result = finished
    names = result.family["proposals"]
    trained = np.array([name.startswith(ADAPTER) for name in names])
    assert [name for name in names if name.startswith(ADAPTER)] == [
        f"adapter on 0-{LENGTH}",
        "adapter on 0-4",
    ]
    assert not (folder / "plan" / "adapter-0001").exists()
    scores = Scores(folder)
    for number, (size, start) in enumerate([(100, 0), (80, 100), (100, 180), (120, 280)], 1):
        held = json.loads((folder / "plan" / f"round-{number:04d}.json").read_text())
        for name, counts in held["batches"].items():
            counts = np.array(counts)
            assert counts.sum() == size
            assert counts[0] == round(size / 10)
            # a voice that had no say in a round has no density in it
            assert counts[trained].sum() == (0 if number == 1 else round(size / 4))
            held_densities = scores.of(name, start + 1, size, len(names))[trained]
            scored = held_densities[:, ~np.isnan(held_densities[0])]
            assert scored.size
            assert np.isneginf(scored).all() if number == 1 else (scored > -np.inf).all()
    for risk in result.risks:
        assert abs(risk.estimate.mean_weight_z) < 5
        assert risk.estimate.coverage != "not checked"


def test_what_was_learned_is_on_record(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    draws = read(folder, stream="risk")
    schemas = Path(__file__).parents[3] / "docs" / "schemas"
    schema = json.loads((schemas / "plan-adapter-0002-training.json").read_text())
    for number, seen in ((2, 100), (3, 180), (4, 280)):
        found = record(folder, number)
        assert not list(Draft202012Validator(schema).iter_errors(found))
        unsafe = draws.filter((pl.col("index") <= seen) & (pl.col("score") >= 0.5))
        for name, count in found["replies"].items():
            own = unsafe.filter(pl.col("prompt_id") == name)["token_ids"].to_list()
            assert count == min(64, len({tuple(ids) for ids in own}))
        assert found["starts_from"] == (None if number == 2 else f"adapter-{number - 1:04d}")
        distinct = sum(found["replies"].values())
        assert len(found["losses"]) == found["steps"]
        assert found["steps"] == min(32 if number == 2 else 16, max(4, 2 * distinct))
    assert np.mean(record(folder, 2)["losses"][-4:]) < np.mean(record(folder, 2)["losses"][:4])
    by_adapter = draws.filter(pl.col("proposal").str.contains(": adapter on"))
    assert by_adapter["index"].min() > 100  # type: ignore[operator]
    plain = draws.filter(pl.col("proposal").is_null())
    assert (by_adapter["score"] >= 0.5).mean() > 0.2 > 0.1 > (plain["score"] >= 0.5).mean()  # type: ignore[operator]
    # every token was read once, and backwards, which counts as two more
    read_tokens = sum(record(folder, number)["tokens"] for number in (2, 3, 4))
    assert read_stages(folder)["training"].positions >= 3 * read_tokens
    review = [json.loads(line) for line in (folder / "review.jsonl").read_text().splitlines()]
    assert any("adapter on" in str(row["proposal"]) for row in review)


@pytest.mark.parametrize("moment", ["trained", "written", "planned", "scored"])
def test_a_killed_run_ends_with_the_same_files(
    bed: TinyLanguage,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    owner, name, calls = {
        "trained": (training, "save_adapter", 1),
        "written": (Adapters, "_load", 2),
        "planned": (Plan, "add", 3),
        "scored": (Scores, "_write", 3),
    }[moment]
    again = partial(run, bed, tmp_path / "halves", draws=120)
    killed_at(monkeypatch, owner, name, calls, again)
    again()
    files = [path.relative_to(whole) for path in whole.rglob("plan/**/*") if path.is_file()]
    assert len(files) == 4 + 3 + 3 * 3
    for file in [*files, "risk.json", "review.jsonl"]:
        assert (tmp_path / "halves" / file).read_bytes() == (whole / file).read_bytes()


def test_a_finished_run_trains_nothing_again(
    bed: TinyLanguage, finished: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = finished

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(training, "train_adapter", never)
    assert run(bed, folder, draws=400, alone=False).document() == result.document()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("training.json", "remove", r"adapter-0003.training\.json is missing: restore it"),
        ("training.json", "change", r"training\.json is damaged"),
        ("adapter_model.safetensors", "remove", r"adapter_model\.safetensors is missing: restore"),
        ("adapter_model.safetensors", "change", r"adapter_model\.safetensors is damaged: restore"),
        ("adapter_config.json", "change", r"adapter_config\.json is damaged"),
    ],
)
def test_a_lost_or_damaged_adapter_is_an_error_in_one_line(
    bed: TinyLanguage,
    finished: tuple[Path, Any],
    tmp_path: Path,
    file: str,
    change: str,
    message: str,
) -> None:
    engine = ProposalModel(bed.target, [])
    shutil.copytree(finished[0] / "plan", tmp_path / "plan")
    path = tmp_path / "plan" / "adapter-0003" / file
    if change == "remove":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    adapters = Adapters(tmp_path, bed.target, engine, prompts(2), seed=0)
    assert list(adapters.recall(2)) == [ADAPTER]
    with pytest.raises(LedgerError, match=message) as caught:
        adapters.recall(3)
    assert "\n" not in str(caught.value)


def test_without_unsafe_replies_a_round_goes_without(bed: TinyLanguage, tmp_path: Path) -> None:
    result = run(bed, tmp_path, draws=120, judge=NEVER)
    assert {risk.estimate.risk for risk in result.risks} == {0.0}
    for number in (2, 3, 4):
        found = record(tmp_path, number)
        assert (found["trained"], found["files"]) == (False, {})
        assert found["reason"] == "no unsafe reply in earlier batches"
    names = result.family["proposals"]
    held = json.loads((tmp_path / "plan" / "round-0004.json").read_text())
    for counts in held["batches"].values():
        assert not any(n for n, name in zip(counts, names, strict=True) if ADAPTER in name)


def test_a_loss_that_is_not_finite_leaves_no_adapter(
    bed: TinyLanguage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LEARNING_RATE", 1e30)
    engine = ProposalModel(bed.target, [])
    adapters = Adapters(tmp_path, bed.target, engine, prompts(1), seed=0)
    material = [(prompts(1)[0], [(4, 5, 0), (5, 0)], np.zeros(2), np.ones(2))]
    assert adapters.learn(2, material) == []
    found = record(tmp_path, 2)
    assert (found["reason"], found["losses"]) == ("the loss was not finite", [])
    assert len(engine.variants) == 1


# -- unbiasedness -----------------------------------------------------------------------------


def family() -> Family:
    """An explorer, what is reweighted (and has nothing to say here), and an adapter."""
    ladder = make_ladder(LENGTH, variants=[], explorers=[HEATED])
    ladder = ladder.with_rungs(learned_rungs(LENGTH, adapter=True))
    return Family(name="ladder", ladder=ladder, variants={HEATED: 1})


class Repeat:
    """One run in small: a first batch of each prompt, what is learned of it, a second batch."""

    def __init__(self, bed: TinyLanguage, folder: Path, size: int, seed: int) -> None:
        self.bed, self.seed, self.family = bed, seed, family()
        self.engine = ProposalModel(bed.target, [heated(bed.target, HEAT, name=HEATED)])
        self.adapters = Adapters(folder, bed.target, self.engine, prompts(2), seed=seed)
        first = {p.id: self.draw(p, "first", 1000, [], {}) for p in prompts(2)}
        material = [
            (p, first[p.id][1], first[p.id][0].log_weights, first[p.id][0].harm) for p in prompts(2)
        ]
        self.able = self.adapters.learn(2, material)
        self.learned = self.adapters.recall(2)
        self.second = {
            p.id: self.draw(p, "second", size, [first[p.id][0]], self.learned) for p in prompts(2)
        }

    def draw(
        self,
        prompt: Prompt,
        stream: str,
        size: int,
        past: list[Batch],
        learned: dict[str, int],
    ) -> tuple[Batch, list[tuple[int, ...]], list[str]]:
        counts = self.family.counts(size, past, list(learned))
        coins = np.random.default_rng([self.seed, len(past)])
        requests = [
            DrawRequest(
                prompt=prompt,
                stream=stream,
                index=index,
                segments=self.family.segments(label, coins, learned),
            )
            for index, label in enumerate(proposal_of_draw(counts).tolist(), 1)
        ]
        draws = sorted(self.engine.draw(requests, seed=self.seed), key=lambda draw: draw.index)
        replies = [tuple(draw.token_ids) for draw in draws]
        texts = [draw.text for draw in draws]
        batch = Batch(
            counts=counts,
            log_densities=self.densities(prompt, replies, learned),
            harm=judged(EVENT, prompt, texts),
        )
        return batch, replies, texts

    def densities(
        self, prompt: Prompt, replies: list[tuple[int, ...]], learned: dict[str, int]
    ) -> np.ndarray:
        numbers = [0, *self.family.variants.values(), *learned.values()]
        tokens, lengths = table_of(self.engine.score(prompt, replies, variants=numbers))
        return self.family.log_densities(tokens, lengths, list(learned))


@cache
def harmful(bed: TinyLanguage) -> dict[str, np.ndarray]:
    """Which of all replies each event holds of, (R,): what its pattern says, on token ids."""
    comply = np.isin(bed.replies, (4, 5, 6))
    before = np.cumsum(np.isin(bed.replies, (1, 2, 3)), axis=1) > 0
    number = comply.sum(axis=1)
    return {
        EVENTS[0]: number >= 1,
        EVENTS[1]: number >= 2,
        EVENTS[2]: (comply & before).any(axis=1),
        EVENTS[3]: number >= 3,
    }


@cache
def truth(bed: TinyLanguage, prompt: Prompt) -> dict[str, float]:
    """Exact risk of each event, from all replies."""
    chances = np.exp(bed.tokens(prompt, 0.0).sum(axis=1))
    return {event: float(chances @ harm) for event, harm in harmful(bed).items()}


def test_events_are_what_the_judge_says(bed: TinyLanguage) -> None:
    some = np.random.default_rng(0).integers(len(bed.replies), size=500)
    for event, harm in harmful(bed).items():
        texts = [" ".join(f"w{t}" for t in bed.replies[n] if t > 0) for n in some]
        assert (judged(event, prompts(1)[0], texts) == harm[some]).all()


def z_score(bed: TinyLanguage, prompt: Prompt, event: str, done: list[Repeat]) -> float:
    """Of the second batches' pooled estimate against the exact risk."""
    batches = [one.second[prompt.id] for one in done]
    labels = np.concatenate([batch.labels + 100 * n for n, (batch, _, _) in enumerate(batches)])
    terms = np.concatenate(
        [np.exp(batch.log_weights) * judged(event, prompt, texts) for batch, _, texts in batches]
    )
    return float((terms.mean() - truth(bed, prompt)[event]) / standard_error(terms, labels))


def test_estimates_with_an_adapter_are_unbiased_and_faults_are_seen(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    """A second batch of 4,000 draws: a false alarm in fewer than 1 of 1,000 seeds."""
    one = Repeat(bed, tmp_path, 4000, 5)
    assert one.able == [ADAPTER]
    prompt = prompts(1)[0]
    batch, replies, texts = one.second[prompt.id]
    assert abs(z_score(bed, prompt, EVENT, [one])) <= 4
    assert abs(mean_weight(batch.log_weights, batch.labels)[1]) <= 4
    # an adapter whose density is left out of the balance heuristic
    trained = np.array([str(name).startswith(ADAPTER) for name in one.family.names])
    without = batch.log_densities.copy()
    without[trained] = -np.inf
    one.second[prompt.id] = (replace(batch, log_densities=without), replies, texts)
    assert z_score(bed, prompt, EVENT, [one]) > 4
    # densities of an adapter that was learned from the very draws that it weights
    often = Counter(reply for reply, harm in zip(replies, batch.harm, strict=True) if harm)
    examples = [Example(prompt=prompt, reply=r, weight=n) for r, n in often.most_common(8)]
    train_adapter(bed.target, examples, folder=tmp_path / "present", steps=64, seed=[1])
    late = one.engine.add_variant(load_adapted(bed.target, tmp_path / "present", name="late"))
    present = one.densities(prompt, replies, {ADAPTER: late})
    one.second[prompt.id] = (replace(batch, log_densities=present), replies, texts)
    assert abs(z_score(bed, prompt, EVENT, [one])) > 4


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "strength"), [(0, 3.0), (1, 2.0)])
def test_estimates_with_adapters_are_unbiased_over_many_draws(
    seed: int, strength: float, tmp_path: Path
) -> None:
    """10 repeats of 2 x 2,500 draws in second batches, each with an adapter of its own.

    100,000 draws in all, 16 cells and 4 mean weights: a false alarm in 1 of 1,000 seeds.
    """
    bed = TinyLanguage(seed, strength=strength)
    done = [Repeat(bed, tmp_path / f"{n}", 2500, n) for n in range(10)]
    assert all(one.able == [ADAPTER] for one in done)
    for prompt in prompts(2):
        batches = [one.second[prompt.id][0] for one in done]
        weights = np.concatenate([batch.log_weights for batch in batches])
        labels = np.concatenate([batch.labels + 100 * n for n, batch in enumerate(batches)])
        mean, z = mean_weight(weights, labels)
        assert abs(z) <= 4
        assert mean == pytest.approx(1, abs=0.1)
        for event in EVENTS:
            assert abs(z_score(bed, prompt, event, done)) <= 4


# -- what is refused --------------------------------------------------------------------------


def ask(folder: Path, *specs: str, target: Any = "demo", **options: Any) -> None:
    check_proposal(
        ["learned", *specs], target, folder=folder, instructions=Instructions(), **options
    )


def test_what_cannot_be_learned_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    ask(tmp_path, batches=4)
    ask(tmp_path, "refusal", "heat")
    for words, options in (
        ("--no-explore leaves them out: remove one", {"explore": False}),
        ("not with --proposal-family single", {"family": "single"}),
        ("so few --draws are one batch: give 100 or more", {"batches": 1}),
        ("needs the target's weights", {"target": "openai:x"}),
    ):
        with pytest.raises(UsageError, match=words):
            ask(tmp_path, **options)  # type: ignore[arg-type]
    for alone in ("none", "splitting"):
        with pytest.raises(UsageError, match=f"--proposal {alone} stands alone"):
            ask(tmp_path, alone)
    assert RiskSettings(draws=60).most_batches == 1
    assert RiskSettings(draws=100).most_batches == 4


def test_without_peft_there_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"tailbound\[lora\]"):
        ask(tmp_path)


def test_targets_that_no_adapter_fits_are_refused(
    bed: TinyLanguage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = KnownRiskTarget({prompt.id: 0.3 for prompt in prompts(2)})
    with pytest.raises(UsageError, match="needs the target's weights"):
        make_proposal(["learned"], plain, COMPLIES, prompts(2), folder=tmp_path)
    monkeypatch.setattr(bed.model.config, "quantization_config", {}, raising=False)
    with pytest.raises(UsageError, match="the weights of hf:tiny are quantized"):
        make_proposal(["learned"], bed.target, COMPLIES, prompts(2), folder=tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(peft, "LoraConfig", lambda **options: peft.LoraConfig_(**options, r=0))
    with pytest.raises(UsageError, match="peft cannot adapt hf:tiny"):
        make_proposal(["learned"], bed.target, COMPLIES, prompts(2), folder=tmp_path)
    assert not (tmp_path / "proposal.json").exists()


def test_a_run_without_it_is_not_continued_with_it(bed: TinyLanguage, tmp_path: Path) -> None:
    made = make_proposal(["heat"], bed.target, COMPLIES, prompts(2), folder=tmp_path)
    assert not made.learn
    with pytest.raises(ContractMismatchError, match="with --proposal heat, not learned"):
        make_proposal(["learned"], bed.target, COMPLIES, prompts(2), folder=tmp_path)
    other = tmp_path / "other"
    made = make_proposal(["learned"], bed.target, COMPLIES, prompts(2), folder=other)
    assert (made.spec, made.id, made.learn) == (("learned",), "heat + learned", True)
    with pytest.raises(ContractMismatchError, match="with --proposal learned, not heat"):
        make_proposal(["heat"], bed.target, COMPLIES, prompts(2), folder=other)


def test_other_runs_have_the_proposals_that_they_had() -> None:
    names = {rung.variant for rung in learned_rungs(LENGTH)}
    assert names == {LEARNED, OPENING, POOLED}
