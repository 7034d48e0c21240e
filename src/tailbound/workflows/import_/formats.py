"""Which format a source has, and who reads it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from tailbound.core.outside import parse_json
from tailbound.errors import UsageError
from tailbound.prompts.opening import COMPRESSED, suffix_of
from tailbound.prompts.tables import read_rows
from tailbound.workflows.import_ import garak, inspect_log, lm_eval, table
from tailbound.workflows.import_.base import Source
from tailbound.workflows.import_.settings import Format

FORMATS: tuple[str, ...] = get_args(Format)


def read_source(path: Path, format: str | None = None, judge: str | None = None) -> Source:
    """Everything in the file `path`; without a `format`, by its ending and its first record.

    Raises `UsageError` with the place where it is missing, unreadable or not what it should be.
    """
    if not path.exists():
        raise UsageError(f"no file {path}: check the path")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name one file in it (a log, samples, or a report)")
    if format is not None and format not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, not {format!r}")
    readers = {
        "inspect": inspect_log.read,
        "lm-eval": lm_eval.read,
        "garak": garak.read,
        "table": table.read,
    }
    return readers[format or detect(path)](path, judge)


def detect(path: Path) -> str:
    """The format that the file seems to have: a table where nothing speaks for another."""
    ending = suffix_of(path)
    if path.suffix.lower() == ".eval" or (path.suffix.lower() == ".json" and not _is_array(path)):
        return "inspect"
    if ending not in (".jsonl", ".ndjson"):
        return "table"
    keys = _first_keys(path)
    if "entry_type" in keys or keys >= garak.HIT_KEYS:
        return "garak"
    return "lm-eval" if {"doc_id", "resps"} <= keys else "table"


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2**12).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _first_keys(path: Path) -> set[str]:
    """The keys of the first record; empty where there is none that can be read."""
    first: object = None
    if path.suffix.lower() not in COMPRESSED:
        try:
            with path.open(encoding="utf-8-sig") as file:
                first = parse_json(next((line for line in file if line.strip()), "null"))
        except (OSError, ValueError):
            first = None
    if not isinstance(first, dict):  # packed, or an array over many lines
        try:
            first = next((row.values for row in read_rows(path)), None)
        except UsageError:
            first = None
    return set(first) if isinstance(first, dict) else set()
