"""The runs of the study of completions: each a `bound`, begun with the draws of the one before.

All of them draw from the same streams, so what one has drawn the others need not draw again: a new
run folder is a copy of the fullest one, without its results.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import Reporter
from tailbound.core.prompt import Prompt
from tailbound.errors import ContractMismatchError
from tailbound.judges import Judge
from tailbound.runs import read, totals
from tailbound.runs.layout import (
    BOUND,
    EVALUATION,
    LOCK,
    LOCK_HOLDER,
    MANIFEST,
    P_HAT,
    PREDICTIONS,
)
from tailbound.storage.files import make_folder, refusals
from tailbound.survival import evaluate, quantile
from tailbound.targets import Target
from tailbound.workflows.bound.command import run_command
from tailbound.workflows.bound.p_hat import p_hat_table
from tailbound.workflows.bound.results import BoundResult, read_result
from tailbound.workflows.opening import Request
from tailbound.workflows.reproduce.folder import RUNS
from tailbound.workflows.reproduce.realtoxicity.results import CheckedBound, CompletionRun
from tailbound.workflows.reproduce.realtoxicity.settings import BoundCell

_RESULTS = (LOCK, LOCK_HOLDER, BOUND, EVALUATION, P_HAT, PREDICTIONS)
"""What a copy of a run leaves out."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all runs of the study share."""

    folder: Path
    target: Target
    judge: Judge
    prompts: Sequence[Prompt]

    def place(self, cell: BoundCell) -> Path:
        """The run folder of a cell."""
        return self.folder / RUNS / cell.name

    def run(self, cell: BoundCell, given: Mapping[str, Any], *, progress: Reporter) -> BoundResult:
        """Make the run or resume it; one that is complete is read back, and nothing is computed."""
        folder = self.place(cell)
        result = read_result(folder)
        if result is not None:
            self._check(folder)
            return result
        if not folder.exists():
            self._begin(folder)
        request = Request(
            prompts=list(self.prompts),
            out=folder,
            target=self.target,
            judge=self.judge,
            given=given,
        )
        return run_command(request, progress=progress).result

    def _begin(self, folder: Path) -> None:
        """Copy the fullest complete run to `folder`, where there is one."""
        complete = [one for one in folder.parent.glob("*") if (one / BOUND).is_file()]
        if not complete:
            return
        source = max(sorted(complete), key=draws_of)
        part = folder.parent / f".{folder.name}.part"
        with refusals(part):
            make_folder(folder.parent)
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(source, part, ignore=shutil.ignore_patterns(*_RESULTS))
            part.rename(folder)

    def _check(self, folder: Path) -> None:
        found = set(p_hat_table(folder)["id"])
        if not found <= {prompt.id for prompt in self.prompts}:
            raise ContractMismatchError(
                f"{folder} holds a run on other prompts: use another --out, or the same prompts"
            )


def draws_of(folder: Path) -> int:
    """Draws on record in a run folder."""
    if not (folder / MANIFEST).is_file():
        return 0
    return sum(total.draws for total in totals(folder).values())


class ObservedTimes:
    """What is known of T of each test prompt, from the draws of the runs in `folders`.

    `ids` are those of the test prompts. Of each prompt, the run that followed it furthest counts.
    """

    def __init__(self, ids: Sequence[str], folders: Sequence[Path], *, threshold: float) -> None:
        place = {name: number for number, name in enumerate(ids)}
        self.first_unsafe = np.zeros(len(ids), dtype=np.int64)
        self.followed = np.zeros(len(ids), dtype=np.int64)
        for folder in folders:
            table = read(folder, stream="test").sort("prompt_id", "index")
            for name, mine in table.group_by("prompt_id", maintain_order=True):
                scores = mine["score"].to_list()
                first, followed = _followed(scores, threshold)
                at = place[str(name[0])]
                if followed > self.followed[at]:
                    self.first_unsafe[at], self.followed[at] = first, followed

    def check(
        self, bounds: NDArray[np.int64], p_hat: NDArray[np.float64], *, cap: int
    ) -> CheckedBound:
        """How many of the `bounds` hold, shape (prompts,)."""
        found = evaluate(bounds, self.first_unsafe, self.followed, p_hat=p_hat, cap=cap, bins=0)
        return CheckedBound(
            mean_bound=float(bounds.mean()),
            median_bound=found.median_bound,
            log_mean_bound=found.log_mean_bound,
            coverage=found.overall,
        )


def _followed(scores: Sequence[float | None], threshold: float) -> tuple[int, int]:
    """Index of the first unsafe draw (0: none), and draws up to it, or before a missing verdict.

    >>> _followed([0.1, 0.9], 0.5), _followed([0.1, None, 0.9], 0.5)
    ((2, 2), (0, 1))
    """
    for index, score in enumerate(scores, start=1):
        if score is None:
            return 0, index - 1
        if score >= threshold:
            return index, index
    return 0, len(scores)


def predictions_of_test(folder: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Ids and p_hat of the test prompts of a run."""
    table = p_hat_table(folder).filter(part="test")
    return table["id"].to_list(), table["p_hat"].to_numpy()


def uncalibrated_bounds(p_hat: NDArray[np.float64], alpha: float) -> NDArray[np.int64]:
    """The quantiles of T at level alpha that p_hat itself gives, shape (prompts,)."""
    return quantile(p_hat, alpha)


def completion_run(
    cell: BoundCell, result: BoundResult, times: ObservedTimes, p_hat: NDArray[np.float64], n: int
) -> CompletionRun:
    """What a run found; `n` are its calibration prompts, those set aside for planning included."""
    bound = result.bound
    return CompletionRun(
        folder=cell.name,
        design=cell.design,
        guarantee=cell.guarantee,
        budget=cell.budget,
        level=bound.level,
        cap=bound.cap,
        limited_by=bound.limited_by,
        planned=bound.planned / n,
        spent=bound.spent / n,
        checked=times.check(bound.predict(p_hat), p_hat, cap=bound.cap),
    )
