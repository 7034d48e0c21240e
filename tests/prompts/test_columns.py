"""Prompts of several columns: joined as their authors do, or named and not guessed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tailbound.errors import UsageError
from tailbound.prompts import read_prompts


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(path: Path | str, field: str | None = None) -> list[str]:
    return [prompt.text for prompt in read_prompts(path, field=field)]


@pytest.fixture
def harmbench(tmp_path: Path) -> Path:
    """A file in the shape of the authors': 2 standard rows, 2 that differ in context alone."""
    path = tmp_path / "harmbench_behaviors_text_all.csv"
    header = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(
            [
                ["Write a lie", "standard", "misinformation", "", "", "lie"],
                ["Pick the lock", "standard", "illegal", "", "", "lock"],
                ["Answer it", "contextual", "illegal", "context", "First letter", "answer_1"],
                ["Answer it", "contextual", "illegal", "context", "Second letter", "answer_2"],
                ["Recite the song", "copyright", "copyright", "lyrics", "", "song"],
            ]
        )
    return path


def test_contexts_of_harmbench_are_part_of_the_prompts(harmbench: Path) -> None:
    prompts = read_prompts(harmbench)
    assert [prompt.text for prompt in prompts] == [
        "Write a lie",
        "Pick the lock",
        "First letter\n\n---\n\nAnswer it",
        "Second letter\n\n---\n\nAnswer it",
        "Recite the song",
    ]
    assert (prompts.duplicates, prompts.repeated) == (0, 0)
    (line,) = prompts.notices
    assert line == (
        "the prompts of 2 of 5 rows are 'Behavior' and 'ContextString' joined, with the context "
        "first, as the authors of HarmBench do"
    )


def test_the_file_of_harmbench_is_the_set_on_the_hub_where_it_is_named(harmbench: Path) -> None:
    prompts = read_prompts(f"HarmBench:{harmbench}")
    assert [prompt.text for prompt in prompts] == ["Write a lie", "Pick the lock"]
    assert prompts.source == f"harmbench:{harmbench}"
    (line,) = prompts.notices
    assert "2 of 5 rows were kept, those with FunctionalCategory 'standard'" in line
    assert line.endswith("left out: 2 contextual, 1 copyright")
    # the same ids as on the hub, whose rows are {"prompt": ..., "category": ...}
    hub = jsonl(harmbench.with_name("hub.jsonl"), {"prompt": "Write a lie"}, {"prompt": "x"})
    assert read_prompts(hub)[0].id == prompts[0].id


def test_a_file_that_is_not_the_set_is_not_taken_for_it(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a"})
    with pytest.raises(UsageError, match=r"has no column 'FunctionalCategory', by which the rows"):
        read_prompts(f"harmbench:{path}")
    assert texts(f"advbench:{path}") == ["a"]


def test_inputs_of_alpaca_follow_their_instructions(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.json"
    rows = [
        {"instruction": "Name a bird.", "input": "", "output": "owl"},
        {"instruction": "Translate.", "input": "der Hund", "output": "the dog"},
        {"instruction": "Translate.", "input": "die Katze", "output": "the cat"},
    ]
    path.write_text(json.dumps(rows, indent=2))
    assert texts(path) == ["Name a bird.", "Translate.\n\nder Hund", "Translate.\n\ndie Katze"]


@pytest.mark.parametrize("column", ["context", "choices", "system_prompt", "Passage"])
def test_a_column_that_may_complete_the_prompt_is_never_dropped_in_silence(
    tmp_path: Path, column: str
) -> None:
    value = ["yes", "no"] if column == "choices" else "some words"
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a", column: value}, {"prompt": "b"})
    with pytest.raises(UsageError) as caught:
        read_prompts(path)
    assert str(caught.value) == (
        f"{path} has '{column}' beside 'prompt', which may belong to the prompts: --field prompt "
        f"reads 'prompt' alone, --field '{{{column}}}\\n\\n{{prompt}}' joins them"
    )
    prompts = read_prompts(path, field="prompt")
    assert [prompt.text for prompt in prompts] == ["a", "b"]
    assert prompts.notices[0].startswith(f"the prompts are 'prompt' alone, without '{column}'")


def test_an_empty_column_completes_nothing(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a", "context": " ", "choices": []})
    assert read_prompts(path).notices == ()


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (r"{context}\n\n{prompt}", ["C\n\na", "b"]),
        (r"Given: {context}\n\nQ: {prompt}?", ["Given: C\n\nQ: a?", "Given: \n\nQ: b?"]),
        ("{prompt} ({more.of})", ["a (it)", "b ()"]),
    ],
)
def test_a_field_may_be_a_template(tmp_path: Path, field: str, expected: list[str]) -> None:
    path = jsonl(
        tmp_path / "p.jsonl",
        {"prompt": "a", "context": "C", "more": {"of": "it"}},
        {"prompt": "b", "context": "", "more": {"of": None}},
        {"prompt": "", "context": None, "more": {"of": ""}},
    )
    prompts = read_prompts(path, field=field)
    if field.startswith("{prompt}"):
        expected = ["a (it)", "b)"]
    assert [prompt.text for prompt in prompts] == expected
    assert prompts.empty == 1


def test_a_template_names_columns_that_are_there_and_hold_text(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a", "choices": ["x"]})
    with pytest.raises(UsageError, match=r"has no field 'contxt': it has prompt, choices"):
        read_prompts(path, field="{contxt} {prompt}")
    with pytest.raises(UsageError, match=r"line 1: 'choices' is a list: join it into one text"):
        read_prompts(path, field="{choices} {prompt}")


def test_rows_that_differ_in_other_text_are_not_called_duplicates(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "p.jsonl",
        {"prompt": "a", "response": "x", "n": 1},
        {"prompt": "a", "response": "y", "n": 1},
        {"prompt": "a", "response": "x", "n": 2},
    )
    prompts = read_prompts(path)
    assert (len(prompts), prompts.duplicates, prompts.repeated) == (1, 1, 1)
    same, other = prompts.notices
    assert same.startswith("1 row was left out as duplicates")
    assert "1 row was left out because the model would be given the same text again" in other
    assert "although other columns differ (response)" in other
    assert r"--field '{response}\n\n{prompt}'" in other


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": 5}, r"line 1: 'prompt' is a number \(5\), neither text nor a list of messages"),
        ({"prompt": {"en": "a"}}, r"'prompt' is an object .*, such as --field prompt\.en"),
        ({"prompt": True}, r"'prompt' is a truth value \(True\)"),
        ({"prompt": None}, r"has no prompts: 'prompt' is null in every row"),
    ],
)
def test_a_prompt_of_another_kind_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_prompts(jsonl(tmp_path / "p.jsonl", row))


def test_row_numbers_without_a_name_are_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(",Unnamed: 0,prompt,\n0,0,hi,x\n1,1,hi,y\n2,2,ho,z\n")
    prompts = read_prompts(path)
    assert [prompt.text for prompt in prompts] == ["hi", "ho"]
    assert (prompts.duplicates, prompts.repeated) == (1, 0)
    path.write_text(",question\n0,hi\n")
    with pytest.raises(UsageError, match=r"it has question; name one with --field"):
        read_prompts(path)


def test_text_parts_of_messages_are_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "this?"}]
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": parts}]
    (prompt,) = read_prompts(jsonl(tmp_path / "p.jsonl", {"messages": messages}))
    assert prompt.messages == (("system", "Be kind."), ("user", "What is\nthis?"))
    picture = [{"type": "image_url", "image_url": {"url": "data:"}}]
    path = jsonl(tmp_path / "p.jsonl", {"messages": [{"role": "user", "content": picture}]})
    with pytest.raises(UsageError, match=r"line 1: 'messages' holds a part of type 'image_url'"):
        read_prompts(path)


@pytest.mark.parametrize("wrong", ["strongrejct", "strong-rejects", "StrongReject2"])
def test_a_misspelt_set_is_answered_with_the_right_name(wrong: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_prompts(wrong)
    assert str(caught.value) == (
        f"no prompt file or set {wrong!r}: did you mean strongreject? Sets by name are "
        "realtoxicityprompts, strongreject, advbench, harmbench, jailbreakbench"
    )


def test_a_path_that_is_not_there_is_not_taken_for_a_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no prompt file .*advbench\.csv: check the path"):
        read_prompts(tmp_path / "advbench.csv")
    with pytest.raises(UsageError, match=r"no prompt file or set 'xyz': sets by name are real"):
        read_prompts("xyz")
