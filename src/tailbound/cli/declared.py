"""Options of the command line from their declarations (`core.options`), and `--config`."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from datetime import date
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from tailbound.core.options import Group, Option, options_of
from tailbound.core.outside import parse_yaml, shown, without_passwords
from tailbound.errors import UsageError

RUN = "Run"
CONFIG, SAVE, CONTEXT = "config", "save_config", "context"
_WIDEST = 20
"""Characters of choices that are shown in place of a type; the help names them anyway."""


def declares(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that dataclasses declare, `--config` and `--save-config`.

    The command takes them as `**options`, under their names in Python. One that has a parameter
    `context` can ask `given_names` which of them were given.
    """

    def give(function: Callable[..., None]) -> Callable[..., None]:
        declared = [one for group in groups for one in options_of(group)]
        own = [
            parameter.replace(kind=parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(function, eval_str=True).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        takes_context = any(one.name == CONTEXT for one in own)
        if not takes_context:
            own.append(
                inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
            )
        of_run = [one for one in own if _panel(one) == RUN]
        parameters = [
            *(one for one in own if one not in of_run),
            *(_parameter(one) for one in sorted(declared, key=lambda one: one.group == RUN)),
            *of_run,
            _save(),
            _config(),
        ]

        @functools.wraps(function)
        def command(**given: Any) -> None:
            save = given.pop(SAVE)
            given.pop(CONFIG)
            if save is not None:
                names = given_names(given[CONTEXT])
                save_config(save, {name: v for name, v in given.items() if name in names})
            if not takes_context:
                given.pop(CONTEXT)
            for one in declared:
                given[one.name] = _parsed(one, given[one.name])
            function(**given)

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return give


def given_names(context: typer.Context) -> set[str]:
    """The names of the parameters that the command line or a configuration file gave."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, one in sources.items() if one is not None and one.name != "DEFAULT"}


def _panel(parameter: inspect.Parameter) -> str | None:
    """The heading under which the help shows an option of the command's own."""
    marks = getattr(parameter.annotation, "__metadata__", ())
    return next((getattr(mark, "rich_help_panel", None) for mark in marks), None)


def _parameter(one: Option) -> inspect.Parameter:
    """The option as Typer wants it; numbers in a row are one text, 0.3,0.5,0.2."""
    annotation, default = one.type, one.default
    metavar = _word(annotation)
    if one.choices:
        annotation = str if default is not None else str | None
        joined = "|".join(one.choices)
        metavar = joined if len(joined) <= _WIDEST else "CHOICE"
    elif get_origin(annotation) is tuple:
        if get_args(annotation)[0] is str:
            annotation, default = list[str] | None, None
        elif default == ():
            annotation, default = str, None
        else:
            annotation, default = str, ",".join(f"{number:g}" for number in default)
    if default is None and annotation in (int, float, str):
        annotation = annotation | None
    flag = one.flag if default is not True else f"{one.flag}/--no-{one.flag[2:]}"
    names = [flag] if one.short is None else [flag, one.short]
    info = typer.Option(
        *names, help=one.help, rich_help_panel=one.group, metavar=metavar,
        autocompletion=_completes(one.choices) if one.choices else None,
    )  # fmt: skip
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[annotation, info],
    )


def _word(annotation: Any) -> str | None:
    """What stands for a value of the type in the help; None for a switch."""
    kinds = (annotation, *get_args(annotation))
    if get_origin(annotation) is tuple and str not in kinds:
        return "NUMBERS"
    words = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}
    return next((word for kind, word in words.items() if kind in kinds), None)


def _completes(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def _parsed(one: Option, value: Any) -> Any:
    """The value of an option from what Typer gives."""
    if get_origin(one.type) is not tuple:
        return value
    members = get_args(one.type)
    if members[0] is str:
        return tuple(value or ())
    if value is None and one.default == ():
        return ()
    try:
        numbers = tuple(members[0](part) for part in value.split(",") if part.strip())
    except ValueError:
        numbers = ()
    shown = ",".join(f"{number:g}" for number in one.default or (10, 100))
    if not numbers or (Ellipsis not in members and len(numbers) != len(members)):
        kind = "whole numbers" if members[0] is int else "numbers"
        count = kind if Ellipsis in members else f"{len(members)} {kind}"
        raise UsageError(f"{one.flag} takes {count} such as {shown}, not {value!r}")
    return numbers


# --- configuration files ----------------------------------------------------------------------


def _config() -> inspect.Parameter:
    info = typer.Option(
        "--config",
        rich_help_panel=RUN,
        metavar="FILE",
        help="YAML file of options, or the run.yaml of a run; the command line takes precedence.",
        callback=_read_config,
        is_eager=True,
    )
    return inspect.Parameter(
        CONFIG,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, info],
    )


def _save() -> inspect.Parameter:
    info = typer.Option(
        "--save-config",
        rich_help_panel=RUN,
        metavar="FILE",
        help="Also write the options given to this command to a YAML file, for --config.",
    )
    return inspect.Parameter(
        SAVE, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, info]
    )


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make what the file says the defaults of the command."""
    if path is None or context.resilient_parsing:
        return path
    known = {one.name: one for one in context.command.params if one.name not in (CONFIG, SAVE)}
    values: dict[str, Any] = {}
    for key, value in config_values(path).items():
        name = _NAMES.get(str(key), str(key)).replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, [str(one) for one in known], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"--config {path}: {context.command_path} has no option {key!r}{hint}")
        if value is not None:
            parameter = known[name]
            _check_value(path, str(key), value, flag=getattr(parameter, "is_flag", False))
            values[name] = _text(value, multiple=getattr(parameter, "multiple", False))
    context.default_map = {**(context.default_map or {}), **values}
    return path


_NAMES = {"alphas": "alpha", "shares": "split", "family": "proposal_family", "json": "as_json"}
"""What run.yaml and the command line call by another name than the command does."""


def _check_value(path: Path, key: str, value: Any, *, flag: bool) -> None:
    """Raise `UsageError` for what no option can be: true for a number, 1 for a switch, nesting."""
    if flag != isinstance(value, bool):
        due = "true or false" if flag else "a value"
        raise UsageError(f"--config {path}: {key} takes {due}, not {shown(value)}")
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, (str, int, float, date)):
            raise UsageError(
                f"--config {path}: {key} takes a text, a number or a list of these, not "
                f"{type(one).__name__}"
            )


def config_values(path: Path) -> Mapping[str, Any]:
    """The options in a configuration file, or in the `run.yaml` of a run.

    Raises `UsageError` for a file that cannot be read or holds something else.
    """
    from tailbound.runs.layout import MANIFEST

    if path.name == MANIFEST and path.is_file():
        from tailbound.cli.recorded import options_of_run
        from tailbound.runs.manifest import read_manifest

        return options_of_run(read_manifest(path.parent))
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        document = parse_yaml(text)
        _check_keys(path, yaml.compose(text, Loader=yaml.SafeLoader))
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror or error}") from error
    except UsageError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"--config {path} is not readable YAML ({reason})") from error
    if not isinstance(document, dict):
        raise UsageError(f"--config {path} must hold options, one `name: value` a line")
    return document


def _check_keys(path: Path, node: Any) -> None:
    """Raise `UsageError` for an option that stands there twice: YAML keeps the last."""
    pairs = node.value if getattr(node, "id", "") == "mapping" else []
    names = [str(key.value).replace("-", "_") for key, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--config {path} gives {name} twice: remove one")


def _text(value: Any, *, multiple: bool) -> Any:
    """A value of YAML as the command line would give it."""
    if isinstance(value, (list, tuple)):
        return list(map(str, value)) if multiple else ",".join(map(str, value))
    if isinstance(value, (bool, int, float)) and not multiple:
        return value
    return [str(value)] if multiple else str(value)


def _without_password(name: str, value: Any) -> Any:
    """`value`; raises `UsageError` for a URL that holds a password or a key."""
    if name == "base_url" and isinstance(value, str) and ("@" in value or "?" in value):
        raise UsageError(
            f"--save-config does not write {without_passwords(value)}: name the environment "
            "variable of the key by --key-env"
        )
    return value


def save_config(path: Path, given: Mapping[str, Any]) -> None:
    """Write options as a configuration file."""
    import yaml

    from tailbound.storage.files import write_atomically

    plain = {
        name: str(value) if isinstance(value, Path) else _without_password(name, value)
        for name, value in given.items()
        if value is not None and name not in (CONTEXT, "dry_run", "as_json")
    }
    if path.exists():
        raise UsageError(f"--save-config {path} exists: name a new file")
    write_atomically(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
