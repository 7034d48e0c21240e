"""Splitting as a job: against exact truth, interrupted, continued, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interrupting import killed_at
from reference_models.tiny_lm import TinyLanguage, prompts
from tailbound.core.contract import Verdict
from tailbound.errors import ContractMismatchError, LedgerError, UnreachableError, UsageError
from tailbound.judges import Exchange, Judge
from tailbound.judges.function import of_function
from tailbound.judges.registry import load_judge
from tailbound.runs import Ledger, read
from tailbound.workflows.documents import FILES
from tailbound.workflows.risk import RiskResult, RiskSettings
from tailbound.workflows.risk.splitting import job, record
from tailbound.workflows.risk.splitting.job import CONTINUED, STREAM, run_splitting
from tailbound.workflows.risk.splitting.settings import SplittingOptions

NEEDED = 3


def grade(response: str) -> float:
    """Rises with every word of complying; 1 from the last that is needed."""
    return min(sum(word in ("w4", "w5", "w6") for word in response.split()) / NEEDED, 1.0)


JUDGE = of_function(grade, threshold=0.9)


@pytest.fixture(scope="module")
def bed() -> TinyLanguage:
    return TinyLanguage(1, strength=1.0)


def truth(bed: TinyLanguage, number: int) -> float:
    chosen = prompts(number + 1)[number]
    p = np.exp(bed.tokens(chosen, 0.0).sum(axis=1))
    return float(p @ np.array([grade(text) >= 0.9 for text in bed.texts]))


def run(
    bed: TinyLanguage,
    folder: Path,
    *,
    count: int = 2,
    judge: Judge = JUDGE,
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> RiskResult:
    return run_splitting(
        prompts(count),
        target=bed.target,
        judge=judge,
        settings=RiskSettings(**{"draws": 100, **settings}),
        options=SplittingOptions(**{"particles": 20, **(options or {})}),
        folder=folder,
    )


def test_risks_agree_with_the_truth_and_cost_less_than_plain_draws(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    found = run(bed, tmp_path, draws=1_000, options={"particles": 50})
    for number, risk in enumerate(found.risks):
        exact, one = truth(bed, number), risk.estimate
        assert 1e-5 < exact < 1e-2
        assert one.standard_error is not None
        assert abs(one.risk - exact) < 4 * one.standard_error
        assert one.precise
        assert one.certified_lower < exact
        assert one.interval is not None
        # plain draws with as much noise
        assert one.draws < 0.5 * (1 - exact) / exact * (one.risk / one.standard_error) ** 2


def test_the_ledger_tells_plain_draws_from_continued_ones(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    found = run(bed, tmp_path)
    frame = read(tmp_path, stream=STREAM)
    assert frame["proposal"].null_count() == 200
    assert set(frame["proposal"].drop_nulls()) == {CONTINUED}
    assert frame.height == sum(one.estimate.draws for one in found.risks)
    given = sum(
        birth[2]
        for path in (tmp_path / "splitting").glob("round-*.json")
        for births in json.loads(path.read_text())["births"].values()
        for birth in births
    )
    assert given > 0
    assert found.spend[STREAM].tokens == frame["tokens"].sum() - given


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        (Ledger, "append", 90),
        (Ledger, "append", 260),
        (job, "write_round", 2),
        (job, "write_scores", 1),
        (job, "write_scores", 3),
        (job, "verdicts_of", 3),
    ],
)
def test_an_interrupted_run_ends_with_the_same_file(
    bed: TinyLanguage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    calls: int,
) -> None:
    run(bed, tmp_path / "whole")
    killed_at(monkeypatch, owner, name, calls, lambda: run(bed, tmp_path / "parts"))
    run(bed, tmp_path / "parts")
    for file in ("risk.json", "spend.json"):
        whole = json.loads((tmp_path / "whole" / file).read_text())
        parts = json.loads((tmp_path / "parts" / file).read_text())
        for document in (whole, parts):
            document.pop("stages", None)
            document.pop("checksum")
        assert whole == parts


def test_a_larger_number_of_draws_adds_repeats_to_those_on_record(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    first = run(bed, tmp_path / "a", draws=60)
    more = run(bed, tmp_path / "a", draws=140)
    before = read(tmp_path / "a", stream=STREAM)
    assert more.risks[0].estimate.draws > first.risks[0].estimate.draws
    assert more.proposal["parts"][0]["repeats"] == 7
    again = run(bed, tmp_path / "a", draws=140)
    assert again.risks == more.risks
    assert read(tmp_path / "a", stream=STREAM).height == before.height


def test_verdicts_that_are_missing_on_the_way_raise_no_level(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    class Blind:
        """Sees nothing in texts of an odd number of words."""

        id, threshold = "blind", 0.9

        def judge(self, exchanges: list[Exchange]) -> list[Verdict]:
            return [
                Verdict(None, "odd")
                if len(one.response.split()) % 2
                else Verdict(grade(one.response))
                for one in exchanges
            ]

    found = run(bed, tmp_path, judge=Blind(), draws=400)
    one = found.risks[0].estimate
    assert 0 < one.missing < one.draws
    low, high = one.missing_range
    assert low <= one.risk <= high
    assert one.certified_lower <= one.risk


def test_a_judge_that_gives_no_verdict_ends_the_run(bed: TinyLanguage, tmp_path: Path) -> None:
    class Broken:
        id, threshold = "broken", 0.5

        def judge(self, exchanges: list[Exchange]) -> list[Verdict]:
            return [Verdict(None, "no answer") for _ in exchanges]

    with pytest.raises(UnreachableError, match="gave no verdict on any of"):
        run(bed, tmp_path, judge=Broken())


def test_a_judge_of_zeros_and_ones_leaves_plain_draws(bed: TinyLanguage, tmp_path: Path) -> None:
    found = run(bed, tmp_path, judge=of_function(lambda r: "w9" in r, threshold=0.5), draws=200)
    p = np.exp(bed.tokens(prompts(1)[0], 0.0).sum(axis=1))
    exact = float(p @ np.array(["w9" in text for text in bed.texts]))
    one = found.risks[0].estimate
    assert one.standard_error is not None
    assert abs(one.risk - exact) < 4 * one.standard_error


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("gives grades, and every score of regex", {"judge": load_judge("regex:w4")}),
        ("makes fewer than two repeats of 20 particles", {"draws": 30}),
        (
            "--until-resolved does not go with --proposal splitting",
            {"until_resolved": True, "max_draws": 200},
        ),
        ("--proposal-family single does not go with", {"family": "single"}),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_drawn(
    bed: TinyLanguage, tmp_path: Path, words: str, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        run(bed, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_target_that_cannot_continue_is_refused(bed: TinyLanguage, tmp_path: Path) -> None:
    class Plain:
        contract = bed.target.contract

    with pytest.raises(UsageError, match="can continue a given beginning of a reply"):
        run_splitting(
            prompts(1),
            target=Plain(),  # type: ignore[arg-type]
            judge=JUDGE,
            settings=RiskSettings(draws=100),
            folder=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_other_particles_do_not_continue_a_run(bed: TinyLanguage, tmp_path: Path) -> None:
    run(bed, tmp_path)
    with pytest.raises(ContractMismatchError, match="--particles 20 --score-every 1, not 25 and 1"):
        run(bed, tmp_path, options={"particles": 25})


def test_a_record_that_does_not_fit_is_no_other_number(bed: TinyLanguage, tmp_path: Path) -> None:
    run(bed, tmp_path)
    scores = record.read_scores(tmp_path, 1)
    assert scores is not None
    name = prompts(1)[0].id
    record.write_scores(tmp_path, 1, {**scores, name: scores[name][::-1]})
    with pytest.raises(LedgerError, match="the record of splitting does not fit together"):
        run(bed, tmp_path)


def test_its_files_have_a_declared_shape() -> None:
    assert {"splitting/round-0001.json", "splitting/levels-0001.json"} <= FILES.keys()
