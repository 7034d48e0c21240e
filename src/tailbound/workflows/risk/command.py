"""`risk` from its keyword arguments to its result, its dry run, and another judge's verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tailbound.audit import Reporter, silent
from tailbound.audit.judge_queue import no_verdicts
from tailbound.core.contract import SamplingContract
from tailbound.core.interrupts import keeping
from tailbound.core.options import make
from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.errors import UsageError
from tailbound.importance_sampling.splitting import most_draws
from tailbound.judges import Judge
from tailbound.runs import reply_notices
from tailbound.runs.prompts import load_prompts
from tailbound.storage.places import check_place
from tailbound.storage.plain import finite
from tailbound.targets import Target
from tailbound.targets.capabilities import notices_of
from tailbound.workflows import rejudge
from tailbound.workflows.costs import Costs, check_plan, cost_range
from tailbound.workflows.opening import Opening, Request, report
from tailbound.workflows.rejudge import Rejudged, Workload, read_verdicts, verdicts_folder
from tailbound.workflows.risk.job import STREAM, run_risk
from tailbound.workflows.risk.preview import RiskPreview, preview_risk
from tailbound.workflows.risk.proposal import (
    check_proposal,
    make_proposal,
    unsafe_versions,
)
from tailbound.workflows.risk.proposals import Instructions, Proposals
from tailbound.workflows.risk.proposals.base import LEARN
from tailbound.workflows.risk.proposals.registry import NONE
from tailbound.workflows.risk.rejudged import Verdicts, rejudge_risk
from tailbound.workflows.risk.results import RiskResult
from tailbound.workflows.risk.settings import ProposalOptions, RiskSettings
from tailbound.workflows.risk.splitting.check import (
    SPLITTING,
    check_judge,
    check_options,
    check_target,
)
from tailbound.workflows.risk.splitting.job import run_splitting
from tailbound.workflows.risk.splitting.settings import SplittingOptions


@dataclass(frozen=True, kw_only=True)
class RiskRun:
    """Risks, the contract they hold under, and what servers were paid for them."""

    result: RiskResult
    contract: SamplingContract
    accounts: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        document = {**self.result.to_dict(), "contract": self.contract.to_dict(), **self.accounts}
        plain: dict[str, Any] = finite(document)
        return plain


@dataclass(frozen=True, kw_only=True)
class RiskPlan:
    """What risks would take, what that would cost, and what asking cost."""

    preview: RiskPreview
    steered: bool
    cost: dict[str, float]
    accounts: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**self.preview.to_dict(), **self.cost}


@dataclass(frozen=True, kw_only=True)
class RiskRejudged:
    """The risks under another judge, how far the two agree, and where the files are."""

    result: RiskResult
    agreed: Rejudged
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        document = {**self.result.to_dict(), "agreement": self.agreed.agreement.to_dict()}
        plain: dict[str, Any] = finite(document)
        return plain


class _Asked:
    """Risks that were asked for: checked, with nothing loaded yet."""

    def __init__(self, request: Request) -> None:
        out = self.out = request.out
        self.settings = make(RiskSettings, request.given)
        proposed = make(ProposalOptions, request.given)
        self.proposal, self.explore = proposed.specs, proposed.explore
        self.splitting = make(SplittingOptions, request.given)
        self.splits = self.proposal == (SPLITTING,)
        if self.splits:
            check_options(self.settings, self.splitting)
        self.instructions = Instructions(harmful=proposed.harmful, harmless=proposed.harmless)
        self.opening = Opening(
            "risk",
            request,
            threshold=self.settings.threshold,
            options=self.settings.to_dict(),
        )
        self.opening.check_target()
        check_place(out)
        look = partial(
            check_proposal,
            self.proposal,
            self.opening.target,
            folder=out,
            instructions=self.instructions,
            explore=self.explore,
            family=self.settings.family,
            batches=self.settings.most_batches,
        )
        look()  # before prompts are fetched from a hub
        self.prompts = request.read_prompts()
        look(prompts=len(self.prompts))

    @property
    def options(self) -> dict[str, Any]:
        """What `run.yaml` says of the statistics."""
        more = asdict(self.splitting) if self.splits else {}
        return {**self.settings.to_dict(), **more}

    def load_judge(self) -> Judge:
        """The judge; raises `UsageError` for one that splitting cannot use."""
        judge = self.opening.load_judge()
        if self.splits:
            check_judge(judge)
        return judge

    def load_target(self) -> Target:
        """The target; raises `UsageError` for one that splitting cannot use."""
        target = self.opening.load_target(self.prompts)
        if self.splits:
            check_target(target)
        return target

    def check_again(self) -> None:
        """Find out before a judge is loaded whether there is anything to judge again."""
        if self.splits:
            raise UsageError(
                "--rejudge does not go with --proposal splitting, whose draws follow the scores of "
                "their judge: make a new run with the other judge"
            )
        _check_again(self.out, self.prompts.prompts)

    def make_proposal(self, target: Any, judge: Any) -> Proposals:
        """The proposal, found or read back."""
        return make_proposal(
            self.proposal,
            target,
            judge,
            self.prompts.prompts,
            folder=self.out,
            instructions=self.instructions,
            explore=self.explore,
            seed=self.settings.seed,
        )


def run_command(request: Request, *, progress: Reporter = silent) -> RiskRun:
    """Everything that `tailbound risk` does; `given` are its declared options."""
    asked, out = _Asked(request), request.out
    opening = asked.opening
    opening.check_folder(asked.prompts)
    model_judge = asked.load_judge()
    opening.check_folder(judge=model_judge)
    model = asked.load_target()
    check_plan(model, certain=[(asked.prompts.prompts, asked.settings.draws)])
    notices = (*asked.prompts.notices, *notices_of(model))
    opening.write_manifest(
        model,
        model_judge,
        options={
            **asked.options,
            "proposal": list(asked.proposal),
            "explore": asked.explore,
            **request.which_prompts(asked.prompts.source),
        },
        notices=notices,
    )
    with opening.running(model, model_judge) as costs:
        if asked.splits:
            report(*notices)
            result = run_splitting(
                asked.prompts.prompts,
                target=model,
                judge=model_judge,
                settings=asked.settings,
                options=asked.splitting,
                folder=out,
                report=progress,
            )
            return RiskRun(result=result, contract=model.contract, accounts=costs.report(out))
        proposal = asked.make_proposal(model, model_judge)
        report(*notices, *proposal.notices)
        result = run_risk(
            asked.prompts.prompts,
            proposal=proposal,
            judge=model_judge,
            settings=asked.settings,
            folder=out,
            report=progress,
        )
    return RiskRun(result=result, contract=model.contract, accounts=costs.report(out))


def plan_command(request: Request) -> RiskPlan:
    """What `run_command` would draw, take and cost, from a few draws; nothing is kept."""
    asked = _Asked(request)
    settings, members = asked.settings, asked.prompts.prompts
    model_judge = asked.load_judge()
    model = asked.load_target()
    check_plan(model, certain=[(members, settings.draws)])
    most = settings.max_draws or settings.draws
    if asked.splits:
        most = asked.splitting.repeats(settings) * most_draws(asked.splitting.particles)
    cost = cost_range(model, members, most)
    costs = Costs(model, model_judge)
    steered = asked.proposal not in ((NONE,), (SPLITTING,))
    with step("a few draws, to measure"):
        versions = None
        if steered:
            versions = len(unsafe_versions(asked.proposal)) + (LEARN in asked.proposal)
        preview = preview_risk(
            members, target=model, settings=settings, versions=versions, most=most
        )
    return RiskPlan(preview=preview, steered=steered, cost=cost, accounts=costs.report())


def rejudge_plan(request: Request) -> Workload:
    """How many draws on record the judge would judge."""
    asked, out = _Asked(request), request.out
    asked.check_again()
    model_judge = asked.opening.load_judge()
    known = {prompt.id: prompt for prompt in asked.prompts}
    return rejudge.plan(out, rejudge.verdicts_id(model_judge, known))


def rejudge_command(request: Request) -> RiskRejudged:
    """The risks under another judge, from the draws on record in `out`; nothing is sampled."""
    asked, out = _Asked(request), request.out
    members = asked.prompts.prompts
    asked.opening.check_folder(asked.prompts)
    asked.check_again()
    model_judge = asked.opening.load_judge()
    model = asked.opening.load_target(asked.prompts)
    proposal = asked.make_proposal(model, model_judge)
    known = {prompt.id: prompt for prompt in members}
    with keeping(out):
        with Costs(None, model_judge).kept(out), step("judging"):
            agreed = rejudge.rejudge(out, model_judge, name=asked.opening.judge_name, prompts=known)
        counts = agreed.agreement
        if counts.draws and counts.missing_new + counts.both_missing == counts.draws:
            reasons = [reason for reason, _ in agreed.missing_reasons[:1]]
            cure = "repeat the command"
            raise no_verdicts(model_judge.id, counts.draws, STREAM, reasons, cure=cure)
        report(*agreed.notices, *reply_notices(out))
        home = verdicts_folder(out, rejudge.verdicts_id(model_judge, known))
        result = rejudge_risk(
            members,
            proposal=proposal,
            judge=model_judge,
            verdicts=_verdicts(home),
            recorded_judge=agreed.recorded_judge,
            settings=asked.settings,
            folder=out,
            into=home,
        )
    return RiskRejudged(result=result, agreed=agreed, folder=home)


def _verdicts(home: Path) -> Verdicts:
    found: dict[str, dict[int, float | None]] = {}
    columns = read_verdicts(home).select("stream", "prompt_id", "index", "score")
    for stream, prompt_id, index, score in columns.iter_rows():
        if stream == STREAM:
            found.setdefault(prompt_id, {})[index] = score
    return found


def _check_again(folder: Path, prompts: Sequence[Prompt]) -> None:
    """Find out before a judge is loaded whether there is anything to judge again."""
    rejudge.check(folder, prompts={prompt.id: prompt for prompt in prompts})
    held = load_prompts(folder)
    new = [prompt.id for prompt in prompts if prompt.id not in held]
    if new:
        raise UsageError(
            f"{len(new)} prompts have no draws in {folder} (the first: {new[0]!r}): leave them "
            "out, or run the same command without --rejudge first"
        )
