"""Two different functions are two judges; the same function is one, whenever it is asked."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailbound
from tailbound.errors import ContractMismatchError, UsageError
from tailbound.judges.function import of_function

WORDS = ["pie"]


def closes_over(value: Any) -> Callable[[str], bool]:
    def judge(response: str) -> bool:
        return str(value) in response

    return judge


def default(response: str, word: str = "a") -> bool:
    return word in response


def reads_global(response: str) -> bool:
    return any(word in response for word in WORDS)


class Words:
    def __init__(self, word: str) -> None:
        self.word = word

    def judge(self, response: str) -> bool:
        return self.word in response

    def __call__(self, response: str) -> bool:
        return self.word in response


def test_different_functions_are_different_judges() -> None:
    # two lambdas on one line, whose source is the same
    one, two = (lambda r: "a" in r), (lambda r: "b" in r)
    functions: list[Callable[..., object]] = [
        one,
        two,
        *map(closes_over, ["a", "b", 1, 1.0, ("a",), ["a"], {"a": 1}, {"a": 2}, {"a"}, None]),
        *map(closes_over, [re.compile("a"), re.compile("a", re.I), np.zeros(2), np.ones(2)]),
        *map(closes_over, [one, two, Path("a"), Path("b")]),
        default,
        functools.partial(default, word="b"),
        functools.partial(default, word="c"),
        Words("a").judge,
        Words("b").judge,
        Words("a"),
        Words("b"),
    ]
    ids = [of_function(function).id for function in functions]
    assert len(set(ids)) == len(ids)
    assert ids == [of_function(function).id for function in functions]
    assert of_function(closes_over("a")).id == of_function(closes_over("a")).id
    assert of_function(Words("a")).id == of_function(Words("a")).id


def test_a_global_that_the_function_reads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of_function(reads_global).id
    monkeypatch.setitem(globals(), "WORDS", ["car"])
    assert of_function(reads_global).id != before


def test_functions_without_source_are_told_apart_and_keep_their_id() -> None:
    script = (
        "from tailbound.judges.function import of_function\n"
        "def judge(r): return 'a' in r\n"
        "first = of_function(judge).id\n"
        "def judge(r): return 'b' in r\n"
        "print(first, of_function(judge).id, of_function(lambda r: 1 in {'x', 'y', 'z'}).id)\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    (output,) = outputs
    assert len(set(output.split())) == 3


def test_a_function_that_calls_itself_ends() -> None:
    def judge(response: str) -> bool:
        return bool(response) and judge(response[1:])

    held: list[Any] = []
    held.append(held)
    assert of_function(judge).id
    assert of_function(closes_over(held)).id


def test_a_function_that_yields_is_refused() -> None:
    def judge(response: str) -> Any:
        yield response

    with pytest.raises(UsageError, match="is async or yields"):
        of_function(judge)


def test_a_judge_that_was_redefined_does_not_resume(tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "out": tmp_path / "run",
        "draws": 4,
        "max_new_tokens": 8,
        "proposal": "none",
        "progress": None,
    }
    tailbound.risk(["how do i clean the pie"], judge=closes_over("a"), **asked)
    tailbound.risk(["how do i clean the pie"], judge=closes_over("a"), **asked)
    with pytest.raises(ContractMismatchError, match="judge"):
        tailbound.risk(["how do i clean the pie"], judge=closes_over("b"), **asked)
