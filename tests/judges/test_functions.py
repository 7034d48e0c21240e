import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailbound.core.contract import Verdict
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.judges import Exchange, is_failure, load_judge

MODULE = """
from tailbound.core.contract import Verdict

def both(prompt, response):
    return prompt in response

def response_only(response, strict=False):
    return len(response) / 10

def odd(response):
    return {"": None, "nan": float("nan"), "big": 1.5, "word": "unsafe", "yes": True,
            "verdict": Verdict(0.25), "missing": Verdict(None, "refused"),
            "wild": Verdict(-1.0)}[response]

def three(a, b, c):
    return 0

async def later(response):
    return 0

def leaving(response):
    import sys
    sys.exit(3)

def shouting(response):
    raise RuntimeError("bad \\ud800\\n" + "x" * 10_000)

def strange(response):
    import numpy
    return {"small": Verdict(numpy.float32(0.5)), "true": Verdict(True), "text": Verdict("0.5"),
            "number": Verdict(None, 5), "lines": Verdict(None, "a\\n\\ud800"), "huge": 10**400,
            "why": Verdict(0.5, "so\\nso")}[response]

def yielding(response):
    yield 1

class Later:
    async def __call__(self, response):
        return 1

later_object = Later()

class Judges:
    @staticmethod
    def inner(response):
        return 1

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    Path("my_judges.py").write_text(MODULE)
    Path("leaving_at_once.py").write_text("import sys; sys.exit(0)")
    yield "my_judges"
    sys.modules.pop("my_judges", None)


def verdict(spec: str, response: str, prompt: str = "q") -> Verdict:
    exchange = Exchange(Prompt(id="p", messages=(("user", prompt),)), response)
    return load_judge(spec).judge([exchange])[0]


def test_functions_of_both_or_of_the_response(module: str) -> None:
    assert verdict(f"python:{module}:both", "a q b") == Verdict(1.0)
    assert verdict(f"python:{module}:both", "a b") == Verdict(0.0)
    assert verdict(f"python:{module}:response_only", "abc") == Verdict(0.3)
    assert verdict(f"python:{module}:Judges.inner", "abc") == Verdict(1.0)


@pytest.mark.parametrize(
    ("response", "score", "reason"),
    [
        ("yes", 1.0, None),
        ("verdict", 0.25, None),
        ("", None, "the judge gave no score"),
        ("nan", None, "judge failed: the score is NaN"),
        ("big", None, "judge failed: the score is 1.5, not a number in [0, 1]"),
        ("word", None, "judge failed: the score is 'unsafe', not a number in [0, 1]"),
        ("missing", None, "refused"),
        ("wild", None, "judge failed: the score is -1.0, not a number in [0, 1]"),
        ("other", None, "judge failed: KeyError: 'other'"),
    ],
)
def test_what_is_no_score_is_missing_never_safe(
    module: str, response: str, score: float | None, reason: str | None
) -> None:
    found = verdict(f"python:{module}:odd", response)
    assert found == Verdict(score, reason)
    assert is_failure(found) == (reason or "").startswith("judge failed")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_to_be_found:f", "'nowhere_to_be_found' cannot be imported .ModuleNotFoundError"),
        ("my_judges", "names no function: write python:module:function"),
        ("my_judges:absent", "has no 'absent'"),
        ("my_judges:number", "is int, not a function"),
        ("my_judges:three", r"must take \(prompt, response\) or \(response\), not \(a, b, c\)"),
        ("my_judges:later", "is async"),
        ("my_judges:later_object", "is async or yields: write a plain function that returns"),
        ("my_judges:yielding", "is async or yields"),
        ("leaving_at_once:f", "'leaving_at_once' cannot be imported .SystemExit: 0"),
    ],
)
def test_functions_that_cannot_judge_are_refused_at_once(
    module: str, name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_judge(f"python:{name}")


def test_the_id_changes_with_the_source(module: str) -> None:
    before = load_judge(f"python:{module}:both").id
    assert load_judge(f"python:{module}:both").id == before
    sys.modules.pop(module)
    Path("my_judges.py").write_text(MODULE + "\n# another day\n")
    assert load_judge(f"python:{module}:both").id != before
    assert before.startswith("python:my_judges:both@")


def test_the_working_directory_does_not_stay_on_the_path(module: str, tmp_path: Path) -> None:
    before = list(sys.path)
    load_judge(f"python:{module}:both")
    assert sys.path == before


def test_a_function_that_leaves_ends_nothing(module: str) -> None:
    found = verdict(f"python:{module}:leaving", "a")
    assert found == Verdict(None, "judge failed: SystemExit: 3")


def test_reasons_are_one_short_line_that_can_be_stored(module: str) -> None:
    reason = str(verdict(f"python:{module}:shouting", "a").reason)
    assert reason.startswith("judge failed: RuntimeError: bad \ufffd xxx")
    assert len(reason) < 600
    assert "\n" not in reason
    assert reason.encode()


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("small", Verdict(0.5)),
        ("true", Verdict(1.0)),
        ("text", Verdict(None, "judge failed: the score is '0.5', not a number in [0, 1]")),
        ("number", Verdict(None, "5")),
        ("lines", Verdict(None, "a \ufffd")),
        (
            "huge",
            Verdict(None, f"judge failed: the score is 1{'0' * 56}..., not a number in [0, 1]"),
        ),
        ("why", Verdict(0.5, "so so")),
    ],
)
def test_verdicts_are_held_to_the_same_as_plain_values(
    module: str, response: str, expected: Verdict
) -> None:
    found = verdict(f"python:{module}:strange", response)
    assert found == expected
    assert found.score is None or type(found.score) is float
