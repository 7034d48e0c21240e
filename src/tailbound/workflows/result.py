"""What the results of all commands have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Self

from tailbound.core.outside import one_line, visible
from tailbound.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

SHOWN = 10
"""Rows of a table that a notebook shows."""
_LONGEST = 200


class Result(ABC):
    """A frozen value with the same ways out everywhere.

    `to_dict` gives plain values, None for numbers that are not finite, and `to_json` the same as
    text; `frame` a Polars table; `facts` the few numbers that a person looks for first, which
    `repr` and notebooks show. Text of others' making is escaped in both.
    """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: what `--json` prints."""

    @abstractmethod
    def facts(self) -> Mapping[str, object]:
        """What came out, as a few labelled values in words."""

    @abstractmethod
    def frame(self) -> pl.DataFrame:
        """The rows of the result as a table."""

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; raises `UsageError` where a result is not kept in a file."""
        raise UsageError(f"a {cls.__name__} is not kept: ask for it again")

    def to_json(self) -> str:
        """`to_dict` as one JSON object, indented."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`; raises `UsageError` for anything else."""
        try:
            return cls.from_dict(json.loads(text))
        except UsageError:
            raise
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            OverflowError,
        ) as error:
            reason = one_line(f"{type(error).__name__}: {error}", _LONGEST)
            raise UsageError(f"this is not a {cls.__name__} in JSON: {reason}") from error

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {text_facts(self.facts())}>"

    def _repr_html_(self) -> str:
        return html_facts(type(self).__name__, self.facts(), html_table(self.frame()))


def text_facts(facts: Mapping[str, object]) -> str:
    """`name: value` of each fact, on one line without control characters."""
    return ", ".join(f"{_shown(name)}: {_shown(value)}" for name, value in facts.items())


def html_facts(title: str, facts: Mapping[str, object], more: str = "") -> str:
    """A title and a table of facts, every value escaped; `more` is HTML that follows."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{_html(name)}</th>"
        f"<td style='text-align:left'>{_html(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<div><strong>{_html(title)}</strong><table>{rows}</table>{more}</div>"


def html_table(frame: pl.DataFrame) -> str:
    """The first rows of `frame` as an HTML table in which every value is escaped."""
    if frame.is_empty():
        return ""
    head = "".join(f"<th>{_html(name)}</th>" for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_html(value)}</td>" for value in row) + "</tr>"
        for row in frame.head(SHOWN).iter_rows()
    )
    more = f"<p>{frame.height - SHOWN:,} more rows</p>" if frame.height > SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _shown(value: object) -> str:
    """One line without control characters; numbers with four digits."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return visible(one_line(value, _LONGEST))


def _html(value: object) -> str:
    return escape(_shown(value))
