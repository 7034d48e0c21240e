"""Rewordings of queries by a chat model, for `risk` and then `sensitivity`.

    prompts -> `drawing` (replies, kept as they come) -> `replies` (a reply to a wording, or why it
    is none) -> `meaning` (how near it is to the query) -> a file of prompts with groups

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.paraphrase.result import Paraphrased, QueryWordings

__all__ = ["Paraphrased", "QueryWordings"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "result"))
