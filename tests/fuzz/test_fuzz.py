"""No input of any parser ends in anything but a value or one line; a small share of `scripts/fuzz`.

The whole of it, 1,000,000 inputs and more, is run by `scripts/fuzz 1000000` (SECURITY.md).
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.inputs import changed
from fuzz.parsers import PARSERS, SCRATCH, by_file
from fuzz.runner import Parser, fuzz, replay, shares
from tailbound.core.outside import OutsideError, parse_yaml
from tailbound.errors import LONGEST, LedgerError, TailboundError, UsageError
from tailbound.judges.expressions import Expression
from tailbound.judges.pattern import load_keywords, load_regex
from tailbound.judges.rubric_file import read_rubric
from tailbound.prompts.datasets import check_is_file, parse_recipe_file
from tailbound.prompts.hub import parse_name
from tailbound.prompts.reading import read_prompts
from tailbound.runs.rounds import read_rounds
from tailbound.steering.traits import Trait
from tailbound.storage.plain import from_plain
from tailbound.workflows.import_.formats import read_source

INPUTS = 4_000
BY_NAME = {parser.name: parser for parser in PARSERS}
BOMB = "a1: &a1 [1, 1]\n" + "\n".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]" for n in range(1, 25))
"""Some 33 million values in 25 lines."""


@pytest.mark.parametrize(
    ("parser", "inputs"),
    list(zip(PARSERS, shares(PARSERS, INPUTS), strict=True)),
    ids=[parser.name for parser in PARSERS],
)
def test_no_input_ends_in_anything_but_a_value_or_one_line(parser: Parser, inputs: int) -> None:
    tally = fuzz(parser, inputs, seed=9)
    assert not tally.failures, tally.failures[0]
    assert tally.accepted + tally.refused == tally.inputs == inputs


@given(st.sampled_from(PARSERS), st.binary(max_size=200))
def test_no_bytes_at_all_do(parser: Parser, data: bytes) -> None:
    assert not replay(parser, data).failures


def test_the_fuzzers_find_what_they_are_for() -> None:
    """An exception, a hang, and a message of two lines, or without any."""

    def bad(data: bytes) -> object:
        match data:
            case b"raise":
                return {}["x"]
            case b"hang":
                while True:
                    pass
            case b"empty":
                raise UsageError("")
            case b"foreign":
                raise OutsideError("two\nlines")
        return None

    parser = Parser(name="bad", call=bad, make=lambda _: b"raise", refuses=(OutsideError,))
    for data in (b"raise", b"hang", b"empty", b"foreign"):
        assert len(replay(parser, data).failures) == 1, data
    assert not replay(parser, b"").failures
    assert len(fuzz(parser, 10).failures) == 1  # once for each place


def test_the_same_seed_gives_the_same_inputs() -> None:
    for parser in PARSERS:
        one, two = (parser.make(Random(f"3 {parser.name} 1")) for _ in range(2))
        assert one == two, parser.name
    assert changed({"a": [1, 2]}, Random(1)) == changed({"a": [1, 2]}, Random(1))
    assert sum(shares(PARSERS, 1_000_000)) == 1_000_000


# --- what they found --------------------------------------------------------------------------


def test_errors_are_one_line_whatever_names_they_hold() -> None:
    for kind in (UsageError, LedgerError):
        assert str(kind("no column 'a\nb\x1b[2J\u202e'")) == "no column 'a\\nb\\x1b[2J\\u202e'"
    said = str(TailboundError(f"{'x' * 10_000}: fix it"))
    assert len(said) <= LONGEST
    assert said.endswith("x: fix it")


@pytest.mark.parametrize("text", ["a\ud83d", "1\x00", "((" * 100, "a" * 301])
def test_formulas_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="score: "):
        Expression(text, place="score")


def test_a_pattern_with_half_a_character_is_refused() -> None:
    with pytest.raises(UsageError, match="half a character"):
        load_regex("sure\ud83d")


def test_patterns_and_phrases_beyond_all_measure() -> None:
    with pytest.raises(UsageError, match="more than Python can match"):
        load_regex("a{" + "9" * 5_000 + "}")
    with pytest.raises(UsageError, match="at most 20,000 characters"):
        load_regex("x" * 20_001)
    keywords = by_file("long.txt", lambda path: load_keywords(str(path)))
    with pytest.raises(UsageError, match="is it a list of phrases"):
        keywords(b"how to\n" + b"x" * 1_001)


def test_names_that_no_file_can_have_are_no_files() -> None:
    for text in ("strongreject:" + "x" * 5_000, "strongreject:a\x00"):
        assert parse_name(text) is None
        assert parse_recipe_file(text) is not None
        with pytest.raises(UsageError, match="no prompt file"):
            check_is_file(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("d: 2020-99-99", "month must be in"),
        ("[" * 200 + "]" * 200, "nested too deeply"),
        ("&a [*a]", "nested too deeply"),
        (BOMB, "aliases repeat it"),
        ("a: [1", "line 1"),
        ("x" * 4_000_001, "longer than"),
        ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: \x00", "not allowed"),
    ],
)
def test_yaml_that_is_none_says_why(text: str, reason: str) -> None:
    with pytest.raises(OutsideError, match=reason):
        parse_yaml(text)


@pytest.mark.parametrize("text", ["name: 2020-99-99", f"{BOMB}\nname: *a25", "&a {a: *a}"])
def test_rubrics_and_traits_of_such_yaml_are_one_line(text: str) -> None:
    path = SCRATCH / "odd.yaml"
    path.write_text(text)
    for read in (lambda: read_rubric(str(path)), lambda: Trait.read(path)):
        with pytest.raises(UsageError):
            read()


def test_numbers_that_are_too_large_are_damage() -> None:
    with pytest.raises(TypeError, match="308 digits"):
        from_plain(float, 10**400)
    low = "template: '{response}'\nscore: a\nfields: {a: {low: 1" + "0" * 400 + ", high: 2}}"
    with pytest.raises(UsageError, match="needs numbers"):
        by_file("low.yaml", lambda path: read_rubric(str(path)))(low.encode())
    plan = BY_NAME["run plan/round-0001.json"]
    odd = b'{"schema": 1, "proposals": [null], "sequential": true, "batches": {"a": [Infinity]}}'
    with pytest.raises(LedgerError, match="damaged"):
        plan.call(odd)
    assert read_rounds is not None


def test_a_parquet_file_that_ends_its_reader_is_one_line() -> None:
    """On this file of 6 kB, damaged in one place, Polars asks for 2 EiB and ends the process."""
    odd = Path(__file__).parents[1] / "fixtures" / "aborting.parquet"
    with pytest.raises(UsageError, match="reading it ends the process that tries"):
        read_prompts(odd)


def test_a_parquet_file_that_is_nested_without_end_is_one_line(tmp_path: Path) -> None:
    """Time to read it grows with the square of its levels."""
    deep: object = 1
    for _ in range(150):
        deep = {"a": [deep]}
    path = tmp_path / "deep.parquet"
    pl.DataFrame({"prompt": ["hello"], "more": [deep]}).write_parquet(path)
    with pytest.raises(UsageError, match="a column is nested more than 100 levels"):
        read_prompts(path)


def test_reports_of_other_tools_with_lists_for_names(tmp_path) -> None:
    path = tmp_path / "g.report.jsonl"
    attempt = '{"entry_type": "attempt", "prompt": "p", "outputs": []}\n'
    path.write_text('{"entry_type": ["init"]}\n' + attempt)
    assert read_source(path, "garak").draws == ()
    path = tmp_path / "draws.jsonl"
    path.write_text('{"prompt_id": "a", "score": 1, "draw": 1' + "0" * 400 + "}\n")
    with pytest.raises(UsageError, match="draw must be a whole number"):
        read_source(path)
    path = tmp_path / "samples.jsonl"
    row = '{"doc_id": 1, "resps": [["a"]], "arguments": [["q", {"temperature": 1%s}]]}\n'
    path.write_text(row % ("0" * 400))
    assert "temperature" not in read_source(path, "lm-eval").contract
