"""`tailbound bound`: question 1, from a file of prompts to a calibrated bound."""

from __future__ import annotations

from typing import Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares, given_names
from tailbound.cli.rejudge import judge_again
from tailbound.cli.say import json_document
from tailbound.cli.table import bound_from_table
from tailbound.core.contract import SamplingOptions
from tailbound.errors import UnreachableError, UsageError
from tailbound.executors.options import ExecutorOptions
from tailbound.targets.options import EndpointOptions, EngineOptions
from tailbound.workflows.bound.importance.options import MethodOptions
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.risk.settings import ProposalOptions
from tailbound.workflows.settings import PromptOptions, RecordOptions


@declares(
    PromptOptions,
    BoundSettings,
    MethodOptions,
    ProposalOptions,
    RecordOptions,
    SamplingOptions,
    EngineOptions,
    EndpointOptions,
    ExecutorOptions,
)
def command(
    context: typer.Context,
    out: opt.Out,
    prompts: opt.PromptsOrTable = None,
    from_table: opt.FromTable = None,
    target: opt.Target = "demo",
    judge: opt.Judge = "demo",
    rejudge: opt.Rejudge = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Bound the time to the first unsafe output, for prompts that were never sampled."""
    if rejudge:
        given = {"threshold": options["threshold"]}
        judge_again(out, judge, given, dry_run=dry_run, as_json=as_json)
        return
    if from_table is not None:
        bound_from_table(context, from_table, out, options, as_json=as_json)
        return
    if prompts is None:
        raise UsageError("PROMPTS is missing: name a prompt file, or a table by --from-table")
    from tailbound.cli.render import bound as render
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.bound.command import plan_command, run_command, why_trivial
    from tailbound.workflows.opening import Request

    request = Request(
        prompts=prompts,
        out=out,
        target=target,
        judge=judge,
        given={name: v for name, v in options.items() if name in given_names(context)},
    )
    if dry_run:
        with LiveProgress():
            plan = plan_command(request)
        if as_json:
            json_document(plan.to_dict())
        else:
            render.preview(plan.preview)
            render.planned_cost(plan.cost)
            render.endpoints(plan.accounts, what="this preview")
        return
    with LiveProgress() as progress:
        done = run_command(request, progress=progress)
    if as_json:
        json_document(done.to_dict())
    else:
        subject = f"{target} judged by {judge}, {render.contract(done.contract)}"
        render.bound(done.result, subject=subject)
        render.endpoints(done.accounts)
        render.next_step(f"tailbound predict {out} NEW_PROMPTS")
    why = why_trivial(done.result)
    if why is not None:
        raise UnreachableError(f"no level qualified, so the only bound is L = 1: {why}")
