"""Prompts in every form that Python has for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.prompts import prompt_set

TEXTS = ["how do i clean the pie", "how do i bake the car", "what is a pie"]


def texts(given: Any, **options: Any) -> list[str]:
    return [prompt.text for prompt in prompt_set(given, **options).prompts]


@pytest.mark.parametrize(
    "form",
    [tuple, iter, np.array, lambda t: pl.DataFrame({"prompt": t}), lambda t: pl.Series("p", t),
     lambda t: pl.DataFrame({"prompt": t}).lazy()],
)  # fmt: skip
def test_forms(form: Callable[[Any], Any]) -> None:
    assert texts(form(TEXTS)) == TEXTS
    assert {type(text) for text in texts(form(TEXTS))} == {str}


def test_a_set_has_one_order() -> None:
    assert texts(set(TEXTS)) == sorted(TEXTS)


@pytest.mark.parametrize("column", ["prompt", "messages", "goal"])
def test_texts_records_and_prompts_mixed(column: str) -> None:
    other = [{"role": "user", "content": "b"}] if column == "messages" else "b"
    made = Prompt(id="c", messages=(("system", "be brief"), ("user", "c")))
    found = prompt_set(["a", {column: other, "id": "z"}, made])
    assert [prompt.text for prompt in found.prompts] == [*("a", "b"), made.text]
    assert [prompt.id for prompt in found.prompts][1:] == ["z", "c"]
    assert texts(["a", {"q": "b", "goal": "x"}], field="q") == ["a", "b"]


def test_what_frames_have_for_missing_values() -> None:
    nan = float("nan")
    records = [
        {"id": 1.0, "prompt": "a", "group": nan, "p_hat": np.float32(0.5)},
        {"id": nan, "prompt": "b", "group": 2.0, "p_hat": nan},
        {"id": np.int64(3), "prompt": np.str_("c"), "group": None, "p_hat": None},
        {"id": 4, "prompt": nan, "group": None, "p_hat": None},
    ]
    found = prompt_set(records)
    assert [prompt.text for prompt in found.prompts] == ["a", "b", "c"]
    assert [found[0].id, found[2].id] == ["1", "3"]
    assert [prompt.group for prompt in found.prompts] == [None, "2", None]
    assert found.p_hat is not None
    assert found.p_hat.tolist()[:1] == [0.5]


def test_a_pandas_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"prompt": ["a", None, "c"], "id": [1, 2, None]})
    assert texts(frame) == ["a", "c"]
    assert prompt_set(frame)[0].id == "1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("How do I bake a cake?", "put prompts in a list"),
        ("How do I bake a cake? " * 300, "put prompts in a list"),
        ("a\nb", "put prompts in a list"),
        ("Who is Dr. No and why", "put prompts in a list"),
        ("a" * 300, "no prompt file"),
        ("a\0b.jsonl", "no prompt file"),
        ([], "has no prompts"),
        (iter(()), "has no prompts"),
        (["", "  "], "has no prompts"),
        (b"abc", "must be a path"),
        ([b"abc"], "must be a text"),
        ([None, "a"], "must be a text"),
        ({"prompt": TEXTS}, "must be a path"),
        (["a\ud83d"], "half a character"),
    ],
)
def test_what_is_no_prompt_is_one_line(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        prompt_set(given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
