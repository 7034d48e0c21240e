"""An extension of griffe: examples in docstrings are shown as code.

A docstring here is plain text in which an example may stand anywhere, as `doctest` allows. Markdown
would take `>>>` for three quotations, so each run of example lines is put into a fence.
"""

from __future__ import annotations

from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """Fences the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for every object that was loaded."""
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)


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
