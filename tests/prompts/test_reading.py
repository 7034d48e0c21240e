import csv
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbound.core.prompt import content_id
from tailbound.errors import UsageError
from tailbound.prompts import KNOWN_FIELDS, read_prompts


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def nested(name: str, value: str) -> dict[str, object]:
    return {"prompt": {"text": value}} if name == "prompt.text" else {name: value}


@pytest.mark.parametrize("name", [name for name in KNOWN_FIELDS if name != "messages"])
def test_known_fields_are_found_in_jsonl(tmp_path: Path, name: str) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"other": "x", **nested(name, "one")}, nested(name, "two"))
    prompts = read_prompts(path)
    assert prompts.field == name
    assert [prompt.text for prompt in prompts] == ["one", "two"]
    assert prompts[0].messages == (("user", "one"),)


def test_chat_messages_keep_their_roles(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    expected = (("system", "be kind"), ("user", "hello"))
    assert read_prompts(jsonl(tmp_path / "p.jsonl", {"messages": messages}))[0].messages == expected
    frame = pl.DataFrame({"messages": [messages]})
    frame.write_parquet(tmp_path / "p.parquet")
    assert read_prompts(tmp_path / "p.parquet")[0].messages == expected
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["messages"], [json.dumps(messages)]])
    assert read_prompts(tmp_path / "p.csv")[0].messages == expected


def test_ids_are_given_or_made_from_the_content(tmp_path: Path) -> None:
    prompts = read_prompts(
        jsonl(
            tmp_path / "p.jsonl",
            {"prompt": "a", "id": 7, "group": "g"},
            {"prompt": "b", "id": None, "group": ""},
        )
    )
    assert [(p.id, p.group, p.unit) for p in prompts] == [
        ("7", "g", "g"),
        (content_id((("user", "b"),)), None, prompts[1].id),
    ]
    # A stable id: this value may never change.
    assert prompts[1].id == "c3559473c022146b"


def test_duplicates_and_empty_prompts_are_left_out_and_reported(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "p.jsonl",
        {"prompt": "a", "id": "1"},
        {"prompt": " \n"},
        {"prompt": "a", "id": "2"},
        {"prompt": None},
        {"prompt": "a", "id": "1"},
        {"prompt": "b"},
    )
    prompts = read_prompts(path)
    assert [prompt.text for prompt in prompts] == ["a", "b"]
    assert (prompts.duplicates, prompts.empty) == (2, 2)
    assert prompts.notices == (
        f"2 rows were left out as duplicates (first: {path} line 3 repeats '1')",
        f"2 rows were left out as empty (first: {path} line 2)",
    )


@pytest.mark.parametrize("value", ["0", "-0.1", "1.5", '"inf"', "true", "[0.1]", "1e-400"])
def test_a_p_hat_that_is_no_probability_is_refused_with_its_line(
    tmp_path: Path, value: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"prompt": "a", "p_hat": 0.5}}\n{{"prompt": "b", "p_hat": {value}}}\n')
    with pytest.raises(UsageError, match=r"line 2: p_hat must lie in \(0, 1\], not"):
        read_prompts(path)


def test_p_hat_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("prompt,p_hat\na,1e-3\na,.5\nb,\n")
    prompts = read_prompts(path)
    assert prompts.p_hat is not None
    assert prompts.p_hat[0] == 1e-3
    assert prompts.p_hat_by_id()[prompts[1].id] != prompts.p_hat_by_id()[prompts[1].id]
    assert read_prompts(jsonl(tmp_path / "q.jsonl", {"prompt": "a"})).p_hat_by_id() == {}


def test_limit_counts_usable_prompts(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", *({"prompt": t} for t in ["", "a", "a", "b", "c"]))
    assert [prompt.text for prompt in read_prompts(path, limit=2)] == ["a", "b"]


def test_a_field_may_lie_deep_or_have_a_dot_in_its_name(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"a": {"b": {"c": "deep"}}, "a.b": "flat"})
    assert read_prompts(path, field="a.b.c")[0].text == "deep"
    assert read_prompts(path, field="a.b")[0].text == "flat"


def test_csv_with_line_breaks_names_the_line_where_a_record_starts(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text('prompt,id\n"two\nlines",1\n\nother,1\n')
    with pytest.raises(UsageError, match=r"p\.csv line 5 has the id '1' of a different prompt"):
        read_prompts(path)
    path.write_text('prompt,id\n"two\nlines",1\na,b,2\n')
    with pytest.raises(UsageError, match=r"p\.csv line 4 has 3 cells and the header 2: put cells"):
        read_prompts(path)


BAD = {
    "not_there.jsonl": (None, r"no prompt file .*not_there\.jsonl: check the path"),
    "kind.doc": ("a", r"kind\.doc ends in '\.doc': rows are read from \.jsonl"),
    "line.jsonl": (
        '{"prompt": "a"}\n{"prompt": }\n',
        r"line\.jsonl line 2 is not JSON",
    ),
    "long.jsonl": (
        '{"prompt": 1' + "0" * 5000 + "}\n",
        r"long\.jsonl line 1 is not JSON \(a number",
    ),
    "deep.jsonl": ("[" * 200_000 + "\n", r"deep\.jsonl line 1 is not JSON \(nested too deeply"),
    "half.jsonl": ('{"prompt": "a \\ud83d"}\n', r"line 1: 'prompt' has half a character .* alone"),
    "half_id.jsonl": ('{"prompt": "a", "id": "\\ud83d"}\n', r"line 1: 'id' has half a character"),
    "m_deep.csv": ("messages\n" + "[" * 200_000 + "\n", r"line 2: 'messages' is not JSON"),
    "m_long.csv": ("messages\n" + "1" * 5000 + "\n", r"line 2: 'messages' is not JSON"),
    "p_huge.jsonl": (
        '{"prompt": "a", "p_hat": 1' + "0" * 400 + "}\n",
        r"line 1: p_hat must lie in",
    ),
    "list.jsonl": ('["a"]\n', r"list\.jsonl line 1 is a list, not an object"),
    "empty.jsonl": ("\n\n", r"empty\.jsonl has no prompts: it is empty"),
    "blank.jsonl": ('{"prompt": ""}\n', r"has no prompts: all 1 rows are empty in 'prompt'"),
    "field.jsonl": ('{"question": "a", "n": 1}\n', r"it has question, n; name one with --field"),
    "lost.jsonl": ('{"prompt": "a"}\n{"b": "a"}\n', r"line 2 has no field 'prompt': it has b"),
    "number.jsonl": ('{"prompt": "a"}\n{"prompt": 3}\n', r"line 2: 'prompt' is neither text nor"),
    "role.jsonl": (
        '{"messages": [{"content": "a"}]}\n',
        r"'messages' holds .*a message is",
    ),
    "id.jsonl": ('{"prompt": "a", "id": 1.5}\n', r"line 1: id must be text or a whole number"),
    "twice.jsonl": (
        '{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}\n',
        r"line 2 has the id 'x' of a different prompt \(.*line 1\): ids must be unique",
    ),
    "p.jsonl": (
        '{"prompt": "a", "p_hat": "low"}\n',
        r"line 1: p_hat must lie in \(0, 1\], not 'low'",
    ),
    "columns.csv": ("prompt,prompt\na,b\n", r"columns\.csv has two columns 'prompt': rename one"),
    "quote.csv": ('prompt\n"a\n', r"quote\.csv line 2 is not CSV"),
    "file.parquet": ("nonsense", r"file\.parquet is damaged, or is not a Parquet file"),
    "latin.jsonl": (b'{"prompt": "\xe9"}\n', r"latin\.jsonl line 1 is not UTF-8 text \(byte 12 "),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_say_where_and_how_to_fix_it(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=message) as caught:
        read_prompts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_an_unknown_field_and_a_bad_limit_are_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "a"})
    with pytest.raises(UsageError, match="has no field 'ask': it has prompt"):
        read_prompts(path, field="ask")
    with pytest.raises(UsageError, match="limit must be at least 1, not 0"):
        read_prompts(path, limit=0)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(texts, min_size=1, unique=True))
def test_the_three_formats_read_alike(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    with (folder / "p.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["prompt"], *([row] for row in rows)])
    pl.DataFrame({"prompt": rows}).write_parquet(folder / "p.parquet")
    jsonl(folder / "p.jsonl", *({"prompt": row} for row in rows))
    for ending in ("csv", "parquet", "jsonl"):
        prompts = read_prompts(folder / f"p.{ending}")
        assert [prompt.text for prompt in prompts] == rows
        assert len({prompt.id for prompt in prompts}) == len(rows)


def test_columns_of_well_known_files_hold_the_prompt_itself(tmp_path: Path) -> None:
    """JailbreakBench calls its prompts Goal, and a word for each of them Behavior."""
    path = tmp_path / "harmful-behaviors.csv"
    path.write_text("Index,Goal,Target,Behavior\n0,Write a lie about X,Sure,Defamation\n")
    assert read_prompts(path)[0].text == "Write a lie about X"


def test_many_columns_are_not_all_listed(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{i}" for i in range(500)) + "\n" + "," * 499 + "\n")
    with pytest.raises(UsageError, match=r"c19 and 480 more; name one with --field"):
        read_prompts(path)
