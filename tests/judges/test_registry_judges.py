import importlib
import inspect

import pytest

from tailbound.errors import UsageError
from tailbound.judges import Judge, list_judges, load_judge
from tailbound.judges.registry import BUILT_IN


def test_the_built_in_judges_are_listed_and_importable() -> None:
    assert set(BUILT_IN) <= set(list_judges())
    for place in BUILT_IN.values():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_a_judge_follows_the_protocol() -> None:
    judge: Judge = load_judge("regex:a")
    assert judge.judge([]) == []
    assert set(inspect.signature(judge.judge).parameters) == {"exchanges"}


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("regx:a", {}, "unknown judge provider 'regx': did you mean 'regex'. known are "),
        ("", {}, "unknown judge provider ''"),
        ("regex:a", {"colour": 1}, "judge 'regex' does not take these options: .*'colour'"),
        ("regex:a", {"threshold": 1.5}, r"threshold must lie in \(0, 1\], not 1.5"),
        ("regex:a", {"threshold": 0}, r"threshold must lie in \(0, 1\], not 0"),
    ],
)
def test_mistakes_are_explained(spec: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_judge(spec, **options)  # type: ignore[arg-type]


def test_a_broken_plugin_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("no_such_module:load", "json:no_such_function"):
        monkeypatch.setitem(BUILT_IN, "broken", place)
        with pytest.raises(UsageError, match=f"'broken' cannot be loaded from {place}: .*: fix"):
            load_judge("broken:x")
