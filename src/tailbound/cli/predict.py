"""`tailbound predict`: the calibrated bound for new prompts, as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt


def command(
    run: Annotated[Path, typer.Argument(help="Run folder of `tailbound bound`.")],
    prompts: opt.Prompts,
    field: Annotated[
        str | None, typer.Option("--field", help="Column that holds the prompts.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Use only the first N prompts.")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """Print the lower bound for each prompt: JSON lines {"id", "lower_bound", "p_hat"}."""
    from tailbound.cli.console import LiveProgress, notice
    from tailbound.prompts import read_prompts
    from tailbound.runs import manifest
    from tailbound.workflows.bound import check_prediction, needs_target, predict_bounds

    document = manifest.read_manifest(run)
    prompt_set = read_prompts(prompts, field=field, limit=limit)
    for line in prompt_set.notices:
        notice(line)
    check_prediction(run, prompt_set)
    with LiveProgress():
        target = _target(document) if needs_target(run) else None
        found = list(predict_bounds(run, prompt_set, target=target))
    rows: list[dict[str, Any]] = []
    unfamiliar = 0
    for predicted in found:
        row: dict[str, Any] = {
            "id": predicted.id,
            "lower_bound": predicted.lower_bound,
            "p_hat": predicted.p_hat,
        }
        if predicted.unfamiliar:
            row["unfamiliar"] = True
            unfamiliar += 1
        rows.append(row)
    if as_json:
        sys.stdout.write(json.dumps({"predictions": rows}, indent=2) + "\n")
    else:
        sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
    if unfamiliar:
        notice(
            f"{unfamiliar} of {len(rows)} prompts look unlike the calibration prompts; the "
            "guarantee is for prompts from the same population"
        )


def _target(document: dict[str, Any]) -> Any:
    from tailbound.contract import SamplingContract, SamplingOptions
    from tailbound.targets.registry import check_target, load_target

    contract = SamplingContract.from_dict(document["contract"])
    options = SamplingOptions(
        temperature=contract.temperature,
        top_p=contract.top_p,
        top_k=contract.top_k,
        max_new_tokens=contract.max_new_tokens,
        system=contract.system,
        completion=contract.template is None,
        stop=contract.stop,
        thinking=contract.thinking,
        extra_body=contract.extra_body,
    )
    check_target(document["target"], **document["engine"])
    return load_target(document["target"], options, **document["engine"])
