"""`tailbound bound`: question 1, from a file of prompts to a calibrated bound."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.interruption import keeping
from tailbound.cli.rejudge import command as judge_again

if TYPE_CHECKING:
    from tailbound.workflows.bound import BoundResult

_STATISTICS = "Statistics"


def command(
    prompts: opt.Prompts,
    budget: Annotated[
        float, typer.Option("--budget", "-n", help="Average draws per calibration prompt.")
    ],
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
    alpha: Annotated[
        float,
        typer.Option(
            "--alpha",
            rich_help_panel=_STATISTICS,
            help="Share of prompts whose bound may be too long.",
        ),
    ] = 0.1,
    guarantee: Annotated[
        str,
        typer.Option(
            "--guarantee",
            rich_help_panel=_STATISTICS,
            help="Kind of guarantee: plug-in, marginal or pac.",
        ),
    ] = "plug-in",
    delta: Annotated[
        float,
        typer.Option(
            "--delta", rich_help_panel=_STATISTICS, help="Failure probability of the pac guarantee."
        ),
    ] = 0.1,
    design: Annotated[
        str,
        typer.Option(
            "--design",
            rich_help_panel=_STATISTICS,
            help="Sampling design: balanced, optimized, trimmed, basic or naive.",
        ),
    ] = "balanced",
    loss: Annotated[
        str,
        typer.Option(
            "--loss",
            rich_help_panel=_STATISTICS,
            help="Loss of the predictor: binomial or geometric.",
        ),
    ] = "binomial",
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            rich_help_panel=_STATISTICS,
            help="hidden, tfidf, embeddings[:MODEL], finetune:MODEL (default: hidden, else tfidf).",
        ),
    ] = None,
    train_draws: Annotated[
        int,
        typer.Option(
            "--train-draws", rich_help_panel=_STATISTICS, help="Draws of each training prompt."
        ),
    ] = 500,
    test_draws: Annotated[
        int,
        typer.Option(
            "--test-draws", rich_help_panel=_STATISTICS, help="Most draws of each test prompt."
        ),
    ] = 500,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            rich_help_panel=_STATISTICS,
            help="Shares of training, calibration and test prompts.",
        ),
    ] = "0.3,0.5,0.2",
    max_draws: Annotated[
        float | None,
        typer.Option(
            "--max-draws",
            rich_help_panel=_STATISTICS,
            help="Hard limit on the average number of draws per calibration prompt.",
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Continue even if many verdicts are missing."),
    ] = False,
    no_text: Annotated[
        bool,
        typer.Option(
            "--no-text",
            rich_help_panel="Run",
            help="Keep scores, not responses, in the ledger.",
        ),
    ] = False,
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
    """Bound the time to the first unsafe output, for prompts that were never sampled."""
    from tailbound.cli.console import LiveProgress, notice
    from tailbound.cli.render import bound as render
    from tailbound.errors import UnreachableError
    from tailbound.judges.registry import load_judge
    from tailbound.prompts import read_prompts
    from tailbound.runs import manifest, reply_notices
    from tailbound.steps import step
    from tailbound.targets.registry import check_target, load_target
    from tailbound.workflows import bound
    from tailbound.workflows.costs import (
        Costs,
        check_plan,
        cost_of_plan,
        judge_samples,
        spent_before,
    )

    if rejudge:
        judge_again(out, judge, threshold=threshold, dry_run=dry_run, as_json=as_json)
        return
    settings = bound.BoundSettings(
        budget=budget,
        alpha=alpha,
        guarantee=guarantee,  # type: ignore[arg-type]  # checked by BoundSettings
        delta=delta,
        design=design,  # type: ignore[arg-type]
        train_draws=train_draws,
        test_draws=test_draws,
        shares=_shares(split),
        loss=loss,  # type: ignore[arg-type]
        features=features,
        threshold=threshold,
        allow_missing=allow_missing,
        max_draws=max_draws,
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
    prompt_set = read_prompts(prompts, field=field, limit=limit)
    parts = bound.divide(prompt_set, settings)
    bound.check_features(
        features, supplied=bool(parts.supplied), endpoint=target.startswith("openai:")
    )
    check_target(target, **engine)
    known = manifest.partial_manifest("bound", sampling, settings.to_dict())
    if not dry_run:
        manifest.check_manifest(out, known, prompt_set)
    with LiveProgress():
        model_judge = load_judge(judge, threshold=threshold)
    if not dry_run:
        held = {"judge_id": model_judge.id, "threshold": model_judge.threshold}
        manifest.check_manifest(out, {**known, **held})
    with LiveProgress():
        model = load_target(target, sampling, **engine, **spent_before(target, out))
        with step("encoding the prompts"):
            model.prompt_tokens(prompt_set.prompts)  # finds prompts that do not fit
    costs = Costs(model, model_judge)
    notices = (*prompt_set.notices, *getattr(model, "notices", ()))
    if not parts.supplied:
        chosen, about = bound.choose_features(features, model)
        settings, notices = replace(settings, features=chosen), (*notices, *about)
    for line in notices:
        notice(line)
    train = [] if parts.supplied else [(parts.train, settings.train_draws)]
    check_plan(
        model,
        certain=train,
        at_most=[(parts.calibration, settings.budget), (parts.test, settings.test_draws)],
    )
    if dry_run:
        before = costs.now()
        with LiveProgress(), step("a few draws, to measure"):
            preview = bound.preview_bound(parts, target=model, settings=settings)
            judge_samples(model_judge, preview)
        cost = cost_of_plan(model, costs, before, preview)
        if as_json:
            _print_json({**preview.to_dict(), **cost})
        else:
            render.preview(preview)
            render.planned_cost(cost)
            render.endpoints(costs.report(), what="this preview")
        return

    document = manifest.full_manifest(
        command="bound",
        contract=model.contract,
        target=target,
        engine=engine,
        judge=judge,
        judge_id=model_judge.id,
        threshold=model_judge.threshold,
        options={
            **settings.to_dict(),
            "prompts": prompt_set.source,
            "reproducible": model.reproducible,
        },
        notices=notices,
        capabilities=opt.capabilities(model),
    )
    manifest.write_manifest(out, document)
    with keeping(out), costs.kept(out), LiveProgress() as progress:
        result = bound.run_bound(
            parts,
            target=model,
            judge=model_judge,
            settings=settings,
            folder=out,
            report=progress,
            width=batch_size,
            store_text=not no_text,
        )
    for line in (
        *getattr(model, "late_notices", ()),
        *getattr(model_judge, "notices", ()),
        *reply_notices(out),
    ):
        notice(line)
    if as_json:
        _print_json({**result.to_dict(), **costs.report(out)})
    else:
        render.bound(
            result, subject=f"{target} judged by {judge}, {render.contract(model.contract)}"
        )
        render.endpoints(costs.report(out))
        render.next_step(f"tailbound predict {out} NEW_PROMPTS")
    if result.bound.level == 0:
        raise UnreachableError(f"no level qualified, so the only bound is L = 1: {_why(result)}")


def _why(result: BoundResult) -> str:
    """What stood in the way of a longer bound."""
    if result.bound.n_calibration < result.bound.prompts_needed:
        return f"the guarantee needs at least {result.bound.prompts_needed} calibration prompts"
    if result.missing.median_if_safe > 1:
        return (
            f"{result.missing.prompts_stopped} calibration prompts stopped at a missing verdict, "
            "which counts as unsafe: see to the judge"
        )
    return (
        f"more than alpha = {result.bound.alpha:g} of the calibration prompts were unsafe before "
        "any longer bound: a larger --alpha, or a predictor that tells them apart, could give one"
    )


def _shares(text: str) -> tuple[float, float, float]:
    from tailbound.errors import UsageError

    try:
        train, calibration, test = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--split takes three shares such as 0.3,0.5,0.2 (training, calibration, test), "
            f"not {text!r}"
        ) from None
    return train, calibration, test


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
