"""What a run folder says about itself: `run.yaml`, and whether a run may be resumed there."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from tailbound.core.contract import SamplingContract, SamplingOptions
from tailbound.core.outside import OutsideError, parse_yaml
from tailbound.core.prompt import Prompt
from tailbound.errors import ContractMismatchError, LedgerError, UsageError
from tailbound.runs.layout import LOCK, MANIFEST
from tailbound.runs.lock import FolderLock
from tailbound.runs.prompts import check_prompts
from tailbound.storage.documents import read_sealed
from tailbound.storage.files import make_folder, write_atomically
from tailbound.storage.places import check_name, check_place
from tailbound.storage.seal import BLANK, seal

SCHEMA = 1

_TYPES: dict[str, type | tuple[type, ...]] = {
    "command": str,
    "target": str,
    "engine": dict,
    "contract": dict,
    "judge": str,
    "judge_id": str,
    "threshold": (int, float),
    "options": dict,
}
"""What every reader relies on."""

FIXED = ("seed", "family", "intensities", "method")
"""Options that say what the draws of a run are draws of."""

_WORDS = {"bound-table": "bound --from-table"}
"""What the command line calls a command, where `run.yaml` has another word."""

LONGEST = 4_000_000
"""Bytes of `run.yaml` at most: a parser of YAML is slow, and this one is read before each run."""

_VERSIONS = ("tailbound", "numpy", "scipy", "polars", "torch", "transformers")


def full_manifest(
    *,
    command: str,
    contract: SamplingContract,
    target: str,
    engine: Mapping[str, Any],
    judge: str,
    judge_id: str,
    threshold: float,
    options: Mapping[str, Any],
    notices: tuple[str, ...] = (),
    capabilities: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The document that `run.yaml` holds.

    `engine` and `options` are plain values: what was asked of the engine, and every option of the
    command, resolved. `capabilities` are what a probe found out about a server.
    """
    return {
        "schema": SCHEMA,
        "command": command,
        "target": target,
        "engine": dict(engine),
        "contract": {**contract.to_dict(), "digest": contract.digest},
        "judge": judge,
        "judge_id": judge_id,
        "threshold": threshold,
        "options": dict(options),
        "notices": list(notices),
        **({"capabilities": dict(capabilities)} if capabilities is not None else {}),
        "versions": versions(),
    }


def partial_manifest(
    command: str, sampling: SamplingOptions | SamplingContract, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What `run.yaml` will say, as far as it is known before judge and target are loaded."""
    contract = {
        name: getattr(sampling, name)
        for name in (
            *("system", "temperature", "top_p", "top_k", "max_new_tokens"),
            *("thinking", "extra_body"),
        )
    }
    return {
        "command": command,
        "contract": {**contract, "stop": list(sampling.stop)},
        "options": {key: options[key] for key in FIXED if key in options},
    }


def check_manifest(
    folder: Path, document: Mapping[str, Any], prompts: Iterable[Prompt] = ()
) -> None:
    """Find out, before anything is spent, whether a run may begin or be resumed in `folder`.

    `document` is what is known of `run.yaml` by then. Raises `ContractMismatchError` for a run of
    something else, `RunLockedError` where another process works on it, and `UsageError` for a
    folder that holds other files. Nothing is written.
    """
    check_place(folder)
    held = (folder / MANIFEST).exists()
    if held:
        _compare(folder, document)
    elif folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UsageError(f"{folder} holds other files and no run: give a new folder as --out")
    check_prompts(folder, prompts)
    if (folder / LOCK).exists():
        FolderLock(folder).release()


def _compare(folder: Path, document: Mapping[str, Any]) -> None:
    held = read_manifest(folder)
    before, now = (_WORDS.get(one["command"], one["command"]) for one in (held, document))
    if before != now:
        raise ContractMismatchError(
            f"{folder} holds a run of tailbound {before}, not of tailbound {now}: use another --out"
        )
    for name, before, now in _fixed(held, document):
        if before != now:
            other = " (or --rejudge, to judge the same draws again)" if name == "judge" else ""
            raise ContractMismatchError(
                f"{folder} holds a run with {name} {before!r}, not {now!r}: "
                f"use another --out, or the same options as before{other}"
            )


def write_manifest(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `run.yaml`, or resume where there is one with the same options.

    Options that only say how much to draw may change from one call to the next; what the draws
    are draws of (family and intensities of proposals included), and the threshold, which decides
    where streams stopped, may not. Raises
    `ContractMismatchError`, and leaves the old document as it is.
    """
    path = folder / MANIFEST
    if path.exists():
        _compare(folder, document)
    text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)
    if len(text.encode()) > LONGEST:
        raise UsageError(
            f"the options of this run are too long for {path} (more than {LONGEST:,} bytes): use "
            "shorter texts, such as the system prompt"
        )
    make_folder(folder)
    write_atomically(path, seal(f'{text}checksum: "{BLANK}"\n'.encode()))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The document in `run.yaml`.

    Raises `UsageError` where there is none, and `LedgerError` where it is damaged or was edited:
    what does not bear its checksum is not parsed at all.
    """
    path = folder / MANIFEST
    check_name(folder)
    try:
        text = read_sealed(path, cure="restore it; options are changed on the command line")
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is not a run folder (it has no run.yaml): give the --out of a run"
        ) from None
    if len(text.encode()) > LONGEST + 100:
        raise LedgerError(f"{path} is too long to be one that tailbound wrote: restore it")
    try:
        document = parse_yaml(text, most=LONGEST + 100)
    except OutsideError as error:
        raise LedgerError(f"{path} is not readable YAML ({error}): restore it") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UsageError(
            f"{path} was not written by this version of tailbound: use the one that wrote it"
        )
    wrong = [key for key, kinds in _TYPES.items() if not isinstance(document.get(key), kinds)]
    if wrong or isinstance(document["threshold"], bool):
        key = wrong[0] if wrong else "threshold"
        raise LedgerError(f"{path} has no usable {key!r} ({document.get(key)!r:.60}): restore it")
    del document["checksum"]
    return document


def _fixed(
    held: Mapping[str, Any], document: Mapping[str, Any]
) -> Iterator[tuple[str, object, object]]:
    """What may not change between two calls, as far as it is known: (name, before, now)."""
    for key, now in document["contract"].items():
        if key != "digest":
            yield key, held["contract"].get(key), now
    for key in ("judge_id", "threshold"):
        if key in document:
            yield key.replace("_id", ""), held.get(key), document[key]
    if "engine" in document:
        yield "content_filter", *(one["engine"].get("content_filter") for one in (held, document))
    for key in FIXED:
        if key in document["options"]:
            yield key, held["options"].get(key), document["options"][key]


def versions(*more: str) -> dict[str, str]:
    """The versions of Python, of tailbound and of what numbers rest on, and of `more` packages."""
    found = {"python": platform.python_version()}
    for name in (*_VERSIONS, *more):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
