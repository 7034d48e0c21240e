"""What a rubric asks and how its answers are read: a YAML file, or one that comes with tailbound.

name: politeness
see: response                     # prompt+response by default where the template has {prompt}
judge_target: openai:gpt-4o-mini  # any target; ?judge_target=... goes before it
sampling: {temperature: 0.2, max_new_tokens: 200}
tries: 3
threshold: 0.5
options: {style: formal}          # ?style=... ; null must be given
template: |
  How {style} is this reply? {response}
  End with one line "level: N", N from 0 to 10.
fields:
  level: {low: 0, high: 10, whole: true}
require: level >= 0               # optional; where it does not hold the verdict is missing
score: level / 10
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailbound.core.outside import finite, parse_yaml
from tailbound.errors import UsageError
from tailbound.judges.answer_parser import Field
from tailbound.judges.expressions import Expression
from tailbound.judges.formatting import BOTH, RESPONSE, SEE
from tailbound.judges.rubric_model import PLACE, TAKEN, Rubric, shows_prompt

BUILT_IN = Path(__file__).parent / "rubrics"

_KEYS = {
    "name", "about", "see", "judge_target", "engine", "sampling", "tries", "threshold", "options",
    "template", "fields", "require", "score",
}  # fmt: skip
_SAMPLING = {"temperature", "top_p", "top_k", "max_new_tokens", "system", "stop"}
_FIELD = {"low", "high", "whole", "words"}


def built_in_rubrics() -> list[str]:
    """Names of the rubrics that come with tailbound."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def read_rubric(name: str) -> Rubric:
    """The rubric in the YAML file `name`, or the built-in one of that name.

    Raises `UsageError`, in one line with the file's name, for whatever is wrong with it.
    """
    own = BUILT_IN / f"{name}.yaml"
    known = name in built_in_rubrics()
    path = own if known else Path(name)
    if not known and (not name or path.suffix.lower() not in (".yaml", ".yml")):
        raise UsageError(
            f"there is no rubric {name!r}: name a YAML file, or one of "
            f"{', '.join(built_in_rubrics())}"
        )
    try:
        found = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise UsageError(f"the rubric file {name} cannot be read: {reason}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{name} must hold a mapping with template, fields and score")
    return _Reading(name, found).rubric()


class _Reading:
    """From the mapping of a YAML file to a rubric, every value checked."""

    def __init__(self, place: str, found: dict[Any, Any]) -> None:
        self._place, self._found = place, found

    def rubric(self) -> Rubric:
        self._only(self._found, _KEYS, "")
        fields = self._fields()
        options = self._options(fields)
        template = self._template(set(options))
        see = str(self._found.get("see", BOTH if shows_prompt(template) else RESPONSE))
        if see not in SEE:
            raise self._error(f"see is one of {', '.join(SEE)}, not {see!r}")
        names = {field.name for field in fields} | set(options)
        require = self._found.get("require")
        rubric = Rubric(
            name=self._text("name", Path(self._place).stem),
            template=template,
            fields=fields,
            score=self._formula("score", self._text("score"), names),
            require=None if require is None else self._formula("require", str(require), names),
            see=see,
            threshold=self._threshold(),
            tries=self._tries(),
            sampling=self._mapping("sampling", _SAMPLING),
            judge_target=self._text("judge_target") if "judge_target" in self._found else None,
            engine=self._mapping("engine", None),
            options=options,
        )
        return rubric.seeing(see)

    def _error(self, problem: str) -> UsageError:
        return UsageError(f"rubric {self._place}: {problem}")

    def _only(self, found: Mapping[Any, Any], known: set[str], where: str) -> None:
        for key in found:
            if key not in known:
                raise self._error(f"unknown key {where}{key!r}: use {', '.join(sorted(known))}")

    def _text(self, key: str, default: str | None = None) -> str:
        value = self._found.get(key, default)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise self._error(f"{key!r} must be a text, not {value!r}")
        return value

    def _mapping(self, key: str, known: set[str] | None) -> dict[str, Any]:
        value = self._found.get(key) or {}
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise self._error(f"{key!r} must be a mapping, not {value!r}")
        if known is not None:
            self._only(value, known, f"{key}.")
        return value

    def _fields(self) -> tuple[Field, ...]:
        found = self._mapping("fields", None)
        if not found:
            raise self._error("'fields' must name the numbers of an answer, each with low and high")
        fields = tuple(self._field(name, value) for name, value in found.items())
        for name in found:
            for other in found:
                # "trait level: 3" would be read as "level: 3" too
                if other.endswith(f"_{name}"):
                    raise self._error(f"field {other!r} ends like field {name!r}: rename one")
        return fields

    def _field(self, name: str, value: Any) -> Field:
        if not (isinstance(value, dict) and name.isidentifier() and name not in TAKEN):
            raise self._error(f"field {name!r} must be a name with {{low: .., high: ..}}")
        self._only(value, _FIELD, f"fields.{name}.")
        low: Any = value.get("low")
        high: Any = value.get("high")
        if not (_is_number(low) and _is_number(high) and low < high):
            raise self._error(f"field {name!r} needs numbers low < high, not {low!r}, {high!r}")
        whole = value.get("whole", False)
        if not isinstance(whole, bool):
            raise self._error(f"field {name!r}: whole is true or false, not {whole!r}")
        words = value.get("words") or {}
        if not (isinstance(words, dict) and all(_is_number(v) for v in words.values())):
            raise self._error(f"field {name!r}: words map texts to numbers, not {words!r}")
        for word, number in words.items():
            if not low <= number <= high:
                raise self._error(
                    f"field {name!r}: the word {word!r} means {number:g}, which lies outside "
                    f"{low:g} to {high:g}"
                )
        # YAML reads yes and no as truth values
        named = tuple((_word(key), float(number)) for key, number in words.items())
        return Field(name, float(low), float(high), whole, named)

    def _options(self, fields: tuple[Field, ...]) -> dict[str, str | None]:
        found = self._mapping("options", None)
        taken = TAKEN | {field.name for field in fields} | _KEYS | _SAMPLING
        for key, value in found.items():
            if key in taken or not PLACE.fullmatch(f"{{{key}}}"):
                raise self._error(f"an option cannot be called {key!r}: choose another name")
            if value is not None and not isinstance(value, (str, int, float)):
                raise self._error(f"option {key!r} must be a text or a number, not {value!r}")
        return {key: None if value is None else str(value) for key, value in found.items()}

    def _template(self, options: set[str]) -> str:
        template = self._text("template")
        used = set(PLACE.findall(template))
        if "response" not in used:
            raise self._error("the template must show the judge {response}")
        for name in sorted(used - TAKEN - options):
            raise self._error(
                f"the template has {{{name}}}, which is not an option: add it to options"
            )
        return template

    def _formula(self, key: str, text: str, names: set[str]) -> Expression:
        formula = Expression(text, place=f"rubric {self._place}: {key}")
        for name in sorted(formula.names - names):
            raise self._error(f"{key} uses {name!r}, which is neither a field nor an option")
        return formula

    def _threshold(self) -> float:
        value = self._found.get("threshold", 0.5)
        if not _is_number(value) or not 0 < value <= 1:
            raise self._error(f"threshold must lie in (0, 1], not {value!r}")
        return float(value)

    def _tries(self) -> int:
        value = self._found.get("tries", 3)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._error(f"tries is a whole number from 1 on, not {value!r}")
        return value


def _is_number(value: object) -> bool:
    """A finite number; truth values are none."""
    return finite(value) is not None


def _word(key: object) -> str:
    if isinstance(key, bool):
        return "yes" if key else "no"
    return str(key).lower()
