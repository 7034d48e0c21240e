"""Metrics inside Inspect: exact numbers, and a real run of `inspect eval` with epochs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.scorer import SampleScore, Score

from tailbound.errors import UsageError
from tailbound.inspect_extension import at_least_one, time_to_unsafe, unsafe_rate
from tailbound.intervals import clopper_pearson
from tailbound.summaries import summarize_fixed

TASK = Path(__file__).with_name("epochs_task.py")


def scored(**samples: list[Any]) -> list[SampleScore]:
    return [
        SampleScore(sample_id=name, score=Score(value=value))
        for name, values in samples.items()
        for value in values
    ]


def test_one_sample_has_the_exact_interval() -> None:
    found: Any = unsafe_rate()(scored(a=["C"] * 3 + ["I"] * 97))
    low, high = clopper_pearson(3, 100)
    assert (found["unsafe_rate"], found["lower"], found["upper"]) == (0.03, low, high)
    assert (found["draws"], found["unsafe"], found["missing"]) == (100, 3, 0)


def test_missing_is_never_safe() -> None:
    """N, text, what is outside [0, 1], and planned draws that never came."""
    odd = ["N", "perhaps", 7, -0.5]
    found: Any = unsafe_rate(epochs=110)(scored(a=[1.0, 0.0, *odd] + [0.2] * 94))
    assert "unsafe_rate" not in found
    assert (found["draws"], found["unsafe"], found["missing"]) == (110, 1, 14)
    assert found["lower"] == clopper_pearson(1, 110)[0]
    assert found["upper"] == clopper_pearson(15, 110)[1]
    times: Any = time_to_unsafe(epochs=110)(scored(a=[1.0, 0.0, *odd] + [0.2] * 94))
    assert "time_to_unsafe" not in times
    assert times["time_to_unsafe_lower"] == 111 / 16
    assert times["time_to_unsafe_upper"] == 111 / 2
    assert times["bound_min"] == summarize_fixed(110, 1, 14).lower_bound
    assert unsafe_rate()([]) == {}


def test_values_thresholds_and_inversion() -> None:
    values = [True, False, "C", "I", "P", "yes", "0.75", 0.1, 0.9]

    def unsafe(**options: Any) -> int:
        found: Any = unsafe_rate(**options)(scored(a=values))
        return int(found["unsafe"])

    assert unsafe() == 6
    assert unsafe(threshold=0.9) == 4
    assert unsafe(threshold=0.9, invert=True) == 3  # False, I, and 1 - 0.1
    assert unsafe(threshold=0.1, invert=True) == 6  # 1 - 0.9 too


def test_samples_are_kept_apart() -> None:
    """Equal numbers of draws are pooled; unequal ones weigh each sample, not each draw, alike."""
    equal: Any = unsafe_rate()(scored(a=[1] * 2 + [0] * 48, b=[0] * 50))
    assert (equal["lower"], equal["upper"]) == tuple(map(float, clopper_pearson(2, 100)))
    unequal: Any = unsafe_rate()(scored(a=[1] * 2, b=[0] * 98))
    assert unequal["unsafe_rate"] == 0.5
    ends = [clopper_pearson(c, n, confidence=0.975) for c, n in ((2, 2), (0, 98))]
    assert unequal["lower"] == pytest.approx(np.mean([low for low, _ in ends]))
    assert unequal["upper"] == pytest.approx(np.mean([high for _, high in ends]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: unsafe_rate(confidence=1.0), "confidence"),
        (lambda: unsafe_rate(threshold=0), "threshold"),
        (lambda: unsafe_rate(epochs=0), "epochs"),
        (lambda: at_least_one(k=0), "k must be at least 1"),
        (lambda: at_least_one(k=2.5), "k"),  # type: ignore[arg-type]
        (lambda: time_to_unsafe(alpha=1), "alpha"),
    ],
)
def test_wrong_options_fail_when_the_task_is_made(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_the_entry_point_has_the_name_of_the_package() -> None:
    """Inspect finds PACKAGE/NAME by the entry point that is called PACKAGE."""
    (found,) = entry_points(group="inspect_ai", name="tailbound")
    assert found.value == "tailbound.inspect_extension"


@pytest.mark.slow
def test_inspect_eval_with_epochs(tmp_path: Path) -> None:
    """A real `inspect eval`: the reducer makes Inspect's accuracy .5, and changes none of ours."""
    reducer = "max"
    line = [sys.executable, "-m", "inspect_ai", "eval", TASK.name, "-T", f"reducer={reducer}"]
    line += ["--log-dir", str(tmp_path), "--display", "none", "--max-connections", "7"]
    done = subprocess.run(
        line, cwd=TASK.parent, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (listed,) = list_eval_logs(str(tmp_path))
    log = read_eval_log(listed)
    assert (log.status, len(log.samples or ())) == ("success", 40)
    assert log.results is not None
    reduced, raw = log.results.scores
    assert (reduced.reducer, raw.reducer) == (reducer, None)
    assert reduced.metrics["accuracy"].value == 0.5
    assert (raw.scored_samples, raw.unscored_samples) == (39, 1)
    by_group: dict[str, dict[str, float]] = {}
    for one in raw.metrics.values():
        key = f"{one.group}{sorted(one.params.items())}"
        by_group.setdefault(key, {})[one.name] = one.value
    seen, planned, times, few, many = by_group.values()
    # 39 draws seen: a 3 of 20; b 0 of 19, with 2 that the scorer cannot tell
    assert (seen["draws"], seen["unsafe"], seen["missing"]) == (39, 3, 2)
    ends = [
        (clopper_pearson(3, 20, confidence=0.975)[0], clopper_pearson(3, 20, confidence=0.975)[1]),
        (0.0, clopper_pearson(2, 19, confidence=0.975)[1]),
    ]
    assert seen["lower"] == pytest.approx(np.mean([low for low, _ in ends]))
    assert seen["upper"] == pytest.approx(np.mean([high for _, high in ends]))
    # with the number of epochs the one that Inspect keeps back is missing, and the sizes are equal
    assert (planned["draws"], planned["unsafe"], planned["missing"]) == (40, 3, 3)
    assert planned["lower"] == pytest.approx(clopper_pearson(3, 40, confidence=0.9)[0])
    assert planned["upper"] == pytest.approx(clopper_pearson(6, 40, confidence=0.9)[1])
    assert times["time_to_unsafe_lower"] == pytest.approx((21 / 4 + 21 / 4) / 2)
    assert times["time_to_unsafe_upper"] == pytest.approx((21 / 4 + 20) / 2)
    assert (times["never_unsafe"], times["within"]) == (0.5, 20)
    assert "at_least_one_in_5" not in few  # missing draws: no unbiased estimate
    assert few["lower"] == pytest.approx(sum(1 - (1 - low) ** 5 for low, _ in ends) / 2)
    assert 0 < many["lower"] < many["upper"] <= 1
