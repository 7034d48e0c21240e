"""`tailbound risk`: question 2, from a file of prompts to the probability of an unsafe output."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailbound.cli import options as opt
from tailbound.cli.interruption import keeping
from tailbound.cli.rejudge import preview
from tailbound.cli.rejudge_risk import check_again, judge_again

if TYPE_CHECKING:
    pass

_STATISTICS = "Statistics"
_PROPOSAL = "Proposal"

Proposal = Annotated[
    str,
    typer.Option(
        "--proposal",
        rich_help_panel=_PROPOSAL,
        help="Unsafe version of the model: refusal, refusal:DIR, persona:NAME, model:NAME, "
        "lora:PATH, prompt:FILE or none.",
    ),
]
Harmful = Annotated[
    Path | None,
    typer.Option(
        "--harmful", rich_help_panel=_PROPOSAL, help="File of prompts that the model refuses."
    ),
]
Harmless = Annotated[
    Path | None,
    typer.Option("--harmless", rich_help_panel=_PROPOSAL, help="File of prompts that it answers."),
]


def command(
    prompts: opt.Prompts,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Run folder; a run that is there is resumed.")
    ],
    target: opt.Target = "demo",
    judge: opt.Judge = "demo",
    threshold: opt.Threshold = None,
    field: Annotated[
        str | None, typer.Option("--field", help="Column that holds the prompts.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Use only the first N prompts.")
    ] = None,
    draws: Annotated[
        int,
        typer.Option("--draws", "-n", rich_help_panel=_STATISTICS, help="Draws of each prompt."),
    ] = 500,
    until_resolved: Annotated[
        bool,
        typer.Option(
            "--until-resolved",
            rich_help_panel=_STATISTICS,
            help="Draw more for prompts whose estimate is not resolved yet.",
        ),
    ] = False,
    max_draws: Annotated[
        int | None,
        typer.Option("--max-draws", rich_help_panel=_STATISTICS, help="Most draws of each prompt."),
    ] = None,
    confidence: Annotated[
        float,
        typer.Option(
            "--confidence",
            rich_help_panel=_STATISTICS,
            help="Confidence level of each one-sided bound.",
        ),
    ] = 0.95,
    estimand: Annotated[
        str,
        typer.Option(
            "--estimand",
            rich_help_panel=_STATISTICS,
            help="unsafe: P(score >= threshold); score: the mean score.",
        ),
    ] = "unsafe",
    proposal: Proposal = "refusal",
    family: Annotated[
        str,
        typer.Option(
            "--proposal-family",
            rich_help_panel=_PROPOSAL,
            help="How it is mixed in: ladder, mix-switch or single.",
        ),
    ] = "ladder",
    intensities: Annotated[
        str,
        typer.Option(
            "--intensities",
            rich_help_panel=_PROPOSAL,
            help="Steering strengths of the ladder, strongest first.",
        ),
    ] = "1.0,0.6",
    harmful: Harmful = None,
    harmless: Harmless = None,
    max_new_tokens: opt.MaxNewTokens = None,
    temperature: opt.Temperature = 1.0,
    top_p: opt.TopP = 1.0,
    top_k: opt.TopK = None,
    system: opt.System = None,
    completion: opt.Completion = False,
    stop: opt.Stop = None,
    thinking: opt.Thinking = "drop",
    extra_body: opt.ExtraBody = None,
    batch_size: opt.BatchSize = 256,
    dtype: opt.Dtype = "auto",
    device: opt.Device = "auto",
    revision: opt.Revision = None,
    base_url: opt.BaseUrl = None,
    key_env: opt.KeyEnv = None,
    concurrency: opt.Concurrency = None,
    per_request: opt.PerRequest = None,
    price_in: opt.PriceIn = None,
    price_out: opt.PriceOut = None,
    max_cost: opt.MaxCost = None,
    withheld: opt.Withheld = None,
    seed: opt.Seed = 0,
    rejudge: opt.Rejudge = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel="Run",
            help="Print draws, tokens, time and cost; keep nothing.",
        ),
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Estimate the probability of an unsafe output for each prompt, however rare."""
    from tailbound.cli.console import LiveProgress, notice
    from tailbound.cli.render import bound as render
    from tailbound.cli.render import risk as render_risk
    from tailbound.judges.registry import load_judge
    from tailbound.prompts import read_prompts
    from tailbound.runs import manifest, reply_notices
    from tailbound.steps import step
    from tailbound.storage.places import check_place
    from tailbound.targets.registry import check_target, load_target
    from tailbound.workflows.costs import Costs, check_plan, cost_range, spent_before
    from tailbound.workflows.risk import Instructions, RiskSettings, make_proposal, run_risk
    from tailbound.workflows.risk.preview import preview_risk
    from tailbound.workflows.risk.proposal import check_proposal
    from tailbound.workflows.risk.results import finite

    settings = RiskSettings(
        draws=draws,
        family=family,  # type: ignore[arg-type]  # checked by RiskSettings
        until_resolved=until_resolved,
        max_draws=max_draws,
        confidence=confidence,
        intensities=_numbers(intensities),
        estimand=estimand,  # type: ignore[arg-type]
        threshold=threshold,
        seed=seed,
    )
    sampling = opt.sampling_options(
        target,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
        system=system,
        completion=completion,
        stop=stop,
        thinking=thinking,
        extra_body=extra_body,
    )
    engine = opt.engine_options(
        batch_size=batch_size, dtype=dtype, device=device, revision=revision
    ) | opt.endpoint_options(
        target,
        base_url=base_url,
        key_env=key_env,
        concurrency=concurrency,
        per_request=per_request,
        price_in=price_in,
        price_out=price_out,
        max_cost=max_cost,
        withheld=withheld,
    )
    check_target(target, **engine)
    check_place(out)
    instructions = Instructions(harmful=harmful, harmless=harmless)
    look = partial(check_proposal, proposal, target, folder=out, instructions=instructions)
    look(family=family)  # before prompts are fetched from a hub
    prompt_set = read_prompts(prompts, field=field, limit=limit)
    look(family=family, prompts=len(prompt_set))
    known = manifest.partial_manifest("risk", sampling, settings.to_dict())
    if not dry_run:
        manifest.check_manifest(out, known, prompt_set)
    if rejudge:
        check_again(out, prompt_set.prompts)
    with LiveProgress():
        model_judge = load_judge(judge, threshold=threshold)
    if not dry_run and not rejudge:
        held = {"judge_id": model_judge.id, "threshold": model_judge.threshold}
        manifest.check_manifest(out, {**known, **held})
    if rejudge and dry_run:
        preview(out, model_judge, {prompt.id: prompt for prompt in prompt_set}, as_json=as_json)
        return
    with LiveProgress():
        model = load_target(target, sampling, **engine, **spent_before(target, out))
        with step("encoding the prompts"):
            model.prompt_tokens(prompt_set.prompts)  # finds prompts that do not fit
    model_notices = getattr(model, "notices", ())
    if rejudge:
        with LiveProgress():
            chosen = make_proposal(
                proposal, model, model_judge, prompt_set.prompts, folder=out, seed=seed
            )
        with keeping(out):
            judge_again(prompt_set.prompts, chosen, model_judge, judge, settings, out, as_json)
        return
    check_plan(model, certain=[(prompt_set.prompts, settings.draws)])
    if dry_run:
        cost = cost_range(model, prompt_set.prompts, settings.max_draws or settings.draws)
        costs = Costs(model, model_judge)
        with LiveProgress(), step("a few draws, to measure"):
            plan = preview_risk(
                prompt_set.prompts, target=model, settings=settings, steered=proposal != "none"
            )
        if as_json:
            sys.stdout.write(json.dumps({**plan.to_dict(), **cost}, indent=2) + "\n")
        else:
            render_risk.preview(plan, cost, steered=proposal != "none")
            render.endpoints(costs.report(), what="this preview")
        return
    document = manifest.full_manifest(
        command="risk",
        contract=model.contract,
        target=target,
        engine=engine,
        judge=judge,
        judge_id=model_judge.id,
        threshold=model_judge.threshold,
        options={
            **settings.to_dict(),
            "proposal": proposal,
            "prompts": prompt_set.source,
            "reproducible": model.reproducible,
        },
        notices=(*prompt_set.notices, *model_notices),
        capabilities=opt.capabilities(model),
    )
    manifest.write_manifest(out, document)
    costs = Costs(model, model_judge)
    with keeping(out), costs.kept(out):
        with LiveProgress():
            chosen = make_proposal(
                proposal,
                model,
                model_judge,
                prompt_set.prompts,
                folder=out,
                instructions=instructions,
                seed=seed,
            )
        for line in (*prompt_set.notices, *model_notices, *chosen.notices):
            notice(line)
        with LiveProgress() as progress:
            result = run_risk(
                prompt_set.prompts,
                proposal=chosen,
                judge=model_judge,
                settings=settings,
                folder=out,
                report=progress,
            )
    for line in (
        *getattr(model, "late_notices", ()),
        *getattr(model_judge, "notices", ()),
        *reply_notices(out),
    ):
        notice(line)
    if as_json:
        document = {
            **result.to_dict(),
            "contract": model.contract.to_dict(),
            **costs.report(out),
        }
        sys.stdout.write(json.dumps(finite(document), indent=2, allow_nan=False) + "\n")
        return
    render_risk.risk(
        result,
        subject=f"{target} judged by {judge}, {render.contract(model.contract)}",
        folder=str(out),
    )
    render.endpoints(costs.report(out))
    if result.reviewed:
        render.next_step(f"read {out / 'review.jsonl'}: the unsafe draws that each number rests on")


def _numbers(text: str) -> tuple[float, ...]:
    from tailbound.errors import UsageError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--intensities takes numbers such as 1.0,0.6, not {text!r}") from None
