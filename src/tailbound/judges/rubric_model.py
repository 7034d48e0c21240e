"""A rubric: a question about a response, and what its answer means."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tailbound.errors import UsageError
from tailbound.judges.answer_parser import Field, is_refusal
from tailbound.judges.expressions import Expression
from tailbound.judges.formatting import BOTH, NOT_SHOWN

PLACE = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
"""A place in a template that is filled in."""

TAKEN = {"prompt", "response", "mark"}
"""Names of places that no option or field can have."""


def shows_prompt(template: str) -> bool:
    """Whether the template has a place for the prompt."""
    return "prompt" in PLACE.findall(template)


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """A question about a response, and what its answer means. Made by `rubric_file.read_rubric`."""

    name: str
    template: str
    fields: tuple[Field, ...]
    score: Expression
    require: Expression | None
    see: str
    threshold: float
    tries: int
    sampling: Mapping[str, Any]
    judge_target: str | None
    engine: Mapping[str, Any]
    options: Mapping[str, str | None]

    def with_options(self, given: Mapping[str, str]) -> Rubric:
        """The rubric with the user's values of its options; those without a value must get one."""
        options = {**self.options, **given}
        for key, value in options.items():
            if value is None:
                raise UsageError(f"rubric {self.name} needs an option: add ?{key}=...")
        chosen = replace(self, options=options)
        for key in chosen._formula_options():
            chosen._number(key)
        return chosen

    def seeing(self, see: str) -> Rubric:
        """The rubric with another `see`; raises `UsageError` where that needs {prompt}."""
        if see == BOTH and not shows_prompt(self.template):
            raise UsageError(
                f"rubric {self.name}: with see {BOTH} the template must show the judge {{prompt}}"
            )
        return replace(self, see=see)

    def question(self, *, prompt: str, response: str, mark: str) -> str:
        """The text that the judge is given; `prompt` is hidden where `see` says so."""
        values = {
            **self.options,
            "prompt": prompt if self.see == BOTH else NOT_SHOWN,
            "response": response,
            "mark": mark,
        }
        # in one pass, so that nothing inside a response is filled in
        return PLACE.sub(lambda found: str(values[found[1]]), self.template)

    def read(self, answer: str, *, cut: bool = False) -> tuple[float | None, str | None]:
        """(score, None), or (None, why there is none); `cut` where `answer` was broken off.

        The last line of such an answer is not read: it may have been about to become "10" or "1
        or 2".

        A reason that begins with "not counted" stands for a verdict that was read but does not
        meet `require`; all others are worth asking again.
        """
        values: dict[str, float] = {}
        whole = answer[: answer.rfind("\n") + 1] if cut else answer
        for field in self.fields:
            value = field.read(whole)
            if value is None:
                shown = " ".join(answer.split())
                shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
                if not shown:
                    return None, "the judge's answer is empty"
                if is_refusal(answer):
                    return None, f"the judge refused: {shown!r}"
                return None, f"no usable {field.name!r} in the judge's answer {shown!r}"
            values[field.name] = value
        named = {**values, **{key: self._number(key) for key in self._formula_options()}}
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
        if self.require is not None and not self.require(named):
            return None, f"not counted: {self.require.text} does not hold ({shown})"
        try:
            score = self.score(named)
        except ZeroDivisionError:
            return None, f"not counted: the score divides by zero ({shown})"
        except OverflowError:
            return None, f"not counted: the score is out of all bounds ({shown})"
        return score, None

    def identity(self) -> dict[str, Any]:
        """Everything that a verdict depends on besides the judge target, as plain values."""
        return {
            "template": self.template,
            "fields": [[f.name, f.low, f.high, f.whole, list(f.words)] for f in self.fields],
            "score": self.score.text,
            "require": None if self.require is None else self.require.text,
            "see": self.see,
            "tries": self.tries,
            "options": dict(sorted(self.options.items())),
        }

    def _formula_options(self) -> set[str]:
        names = self.score.names | (self.require.names if self.require else frozenset())
        return {name for name in names if name in self.options}

    def _number(self, key: str) -> float:
        try:
            value = float(str(self.options[key]))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(
                f"rubric {self.name}: option {key} is a number, not {self.options[key]!r}"
            )
        return value
