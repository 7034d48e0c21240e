"""`bound` from its keyword arguments to its result, and its dry run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tailbound.audit import Reporter, silent
from tailbound.core.contract import SamplingContract
from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.storage.places import check_place
from tailbound.targets import Target
from tailbound.targets.capabilities import notices_of
from tailbound.workflows.bound.features import check_features, check_head, choose_features
from tailbound.workflows.bound.importance.job import check_record, run_importance
from tailbound.workflows.bound.importance.options import method_of
from tailbound.workflows.bound.job import run_bound
from tailbound.workflows.bound.parts import PromptSplit, divide
from tailbound.workflows.bound.preview import Preview, planned, preview_bound
from tailbound.workflows.bound.results import BoundResult
from tailbound.workflows.costs import Costs, check_plan, cost_of_plan, judge_samples
from tailbound.workflows.opening import Opening, Request, report
from tailbound.workflows.risk.proposal import check_proposal, make_proposal
from tailbound.workflows.risk.proposals import Instructions
from tailbound.workflows.risk.settings import ProposalOptions
from tailbound.workflows.settings import RecordOptions


@dataclass(frozen=True, kw_only=True)
class BoundRun:
    """A bound, the contract it holds under, and what servers were paid for it."""

    result: BoundResult
    contract: SamplingContract
    accounts: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**self.result.to_dict(), **self.accounts}


@dataclass(frozen=True, kw_only=True)
class BoundPlan:
    """What a bound would take, what that would cost, and what asking cost."""

    preview: Preview
    cost: dict[str, float]
    accounts: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**self.preview.to_dict(), **self.cost}


class _Asked:
    """A bound that was asked for: checked, with nothing loaded yet."""

    def __init__(self, request: Request) -> None:
        self.method, self.proposed, self.settings = method_of(request.given)
        self.opening = Opening(
            "bound",
            request,
            threshold=self.settings.threshold,
            options={**self.settings.to_dict(), **self.method.to_dict()},
        )
        if self.method.weighted:
            self.opening.check_target()
            look_at_proposal(self.proposed, self.opening.target, request.out)
        self.prompts = request.read_prompts()
        self.parts: PromptSplit = divide(self.prompts, self.settings)
        check_features(
            self.settings.features,
            supplied=bool(self.parts.supplied),
            endpoint=self.opening.served,
        )
        check_head(self.settings.head, supplied=bool(self.parts.supplied))
        self.opening.check_target()
        if self.method.weighted:
            check_record(request.out, self.parts, self.method)

    @property
    def options(self) -> dict[str, Any]:
        """What `run.yaml` says of the statistics."""
        more: dict[str, Any] = {}
        if self.method.weighted:
            more = {"proposal": list(self.proposed.specs), "explore": self.proposed.explore}
        return {**self.settings.to_dict(), **self.method.to_dict(), **more}

    def load(self, *, keep: bool) -> None:
        """Judge, target and features; with `keep` the folder must be free for the run."""
        if keep:
            self.opening.check_folder(self.prompts)
        self.judge = self.opening.load_judge()
        if keep:
            self.opening.check_folder(judge=self.judge)
        self.target = self.opening.load_target(self.prompts)
        self.notices = (*self.prompts.notices, *notices_of(self.target))
        if not self.parts.supplied:
            chosen, about = choose_features(self.settings.features, self.target)
            self.settings = replace(self.settings, features=chosen)
            self.notices = (*self.notices, *about)
        report(*self.notices)
        plan = planned(self.parts, self.settings, self.method)
        check_plan(
            self.target,
            certain=[(members, each) for part, members, each in plan if part == "train" and each],
            at_most=[(members, each) for part, members, each in plan if part != "train"],
        )


def run_command(request: Request, *, progress: Reporter = silent) -> BoundRun:
    """Everything that `tailbound bound` does; `given` are its declared options."""
    asked = _Asked(request)
    asked.load(keep=True)
    asked.opening.write_manifest(
        asked.target,
        asked.judge,
        options={**asked.options, **request.which_prompts(asked.prompts.source)},
        notices=asked.notices,
    )
    with asked.opening.running(asked.target, asked.judge) as costs:
        if asked.method.weighted:
            result = _run_weighted(asked, request, progress)
            return BoundRun(
                result=result, contract=asked.target.contract, accounts=costs.report(request.out)
            )
        result = run_bound(
            asked.parts,
            target=asked.target,
            judge=asked.judge,
            settings=asked.settings,
            folder=request.out,
            report=progress,
            width=asked.opening.batch_size,
            store_text=not make(RecordOptions, request.given).no_text,
        )
    return BoundRun(
        result=result, contract=asked.target.contract, accounts=costs.report(request.out)
    )


def _run_weighted(asked: _Asked, request: Request, progress: Reporter) -> BoundResult:
    """The bound from weighted draws, by proposals that are found or read back."""
    proposed, parts = asked.proposed, asked.parts
    proposal = make_proposal(
        proposed.specs,
        asked.target,
        asked.judge,
        parts.calibration if parts.supplied else parts.train,
        folder=request.out,
        instructions=Instructions(harmful=proposed.harmful, harmless=proposed.harmless),
        explore=proposed.explore,
        seed=asked.settings.seed,
    )
    report(*proposal.notices)
    return run_importance(
        parts,
        proposal=proposal,
        judge=asked.judge,
        settings=asked.settings,
        method=asked.method,
        folder=request.out,
        report=progress,
        width=asked.opening.batch_size,
    )


def look_at_proposal(proposed: ProposalOptions, target: str | Target, folder: Path) -> None:
    """Find what is wrong with the proposals of a bound; nothing is loaded."""
    check_place(folder)
    check_proposal(
        proposed.specs,
        target,
        folder=folder,
        instructions=Instructions(harmful=proposed.harmful, harmless=proposed.harmless),
        explore=proposed.explore,
    )


def plan_command(request: Request) -> BoundPlan:
    """What `run_command` would draw, take and cost, from a few draws; nothing is kept."""
    asked = _Asked(request)
    asked.load(keep=False)
    costs = Costs(asked.target, asked.judge)
    before = costs.now()
    with step("a few draws, to measure"):
        preview = preview_bound(
            asked.parts, target=asked.target, settings=asked.settings, method=asked.method
        )
        judge_samples(asked.judge, preview)
    cost = cost_of_plan(asked.target, costs, before, preview)
    return BoundPlan(preview=preview, cost=cost, accounts=costs.report())


def why_trivial(result: BoundResult) -> str | None:
    """What stood in the way of a bound above 1; None where there is one."""
    bounds = (result.bound,) if result.groups is None else result.groups.bound.bounds
    if any(bound.level > 0 for bound in bounds):
        return None
    noise = result.weighted and result.weighted.too_noisy(result.bound.alpha)
    if noise:
        return noise
    if result.bound.n_calibration < result.bound.prompts_needed:
        return (
            f"the guarantee {result.bound.guarantee!r} needs at least "
            f"{result.bound.prompts_needed} calibration prompts where weights reach "
            f"{result.bound.weight_bound:.3g}: lower --max-weight, or use --guarantee plug-in"
        )
    if result.missing.median_if_safe > 1:
        return (
            f"{result.missing.prompts_stopped} calibration prompts stopped at a missing verdict, "
            "which counts as unsafe: check the judge"
        )
    return (
        f"more than alpha = {result.bound.alpha:g} of the calibration prompts were unsafe before "
        "any longer bound: a larger --alpha, or a predictor that tells them apart, could give one"
    )
