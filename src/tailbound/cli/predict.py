"""`tailbound predict`: the calibrated bound for new prompts, as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.workflows.settings import PromptOptions


@declares(PromptOptions)
def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `tailbound bound`.")],
    prompts: opt.Prompts,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Print the lower bound for each prompt, as JSON lines.

    A line is {"id", "lower_bound", "p_hat"}. Where the run has bounds at several miscoverages, the
    smaller ones follow under "at_alpha".
    """
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.bound.prediction import predict_command

    with LiveProgress():
        found = predict_command(run, prompts, options)
    if as_json:
        json_document(found.to_dict())
    else:
        sys.stdout.writelines(json.dumps(one.to_dict()) + "\n" for one in found)
