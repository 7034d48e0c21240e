"""Files of every kind that holds rows, compressed, marked, cut off or far too large."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard

from tailbound.errors import MissingExtraError, UsageError
from tailbound.prompts import opening, read_prompts

ROWS = [{"prompt": "one, two"}, {"prompt": "drei \u00e4"}, {"prompt": "a\u2028b"}]
TEXTS = [row["prompt"] for row in ROWS]
CONTENT = {
    "jsonl": "".join(json.dumps(row) + "\n\n" for row in ROWS),
    "json": json.dumps(ROWS, indent=1),
    "txt": "\n  \n".join(TEXTS) + "\r\n",
    "tsv": "id\tprompt\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(TEXTS)),
    "csv": "\nprompt\n" + "".join(f'"{text}"\n' for text in TEXTS),
}


@pytest.mark.parametrize("ending", CONTENT)
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_kind_of_file_is_read(
    tmp_path: Path, ending: str, packing: str, encoding: str
) -> None:
    data = CONTENT[ending].encode(encoding)
    packed = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[packing](data)
    path = tmp_path / f"p.{ending}{packing}"
    path.write_bytes(packed)
    assert [prompt.text for prompt in read_prompts(path)] == TEXTS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["one", "two"]', ["one", "two"]),
        ('{"version": 2, "prompts": [{"goal": "one"}]}', ["one"]),
        ('[[{"role": "user", "content": "one"}]]', ["one"]),
    ],
)
def test_json_arrays_hold_objects_texts_or_messages(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    (tmp_path / "p.json").write_text(text)
    assert [prompt.text for prompt in read_prompts(tmp_path / "p.json")] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}', r"p\.json is an object with no list: give an array of objects"),
        ('{"a": [], "b": []}', r"p\.json is an object with 2 lists \(a, b\)"),
        ("7", r"p\.json is a number: give an array"),
        ('[{"prompt": "a"}, 7]', r"p\.json item 2 is a number, not an object or a text"),
        ('[{"prompt": "a"},\n {"prompt" "b"}]', r"not JSON \(Expecting ':' delimiter at line 2 "),
        ('[{"prompt": "a"}, {"goal": "b"}]', r"item 2 has no field 'prompt'"),
    ],
)
def test_json_of_another_shape_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_prompts(tmp_path / "p.json")


@pytest.mark.parametrize(("packing", "pack"), [("gz", gzip.compress), ("zst", zstandard.compress)])
def test_a_file_that_is_cut_off_or_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str, pack
) -> None:
    whole = pack("".join(f"prompt {i * i}\n" for i in range(5000)).encode())
    path = tmp_path / f"p.txt.{packing}"
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(
            UsageError, match=r"cannot be unpacked .*: it is damaged or cut off|empty"
        ):
            read_prompts(path)
    path.write_bytes(b"plain\n")
    with pytest.raises(UsageError, match=f"cannot be unpacked .*, or not .{packing}"):
        read_prompts(path)
    path.write_bytes(whole + pack(b"another frame\n"))
    assert read_prompts(path)[-1].text == "another frame"
    monkeypatch.setattr(opening, "MOST_BYTES", 2**22)
    path.write_bytes(pack(b"0" * 2**26))
    assert path.stat().st_size < 70_000
    with pytest.raises(UsageError, match=r"holds more than 0\.00390625 GiB unpacked: unpack it to"):
        read_prompts(path)


def test_without_the_extra_zst_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "p.txt.zst").write_bytes(b"x")
    with pytest.raises(MissingExtraError, match=r"pip install 'tailbound\[data\]'"):
        read_prompts(tmp_path / "p.txt.zst")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"prompt": "a"}\n\n{"prompt": "b"}\n', ["a", "b"]),
        ('\n [{"prompt": "a"}]\n', ["a"]),
        ('{\n "data": ["a", "b"]\n}\n', ["a", "b"]),
        ("tell me, please\nsecond\n", ["tell me, please", "second"]),
    ],
)
def test_standard_input_is_a_dash(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    prompts = read_prompts("-")
    assert [prompt.text for prompt in prompts] == expected
    assert prompts.source == "standard input"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "standard input has no prompts: it is empty"),
        (
            b"id,prompt\n1,a\n",
            "standard input begins like a table .'id,prompt'.: give it as a .csv",
        ),
        (b'{"prompt": "a"}\n{"prompt": }\n', "standard input line 2 is not JSON"),
        (b"fine\nna\xefve\n", r"standard input line 2 is not UTF-8 text \(byte 7 of the file\)"),
    ],
)
def test_standard_input_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, data: bytes, message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    with pytest.raises(UsageError, match=message):
        read_prompts("-")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_two_encodings_in_one_file_are_named_with_the_line(tmp_path: Path, mark: bytes) -> None:
    data = mark + "caf\u00e9\n".encode() + "na\u00efve\n".encode("latin-1")
    (tmp_path / "p.txt").write_bytes(data)
    place = data.index(b"\xef", 3)
    with pytest.raises(UsageError, match=rf"p\.txt line 2 is not UTF-8 text \(byte {place} of"):
        read_prompts(tmp_path / "p.txt")
