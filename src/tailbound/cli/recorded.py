"""The options that a run was made with, from its `run.yaml`, for `--config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_CONTRACT = (
    *("system", "temperature", "top_p", "top_k", "max_new_tokens", "stop", "thinking"),
    "extra_body",
)
_FINDINGS = ("reproducible", "first_share", "batch_shares")
"""What `run.yaml` keeps beside the options."""


def options_of_run(document: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the command that wrote the `run.yaml` that holds `document`."""
    from tailbound.workflows.table.settings import COMMAND

    if document["command"] == COMMAND:
        return _of_table(document["options"])
    contract = document["contract"]
    return {
        "target": document["target"],
        "judge": document["judge"],
        **{name: contract.get(name) for name in _OF_CONTRACT},
        "completion": contract["template"] is None and document["target"].startswith("hf:"),
        **document["engine"],
        **_asked(document["options"]),
    }


def _asked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that do not go with the method, and under the names of the command line."""
    from tailbound.workflows.bound.importance.options import NOT_WEIGHTED

    found = {name: value for name, value in options.items() if name not in _FINDINGS}
    if found.get("method") != "importance":
        return found
    found["draws"] = found.pop("weighted_draws")
    if not found.pop("plain_test"):
        del found["test_draws"]
    return {name: value for name, value in found.items() if name not in NOT_WEIGHTED}


def _of_table(options: Mapping[str, Any]) -> dict[str, Any]:
    from tailbound.workflows.table.settings import TableOptions

    fields = TableOptions.__dataclass_fields__
    asked = {name: value for name, value in options.items() if name in fields}
    return {"from_table": options["source"], **asked}
