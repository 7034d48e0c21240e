"""Values of the wrong type are one line, before anything is loaded or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tailbound
from tailbound.core.contract import Verdict
from tailbound.core.values import typed
from tailbound.errors import UsageError

PROMPTS = ["how do i clean the pie", "how do i bake the car"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": "500"}, "--draws must be a whole number, not '500'"),
        ({"draws": True}, "--draws must be a whole number, not True"),
        ({"draws": float("nan")}, "--draws must be a whole number, not nan"),
        ({"draws": 10.5}, "--draws must be a whole number, not 10.5"),
        ({"draws": None}, "--draws must be a whole number, not None"),
        ({"seed": [1]}, r"--seed must be a whole number, not \[1\]"),
        ({"confidence": "0.9"}, "--confidence must be a number, not '0.9'"),
        ({"until_resolved": "no"}, "--until-resolved must be True or False, not 'no'"),
        ({"intensities": "1,0.6"}, "--intensities must be a list of numbers, not '1,0.6'"),
        ({"temperature": 10**400}, "--temperature must be a number, not 1000"),
        ({"estimand": 3}, "--estimand must be one of unsafe, score, not 3"),
        ({"estimand": "both"}, "--estimand must be one of unsafe, score, not 'both'"),
        ({"system": 5}, "--system must be a text or None, not 5"),
        ({"stop": [5]}, r"--stop must be a list of texts, not \[5\]"),
        ({"harmful": 5}, "--harmful must be a path or None, not 5"),
        ({"max_cost": float("nan")}, "--max-cost must be a number or None, not nan"),
        ({"limit": "2"}, "limit must be a whole number or None, not '2'"),
        ({"field": 2}, "field must be a text or None, not 2"),
        ({"rejudge": "no"}, "rejudge must be True or False, not 'no'"),
        ({"target": None}, "target must be a name such as 'demo'"),
        ({"target": Path("demo")}, "target must be a name such as 'demo'"),
        ({"judge": 7}, "judge must be a name, a judge or a function, not 7"),
        ({"judge": dict}, "judge must be a name, a judge or a function"),
        ({"system": "a\ud800"}, "--system must be a text or None"),
        ({"out": "a\0b"}, "out must be a path"),
        ({"out": None}, "out must be a path, not None"),
        ({"out": ""}, "out must be a path, not an empty text"),
    ],
)
def test_a_value_of_another_type_is_one_line(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    asked = {"out": tmp_path / "run", "proposal": "none", "progress": None, **options}
    with pytest.raises(UsageError, match=message) as caught:
        tailbound.risk(PROMPTS, **asked)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["0.3,0.5,0.2", [0.5, 0.5], 1, None])
def test_a_split_is_three_numbers(tmp_path: Path, split: Any) -> None:
    with pytest.raises(UsageError, match="--split must be a list of 3 numbers"):
        tailbound.bound(PROMPTS, out=tmp_path / "run", budget=5, split=split, progress=None)


def test_other_functions_check_their_values(tmp_path: Path) -> None:
    for call in (
        lambda: tailbound.summarize(tmp_path, k="10", progress=None),  # type: ignore[arg-type]
        lambda: tailbound.rejudge(tmp_path, "demo", confidence="high", progress=None),  # type: ignore[arg-type]
        lambda: tailbound.import_draws(tmp_path, tmp_path, invert="no", progress=None),  # type: ignore[arg-type]
        lambda: tailbound.predict(tmp_path, PROMPTS, target=5, progress=None),  # type: ignore[arg-type]
        lambda: tailbound.steer_refusal(tmp_path, target=5, progress=None),  # type: ignore[arg-type]
        lambda: tailbound.load_target(5),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match="must be"):
            call()


def test_numbers_of_numpy_are_plain_in_run_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` is the home folder, as in a shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    tailbound.risk(
        PROMPTS, out="~/run", draws=np.int64(4), seed=np.int32(1), threshold=np.float32(0.5),
        judge="regex:pie",
        temperature=np.float64(1.0), intensities=np.array([1.0, 0.5]), proposal="none",
        max_new_tokens=8.0, limit=np.int64(1), until_resolved=np.bool_(False), progress=None,
    )  # fmt: skip
    options = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["options"]
    assert (options["draws"], options["seed"], options["threshold"]) == (4, 1, 0.5)
    assert options["intensities"] == [1.0, 0.5]


def test_whole_floats_are_whole_numbers_and_large_ones_keep_every_digit() -> None:
    assert typed(int, 1e3, name="n") == 1000
    assert typed(int, 2**63 + 1, name="n") == 2**63 + 1
    assert typed(str, np.str_("a"), name="s") == "a"
    assert type(typed(str, np.str_("a"), name="s")) is str


@pytest.mark.parametrize("folder", [None, 3, ""])
def test_load_run_takes_a_path(folder: Any) -> None:
    with pytest.raises(UsageError, match="the run folder must be a path"):
        tailbound.load_run(folder)


def test_load_judge_takes_a_name_and_a_number() -> None:
    with pytest.raises(UsageError, match="the name of a judge must be a text, not 3"):
        tailbound.load_judge(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the threshold must be a number or None"):
        tailbound.load_judge("regex:a", threshold="0.5")  # type: ignore[arg-type]


class Mine:
    """A judge whose threshold is a number of NumPy."""

    id = "mine"
    threshold = np.float64(0.5)

    def judge(self, exchanges: Any) -> list[Verdict]:
        return [Verdict(0.0) for _ in exchanges]


def test_a_judge_with_a_threshold_of_numpy(tmp_path: Path) -> None:
    tailbound.risk(
        PROMPTS, out=tmp_path / "run", judge=Mine(), draws=2, max_new_tokens=8, proposal="none",
        progress=None,
    )  # fmt: skip
    assert tailbound.load_run(tmp_path / "run").manifest["threshold"] == 0.5
