"""What a run cost in draws and tokens, in all of its processes.

    DIR/spend.json    {"streams": {...}, "stages": {"scoring": {"draws", "tokens", ...}, ...}}

`streams` are the draws on record. `stages` is everything that the model did in this process and
those before: sampling by stream, the search for a direction, contests between proposals, pilots,
self-checks, scoring, features, judging by a model of the same engine. The work of a process that is
killed counts up to the end of the last stage that it finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tailbound.core.steps import Account, Work, accounted
from tailbound.runs.layout import SPEND
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json

SCHEMA = 1
_CURE = "restore it, or delete it to count from 0"
_COUNTED = ("draws", "tokens", "positions", "seconds")


def write_streams(folder: Path, streams: Mapping[str, Any]) -> None:
    """Write what the streams on record cost; the stages stay as they are."""
    _write(folder, {**_read(folder), "streams": dict(streams)})


@contextmanager
def stages_kept(folder: Path) -> Iterator[Account]:
    """Keep the account of what the model does meanwhile in `folder`, which must exist by the end.

    Raises `LedgerError` where the account on record is damaged.
    """
    before = read_stages(folder)

    def keep() -> None:
        if not folder.is_dir():
            return
        stages = {name: asdict(work) for name, work in before.items()}
        for name, work in account.stages().items():
            held = stages.get(name, asdict(Work()))
            now = asdict(work)
            stages[name] = {key: held[key] + now[key] for key in _COUNTED}
        _write(folder, {**_read(folder), "stages": {n: _plain(s) for n, s in stages.items()}})

    account = Account(keep)
    try:
        with accounted(account):
            yield account
    finally:
        keep()


def read_stages(folder: Path) -> dict[str, Work]:
    """What every stage cost so far; empty where nothing is on record."""
    held = _read(folder)
    with understood(folder / SPEND, cure=_CURE):
        return {
            str(name): Work(**{key: one[key] for key in _COUNTED})
            for name, one in held.get("stages", {}).items()
        }


def read_streams(folder: Path) -> dict[str, Any]:
    """What every stream cost, as `write_streams` was given it; empty where nothing is on record."""
    held = _read(folder)
    with understood(folder / SPEND, cure=_CURE):
        return dict(held.get("streams", {}))


def _read(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / SPEND, cure=_CURE)
    except FileNotFoundError:
        return {}


def _plain(stage: Mapping[str, float]) -> dict[str, float]:
    return {**stage, "seconds": round(max(stage["seconds"], 0.0), 3)}


def _write(folder: Path, document: Mapping[str, Any]) -> None:
    ordered = {name: document[name] for name in ("streams", "stages") if name in document}
    write_json(folder / SPEND, {"schema": SCHEMA, **ordered})
