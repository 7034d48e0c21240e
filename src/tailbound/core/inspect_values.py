"""Values of Inspect's scores: grades, numbers, and what is unscored."""

from __future__ import annotations

GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
"""Inspect's grades, by the high end of a scale."""
NO_ANSWER = "N"
"""No answer: neither high nor low, but missing."""


def graded(value: object) -> object:
    """The number that a grade stands for; everything else as it is.

    >>> graded("C"), graded("Yes"), graded(0.25), graded("N")
    (1.0, 1.0, 0.25, 'N')
    """
    if not isinstance(value, str):
        return value
    return GRADES.get(value, GRADES.get(value.lower(), value))
