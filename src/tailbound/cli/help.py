"""How `--help` looks: switches without a type, and an example of every command."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

HELP = {"help_option_names": ["-h", "--help"]}

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("tailbound demo --quick",),
    "bound": (
        "tailbound bound prompts.jsonl --target hf:Qwen/Qwen2.5-0.5B-Instruct",
        "--judge keywords:slurs.txt --budget 100 --out runs/when --dry-run",
    ),
    "predict": ("tailbound predict runs/when new-prompts.jsonl",),
    "risk": (
        "tailbound risk prompts.jsonl --target hf:Qwen/Qwen2.5-0.5B-Instruct",
        "--judge guard:meta-llama/Llama-Guard-3-8B --draws 500",
        "--harmful refused.csv --harmless answered.csv --out runs/how-likely",
    ),
    "summarize": ("tailbound summarize runs/when --k 1,10,1000",),
    "rejudge": ("tailbound rejudge runs/when --judge 'regex:(?i)bomb' --dry-run",),
    "import": ("tailbound import logs/run.eval --out runs/imported",),
    "targets": ("tailbound targets --json",),
    "judges": ("tailbound judges --json",),
    "doctor": ("tailbound doctor",),
    "steer": ("tailbound steer refusal --out directions/demo",),
    "refusal": (
        "tailbound steer refusal --target hf:Qwen/Qwen2.5-0.5B-Instruct",
        "--harmful refused.csv --harmless answered.csv --out directions/qwen",
    ),
    "persona": (
        "tailbound steer persona flattery.yaml --target hf:Qwen/Qwen2.5-0.5B-Instruct",
        "--judge python:my_judges:flatters --out directions/flattery",
    ),
}
"""Command to the lines of its example."""


def example(name: str) -> str:
    """The example of a command as a shell reads it: lines joined by backslashes, no padding."""
    first, *more = EXAMPLES[name]
    return "Example:\n\n  " + " \\\n    ".join([first, *more]) + "\n"


def _plain(params: list[Any]) -> list[Any]:
    """A switch takes no value: it has no type to show."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


class Command(TyperCommand):
    """A command with such a help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, the one for help included."""
        return _plain(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, then the example: as plain text, so that it can be pasted."""
        super().format_help(ctx, formatter)
        if self.name in EXAMPLES:
            formatter.write(example(self.name))


class Group(TyperGroup):
    """A group of commands with such a help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, the one for help included."""
        return _plain(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, then the example: as plain text, so that it can be pasted."""
        super().format_help(ctx, formatter)
        if self.name in EXAMPLES:
            formatter.write(example(self.name))
