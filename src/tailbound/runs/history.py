"""The results of a run folder with their history: none is overwritten without a trace.

    DIR/results/0001-bound.json      a result, and where it came from
    DIR/results/0002-summary.json    the next one, of another command
    DIR/results/0003-bound.json      the bound again, under other options or from more draws

Every command that writes a result hands it to `keep_result` first, then writes it under its plain
name (`bound.json`), where its readers find the newest. A process that is killed between the two
leaves the new result in `results/` and the one before under the plain name, and in `results/` too:
nothing is lost, and the same command again puts the new one in place. A repeat that changes nothing
adds nothing. The results of another judge have their history in `verdicts/DIGEST/results/`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tailbound.errors import LedgerError, RunLockedError
from tailbound.runs import layout
from tailbound.runs.draws import CURE as DRAWS_CURE
from tailbound.runs.lock import FolderLock
from tailbound.runs.manifest import read_manifest
from tailbound.runs.shards import part_files
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, remove_unfinished, write_json
from tailbound.storage.parquet import recorded_seals
from tailbound.storage.plain import finite, from_plain

SCHEMA = 1
CURE = "restore it, or remove it and that result is forgotten"
WAIT_SECONDS = 10.0
"""How long a command waits for another that is writing to `results/`."""

_NAME = re.compile(r"([0-9]{4,8})-([a-z]+(?:-[a-z]+)*)\.json")


@dataclass(frozen=True, kw_only=True)
class Seals:
    """Sealed files that a result rests on: their number, and a digest of names and checksums."""

    files: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a result came from.

    `date` is UTC; `options` are all options of `command`, and `engine` those of the target;
    `contract` is the digest of the sampling contract. `rests_on` has the files of `draws`, of
    `verdicts` of another judge, and the `table` of a bound from one. A result that was found
    without a history has no `date`, and of the rest only what is the same for the whole run.
    """

    date: str | None
    command: str | None
    tailbound: str | None
    target: str | None
    judge: str | None
    judge_id: str | None
    threshold: float | None
    contract: str | None
    engine: dict[str, Any]
    options: dict[str, Any]
    rests_on: dict[str, Seals]

    def says_the_same(self, other: Provenance) -> bool:
        """Whether both are of the same options and draws.

        When, by which version and on which device is not asked: where that makes a difference, the
        results differ.
        """
        mine, theirs = asdict(self), asdict(other)
        aside = ("date", "tailbound", "engine")
        return all(mine[name] == theirs[name] for name in mine if name not in aside)


@dataclass(frozen=True, kw_only=True)
class RecordedResult:
    """One file of `results/`: `result` is the document under the plain name `NAME.json`.

    That of a bound also has `evaluation`, from `evaluation.json`.
    """

    number: int
    name: str
    provenance: Provenance
    result: dict[str, Any]

    @property
    def file(self) -> str:
        """Its name in the folder of the run or judge."""
        return f"{layout.RESULTS}/{layout.result_name(self.number, self.name)}"


def keep_result(
    home: Path,
    name: str,
    document: Mapping[str, Any],
    *,
    before: Callable[[], Mapping[str, Any] | None],
    command: str | None = None,
    options: Mapping[str, Any] | None = None,
    ignoring: Sequence[str] = (),
) -> None:
    """Keep a result in `home/results/`, unless it is the newest of its name already.

    `home` is a run folder, or that of another judge in it. `options` are those of `command`;
    without them, the run's own. `before` gives the document under the plain name: where there is no
    history of it yet, it is kept first. Keys in `ignoring` say something of the call alone, and do
    not make a result another one. Raises `LedgerError` where the system refuses.
    """
    made = _provenance(home, command, options)
    new = _plain(document)
    with _held(home / layout.RESULTS) as folder:
        numbers = _numbers(folder)
        last = _newest(folder, numbers, name)
        if last is None:
            _adopt(folder, numbers, name, before, made, but=new, ignoring=ignoring)
        elif made.says_the_same(last.provenance) and _same(last.result, new, ignoring):
            return
        _write(folder, numbers, name, made, new)


def keep_before(home: Path, name: str, before: Callable[[], Mapping[str, Any] | None]) -> None:
    """Keep the result under the plain name, which is about to go, where it has no history yet."""
    with _held(home / layout.RESULTS) as folder:
        numbers = _numbers(folder)
        if _newest(folder, numbers, name) is None:
            _adopt(folder, numbers, name, before, _provenance(home, None, None))


def check_history(home: Path) -> None:
    """Raise `LedgerError` for a file in `home/results/` that has no business there.

    Asked before anything is drawn: otherwise the result could not be kept at the end.
    """
    _numbers(home / layout.RESULTS)


def read_history(home: Path) -> tuple[RecordedResult, ...]:
    """Every result in `home/results/`, in the order in which they came out.

    Raises `LedgerError` for a damaged one, and for a file of another name.
    """
    folder = home / layout.RESULTS
    return tuple(read_recorded(folder / file) for _, _, file in _numbers(folder))


def read_recorded(path: Path) -> RecordedResult:
    """One file of `results/`; raises `LedgerError` where it is damaged or misplaced."""
    document = read_json(path, cure=CURE)
    with understood(path, cure=CURE):
        found: RecordedResult = from_plain(
            RecordedResult, {k: v for k, v in document.items() if k != "schema"}
        )
        if document["schema"] != SCHEMA or found.file != f"{layout.RESULTS}/{path.name}":
            raise ValueError(f"it is {found.file}, schema {document['schema']}")
    return found


def seals_of(home: Path, files: Mapping[str, int] | None = None) -> dict[str, Seals]:
    """What a result made in `home` now would rest on; raises `LedgerError`.

    `files` limits the shards to the first so many of each place: shards are only ever added, so
    that is what an earlier result of so many rests on. A compacted shard counts as those that it
    replaces, so results do not notice that it was compacted.
    """
    run = _run_of(home)
    places = {"draws": part_files(run / layout.DRAWS)}
    if run != home:
        shards = home.glob("part-*.parquet")  # beside the table of risks
        places["verdicts"] = sorted(shards, key=lambda path: (len(path.name), path.name))
    if (run / layout.TABLE).is_file():
        places["table"] = [run / layout.TABLE]
    found = {}
    for name, paths in places.items():
        every = [one for path in paths for one in recorded_seals(path, cure=DRAWS_CURE)]
        seals = every if files is None else every[: files.get(name, 0)]
        if seals:
            hashed = hashlib.sha256()
            for file, checksum in seals:
                hashed.update(f"{file} {checksum}\n".encode())
            found[name] = Seals(files=len(seals), digest=hashed.hexdigest()[:32])
    return found


def _provenance(home: Path, command: str | None, options: Mapping[str, Any] | None) -> Provenance:
    run = _run_of(home)
    held: dict[str, Any] = {}
    if (run / layout.MANIFEST).is_file():
        held = read_manifest(run)
    judge, judge_id = held.get("judge"), held.get("judge_id")
    if run != home and (home / layout.JUDGE).is_file():
        document = read_json(home / layout.JUDGE)
        judge, judge_id = document.get("judge"), document.get("judge_id")
    return Provenance(
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=command or held.get("command"),
        tailbound=version("tailbound"),
        target=held.get("target"),
        judge=judge,
        judge_id=judge_id,
        threshold=held.get("threshold") if run == home else None,
        contract=held.get("contract", {}).get("digest"),
        engine=_plain(held.get("engine", {})),
        options=_plain(held.get("options", {}) if options is None else options),
        rests_on=seals_of(home),
    )


def _run_of(home: Path) -> Path:
    """The run folder that the results of a judge belong to; that of a run is its own."""
    return home.parent.parent if home.parent.name == layout.VERDICTS else home


@contextmanager
def _held(folder: Path) -> Iterator[Path]:
    """`results/`, which only we write to meanwhile."""
    make_folder(folder)
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            lock = FolderLock(folder)
            break
        except RunLockedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    try:
        remove_unfinished(folder)
        yield folder
    finally:
        lock.release()


def _numbers(folder: Path) -> list[tuple[int, str, str]]:
    """(number, name, file) of every result in `results/`, in order."""
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        match = _NAME.fullmatch(path.name)
        if match is None or not path.is_file():
            raise LedgerError(
                f"{path} does not have the name of a file that tailbound writes there "
                f"({layout.result_name(1, 'bound')}, ...): restore its name, or move it away"
            )
        found.append((int(match[1]), match[2], path.name))
    return sorted(found)


def _newest(folder: Path, numbers: list[tuple[int, str, str]], name: str) -> RecordedResult | None:
    """The newest result of that name; None where there is none, or it is damaged."""
    for _, its_name, file in reversed(numbers):
        if its_name == name:
            try:
                return read_recorded(folder / file)
            except LedgerError:
                return None
    return None


def _adopt(
    folder: Path,
    numbers: list[tuple[int, str, str]],
    name: str,
    before: Callable[[], Mapping[str, Any] | None],
    now: Provenance,
    *,
    but: Mapping[str, Any] | None = None,
    ignoring: Sequence[str] = (),
) -> None:
    """Keep a result that stands under its plain name without a history, unless it is `but`."""
    if any(its_name == name for _, its_name, _ in numbers):
        return
    try:
        document = before()
    except (FileNotFoundError, LedgerError):  # damaged: it is made again
        return
    if document is None or (but is not None and _same(_plain(document), but, ignoring)):
        return
    made = replace(now, date=None, command=None, tailbound=None, engine={}, options={}, rests_on={})
    _write(folder, numbers, name, made, _plain(document))


def _same(one: Mapping[str, Any], other: Mapping[str, Any], ignoring: Sequence[str]) -> bool:
    def kept(document: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in document.items() if key not in ignoring}

    return kept(one) == kept(other)


def _write(
    folder: Path,
    numbers: list[tuple[int, str, str]],
    name: str,
    made: Provenance,
    document: dict[str, Any],
) -> None:
    number = max((number for number, _, _ in numbers), default=0) + 1
    file = layout.result_name(number, name)
    found = {"schema": SCHEMA, "number": number, "name": name, "provenance": finite(asdict(made))}
    write_json(folder / file, {**found, "result": document}, indent=None)
    numbers.append((number, name, file))


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON makes of it, so that two documents can be compared."""
    try:
        text = json.dumps(dict(document), default=str, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(dict(document)), default=str)
    found: dict[str, Any] = json.loads(text)
    return found
