"""Copies of the calibration prompts, each followed in a stream of its own.

Draws of a prompt in different streams are independent: copy 0 is the stream `calibration`, further
ones are `calibration-2`, `calibration-3` and so on. A resumed run finds the draws of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import Audit, Followed, Following
from tailbound.core.prompt import Prompt

STREAM = "calibration"


def stream_of(copy: int) -> str:
    """The stream of the draws of copy number `copy`.

    >>> stream_of(0), stream_of(1)
    ('calibration', 'calibration-2')
    """
    return STREAM if copy == 0 else f"{STREAM}-{copy + 1}"


class FollowedCopies:
    """What `calibrate` calls `observe`: index c n + i is copy c of prompt i of n."""

    def __init__(self, audit: Audit, prompts: Sequence[Prompt]) -> None:
        self._audit, self._prompts = audit, prompts
        self._copies: list[Following] = []
        self._follow(0)

    def __call__(
        self, indices: NDArray[np.int64], horizons: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Follow each to its horizon; the first event of each, 0 for none; shapes (m,)."""
        copy, prompt = np.divmod(np.asarray(indices, dtype=np.int64), len(self._prompts))
        found = np.zeros(len(copy), dtype=np.int64)
        for number in np.unique(copy).tolist():
            mine = copy == number
            found[mine] = self._follow(number)(prompt[mine], np.asarray(horizons)[mine])
        return found

    def outcomes(self) -> list[Followed]:
        """Where every prompt stands, in each copy that was asked for."""
        return [copy.outcome() for copy in self._copies]

    def _follow(self, number: int) -> Following:
        while len(self._copies) <= number:
            stream = stream_of(len(self._copies))
            self._copies.append(self._audit.follow(self._prompts, stream=stream))
        return self._copies[number]


def stopped_by_missing(
    outcomes: Sequence[Followed], copies: NDArray[np.int64], prompts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each copy of a prompt ended at a missing verdict; shapes (m,).

    A copy of which nothing was asked (every horizon was 0) is in no outcome, and did not.
    """
    everywhere = np.stack([one.by_missing for one in outcomes])
    found = np.zeros(len(copies), dtype=np.bool_)
    followed = copies < len(outcomes)
    found[followed] = everywhere[copies[followed], prompts[followed]]
    return found


def used_draws(outcomes: Sequence[Followed]) -> dict[str, int]:
    """Draws of each copy's stream that went into the estimate."""
    return {
        stream_of(number): int(np.where(one.first_event > 0, one.first_event, one.horizons).sum())
        for number, one in enumerate(outcomes)
    }
