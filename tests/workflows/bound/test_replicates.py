"""`--replicates`: further streams of calibration draws, from the plan to `verify`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tailbound
from tailbound.cli.render import bound as render
from tailbound.errors import TargetError, UsageError
from tailbound.runs import read
from tailbound.storage.files import write_json
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.bound import BoundResult
from tailbound.workflows.bound.results import read_result

COPIES = ("calibration", "calibration-2", "calibration-3", "calibration-4")


def risks(n: int = 300) -> dict[str, float]:
    values = 10 ** np.random.default_rng(0).uniform(-2.5, -0.5, n)
    return {f"q{i}": float(value) for i, value in enumerate(values)}


def make(folder: Path, **options) -> BoundResult:
    return tailbound.bound(out=folder, **asked(**options))


def asked(*, own: bool = False, target=None, judge=None, **options) -> dict:
    rows = [
        {
            "id": name,
            "prompt": f"question {name}",
            "kind": name[-1],
            **({"p_hat": p} if own else {}),
        }
        for name, p in risks().items()
    ]
    given = {"budget": 60, "train_draws": 60, "test_draws": 50, "progress": None, "seed": 3}
    return {
        "prompts": rows,
        "target": target or KnownRiskTarget(risks()),
        "judge": judge or WordJudge(),
        **{name: value for name, value in {**given, **options}.items() if value != ""},
    }


class BreaksDown(KnownRiskTarget):
    """Gives so many draws of one stream, and no more."""

    def __init__(self, stream: str, draws: int) -> None:
        super().__init__(risks())
        self._stream, self._draws = stream, draws

    def sample(self, source, *, seed):
        for draw in super().sample(source, seed=seed):
            if draw.stream == self._stream:
                self._draws -= 1
                if self._draws < 0:
                    raise TargetError("the server went away")
            yield draw


def documents(folder: Path) -> tuple[str, str, list]:
    return (
        (folder / "bound.json").read_text(),
        (folder / "evaluation.json").read_text(),
        pl.read_parquet(folder / "predictions.parquet").rows(),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BoundResult]:
    """A run whose plan leaves most of its budget, with a predictor trained here."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, make(folder)


def test_what_is_left_of_the_budget_buys_streams_of_their_own(whole):
    folder, result = whole
    b = result.bound
    assert b.replicates == 4  # with 150 prompts a fifth one would cost `marginal` 5 % of alpha
    assert tuple(name for name in result.spend if name.startswith("calibration")) == COPIES
    used = [result.spend[name].used for name in COPIES]
    assert sum(used) == b.spent
    assert b.planned <= 60 * b.n_calibration
    assert b.spent <= 1.3 * b.planned
    assert max(used) < 1.3 * min(used)
    # draws of one prompt differ from stream to stream
    firsts = [
        read(folder, stream=name).filter(pl.col("score") >= 0.5).group_by("prompt_id").agg(
            pl.col("index").min()
        )
        for name in COPIES[:2]
    ]  # fmt: skip
    both = firsts[0].join(firsts[1], on="prompt_id")
    assert (both["index"] != both["index_right"]).any()


def test_verify_computes_it_again(whole):
    folder, _ = whole
    found = tailbound.verify(folder, progress=None)
    assert [check.name for check in found.checks if check.wrong] == []
    names = {check.name for check in found.checks if check.outcome == "matches"}
    assert {"bound.json", "evaluation.json", "predictions.parquet", "spend.json"} <= names


def test_another_number_of_replicates_is_found(whole, tmp_path):
    copy = Path(shutil.copytree(whole[0], tmp_path / "run"))
    document = json.loads((copy / "bound.json").read_text())
    del document["checksum"]
    document["bound"]["replicates"] = 3
    write_json(copy / "bound.json", document)
    checks = [check for check in tailbound.verify(copy, progress=None).checks if check.wrong]
    (wrong,) = [check for check in checks if "results/" not in check.name]
    assert [one.place for one in wrong.differences] == ["bound.replicates"]


@pytest.mark.parametrize("stream", ["calibration", "calibration-2", "calibration-4"])
def test_a_run_that_breaks_down_within_a_copy_ends_with_the_same_results(whole, tmp_path, stream):
    folder = tmp_path / "run"
    with pytest.raises(TargetError):
        make(folder, target=BreaksDown(stream, 40))
    held = read(folder, stream=stream).height
    assert 0 < held < whole[1].spend[stream].used
    assert read_result(folder) is None
    make(folder)
    assert documents(folder) == documents(whole[0])
    draws = pl.read_parquet(folder / "draws")
    assert not draws.select("stream", "prompt_id", "index").is_duplicated().any()


def test_one_time_of_each_is_the_first_of_several(whole, tmp_path):
    single = make(tmp_path / "run", replicates=1)
    assert single.bound.replicates == 1
    assert "calibration-2" not in single.spend
    first, again = (read(folder, stream="calibration") for folder in (whole[0], tmp_path / "run"))
    shared = first.join(again, on=["prompt_id", "index"])
    assert shared.height > 0.7 * again.height
    assert (shared["score"] == shared["score_right"]).all()


def test_where_the_budget_is_spent_auto_is_one(tmp_path):
    found = [
        make(tmp_path / str(most), budget=4, guarantee="plug-in", replicates=most)
        for most in (None, 1)
    ]
    assert found[0].bound == found[1].bound
    assert found[0].bound.replicates == 1
    assert found[0].evaluation == found[1].evaluation


def test_p_hat_of_the_users_own_takes_a_number(tmp_path):
    """No draw has measured how far it is off: more than one time takes being asked for."""
    assert make(tmp_path / "auto", own=True).bound.replicates == 1
    several = make(tmp_path / "three", own=True, replicates=3)
    assert several.bound.replicates == 3
    assert several.curve.rates.prompts == 150  # each is one prompt, whatever its copies
    assert tailbound.verify(tmp_path / "three", progress=None).matches


def test_missing_verdicts_stop_copies_and_count_prompts(tmp_path):
    judge = WordJudge(missing_ids=frozenset(list(risks())[::40]))
    result = make(tmp_path / "run", own=True, replicates=3, judge=judge, allow_missing=True)
    assert 0 < result.missing.prompts_stopped <= 8
    assert result.missing.level_if_safe >= result.bound.level
    assert result.curve.rates.identified_to == 0
    assert tailbound.verify(tmp_path / "run", progress=None).matches


@pytest.mark.parametrize("own", [False, True])
def test_groups_have_replicates_of_their_own(tmp_path, own):
    result = make(
        tmp_path / "run", own=own, guarantee="plug-in", coverage_by="p_hat:2", replicates=4
    )
    assert {bound.replicates for bound in result.groups.bound.bounds} == {4}
    assert sum(result.spend[name].used for name in COPIES) == result.bound.spent
    assert result.bound.spent <= 1.3 * 60 * 150
    assert tailbound.verify(tmp_path / "run", progress=None).matches


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicates": 2, "guarantee": "pac"}, "--replicates 2 does not go with --guarantee pac"),
        (
            {"replicates": 2, "guarantee": "plug-in", "design": "naive"},
            "--replicates 2 does not go with --design naive",
        ),
        ({"replicates": 0}, "--replicates must be at least 1, not 0"),
        (
            {"replicates": 2, "method": "importance", "train_draws": ""},
            "--replicates does not go with --method importance",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_drawn(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        make(tmp_path / "run", target=BreaksDown("train", 0), **options)
    assert not (tmp_path / "run" / "draws").exists()


def test_people_see_it(whole, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    render.bound(whole[1], subject="known", out=render.console())
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "followed, 4 replicates of each; draws per prompt: " in shown


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 10),
        ({"replicates": 3}, 3),
        ({"replicates": 1}, 1),
        ({"guarantee": "pac"}, 1),
        ({"own": True}, 1),
    ],
)
def test_a_plan_says_how_many_there_may_be(capsys, monkeypatch, options, most):
    monkeypatch.setenv("COLUMNS", "80")
    plan = tailbound.plan_bound(**asked(**options))
    assert plan.replicates == most
    render.preview(plan)
    shown = " ".join(capsys.readouterr().out.split())
    assert (f"replicates: up to {most} independent times of each prompt" in shown) == (most > 1)
