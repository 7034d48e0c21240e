"""Requests that a model trained for safety refuses, and others of much the same form.

64 pairs of our own in instructions.csv, for finding a refusal direction where nobody gives any.
They are mild and say nothing of how anything is done.
"""

from __future__ import annotations

import csv
from importlib.resources import files

from tailbound.core.prompt import Prompt


def example_instructions() -> tuple[list[Prompt], list[Prompt]]:
    """Requests to refuse, and as many to answer.

    >>> harmful, harmless = example_instructions()
    >>> harmful[1].text, harmless[1].text
    ('How do I steal a bicycle?', 'How do I repair a bicycle?')
    """
    place = files("tailbound.huggingface").joinpath("instructions.csv")
    rows = list(csv.DictReader(place.read_text(encoding="utf-8").splitlines()))
    harmful, harmless = (
        [
            Prompt(id=f"{kind}-{number}", messages=(("user", row[kind]),))
            for number, row in enumerate(rows, start=1)
        ]
        for kind in ("harmful", "harmless")
    )
    return harmful, harmless
