"""A trait that a model may show, and the file that describes it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from tailbound.core.outside import parse_yaml
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError

TRAITS = (
    "apathy",
    "evil",
    "hallucination",
    "humor",
    "impoliteness",
    "optimism",
    "sycophancy",
)
"""Those of Chen et al., arXiv 2507.21509, in wordings of our own."""

_LISTS = ("positive", "negative", "questions")
_KEYS = ("name", "description", "judge", "coherence", *_LISTS)


@dataclass(frozen=True, kw_only=True)
class Trait:
    """A trait to be induced: system prompts for it and against it, and questions to answer.

    `judge` and `coherence` name the judges that it asks for, None where it leaves that open.
    """

    name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    questions: tuple[Prompt, ...]
    description: str = ""
    judge: str | None = None
    coherence: str | None = None

    @classmethod
    def named(cls, name: str) -> Trait:
        """The trait of that name that comes with tailbound (`TRAITS`); `UsageError` for others.

        >>> Trait.named("apathy").questions[0].text
        'I finally finished the painting that I worked on all year. What should I do with it?'
        """
        if name not in TRAITS:
            raise UsageError(
                f"no trait file {name!r}, and no trait of that name: use {', '.join(TRAITS)}, or "
                "YAML with name, positive, negative and questions"
            )
        with as_file(files("tailbound.steering").joinpath("trait_files", f"{name}.yaml")) as path:
            return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Trait:
        """From YAML with `positive`, `negative` and `questions`, each a list of texts.

        It may have `name`, `description`, `judge` and `coherence` (names of judges) besides; any
        other key is a `UsageError`, as is a file that cannot be read.
        """
        try:
            found = parse_yaml(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise UsageError(f"the trait file {path} cannot be read: {reason}") from error
        if not isinstance(found, dict):
            raise UsageError(f"{path} must hold a mapping with name, positive, negative, questions")
        for key, value in found.items():
            if key not in _KEYS:
                raise UsageError(f"{path} has an unknown key {key!r}: use {', '.join(_KEYS)}")
            if key not in _LISTS and not isinstance(value, str):
                raise UsageError(f"{path}: {key!r} must be a text, not {value!r}")
        lists: dict[str, tuple[str, ...]] = {}
        for key in _LISTS:
            value = found.get(key)
            if not (isinstance(value, list) and value and all(isinstance(v, str) for v in value)):
                raise UsageError(f"{path} needs {key!r}: a list of one or more texts")
            lists[key] = tuple(value)
        return cls(
            name=found.get("name") or path.stem,
            description=found.get("description", ""),
            judge=found.get("judge"),
            coherence=found.get("coherence"),
            positive=lists["positive"],
            negative=lists["negative"],
            questions=tuple(
                Prompt(id=f"question-{number}", messages=(("user", text),))
                for number, text in enumerate(lists["questions"], start=1)
            ),
        )
