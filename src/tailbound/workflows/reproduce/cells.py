"""One run of a study: made by `risk` in a folder of its own, or read back where it is complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailbound.audit import Reporter
from tailbound.core.prompt import Prompt
from tailbound.errors import ContractMismatchError
from tailbound.judges import Judge
from tailbound.runs.spend import read_stages
from tailbound.targets import Target
from tailbound.workflows.opening import Request
from tailbound.workflows.reproduce.folder import RUNS
from tailbound.workflows.reproduce.results import RunEstimate, StudyRun
from tailbound.workflows.reproduce.settings import BRUTE, Cell
from tailbound.workflows.risk.command import run_command
from tailbound.workflows.risk.proposals.base import EXPLORE
from tailbound.workflows.risk.proposals.registry import NONE
from tailbound.workflows.risk.results import RiskResult, read_result

GROWING = ("risk", "scoring", "learning", "pilot", "pilot scoring", "judging")
"""Stages that take more the more draws there are; all others are done once per run."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all runs of a study share; `given` are the options of `risk` that hold for each."""

    folder: Path
    target: Target
    judge: Judge
    prompts: Sequence[Prompt]
    given: Mapping[str, Any]
    seed: int

    def run(self, cell: Cell, *, progress: Reporter) -> StudyRun:
        """Make the run or resume it; one that is complete is read back, and nothing is computed."""
        folder = self.folder / RUNS / cell.name
        result = read_result(folder)
        if result is None:
            request = Request(
                prompts=list(self.prompts),
                out=folder,
                target=self.target,
                judge=self.judge,
                given={
                    **self.given,
                    **options_of_method(cell.method, self.given),
                    "draws": cell.draws,
                    "seed": cell.seed(self.seed),
                },
            )
            result = run_command(request, progress=progress).result
        self._check(folder, result)
        return study_run(cell, folder, result, seed=cell.seed(self.seed))

    def _check(self, folder: Path, result: RiskResult) -> None:
        found = {*(risk.prompt.id for risk in result.risks), *result.left_out}
        if found != {prompt.id for prompt in self.prompts}:
            raise ContractMismatchError(
                f"{folder} holds a run on other prompts: use another --out, or the same prompts"
            )


def options_of_method(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a method means among the options of `risk`.

    `mix-switch` is as published: one proposal, the first, and no explorers.
    """
    if method in (NONE, BRUTE):
        return {"proposal": (NONE,), "explore": True, "harmful": None, "harmless": None}
    if method == "ladder":
        return {"proposal_family": "ladder"}
    first = next((one for one in given["proposal"] if one != EXPLORE), None)
    return {
        "proposal_family": method,
        "proposal": () if first is None else (first,),
        "explore": False,
    }


def study_run(cell: Cell, folder: Path, result: RiskResult, *, seed: int) -> StudyRun:
    """What a complete run estimated and cost, from its folder."""
    stages = read_stages(folder)
    # a server counts no positions: its tokens are what there is
    tokens = {name: work.positions or work.tokens for name, work in stages.items()}
    return StudyRun(
        folder=cell.name,
        method=cell.method,
        draws=cell.draws,
        repeat=cell.repeat,
        seed=seed,
        tokens=sum(tokens.values()),
        once=sum(count for name, count in tokens.items() if name not in GROWING),
        written=sum(work.tokens for work in stages.values()),
        seconds=round(sum(work.seconds for work in stages.values()), 1),
        left_out=result.left_out,
        estimates=tuple(
            RunEstimate(
                id=risk.prompt.id,
                risk=risk.estimate.risk,
                standard_error=risk.estimate.standard_error,
                interval=risk.estimate.interval,
                certified_lower=risk.estimate.certified_lower,
                resolved=risk.estimate.resolved,
                hits=risk.estimate.hits,
                draws=risk.estimate.draws,
                missing=risk.estimate.missing,
                mean_weight=risk.estimate.mean_weight,
                mean_weight_z=risk.estimate.mean_weight_z,
            )
            for risk in result.risks
        ),
    )
