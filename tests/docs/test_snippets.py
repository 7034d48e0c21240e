"""What README and docs show runs: Python in order, page by page; commands by their own parser."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from docs.pages import PAGES, ROOT, Snippet, inline_code, name, snippets

#: Pages whose commands are executed as well, in order with their Python, in one folder. The
#: commands of the others need a checkpoint, a server, or minutes.
EXECUTED = (
    "docs/start.md",
    "docs/compare.md",
    "docs/judge-error.md",
    "docs/forecast.md",
    "docs/sensitivity.md",
    "docs/inspect.md",
    "docs/tutorials/demo.md",
    "docs/tutorials/logs.md",
)

#: Commands on those pages that are shown only: they take minutes, or files that are not there.
SHOWN = (
    ("demo", "--quick"),
    ("import", "logs/"),
    ("import", "samples_"),
    ("import", "garak."),
    ("summarize", "runs/refusals"),
    ("risk", "prompts.jsonl"),
    ("audit-judge", "runs/weighted"),
    ("forecast", "runs/"),
    ("compare", "runs/monday"),
    ("sensitivity", "runs/"),
    ("bound", "prompts.jsonl"),
    ("sensitivity", "prompts.jsonl"),
    ("risk", "wordings.jsonl"),
)

#: Options of other programs that the docs speak of.
FOREIGN = {"--log_samples", "--predict_only", "--variant", "--store"}

#: The functions of `tailbound` itself may come after this test.
API = importlib.util.find_spec("tailbound.api") is not None


def _calls_the_api(page: Path) -> bool:
    return any(
        snippet.language == "python" and re.search(r"^import tailbound$", snippet.text, re.M)
        for snippet in snippets(page)
    )


def _group() -> Any:
    from tailbound.cli.app import app

    return typer.main.get_command(app)


def _options(command: Any) -> Iterator[str]:
    for param in command.params:
        if param.param_type_name == "option":
            yield from (*param.opts, *param.secondary_opts)
    yield from ("--help", "-h")


def _all_options(command: Any) -> set[str]:
    found = set(_options(command))
    for child in getattr(command, "commands", {}).values():
        found |= _all_options(child)
    return found


def _check(arguments: list[str]) -> None:
    """Raise where the command does not exist, or its own parser refuses an option."""
    command, context, rest = _group(), None, arguments
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        context = command.context_class(command, info_name=command.name, parent=context)
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.context_class(command, info_name=command.name, parent=context)
    command.make_parser(context).parse_args(list(rest))


COMMANDS = [
    pytest.param(arguments, id=f"{name(page)}:{snippet.line} {' '.join(arguments)[:60]}")
    for page in PAGES
    for snippet in snippets(page)
    for arguments in snippet.commands()
]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("arguments", COMMANDS)
def test_commands_are_ones_that_exist(arguments: list[str]) -> None:
    _check(arguments)


def test_an_option_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="--budgets"):
        _check(["bound", "prompts.jsonl", "--budgets", "3", "--out", "x"])


def test_the_commands_of_the_example_workflow_exist() -> None:
    document = yaml.safe_load((ROOT / "examples" / "gate.yml").read_text())
    steps = [step for job in document["jobs"].values() for step in job["steps"]]
    text = "\n".join(step["run"] for step in steps if "run" in step)
    commands = Snippet(ROOT / "examples" / "gate.yml", "sh", text, 1).commands()
    assert [arguments[0] for arguments in commands] == ["bound", "verify", "gate", "show"]
    for arguments in commands:
        _check(arguments)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_in_the_text_are_ones_that_exist(page: Path) -> None:
    known = _all_options(_group()) | FOREIGN
    said = {
        option
        for code in inline_code(page)
        if code.startswith(("--", "tailbound "))
        for option in re.findall(r"(?<![\w-])--[a-z][a-z_-]+", code)
    }
    assert said - known == set()


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(snippet.language == "python" for snippet in snippets(page))],
    ids=name,
)
def test_snippets_run(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Callable[..., tuple[int, str, str]],
) -> None:
    if _calls_the_api(page) and not API:
        for snippet in snippets(page):
            if snippet.language == "python":
                compile(snippet.text, f"{name(page)}:{snippet.line}", "exec")
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    space: dict[str, Any] = {"__name__": "__main__"}
    for snippet in snippets(page):
        if snippet.language == "python":
            _run(snippet, space, tmp_path)
        elif name(page) in EXECUTED:
            _execute(snippet, cli)
    for module in set(sys.modules) - before:
        if (tmp_path / f"{module}.py").exists():
            del sys.modules[module]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if name(page) in EXECUTED and not _calls_the_api(page)],
    ids=name,
)
def test_commands_run(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Callable[..., tuple[int, str, str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    for snippet in snippets(page):
        _execute(snippet, cli)


def _run(snippet: Snippet, space: dict[str, Any], folder: Path) -> None:
    """Run a snippet; one that begins with a file's name in a comment is written to that file."""
    named = re.match(r"# (\w+\.py)\n", snippet.text)
    if named:
        (folder / named[1]).write_text(snippet.text)
    # as many blank lines before it as the page has: errors name the line of the page
    text = "\n" * snippet.line + snippet.text
    exec(compile(text, name(snippet.page), "exec"), space)


def _execute(snippet: Snippet, cli: Callable[..., tuple[int, str, str]]) -> None:
    for arguments in snippet.commands():
        if any(arguments[0] == shown[0] and arguments[1].startswith(shown[1]) for shown in SHOWN):
            continue
        code, _, err = cli(*arguments)
        assert code == 0, f"tailbound {' '.join(arguments)}: {err}"
