"""The job with targets and judges that fail, and the checks that must refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from reference_models.tiny_lm import LENGTH, TinyLanguage, prompts
from tailbound.core.contract import SamplingOptions, Verdict
from tailbound.errors import ContractMismatchError, LedgerError, TargetError, UsageError
from tailbound.importance_sampling import MixSwitch, make_ladder
from tailbound.intervals import betting_lower
from tailbound.judges import Exchange
from tailbound.judges.registry import load_judge
from tailbound.runs import read
from tailbound.steering import Ablate
from tailbound.storage.documents import read_json
from tailbound.storage.files import write_json
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.decoding.proposals import steered
from tailbound.workflows.risk import RiskSettings, run_risk
from tailbound.workflows.risk.plan import Plan
from tailbound.workflows.risk.proposal_mixture import HEATED, Batch, Family
from tailbound.workflows.risk.proposals import Proposal, Proposals
from tailbound.workflows.risk.results import PromptRisk, read_review, whole_set

COMPLIES = load_judge(r"regex:w[456].*w[456]")


class Forgetful:
    """A judge that gives no verdict on every other response that has w1 in it."""

    id, threshold = "forgetful", 0.5

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        found = []
        for exchange in exchanges:
            score = float("w4" in exchange.response)
            lost = "w1" in exchange.response and len(exchange.response) % 2
            found.append(Verdict(None, "lost") if lost else Verdict(score))
        return found


@pytest.fixture(scope="module")
def bed() -> TinyLanguage:
    return TinyLanguage(0, strength=3.0)


def run(bed: TinyLanguage, folder: Path, judge: Any = COMPLIES, **options: Any) -> Any:
    made = options.pop("proposal", None) or bed.proposals()
    settings = RiskSettings(**{"draws": 400, **options})
    return run_risk(prompts(3), proposal=made, judge=judge, settings=settings, folder=folder)


@pytest.mark.parametrize(
    "family",
    [
        "ladder",
        pytest.param("single", marks=pytest.mark.slow),
        pytest.param("mix-switch", marks=pytest.mark.slow),
    ],
)
def test_estimates_agree_with_the_exact_truth(bed, tmp_path, family):
    """The ladder within 5 standard errors (one of 10^5 seeds is not), all within their bounds."""
    result = run(bed, tmp_path, family=family, draws=4000)
    verdicts = COMPLIES.judge([Exchange(prompts(1)[0], text) for text in bed.texts])
    harm = np.array([verdict.score for verdict in verdicts])
    assert len(result.risks) == (2 if family == "mix-switch" else 3)
    for risk in result.risks:
        truth = float(np.exp(bed.tokens(risk.prompt, 0.0).sum(axis=1)) @ harm)
        e = risk.estimate
        assert e.certified_lower < truth < e.certified_upper
        if family == "ladder":
            assert e.resolved
            assert abs(e.risk - truth) < 5 * e.standard_error
        assert abs(e.mean_weight_z) < 5


@pytest.mark.parametrize("family", ["ladder", "single", "mix-switch"])
def test_replies_that_neither_target_nor_proposal_can_say(bed, tmp_path, family):
    """With top-k a rung says what the target and the one proposal exclude: weight 0, and no more.

    Plain Monte Carlo of 4,000 draws stands for the truth; the ladder is within 5 standard errors of
    it but for one in 1e6, and bounds of 95% meet but for one in 1e3; the seed is fixed.
    """
    cut = LocalModel(
        bed.model,
        bed.target.encoder._tokenizer,
        SamplingOptions(max_new_tokens=LENGTH, completion=True, top_k=4),
        name="hf:tiny",
        revision=None,
        batch_size=4096,
    )
    judge = load_judge("regex:w[1-6]")

    def made(spec: str, variant: Any) -> Proposals:
        if variant is None:
            return Proposals(target=cut)
        part = Proposal(spec=spec, id=spec, target=cut, variant=variant, steerable=True)
        return Proposals(target=cut, parts=(part,), explore=True)

    def steer(strength: float) -> Any:
        return steered(cut, bed.ablation, strength, name=f"s{strength:g}")

    options = {"judge": judge, "draws": 600}
    found = run(bed, tmp_path / "a", proposal=made("refusal", steer), family=family, **options)
    plain = run(bed, tmp_path / "b", proposal=made("none", None), **{**options, "draws": 4000})
    truth = {risk.prompt.id: risk.estimate for risk in plain.risks}
    for risk in found.risks:
        e, t = risk.estimate, truth[risk.prompt.id]
        assert abs(e.mean_weight_z) < 5
        assert e.certified_lower <= t.certified_upper
        assert t.certified_lower <= e.certified_upper
        if family == "ladder":
            assert abs(e.risk - t.risk) < 5 * np.hypot(e.standard_error, t.standard_error)


def test_the_draws_to_review_have_their_shares_of_the_estimate(bed, tmp_path):
    """h is 1 and no verdict is missing: a share is weight / (draws x risk)."""
    result = run(bed, tmp_path)
    rows = read_review(tmp_path)
    assert {row["id"] for row in rows} == {risk.prompt.id for risk in result.risks}
    for row in rows:
        e = next(risk.estimate for risk in result.risks if risk.prompt.id == row["id"])
        assert row["share"] == pytest.approx(row["weight"] / (e.draws * e.risk), rel=1e-9)
        assert row["share"] <= e.largest_share * (1 + 1e-9)
    first = next(row for row in rows if row["id"] == "p0")
    assert first["share"] == pytest.approx(result.risks[0].estimate.largest_share)


def test_missing_verdicts_are_never_safe(bed, tmp_path):
    result = run(bed, tmp_path, judge=Forgetful())
    for risk in result.risks:
        e = risk.estimate
        assert 0 < e.missing < e.draws
        assert e.missing_range[0] < e.missing_range[1]
        assert e.certified_upper > e.missing_range[1] * 0.9
        assert e.missing_range[0] <= e.risk
    reasons = set(read(tmp_path)["reason"].drop_nulls())
    assert reasons == {"lost"}


def test_a_judge_that_breaks_loses_no_draw_and_the_run_goes_on(bed, tmp_path):
    class Breaking:
        id, threshold = COMPLIES.id, 0.5
        left = 500

        def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
            Breaking.left -= len(exchanges)
            if Breaking.left < 0:
                raise OSError("the judge's server is down")
            return COMPLIES.judge(exchanges)

    with pytest.raises(Exception, match="server is down"):
        run(bed, tmp_path / "a", judge=Breaking())
    kept = read(tmp_path / "a")
    judged = kept.filter(kept["score"].is_not_null())
    assert judged.height >= 400
    assert set(kept.filter(kept["score"].is_null())["verdict"]) <= {"missing"}
    result = run(bed, tmp_path / "a")
    assert all(risk.estimate.draws == 400 for risk in result.risks)


def test_more_draws_go_on_from_what_is_there(bed, tmp_path):
    first = run(bed, tmp_path, draws=200)
    again = run(bed, tmp_path, draws=500)
    frame = read(tmp_path, stream="risk")
    assert frame.height == 3 * 500
    assert not frame.select("prompt_id", "index").is_duplicated().any()
    assert first.risks[0].estimate.draws == 200
    assert again.risks[0].estimate.draws == 500


def test_scores_are_made_once(bed, tmp_path, monkeypatch):
    first = run(bed, tmp_path)
    from tailbound.targets.decoding.proposals import ProposalModel

    original, seen = ProposalModel.score_all, []

    def counted(self: Any, prompts: Any, responses: Any, **options: Any) -> Any:
        seen.append(len(responses))
        return original(self, prompts, responses, **options)

    monkeypatch.setattr(ProposalModel, "score_all", counted)
    again = run(bed, tmp_path)
    assert seen == []  # the self-checks are on record as well
    assert again.document() == first.document()
    checks = read_json(tmp_path / "checks.json")
    write_json(tmp_path / "checks.json", {**checks, "digest": "of another model"})
    assert run(bed, tmp_path).document() == first.document()
    assert 0 < sum(seen) < 200


def test_only_draws_that_matter_are_scored(bed, tmp_path):
    """Every unsafe draw, and of the safe ones a part, whose mean weight is 1 nevertheless.

    The mean over 3 x 4,000 draws lies within 5 standard errors: a false alarm in 10^6.
    """
    result = run(bed, tmp_path, draws=4000)
    scored = pl.read_parquet(tmp_path / "scores").select("prompt_id", "index")
    drawn = read(tmp_path).select("prompt_id", "index", "score")
    unsafe = drawn.filter(drawn["score"] >= 0.5)
    assert unsafe.join(scored, on=["prompt_id", "index"]).height == unsafe.height
    safe = drawn.height - unsafe.height
    part = (scored.height - unsafe.height) / safe
    assert 0.07 < part < 0.13
    for risk in result.risks:
        assert abs(risk.estimate.mean_weight_z) < 5
        assert 0.3 < risk.estimate.mean_weight < 3


def test_a_draw_that_counts_must_be_scored():
    with pytest.raises(ValueError, match="not safe must be scored"):
        Batch(
            counts=np.array([2]),
            log_densities=np.array([[0.0, np.nan]]),
            harm=np.array([0.0, 1.0]),
        )


def test_a_direction_that_does_nothing_is_refused(bed, tmp_path):
    class Nothing(Ablate):
        def attach(self, model: Any) -> Any:
            attached = super().attach(model)
            attached.remove()  # the hooks are gone, as if they had never met a row
            return attached

    made = bed.proposals(Nothing(bed.direction))
    with pytest.raises(UsageError, match="does not change the model"):
        run(bed, tmp_path, proposal=made)
    assert not list((tmp_path / "draws").glob("part-*"))


def test_steering_that_differs_between_sampling_and_scoring_is_refused(bed, tmp_path):
    """An intervention that spares single tokens, as they are fed when a response is sampled."""

    class ResponseOnly(Ablate):
        def attach(self, model: Any) -> Any:
            attached = super().attach(model)
            changed = attached._changed

            def sparing(change: Any, written: torch.Tensor) -> torch.Tensor:
                if written.shape[1] == 1:
                    return written
                return changed(change, written)

            attached._changed = sparing  # type: ignore[method-assign]
            return attached

    made = bed.proposals(ResponseOnly(bed.direction))
    with pytest.raises(TargetError, match="sampled with another probability than scoring"):
        run(bed, tmp_path, proposal=made)


def test_a_recorded_density_that_is_wrong_is_refused(bed, tmp_path, monkeypatch):
    from tailbound.workflows.risk import scores

    original = scores.Scores.complete

    def damaged(self: Any, *given: Any, **named: Any) -> None:
        original_read = scores.read

        def shifted(*arguments: Any, **options: Any) -> Any:
            frame = original_read(*arguments, **options)
            return frame.with_columns(frame["log_prob"] + 0.01)

        monkeypatch.setattr(scores, "read", shifted)
        original(self, *given, **named)

    monkeypatch.setattr(scores.Scores, "complete", damaged)
    with pytest.raises(TargetError, match=r"log q and the scorer's differ by 0\.01"):
        run(bed, tmp_path)


def test_the_mean_score_is_another_estimand(bed, tmp_path):
    class Half:
        id, threshold = "half", 0.9

        def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
            return [Verdict(0.5 * ("w4" in e.response or "w6" in e.response)) for e in exchanges]

    scored = run(bed, tmp_path / "score", judge=Half(), estimand="score")
    unsafe = run(bed, tmp_path / "unsafe", judge=Half())
    assert all(risk.estimate.hits > 0 for risk in scored.risks)
    assert all(risk.estimate.hits == 0 for risk in unsafe.risks)
    assert scored.estimand.startswith("mean score")


def test_mix_switch_needs_a_prompt_to_tune_on(bed, tmp_path):
    with pytest.raises(UsageError, match="at least 2 prompts"):
        run_risk(
            prompts(1),
            proposal=bed.proposals(),
            judge=COMPLIES,
            settings=RiskSettings(family="mix-switch"),
            folder=tmp_path,
        )


def test_no_prompts(bed, tmp_path):
    with pytest.raises(UsageError, match="no prompts"):
        run_risk(
            [], proposal=bed.proposals(), judge=COMPLIES, settings=RiskSettings(), folder=tmp_path
        )


def test_a_plan_is_read_back_and_checked(tmp_path):
    ladder = make_ladder(LENGTH, variants=["a"])
    ours = Family(name="ladder", ladder=ladder, variants={"a": 1, HEATED: 2})
    plan = Plan(tmp_path, ours, proposal="x", seed=0)
    plan.add({"p0": ladder.allot(50), "p1": ladder.allot(60)})
    plan.add({"p1": ladder.allot(70)})
    held = Plan(tmp_path, ours, proposal="x", seed=0)
    assert (held.draws("p0"), held.draws("p1"), held.draws("p2")) == (50, 130, 0)
    assert held.proposal("p0", 1) is None
    assert held.proposal("p0", 50) == plan.proposal("p0", 50) != None  # noqa: E711
    with pytest.raises(ContractMismatchError, match="another family"):
        Plan(tmp_path, Family(name="none"), proposal="x", seed=0)
    (tmp_path / "plan" / "round-0001.json").write_text("{")
    with pytest.raises(LedgerError, match="is damaged"):
        Plan(tmp_path, ours, proposal="x", seed=0)


def test_coins_of_a_mixture_are_those_of_its_name(tmp_path):
    main = MixSwitch(1.0, 0.5, 40)
    ladder = make_ladder(64, variants=["a"])
    family = Family(
        name="mix-switch",
        ladder=ladder,
        main=main,
        main_variant="a",
        variants={"a": 1, HEATED: 2},
    )
    plan = Plan(tmp_path, family, proposal="x", seed=3)
    plan.add({"p": family.counts(400, [])})
    last = range(200, 401)
    all_segments = [plan.segments("p", index) for index in last]
    assert all_segments == [plan.segments("p", index) for index in last]
    assert len(set(all_segments)) == len(all_segments)
    share = []
    for segments in all_segments:
        start = 0
        for variant, stop in segments:
            share += [variant] * (stop - start)
            start = stop
        assert start == 40
    # 201 x 40 fair coins: 5 standard errors are .028
    assert abs(np.mean(share) - 0.5) < 0.028


def test_the_set_is_clustered_by_group():
    from tailbound.core.prompt import Prompt
    from tailbound.importance_sampling import estimate_risk

    def one(number: int, group: str | None, events: int) -> PromptRisk:
        made = Prompt(id=f"p{number}", messages=(("user", "x"),), group=group)
        harm = [1.0] * events + [0.0] * (100 - events)
        return PromptRisk(prompt=made, estimate=estimate_risk([0.0] * 100, harm))

    apart = whole_set([one(i, None, 10 + 10 * (i % 2)) for i in range(8)], confidence=0.95)
    together = whole_set(
        [one(i, f"g{i % 2}", 10 + 10 * (i % 2)) for i in range(8)], confidence=0.95
    )
    assert apart.mean == together.mean == pytest.approx(0.15)
    assert (apart.clusters, together.clusters) == (8, 2)
    assert apart.interval is not None
    assert together.interval is not None
    # 8 values of .1 and .2: s / sqrt(8) = .0189 = .126 x mean; t(7) = 2.365; largest share 1/6
    upper = 0.15 * (7 / 6) * np.exp(2.365 * np.hypot(0.126, 1 / 6))
    assert apart.interval == pytest.approx((0.15 * np.exp(-2.365 * 0.126), upper), rel=1e-3)
    assert together.interval[1] > apart.interval[1]
    alone = whole_set([one(0, None, 5)], confidence=0.95)
    assert (alone.interval, alone.certified_lower) == (None, None)
    assert apart.certified_lower == pytest.approx(float(betting_lower([0.1, 0.2] * 4)))
    # means of .1 and .2: two clusters say little
    assert 0 < together.certified_lower < apart.certified_lower < 0.15
    uneven = whole_set([one(i, f"g{i // 3}", 10) for i in range(4)], confidence=0.95)
    assert uneven.certified_lower is None


@pytest.mark.slow
def test_intervals_of_sets_with_a_few_risky_prompts():
    """10 prompts whose risks are log-normal (standard deviation 2) about .01, 400 sets.

    At most 10% of intervals at 95% miss: about 6% do (an interval that is even about the mean: one
    in three). The standard error of a share of 6% is 1.2%: beyond 10% in one of 1,000 seeds.
    """
    from tailbound.importance_sampling import estimate_risk

    rng = np.random.default_rng(8)

    def risks(count: int) -> np.ndarray:
        return np.minimum(1, 0.01 * np.exp(rng.normal(0, 2, count)))

    truth = risks(1_000_000).mean()
    missed = made = above = 0
    for _ in range(400):
        found = []
        for prompt, risk in zip(prompts(10), risks(10), strict=True):
            harm = (np.arange(500) < rng.binomial(500, risk)).astype(float)
            found.append(PromptRisk(prompt=prompt, estimate=estimate_risk(np.zeros(500), harm)))
        whole = whole_set(found, confidence=0.95)
        above += whole.certified_lower is not None and whole.certified_lower > truth
        if whole.interval is not None:
            made += 1
            missed += not whole.interval[0] <= truth <= whole.interval[1]
    # finite-sample at 95%: beyond 8% in one of 200 seeds even if it were exact
    assert above <= 0.08 * 400
    assert made > 350
    assert missed <= 0.1 * made


def test_another_family_in_the_same_folder_is_refused(bed, tmp_path):
    run(bed, tmp_path, draws=100)
    with pytest.raises((LedgerError, ContractMismatchError)):
        run(bed, tmp_path, family="single", draws=100)
