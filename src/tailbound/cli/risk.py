"""`tailbound risk`: question 2, from a file of prompts to the probability of an unsafe output."""

from __future__ import annotations

from typing import Any

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.core.contract import SamplingOptions
from tailbound.executors.options import ExecutorOptions
from tailbound.targets.options import EndpointOptions, EngineOptions
from tailbound.workflows.risk.settings import ProposalOptions, RiskSettings
from tailbound.workflows.risk.splitting.settings import SplittingOptions
from tailbound.workflows.settings import PromptOptions


@declares(
    PromptOptions,
    RiskSettings,
    ProposalOptions,
    SplittingOptions,
    SamplingOptions,
    EngineOptions,
    EndpointOptions,
    ExecutorOptions,
)
def command(
    prompts: opt.Prompts,
    out: opt.Out,
    target: opt.Target = "demo",
    judge: opt.Judge = "demo",
    rejudge: opt.Rejudge = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Estimate the probability of an unsafe output for each prompt, however rare."""
    from tailbound.cli.rejudge import print_workload
    from tailbound.cli.render import bound as render
    from tailbound.cli.render import risk as render_risk
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.opening import Request
    from tailbound.workflows.risk import command as work

    request = Request(
        prompts=prompts,
        out=out,
        target=target,
        judge=judge,
        given=options,
    )
    if rejudge and dry_run:
        with LiveProgress():
            workload = work.rejudge_plan(request)
        print_workload(workload, as_json=as_json)
    elif rejudge:
        with LiveProgress():
            again = work.rejudge_command(request)
        if as_json:
            json_document(again.to_dict())
        else:
            render_risk.rejudged(again, out=out, judge=judge)
    elif dry_run:
        with LiveProgress():
            plan = work.plan_command(request)
        if as_json:
            json_document(plan.to_dict())
        else:
            render_risk.preview(plan.preview, plan.cost, steered=plan.steered)
            render.endpoints(plan.accounts, what="this preview")
    else:
        with LiveProgress() as progress:
            done = work.run_command(request, progress=progress)
        if as_json:
            json_document(done.to_dict())
            return
        subject = f"{target} judged by {judge}, {render.contract(done.contract)}"
        render_risk.risk(done.result, subject=subject, folder=str(out))
        render.endpoints(done.accounts)
        if done.result.reviewed:
            from tailbound.runs.layout import REVIEW

            render.next_step(f"read {out / REVIEW}: the unsafe draws that each number rests on")
