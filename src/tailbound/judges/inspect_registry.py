"""A scorer of Inspect by its name, checked before it judges anything, and what identifies it."""

from __future__ import annotations

import dis
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.outside import OutsideError, one_line, parse_yaml
from tailbound.errors import UsageError
from tailbound.judges.function_identity import source_of
from tailbound.judges.inspect_scorer import NEEDS_SANDBOX, SEVERAL_VALUES

if TYPE_CHECKING:
    from inspect_ai.scorer import Scorer

_OF_FILE = "tailbound_scorer_"
"""How modules begin that are a file of the user's."""
_SANDBOX = {"sandbox", "sandbox_with", "sandbox_default"}


@dataclass(frozen=True, slots=True)
class FoundScorer:
    """A scorer, and everything that its values depend on in one line."""

    scorer: Scorer
    id: str


def found_scorer(name: str, given: Mapping[str, str], *, target: str | None) -> FoundScorer:
    """The scorer `name` (a registered one, or `FILE.py@NAME`) with the arguments `given` in YAML.

    Raises `UsageError` in one line for whatever keeps it from judging.
    """
    if not name:
        raise UsageError("inspect judge: no scorer is named: write inspect:NAME or FILE.py@NAME")
    factory = _from_file(name) if "@" in name else _registered(name)
    arguments = {key: _value(key, text) for key, text in given.items()}
    _check_arguments(name, factory, arguments)
    try:
        scorer = factory(**arguments)
    except Exception as error:  # the code of others
        raise _refused(name, f"{type(error).__name__}: {one_line(error, 200)}") from error
    _check(name, scorer, target)
    known = {key: _known(value) for key, value in arguments.items()}
    known |= {} if target is None else {"target": target}
    said = json.dumps(known, sort_keys=True, default=repr) if known else ""
    return FoundScorer(scorer, f"inspect:{name}{said}@{_origin(factory)}")


def _refused(name: str, why: str) -> UsageError:
    return UsageError(f"inspect judge {name!r}: {why}")


def _registered(name: str) -> Callable[..., Any]:
    """The function behind a registered name, not called yet."""
    import inspect_ai.scorer as own
    from inspect_ai._util.registry import registry_lookup

    found = registry_lookup("scorer", name)
    if found is None:
        mine = sorted(n for n in own.__all__ if registry_lookup("scorer", n) is not None)
        raise _refused(
            name,
            f"no scorer of that name is registered: known are {', '.join(mine)}, PACKAGE/NAME of "
            "installed packages, and FILE.py@NAME",
        )
    assert callable(found)
    return found


def _from_file(name: str) -> Callable[..., Any]:
    """The function NAME in FILE.py, which is run; other files beside it can be imported."""
    file, _, function = name.rpartition("@")
    path = Path(file)
    if not path.is_file():
        raise _refused(name, f"there is no file {file}: check the path")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"{_OF_FILE}{digest}", path)
    if spec is None or spec.loader is None:
        raise _refused(name, f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        line = f"{type(error).__name__}: {one_line(error, 200)}"
        raise _refused(name, f"{file} cannot be imported ({line})") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    found: object = getattr(module, function, None)
    if not (callable(found) and _is_scorer(found)):
        raise _refused(name, f"{file} has no {function!r} that is decorated with @scorer")
    return found


def _is_scorer(found: object) -> bool:
    from inspect_ai.util import registry_info

    try:
        return registry_info(found).type == "scorer"
    except ValueError:
        return False


def _value(key: str, text: str) -> Any:
    try:
        return parse_yaml(text)
    except OutsideError as error:
        raise UsageError(f"inspect judge: {key}={text} is not a valid value: quote it") from error


def _check_arguments(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    signature = inspect.signature(factory)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise _refused(name, f"{error}; it takes {signature}") from error
    model = signature.parameters.get("model")
    if model is not None and model.default is None and arguments.get("model") is None:
        raise _refused(name, "it asks a model: name it with ?model=PROVIDER/NAME")


def _check(name: str, scorer: Any, target: str | None) -> None:
    """Refuse what cannot judge, as far as its code and its metrics show."""
    from inspect_ai.util import registry_info

    metrics = registry_info(scorer).metadata.get("metrics", ())
    if isinstance(metrics, Mapping) or any(isinstance(one, Mapping) for one in metrics):
        raise _refused(name, f"it {SEVERAL_VALUES}")
    codes = list(_codes(scorer, home=_module_of(scorer)))
    if any(_SANDBOX & {*code.co_names, *code.co_freevars} for code in codes):
        raise _refused(name, f"it {NEEDS_SANDBOX}")
    if target is None and codes and _reads_second(_function_of(scorer)):
        raise _refused(name, "it compares with a target: say with what by ?target=TEXT")


def _function_of(scorer: Any) -> types.FunctionType | None:
    found = scorer if inspect.isfunction(scorer) else getattr(type(scorer), "__call__", None)  # noqa: B004
    found = inspect.unwrap(found) if found is not None else None
    return found if isinstance(found, types.FunctionType) else None


def _module_of(scorer: Any) -> str | None:
    function = _function_of(scorer)
    return None if function is None else function.__module__


def _codes(found: Any, *, home: str | None, depth: int = 6) -> Iterator[types.CodeType]:
    """The code of a scorer, and of the functions of its own module that it rests on."""
    function = _function_of(found)
    if function is None or function.__module__ != home or depth == 0:
        return
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        yield code
        waiting += [one for one in code.co_consts if isinstance(one, types.CodeType)]
    held = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    held += [function.__globals__.get(name) for name in function.__code__.co_names]
    for one in held:
        if inspect.isfunction(one) and one is not function:
            yield from _codes(one, home=home, depth=depth - 1)


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _reads_second(function: types.FunctionType | None) -> bool:
    """Whether a function (state, target) looks at its last parameter; True where unknown."""
    if function is None:
        return True
    code = function.__code__
    parameters = code.co_varnames[: code.co_argcount]
    if not parameters:
        return True
    name = parameters[-1]
    inner = (one for one in code.co_consts if isinstance(one, types.CodeType))
    if any(name in one.co_freevars for one in inner):
        return True
    return any(
        step.opname.startswith("LOAD") and step.argval == name
        for step in dis.get_instructions(code)
    )


def _known(value: Any) -> Any:
    """An argument as it is identified: of a file's name, what the file holds counts too."""
    try:
        if isinstance(value, str) and Path(value).is_file():
            return [value, hashlib.sha256(Path(value).read_bytes()).hexdigest()[:12]]
    except (OSError, ValueError):
        return value
    return value


def _version(package: str) -> Iterator[str]:
    """The version of the distribution that brings a top-level package, where there is one."""
    if package.startswith(_OF_FILE):
        return
    try:
        yield importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # its name is another one, perhaps
        for name in importlib.metadata.packages_distributions().get(package, ())[:1]:
            yield importlib.metadata.version(name)
    except ValueError:  # no name at all
        return


def _origin(factory: Callable[..., Any]) -> str:
    """`PACKAGE-VERSION+DIGEST`: the version where there is one, and the source of the module."""
    function = inspect.unwrap(factory)
    module = sys.modules.get(getattr(function, "__module__", ""))
    top = "" if module is None else module.__name__.partition(".")[0]
    versions = [f"{top}-{version}" for version in _version(top)]
    source = None if module is None else source_of(module)
    if source is not None:
        versions.append(hashlib.sha256(source.encode()).hexdigest()[:12])
    return "+".join(versions) or "unknown"
