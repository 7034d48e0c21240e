"""Extensions of griffe: examples in docstrings are shown as code, declared options as keywords.

A docstring here is plain text in which an example may stand anywhere, as `doctest` allows. Markdown
would take `>>>` for three quotations, so each run of example lines is put into a fence.

Functions that take options declared elsewhere are written with `**options`; their `__signature__`
has the options by name, and so has their page.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """Fences the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for every object that was loaded."""
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)


class DeclaredOptions(griffe.Extension):
    """Puts the keywords of `__signature__` in place of `**options`."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Called by griffe for every function that was loaded."""
        last = list(func.parameters)[-1:]
        if not last or last[0].kind is not griffe.ParameterKind.var_keyword:
            return
        written = getattr(importlib.import_module(func.module.path), func.name, None)
        if not hasattr(written, "__signature__"):
            return
        del func.parameters[last[0].name]
        for one in inspect.signature(written).parameters.values():
            if one.name not in func.parameters:
                func.parameters.add(
                    griffe.Parameter(
                        one.name,
                        annotation=annotation(one.annotation),
                        kind=griffe.ParameterKind.keyword_only,
                        default=None if one.default is one.empty else repr(one.default),
                    )
                )


def annotation(of: Any) -> str:
    """A type as it would be written."""
    text = of if isinstance(of, str) else inspect.formatannotation(of)
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", text)


def fenced(text: str) -> str:
    """`text` with each paragraph that begins with `>>>` in a fence of its own."""
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        if not inside and line.lstrip().startswith(">>>"):
            inside = True
            lines += ["", "```pycon"]
        elif inside and not line.strip():
            inside = False
            lines += ["```"]
        lines.append(line.lstrip() if inside and line.lstrip().startswith(">>>") else line)
    return "\n".join([*lines, "```"] if inside else lines)
