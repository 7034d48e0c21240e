"""`--help`: quick, readable at 80 columns, and in the order in which a user meets the commands."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from tailbound.cli.commands import COMMANDS as NAMED
from tailbound.cli.commands import load

COMMANDS = [
    [],
    *([name] for name in ("demo", "bound", "predict", "risk", "steer", "summarize", "rejudge")),
    ["audit-judge"],
    ["compare"],
    ["forecast"],
    ["sensitivity"],
    ["gate"],
    ["show"],
    ["report"],
    ["view"],
    ["verify"],
    ["ledger"],
    *(
        [name]
        for name in ("monitor", "import", "export", "reproduce", "targets", "judges", "doctor")
    ),
    ["steer", "refusal"],
    ["steer", "persona"],
    *(["reproduce", name] for name in ("mc-vs-is", "strongreject", "persona")),
    *(["reproduce", name] for name in ("synthetic", "realtoxicity")),
]
TIMES, TRIES = 2.8, 6
"""How much longer than importing typer it may take, and tries, of which the best counts."""


def run(*arguments: str, columns: int = 80) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": str(columns)},
    )
    return done.stdout


def cpu_seconds(*arguments: str) -> float:
    """User and system time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_takes_little_longer_than_importing_typer(command: list[str]) -> None:
    """By CPU time in turn: 1.3 to 2.2 times as long, since one command is imported, not twenty."""
    asked = ("-m", "tailbound", *command, "--help")
    ratios = []
    for _ in range(TRIES):
        ratios.append(cpu_seconds(*asked) / cpu_seconds("-c", "import typer.main"))
        if ratios[-1] < TIMES:
            return
    pytest.fail(f"CPU time, in that of importing typer: {ratios}")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_80_columns_and_leaves_them_to_the_text(command: list[str]) -> None:
    lines = run("-m", "tailbound", *command, "--help").splitlines()
    text = lines[: lines.index("Example:")] if "Example:" in lines else lines
    assert max(map(len, text)) <= 80
    starts = {
        len(line) - len(line.lstrip()) for line in text if line.startswith(" " * 6)
    }  # of lines that go on in the second column
    assert len(starts) <= (1 if command else 2)  # the commands have a column of their own
    assert all(start <= 28 for start in starts)
    for whole in ("plug-in", "hf-dataset:ORG/NAME", "[default: demo]"):
        assert not any(line.endswith(whole[:cut]) for line in text for cut in (5, 9, 10))


def test_help_imports_neither_what_checks_values_nor_what_draws_boxes() -> None:
    script = (
        "import sys; sys.argv = ['tailbound', 'risk', '--help']\n"
        "from tailbound.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "slow = {'pydantic', 'rich', 'numpy', 'torch', 'polars'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    assert "--until-resolved" in run("-c", script)


def test_commands_stand_in_the_order_of_use() -> None:
    said = run("-m", "tailbound", "--help")
    block = said[said.index("Commands:") : said.index("Options:")].splitlines()
    names = [line.split()[0] for line in block if line.startswith("  ") and line[2] != " "]
    assert names == [one[0] for one in COMMANDS if len(one) == 1]


@pytest.mark.parametrize("name", NAMED)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    first, _, _ = load(name).help.partition("\n\n")
    assert " ".join(first.split()) == NAMED[name].summary


def test_a_command_is_imported_only_when_asked() -> None:
    script = (
        "import sys; sys.argv = ['tailbound', 'show', '--help']\n"
        "from tailbound.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "loaded = {name for name in sys.modules if name.startswith('tailbound.cli.')}\n"
        "assert 'tailbound.cli.show' in loaded\n"
        "assert not {'tailbound.cli.bound', 'tailbound.cli.gate'} & loaded, loaded"
    )
    assert "tailbound show" in run("-c", script)


def test_an_unknown_command_names_the_one_that_was_meant() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tailbound", "sumarize"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "summarize" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("asked", [["--help"], ["-h"], ["--out", "x", "--help"]])
def test_every_way_to_ask_for_help_is_the_same(asked: list[str]) -> None:
    assert run("-m", "tailbound", "risk", *asked) == run("-m", "tailbound", "risk", "-h")
