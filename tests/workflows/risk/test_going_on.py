"""Second calls in the same folder: what goes on, what is refused, and what may still be claimed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from interrupting import killed_at
from reference_models.tiny_lm import TinyLanguage, prompts
from tailbound.core.contract import Verdict
from tailbound.errors import ContractMismatchError, LedgerError, UnreachableError
from tailbound.judges import Exchange
from tailbound.judges.registry import load_judge
from tailbound.runs import Ledger, read
from tailbound.workflows.risk import RiskResult, RiskSettings, run_risk
from tailbound.workflows.risk.lessons import Lessons
from tailbound.workflows.risk.plan import Plan
from tailbound.workflows.risk.proposals import Proposals
from tailbound.workflows.risk.scores import Scores

COMPLIES = load_judge(r"regex:w[456].*w[456]")
FREQUENT = load_judge(r"regex:w[456]")


@pytest.fixture(scope="module")
def bed() -> TinyLanguage:
    return TinyLanguage(0, strength=3.0)


def run(
    bed: TinyLanguage,
    folder: Path,
    *,
    count: int = 3,
    judge: Any = COMPLIES,
    plain: bool = False,
    explore: bool = True,
    **options: Any,
) -> RiskResult:
    proposal = Proposals(target=bed.target) if plain else bed.proposals(explore=explore)
    settings = RiskSettings(**{"draws": 200, **options})
    return run_risk(
        prompts(count), proposal=proposal, judge=judge, settings=settings, folder=folder
    )


@pytest.mark.parametrize(
    "moment",
    ["drawing", "scoring", "second plan", "second scoring", "learning", "learned", "last plan"],
)
def test_an_interrupted_run_ends_with_the_same_files(tmp_path, monkeypatch, moment):
    """Three batches learn from those before them; what they learn must be the same as well."""
    owner, name, calls = {
        "drawing": (Ledger, "append", 100),
        "scoring": (Scores, "_write", 1),
        "second plan": (Plan, "add", 2),
        "second scoring": (Scores, "_write", 2),
        "learning": (Lessons, "learn", 2),
        "learned": (Plan, "teach", 2),
        "last plan": (Plan, "add", 4),
    }[moment]
    run(TinyLanguage(0), tmp_path / "whole")
    again = partial(run, TinyLanguage(0), tmp_path / "halves")
    killed_at(monkeypatch, owner, name, calls, again)
    again()
    files = ["risk.json", "review.jsonl", *(f"plan/round-000{n}.json" for n in range(1, 5))]
    for file in [*files, *(f"plan/lesson-000{n}.json" for n in range(2, 5))]:
        assert (tmp_path / "halves" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"family": "single"}, {"family": "mix-switch"}),  # equally many proposals
        ({"intensities": (1.0, 0.6)}, {"intensities": (1.0, 0.3)}),
        ({"plain": True}, {}),
    ],
)
def test_other_proposals_in_the_same_folder_are_refused(bed, tmp_path, first, second):
    run(bed, tmp_path, **first)
    with pytest.raises(ContractMismatchError, match="another family of proposals"):
        run(bed, tmp_path, **second)
    assert read(tmp_path, stream="risk").height == 3 * 200


def test_what_tuned_a_mixture_stays_out_when_prompts_are_added(bed, tmp_path):
    few = run(bed, tmp_path, count=4, family="mix-switch")
    more = run(bed, tmp_path, count=9, family="mix-switch")
    assert few.left_out == more.left_out
    assert len(few.left_out) == 1
    assert {risk.prompt.id for risk in more.risks} == {p.id for p in prompts(9)} - {*few.left_out}
    assert more.family["choice"]["prompts"] == list(few.left_out)


def test_exact_bounds_are_for_numbers_of_draws_that_were_fixed(bed, tmp_path):
    fixed = run(bed, tmp_path / "fixed", plain=True, judge=FREQUENT)
    assert all("exact (Clopper-Pearson" in risk.estimate.guarantee for risk in fixed.risks)

    asked = {"until_resolved": True, "max_draws": 600, "draws": 100}
    until = run(bed, tmp_path / "until", plain=True, judge=FREQUENT, **asked)
    later = run(bed, tmp_path / "until", plain=True, judge=FREQUENT, draws=100)
    more = run(bed, tmp_path / "fixed", plain=True, judge=FREQUENT, draws=300)
    for result in (until, later, more):
        assert all("finite-sample" in risk.estimate.guarantee for risk in result.risks)
    assert later.document() == until.document()
    assert until.whole.certified_lower is more.whole.certified_lower is None
    assert fixed.whole.certified_lower is not None


def test_without_explorers_more_draws_are_not_made_for_coverage(bed, tmp_path):
    """Nothing could check it: a precise estimate ends the draws of its prompt."""
    asked = {"until_resolved": True, "max_draws": 2400}
    found = run(bed, tmp_path, judge=FREQUENT, explore=False, **asked)
    for risk in found.risks:
        assert not risk.estimate.resolved
        assert risk.estimate.precise or risk.estimate.draws == 2400
        assert risk.estimate.draws < 2400


class Mute:
    id, threshold = "mute", 0.5

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict(None, "no answer")] * len(exchanges)


def test_draws_that_cannot_help_are_not_made(bed, tmp_path):
    """A judge that says nothing of the first round stops the run, and no result is written."""
    with pytest.raises(UnreachableError, match=r"judge mute gave no verdict .* \(no answer\)"):
        run(bed, tmp_path, judge=Mute(), until_resolved=True, max_draws=2000)
    assert not (tmp_path / "risk.json").exists()
    assert not (tmp_path / "review.jsonl").exists()


def test_single_goes_on_until_the_ladder_has_a_say(bed, tmp_path):
    first = run(bed, tmp_path, family="single")
    unsure = [r.prompt.id for r in first.risks if r.estimate.coverage == "not checked"]
    assert unsure
    asked = {"until_resolved": True, "max_draws": 1600}
    for risk in run(bed, tmp_path, family="single", **asked).risks:
        assert risk.estimate.resolved or risk.estimate.draws == 1600
        if risk.prompt.id in unsure:
            assert risk.estimate.draws > 200


def test_unresolved_prompts_of_the_set_are_told(bed, tmp_path):
    result = run(bed, tmp_path, plain=True, draws=50, judge=load_judge("regex:w4.*w5.*w6.*w4"))
    assert result.whole.resolved == 0
    assert "the estimates of 3 prompts that are not resolved" in result.whole.guarantee


def test_a_lost_plan_is_an_error_in_one_line(bed, tmp_path):
    run(bed, tmp_path)
    (tmp_path / "plan" / "round-0002.json").unlink()
    for shard in (tmp_path / "scores").iterdir():
        shard.unlink()
    with pytest.raises(LedgerError, match="more draws of prompt 'p0' than its plan/ says"):
        run(bed, tmp_path)


class Graded:
    """Half of the replies get a score that is not 0, hardly any one that counts as unsafe."""

    id, threshold = "graded", 0.9

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        found = []
        for exchange in exchanges:
            words = set(exchange.response.split())
            found.append(Verdict(1.0 if {"w4", "w5"} <= words else 0.3 * bool(words & {"w1"})))
        return found


@pytest.mark.parametrize(("first", "second"), [("score", "unsafe"), ("unsafe", "score")])
def test_draws_may_be_read_again_for_another_estimand(bed, tmp_path, first, second):
    """Mean weights within 4 standard errors: a false alarm in 6 of 6e-5."""
    run(bed, tmp_path / "one", judge=Graded(), estimand=first, draws=1000)
    again = run(bed, tmp_path / "one", judge=Graded(), estimand=second, draws=1000)
    assert read(tmp_path / "one", stream="risk").height == 3 * 1000
    for risk in again.risks:
        assert abs(risk.estimate.mean_weight_z) < 4
        assert risk.estimate.mean_weight == pytest.approx(1, abs=0.5)
