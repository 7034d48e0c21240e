"""Patterns that would take for ever, and two engines that must never differ."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processes import Launcher
from tailbound.core.prompt import Prompt
from tailbound.demo.files import default_prompts
from tailbound.judges import Exchange, load_judge
from tailbound.judges.limited_regex import LimitedSearch
from tailbound.judges.linear_regex import NotLinearError, _cased, linear_search
from tailbound.judges.pattern import PatternJudge

# of syntax that may change some day; the judge compiles such patterns in silence as well
pytestmark = pytest.mark.filterwarnings("ignore:Possible.*:FutureWarning")

PROMPT = Prompt(id="p", messages=(("user", "x"),))
BACKTRACKS = r"(a+)+\1$"
"""Exponential in Python's engine, and a backreference, which RE2 has not."""
LONG = "a" * 40 + "b"

LETTERS = "aAbkKſsSiIıİßẞéÉσςΣµμ_0٣ \n\r\t\x0b\x1c\x85\xa0\u2028-'’^$漢𝒳\u0301"
texts = st.text(st.sampled_from(LETTERS), max_size=12)

atoms = st.one_of(
    st.sampled_from(LETTERS).map(re.escape),
    st.sampled_from(
        [".", r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", r"\b", "^", "$", r"\A", r"\Z", r"\B",
         "[a-z]", "[^a-z]", r"[\w-]", r"[^\W\d]", "[A-ZÀ-Þ]", "[^k]", "[^ſı]", "[ -~]", "(?i:k)",
         "(?-i:K)", "(?a:\\w\\b)", "(?s:.)", "(?m:^)", "(?m:$)", r"(?<!\w)", r"(?!\w)", r"(?=a)",
         r"(?<=k)", r"(?<!a)", "(?!^)", "[]a]", "[[:a:]]", "a{,2}", "k{0}", "{", "a{a", r"\x41",
         r"é", "(?P<n>a)", "(?:)", "()"]
    ),
)  # fmt: skip


def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(
            inner,
            st.sampled_from(["*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{2,}", "{,2}"]),
        ).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    )


patterns = st.tuples(
    st.sampled_from(["", "", "(?i)", "(?m)", "(?s)", "(?a)", "(?ai)", "(?im)"]),
    st.recursive(atoms, grow, max_leaves=7),
).map("".join)


@settings(max_examples=300, deadline=None)
@given(patterns, st.lists(texts, min_size=1, max_size=12))
def test_re2_finds_what_python_finds(pattern: str, responses: list[str]) -> None:
    try:
        search = linear_search(pattern)
    except NotLinearError:
        return
    for text in responses:
        assert search(text) in (None, re.search(pattern, text) is not None), (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(?i)mask", "MA\u017f\u212a"),  # a long s and the sign of kelvin
        ("(?i)i", "ı"),
        ("(?i)[a-z]", "İ"),
        (r"\w", "é"),
        (r"\d", "٣"),
        (r"\s", "\x1c"),
        ("end$", "the end\n"),
        ("^a{,3}$", "aa"),
        ("[[:alpha:]]", ":]"),
        (r"(?<!\w)bomb(?!\w)", "é bomb."),
        ("[^a]", "\u2028"),
    ],
)
def test_patterns_that_the_two_read_differently_are_written_out(pattern: str, text: str) -> None:
    """RE2 alone says no to every one of these but the last two."""
    assert re.search(pattern, text)
    assert linear_search(pattern)(text) is True


@pytest.mark.parametrize(
    ("pattern", "text", "known"),
    [
        (r"\bk", "a k", True),
        (r"\bk", "“k”", True),  # no letters beyond ASCII
        (r"\bk", "ék", None),
        ("k", "k\udc80", None),
    ],
)
def test_texts_that_re2_cannot_read_go_to_python(
    pattern: str, text: str, known: bool | None
) -> None:
    assert linear_search(pattern)(text) is known
    judge = PatternJudge("regex:x", pattern)
    (verdict,) = judge.judge([Exchange(PROMPT, text)])
    assert verdict.score == float(re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    "pattern",
    [r"(a)\1", "(?=a)b", "a(?!b)c", "(?>a+)b", "a++b", r"\Ba", "(?:a|)*", "a$b", "(a)?(?(1)b|c)",
     "(?!ab)c", "a{1001}"],
)  # fmt: skip
def test_what_re2_has_no_equal_for_is_left_to_python(pattern: str) -> None:
    with pytest.raises(NotLinearError):
        linear_search(pattern)
    assert PatternJudge("regex:x", pattern).id == "regex:x?engine=python"


def test_no_character_beyond_those_looked_at_has_another_case() -> None:
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    assert {c for c in every if c.lower() != c or c.upper() != c} <= set(_cased())
    for letter in "kKsi_é":
        same = set(re.findall(re.escape(letter), every, re.IGNORECASE))
        assert same <= {letter, *_cased()}


def test_nested_repetitions_take_no_time_where_re2_looks() -> None:
    judge = load_judge("regex:(x+x+)+y")
    assert judge.id.endswith("?engine=re2")
    begun = time.process_time()
    found = judge.judge([Exchange(PROMPT, "x" * 20_000), Exchange(PROMPT, "x" * 20_000 + "y")])
    assert [verdict.score for verdict in found] == [0, 1]
    assert time.process_time() - begun < 5


def test_a_search_without_end_is_missing_and_harms_no_other() -> None:
    judge = PatternJudge("regex:x", BACKTRACKS, limit=0.1)
    found = judge.judge([Exchange(PROMPT, text) for text in ("aa", LONG, "b", LONG, "aaaa")])
    assert [verdict.score for verdict in found] == [1, None, 0, None, 1]
    assert "took more than 0.1 s" in str(found[1].reason)
    assert "too long on 2 of 5 responses" in judge.notices[0]


def test_a_process_that_does_not_stop_is_killed_and_started_again() -> None:
    search = LimitedSearch(BACKTRACKS, limit=1000, total_limit=0.5)
    assert search(["aa", LONG, "aa"]) == [True, None, True]


def test_a_process_that_was_ended_is_started_again() -> None:
    search = LimitedSearch(BACKTRACKS)
    assert search(["aa"]) == [True]
    assert search._process is not None
    search._process.kill()
    search._process.wait()
    assert search(["aa", "b"]) == [True, False]


def test_the_process_ends_with_its_judge() -> None:
    search = LimitedSearch("a")
    search(["a"])
    process = search._process
    assert process is not None
    del search
    assert process.wait(timeout=10) is not None


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_ends_soon_in_the_midst_of_long_searches(
    sent: signal.Signals, tmp_path: Path, launcher: Launcher
) -> None:
    """Every search takes a second here, and 64 of them are one batch."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in default_prompts(150))
    )
    line = ["bound", str(prompts), "--max-new-tokens", "32",
            "--budget", "40", "--train-draws", "120", "--out", str(tmp_path / "run"),
            "--judge", r"regex:(?:[\w ,.]+)+(?:[\w ,.]+)+(\w)\1\1\1!"]  # fmt: skip
    process = launcher.start(*line)
    try:
        while not (tmp_path / "run" / "ledger.json").exists():
            assert process.running, process.finish().stderr
            time.sleep(0.1)
        time.sleep(3)
        process.send_signal(sent)
        done = process.finish(timeout=40)
        assert done.returncode == 130
        assert "interrupted" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        process.kill()
