"""`tailbound bound --from-table`: a bound from times that were observed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from tailbound.cli.declared import given_names
from tailbound.cli.say import json_document
from tailbound.core.options import options_of
from tailbound.errors import UnreachableError, UsageError
from tailbound.workflows.table.settings import TableOptions

_OWN = ("out", "from_table", "as_json", "config", "save_config")


def bound_from_table(
    context: typer.Context, table: Path, out: Path, options: Mapping[str, Any], *, as_json: bool
) -> None:
    """Calibrate on `table`, and print what came out; refuses options that need a model."""
    given = given_names(context)
    known = {one.name for one in options_of(TableOptions)}
    for name in sorted(given - known - set(_OWN)):
        shown = "PROMPTS" if name == "prompts" else "--" + name.replace("_", "-")
        raise UsageError(
            f"{shown} does not apply to a bound from a table, which draws nothing: remove it"
        )
    from tailbound.cli.render import bound as render
    from tailbound.cli.render import table as render_table
    from tailbound.prompts.opening import STANDARD_INPUT
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.table import table_command

    with LiveProgress():
        done = table_command(table, out, {name: options[name] for name in given & known})
    if as_json:
        json_document(done.to_dict())
    else:
        source = "standard input" if table == STANDARD_INPUT else str(table)
        render_table.bound(done, subject=source)
        render.next_step(f"tailbound predict {out} NEW_TABLE")
    if done.bound.level == 0:
        raise UnreachableError(
            "no level qualified, so the only bound is L = 1: more than alpha = "
            f"{done.bound.alpha:g} of the calibration units had their event before any longer "
            "bound; a larger --alpha, or predictions that tell units apart, could give one"
        )
