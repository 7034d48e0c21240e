"""The commands by name: where each stands and what it says of itself; one is imported when asked.

A command's options are declared by types whose import takes longer than the help that they end
in: of twenty commands, nineteen are not wanted.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

import typer

from tailbound.cli.help import Command, Group


class Entry(NamedTuple):
    """Where a command stands: `module:attribute` in this package, and its help in one sentence."""

    where: str
    summary: str


COMMANDS = {
    "demo": Entry(
        "demo:command",
        "Audit the embedded demo model and compare with the exact truth (minutes, offline).",
    ),
    "bound": Entry(
        "bound:command",
        "Bound the time to the first unsafe output, for prompts that were never sampled.",
    ),
    "predict": Entry("predict:command", "Print the lower bound for each prompt, as JSON lines."),
    "risk": Entry(
        "risk:command",
        "Estimate the probability of an unsafe output for each prompt, however rare.",
    ),
    "steer": Entry("steer:app", "Find and save a direction that makes a model unsafe."),
    "summarize": Entry(
        "summarize:command",
        "Compute exact intervals from the draws of a run, per prompt and for the whole set.",
    ),
    "rejudge": Entry(
        "rejudge:command",
        "Judge the draws of a run again with another judge, and keep both verdicts.",
    ),
    "audit-judge": Entry(
        "audit_judge:command",
        "Correct rates for the judge's mistakes, by labels of a sample of its draws.",
    ),
    "compare": Entry(
        "compare:command",
        "Compare two runs on the same prompts: what changed, by how much, and for which prompts.",
    ),
    "forecast": Entry(
        "forecast:command",
        "Forecast unsafe outputs of a traffic mix, and the worst of many more queries.",
    ),
    "sensitivity": Entry(
        "sensitivity:command",
        "Say how much the wording of a query matters, from estimates of groups of rewordings.",
    ),
    "gate": Entry(
        "gate:command",
        "Check requirements on the results of a run; exit code 3 unless they are shown to be met.",
    ),
    "show": Entry(
        "show:command",
        "Say what ran in a folder, what came out, what is missing, and what to do next.",
    ),
    "report": Entry(
        "report:command", "Write one page about runs: answers, prompts, figures, cost, method."
    ),
    "view": Entry(
        "view:command",
        "Serve the report of runs to a browser on this machine, and follow a run in progress.",
    ),
    "verify": Entry(
        "verify:command",
        "Compute every result of a run again from its draws, and say whether they match.",
    ),
    "ledger": Entry(
        "ledger:command",
        "Check, compact or count the shards that hold the draws of a run.",
    ),
    "monitor": Entry(
        "monitor:command",
        "Raise an alarm (exit code 3) when production is worse than what a run audited.",
    ),
    "import": Entry(
        "import_:command",
        "Import finished evaluations into a run folder, for `tailbound summarize`.",
    ),
    "export": Entry("export:command", "Write the draws of a run as a log that Inspect shows."),
    "reproduce": Entry(
        "reproduce:app", "Run a study of methods again: tables and figures beside the truth."
    ),
    "targets": Entry("listing:targets", "List the kinds of model that can be audited."),
    "judges": Entry("listing:judges", "List the kinds of judge."),
    "doctor": Entry(
        "doctor:command",
        "Show versions, optional parts, devices and disk, and how to install what is missing.",
    ),
}
"""In the order in which a user meets them."""


def load(name: str) -> Any:
    """The command or group of this name, imported."""
    module, _, attribute = COMMANDS[name].where.partition(":")
    found = getattr(importlib.import_module(f"tailbound.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name, cls=Command)(found)
    return typer.main.get_command(alone)


class _WhenAsked(MutableMapping[str, Any]):
    """Name to command; a command is imported where it is looked up, and only then."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        if name not in self._loaded:
            self._loaded[name] = load(name)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Root(Group):
    """All commands; its help names them without importing one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _WhenAsked()

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which a user meets them."""
        return list(COMMANDS)

    def rows(self, ctx: Any) -> list[tuple[str, str]]:
        """Every command and its help."""
        return [(name, entry.summary) for name, entry in COMMANDS.items()]
