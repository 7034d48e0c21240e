"""How `--help` looks: plain text under the headings of the options, then an example.

Plain, because what draws boxes takes longer to import than everything else together, and leaves a
third of 80 columns for the text.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_LONGEST = 24
"""Columns of the names: a longer one has a line of its own."""
_DEFAULT, _BLANK = re.compile(r"\[default: .*\]"), "\0"

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
    "steer": ("tailbound steer refusal --out directions/demo",),
    "refusal": (
        "tailbound steer refusal --target hf:Qwen/Qwen2.5-0.5B-Instruct",
        "--harmful refused.csv --harmless answered.csv --out directions/qwen",
    ),
    "persona": (
        "tailbound steer persona flattery.yaml --target hf:Qwen/Qwen2.5-0.5B-Instruct",
        "--judge python:my_judges:flatters --out directions/flattery",
    ),
    "summarize": ("tailbound summarize runs/when --k 1,10,1000",),
    "rejudge": ("tailbound rejudge runs/when --judge 'regex:(?i)bomb' --dry-run",),
    "audit-judge": ("tailbound audit-judge runs/imported --sheet labels.csv",),
    "compare": ("tailbound compare runs/before runs/after --fdr 0.1",),
    "forecast": ("tailbound forecast runs/how-likely --draws 1000,1000000 --queries 100000",),
    "sensitivity": ("tailbound sensitivity runs/how-likely",),
    "gate": ("tailbound gate runs/when --require 'coverage>=.88' --require 'bound>=100@p50'",),
    "show": ("tailbound show runs/when",),
    "report": ("tailbound report runs/when runs/how-likely --out report.html",),
    "view": ("tailbound view runs/when",),
    "verify": ("tailbound verify runs/when",),
    "ledger": ("tailbound ledger runs/when verify",),
    "monitor": ("tailbound monitor runs/how-likely outcomes.jsonl --alpha 0.01",),
    "import": ("tailbound import logs/run.eval --out runs/imported",),
    "export": ("tailbound export runs/when --to inspect --out logs/when.eval",),
    "reproduce": ("tailbound reproduce mc-vs-is --quick --out studies/quick",),
    "mc-vs-is": (
        "tailbound reproduce mc-vs-is --target hf:Qwen/Qwen2.5-0.5B-Instruct",
        "--prompts prompts.jsonl --judge keywords:slurs.txt --brute-force 1500 --draws 150",
        "--repeats 1 --out studies/qwen",
    ),
    "strongreject": (
        "tailbound reproduce strongreject --target hf:meta-llama/Llama-3.2-1B-Instruct",
        "--judge guard:meta-llama/Llama-Guard-3-8B --limit 20 --out studies/strongreject",
    ),
    "reproduce persona": (
        "tailbound reproduce persona --target hf:Qwen/Qwen2.5-7B-Instruct",
        "--proposal persona:evil --judge rubric:evil.yaml --out studies/evil",
    ),
    "synthetic": ("tailbound reproduce synthetic --quick --out studies/synthetic",),
    "realtoxicity": (
        "tailbound reproduce realtoxicity --target hf:meta-llama/Llama-3.2-1B",
        "--judge 'classifier:unitary/toxic-bert?label=toxic' --prompts beginnings.jsonl",
        "--out studies/realtoxicity",
    ),
    "targets": ("tailbound targets --json",),
    "judges": ("tailbound judges --json",),
    "doctor": ("tailbound doctor",),
}
"""Command to the lines of its example, in the order in which a user meets them."""


def example(name: str) -> str:
    """The example of a command as a shell reads it: lines joined by backslashes, no padding."""
    first, *more = EXAMPLES[name]
    return "Example:\n\n  " + " \\\n    ".join([first, *more]) + "\n"


class _Help:
    """What commands and groups share."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, the one for help included; a switch takes no value: it has no type."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
                # None, which typer gives its own switches, is checked by a library that takes long
                # to import
                param.default = param.default or False
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """As usual, but for `--help` alone: checking values would take longer than the help."""
        if len(args) == 1 and args[0] in ctx.help_option_names and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)  # type: ignore[misc]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, then the example, which can be pasted."""
        super().format_help(ctx, formatter)  # type: ignore[misc]
        whole = ctx.command_path.partition(" ")[2]
        name = whole if whole in EXAMPLES else self.name  # type: ignore[attr-defined]
        if name in EXAMPLES:
            formatter.write("\n" + example(name))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and options under their headings, all descriptions in one column."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            name, heading = record[0].strip(), getattr(param, "rich_help_panel", None) or "Options"
            if param.param_type_name == "argument":
                name, heading = param.metavar or name, "Arguments"
            sections.setdefault(heading, []).append((name, record[1].replace("  [", " [")))
        _write(sections, formatter)


def _write(sections: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    """Two columns of the same widths in every section."""
    lengths = [len(first) for rows in sections.values() for first, _ in rows]
    width = max((length for length in lengths if length <= _LONGEST), default=_LONGEST)
    for heading, rows in sections.items():
        with formatter.section(heading):
            for first, text in rows:
                formatter.write(_row(first, text, width, formatter.width))


def _row(name: str, text: str, first: int, columns: int) -> str:
    """A name and its description in lines; names and defaults are not broken."""
    whole = _DEFAULT.sub(lambda found: found[0].replace(" ", _BLANK), text)
    lines = textwrap.wrap(whole, columns - first - 4, break_on_hyphens=False) or [""]
    if len(name) > first:
        lines.insert(0, "")
    names = [name, *[""] * (len(lines) - 1)]
    pairs = zip(names, lines, strict=True)
    return "".join(f"  {n:<{first}}  {line}".rstrip() + "\n" for n, line in pairs).replace(
        _BLANK, " "
    )


class Command(_Help, TyperCommand):
    """A command with such a help."""


class Group(_Help, TyperGroup):
    """A group of commands with such a help."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which a user meets them."""
        known = list(EXAMPLES)
        whole = f"{ctx.command_path.partition(' ')[2]} "
        return sorted(
            super().list_commands(ctx),
            key=lambda name: known.index(f"{whole}{name}" if f"{whole}{name}" in known else name),
        )

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The commands, then the options."""
        _write({"Commands": self.rows(ctx)}, formatter)
        super().format_options(ctx, formatter)

    def rows(self, ctx: Any) -> list[tuple[str, str]]:
        """Every command and its help, in one line."""
        named = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        return [(name, " ".join((one.help or "").split())) for name, one in named if one]
