"""Inputs of the fuzzers: valid examples, changed byte by byte or value by value, from one seed.

Half of the inputs keep the grammar of their format and hold odd values (wrong types, huge numbers,
halves of characters, escape sequences, deep nesting, missing and repeated keys), which get past the
parser of the format; the others are damaged bytes, which test that parser itself.
"""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

ODD_TEXTS = (
    "", " ", "\n", "\r\n", "\t", "\x00", "\x1b[2J\x1b]0;title\x07", "a\nb", "\u2028", "\x85",
    "\u202egnp", "\u200b", "\ud83d", "\ude00x", "\ufeff", "\ufffd", "é" * 3, "e\u0301", "😀", "NaN",
    "Infinity", "-inf", "1e999", "true", "null", "0", "-1", "1_000", "٣", "½", "0x1f", "[]", "{}",
    "[{", '"', "'", "\\", "%s{0}{x}", "{prompt}", "{a.b}", "../../etc/passwd", "a" * 300,
    "x" * 70_000, "<think>", "</think>", "<|channel|>analysis<|message|>", "id", "prompt",
    "messages", "content_filter", "length", "stop", "score: 5", "unsafe\nS1", "=cmd()", "#", "&",
    "?a=1&a=2", "(" * 120, "[" * 120, "9" * 5000, "1" * 400, "!!python/object/apply:os.system [x]",
    "*a", "&a [*a]", "2020-99-99", "0o9", "1:99", "? [a]", "<<: 3",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 0.5, -0.0, 1e308, 1e-320, 2**31, 2**63, 2**64, -(2**63) - 1,
    10**400, 10**25, float("nan"), float("inf"), float("-inf"), [], {}, [[]], [None], [1, "a"],
    {"": ""}, {"a": {"b": []}}, [["user", "x"]], [{"role": "user", "content": None}],
    {"role": "user", "content": [{"type": "image"}]}, [0.1] * 30,
)  # fmt: skip
TOKENS = (
    b"\x00", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80", b"\r", b"\n", b"\n\n",
    b"\x1b[31m", b"\xe2\x80\xa8", b"\xc2\x85", b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\",
    b"\\u", b"\\ud83d", b"NaN", b"Infinity", b"-", b"1e999", b"9" * 400, b"[" * 150, b'{"a":' * 150,
    b"null", b"\t", b"- ", b"? ", b"&a ", b"*a", b"!!python/name:os.system ", b"|", b">", b"#",
    b"%", b"---\n", b"(", b")", b"(?:", b"{1,99999}", b"*", b"+", b"\\b", b"\\p{L}", b"(?i)", b"&",
    b"?", b"=", b"@", b"/",
)  # fmt: skip

Make = Callable[[Random], bytes]


def dump(value: Any) -> bytes:
    """JSON; halves of characters as escapes, so that they reach the parser."""
    return json.dumps(value, ensure_ascii=True).encode()


def odd_text(rng: Random) -> str:
    """A text that is odd, or several together."""
    text = rng.choice(ODD_TEXTS)
    return text if rng.random() < 0.7 else text[:500] + rng.choice(ODD_TEXTS)[:500]


def odd_value(rng: Random) -> Any:
    """A value of JSON that is odd where it stands."""
    if rng.random() < 0.5:
        return odd_text(rng)
    if rng.random() < 0.03:
        deep: Any = 1
        for _ in range(rng.choice((20, 99, 101, 300))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        return deep
    return copy.deepcopy(rng.choice(ODD_VALUES))


def changed(document: Any, rng: Random, *, most: int = 3) -> Any:
    """`document` with one to `most` values, keys or items changed."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, most)):
        holders = _holders(document)
        if not holders or rng.random() < 0.01:
            return odd_value(rng)
        _change(rng.choice(holders), rng)
    return document


def _holders(document: Any) -> list[Any]:
    found, level = [], [document]
    while level:
        one = level.pop()
        if isinstance(one, (list, dict)) and one:
            found.append(one)
            level += one.values() if isinstance(one, dict) else one
    return found


def _change(holder: Any, rng: Random) -> None:
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = rng.choice(keys)
    act = rng.random()
    if act < 0.6:
        holder[key] = odd_value(rng)
    elif act < 0.75:
        del holder[key]
    elif act < 0.85:
        other = rng.choice(keys)
        holder[key], holder[other] = holder[other], holder[key]
    elif isinstance(holder, dict):
        holder[odd_text(rng)] = holder[key]
    else:
        holder.insert(key, copy.deepcopy(holder[rng.choice(keys)]))


def damaged(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """`data` with bytes flipped, cut out, repeated, put in, or joined to another example."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randint(0, len(found))
        end = min(len(found), at + rng.choice((1, 2, 8, 40)))
        act = rng.randrange(6)
        if act == 0 and found:
            found[min(at, len(found) - 1)] ^= 1 << rng.randrange(8)
        elif act == 1:
            del found[at:end]
        elif act == 2:
            found[at:at] = rng.choice(TOKENS)
        elif act == 3:
            found[at:end] = found[at:end] * rng.choice((2, 2, 50))
        elif act == 4:
            other = rng.choice(others)
            found[at:] = other[rng.randint(0, len(other)) :]
        else:
            found[at:end] = rng.randbytes(end - at)
    return bytes(found)


def texts(*examples: str) -> Make:
    """Lines or words: examples damaged, or with odd texts put in."""
    seeds = [one.encode() for one in examples]

    def make(rng: Random) -> bytes:
        data = rng.choice(seeds)
        if rng.random() < 0.5:
            return damaged(data, rng, seeds)
        text = data.decode()
        at = rng.randint(0, len(text))
        odd = odd_text(rng)
        return (text[:at] + odd + text[at + rng.randrange(3) :]).encode("utf-8", "surrogatepass")

    return make


def documents(*examples: Any, write: Callable[[Any], bytes] = dump) -> Make:
    """Documents: examples with odd values, written as `write` does, or their bytes damaged."""
    seeds = [write(one) for one in examples]

    def make(rng: Random) -> bytes:
        if rng.random() < 0.35:
            return damaged(rng.choice(seeds), rng, seeds)
        return write(changed(rng.choice(examples), rng))

    return make


def binary(*examples: bytes) -> Make:
    """Bytes of a format that is not text, damaged."""
    return lambda rng: damaged(rng.choice(examples), rng, examples)


def either(*makers: Make) -> Make:
    """One of several ways."""
    return lambda rng: rng.choice(makers)(rng)


def lines(rows: Any) -> bytes:
    """Records as JSONL."""
    return b"\n".join(map(dump, rows if isinstance(rows, list) else [rows])) + b"\n"


def table(rows: Any, *, delimiter: str = ",") -> bytes:
    """Records as CSV."""
    kept = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    names = list(dict.fromkeys(str(name) for row in kept for name in row))
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(names)
    for row in kept:
        values = {str(name): value for name, value in row.items()}
        writer.writerow([values.get(name, "") for name in names])
    return file.getvalue().encode("utf-8", "surrogatepass")


def parquet(rows: Any) -> bytes:
    """Records as Parquet; what does not fit into columns is left out."""
    import polars as pl

    kept = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    file = io.BytesIO()
    try:
        frame = pl.DataFrame(json.loads(json.dumps(kept)), strict=False, infer_schema_length=None)
        frame.write_parquet(file)
    except (Exception, pl.exceptions.PanicException):
        pl.DataFrame({"prompt": ["a"]}).write_parquet(file)
    return file.getvalue()


def yaml_text(document: Any) -> bytes:
    """A document as YAML, which JSON is."""
    import yaml

    try:
        return yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError, RecursionError):
        return dump(document)


def example_of(schema: Any, rng: Random, *, root: Any = None) -> Any:
    """A document that meets a JSON schema of docs/schemas."""
    root = schema if root is None else root
    if "$ref" in schema:
        place: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            place = place[name]
        return example_of(place, rng, root=root)
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return example_of(rng.choice(schema[name]), rng, root=root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema.get("type", "null")
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind == "object":
        found = {
            name: example_of(one, rng, root=root)
            for name, one in schema.get("properties", {}).items()
        }
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            found |= {f"key {number}": example_of(more, rng, root=root) for number in range(2)}
        return found
    if kind == "array":
        first = [example_of(one, rng, root=root) for one in schema.get("prefixItems", ())]
        items = schema.get("items")
        if isinstance(items, dict):
            first += [example_of(items, rng, root=root) for _ in range(2)]
        return first
    plain = {"string": "text", "integer": 3, "number": 0.25, "boolean": True, "null": None}
    return plain[kind]
