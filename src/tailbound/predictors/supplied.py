"""Predictions of the user's own: the column `p_hat` of a prompt file."""

from __future__ import annotations

import math

from tailbound.errors import UsageError
from tailbound.prompts import PromptSet


def supplied_p_hat(prompts: PromptSet) -> dict[str, float]:
    """The user's p_hat by prompt id; empty where the file has no such column.

    Each must lie in (0, 1]. A 0 would claim that no number of draws is too many, which nothing
    can calibrate: it is refused, not rounded up to a number that the user did not give.

    Raises `UsageError` naming the first prompt whose p_hat is missing or out of range.
    """
    values = prompts.p_hat_by_id()
    absent = [name for name, p in values.items() if math.isnan(p)]
    if absent:
        raise UsageError(
            f"{len(absent)} prompts of {prompts.source} have no p_hat (the first: {absent[0]!r}): "
            "give one for each prompt, or drop the column"
        )
    for name, p in values.items():
        if not 0 < p <= 1:
            cure = (
                "give the smallest probability that you would stand by, for instance 1e-9"
                if p == 0
                else "mend it"
            )
            raise UsageError(
                f"p_hat of prompt {name!r} in {prompts.source} is {p:g}, not in (0, 1]: {cure}"
            )
    return values
