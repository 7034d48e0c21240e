"""From a folder to what `tailbound show` says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tailbound.core.contract import SamplingContract
from tailbound.errors import LedgerError, UsageError
from tailbound.runs import layout, totals
from tailbound.runs.history import Provenance, RecordedResult, read_history, seals_of
from tailbound.runs.manifest import read_manifest
from tailbound.storage.documents import read_json, understood
from tailbound.workflows.in_use import in_use, without_call
from tailbound.workflows.monitor.state import read_monitor
from tailbound.workflows.show.missing import missing_of, next_step
from tailbound.workflows.show.numbers import known, words_of
from tailbound.workflows.show.result import (
    EarlierResult,
    Overview,
    RunOverview,
    ShownResult,
    StreamState,
)

_PLAIN = ("bound", "risk", "summary", "forecast", "judge-audit")
_OF_JUDGE = ("agreement", "risk")
_WORDS = {"alphas": "alpha", "shares": "split", "family": "proposal_family"}
"""What `run.yaml` calls by another name than the command line."""


def show_folder(folder: Path) -> Overview:
    """What a run folder holds, or each of the run folders in `folder`.

    Nothing is written, and a damaged file is one of the things that are missing. Raises
    `UsageError` where there is no run, and `LedgerError` where its `run.yaml` is damaged.
    """
    if (folder / layout.MANIFEST).is_file() or not folder.is_dir():
        return Overview(folder=str(folder), runs=(_run(folder),))
    inside = sorted(path.parent for path in folder.glob(f"*/{layout.MANIFEST}"))
    if not inside:
        raise UsageError(
            f"{folder} is not a run folder (it has no run.yaml, and no folder in it has one): give "
            "the --out of a run"
        )
    return Overview(folder=str(folder), runs=tuple(map(_run, inside)))


class _Folder:
    """One run folder as it is read; `damaged` collects what could not be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.damaged: list[str] = []
        self.documents: dict[str, Any] = {}
        self.results: list[ShownResult] = []
        self.earlier: list[EarlierResult] = []
        self.stale: list[str] = []

    def trying(self, read: Callable[..., Any], *given: Any) -> Any:
        """What `read` of what is `given` returns; None where that is damaged, which is reported."""
        try:
            return read(*given)
        except LedgerError as error:
            self.damaged.append(str(error).replace(f"{self.folder}/", ""))
            return None

    def streams(self) -> tuple[StreamState, ...]:
        found = self.trying(totals, self.folder) or {}
        return tuple(
            StreamState(
                stream=name,
                prompts=one.prompts,
                draws=one.draws,
                tokens=one.tokens,
                missing=one.missing,
            )
            for name, one in found.items()
        )

    def read(self, home: Path, names: tuple[str, ...], judge: str | None) -> None:
        """The results in `home`, and their history."""
        history: list[RecordedResult] = list(self.trying(read_history, home) or ())
        now = self.trying(seals_of, home)
        place = "" if home == self.folder else f"{home.relative_to(self.folder).as_posix()}/"
        for name in names:
            document = self.trying(in_use, home, name)
            mine = [one for one in history if one.name == name]
            if document is None:
                self._list_earlier(mine, None, place, judge)
                continue
            held = without_call(name, document)
            newest = next(
                (one for one in reversed(mine) if without_call(name, one.result) == held), None
            )
            words = self.trying(words_of, name, document, f"{place}{name}.json")
            if words is None:
                continue
            if judge is None:
                self.documents[name] = document
            made = None if newest is None else newest.provenance
            if made is not None and made.date is not None and now not in (None, made.rests_on):
                self.stale.append(f"{place}{name}.json")
            self.results.append(
                ShownResult(
                    name=name,
                    file=f"{place}{name}.json",
                    date=None if made is None else made.date,
                    judge=judge,
                    numbers=words[0],
                    guarantee=words[1],
                )
            )
            self._list_earlier([one for one in mine if one is not newest], made, place, judge)

    def _list_earlier(
        self,
        several: list[RecordedResult],
        used: Provenance | None,
        place: str,
        judge: str | None,
    ) -> None:
        for one in reversed(several):
            if not known(one.name):
                continue
            words = self.trying(words_of, one.name, one.result, one.file)
            self.earlier.append(
                EarlierResult(
                    name=one.name,
                    file=f"{place}{one.file}",
                    date=one.provenance.date,
                    judge=judge,
                    numbers=words[0] if words else (),
                    differs=() if used is None else tuple(_differences(one.provenance, used)),
                )
            )


def _run(folder: Path) -> RunOverview:
    found = _Folder(folder)
    held = found.manifest
    streams = found.streams()
    found.read(folder, _PLAIN, None)
    for home in sorted((folder / layout.VERDICTS).glob("*")):
        judge = found.trying(_judge, home)
        if judge is not None:
            found.read(home, _OF_JUDGE, judge)
    monitored = found.trying(read_monitor, folder)
    if monitored is not None:
        found.results.append(_monitored(monitored))
    started = datetime.fromtimestamp((folder / layout.MANIFEST).stat().st_mtime, UTC)
    lacking = missing_of(held, found.documents, streams, stale=found.stale)
    return RunOverview(
        folder=str(folder),
        command=str(held["command"]),
        target=str(held["target"]),
        judge=str(held["judge"]),
        threshold=float(held["threshold"]),
        contract=_contract(held["contract"]),
        contract_digest=str(held["contract"].get("digest", "")),
        versions={str(k): str(v) for k, v in held.get("versions", {}).items()},
        started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        streams=streams,
        results=tuple(found.results),
        earlier=tuple(found.earlier),
        missing=(*found.damaged, *lacking),
        next=next_step(held, found.documents, folder, stale=found.stale),
    )


def _judge(home: Path) -> str | None:
    path = home / layout.JUDGE
    if not path.is_file():
        return None
    document = read_json(path)
    with understood(path):
        return str(document["judge"])


def _monitored(state: Any) -> ShownResult:
    alarm = "no alarm" if state.alarm is None else f"alarm at {state.alarm.place}"
    return ShownResult(
        name="monitoring",
        file=layout.MONITOR,
        date=None,
        judge=None,
        numbers=(
            f"{alarm}; evidence {state.e_value:.3g}, alarm at {1 / state.alpha:g}",
            f"{state.outcomes:,} outcomes, {state.unsafe:,} of {state.draws:,} draws unsafe",
        ),
        guarantee=f"a false alarm ever has probability at most {state.alpha:g}",
    )


def _contract(held: Mapping[str, Any]) -> str:
    """The sampling contract in a few words; that of draws made elsewhere may not be known."""
    try:
        plain = {key: value for key, value in held.items() if key != "digest"}
        value = SamplingContract.from_dict(plain)
        words = [f"temperature {value.temperature:g}"]
        words += [f"top-p {value.top_p:g}"] if value.top_p < 1 else []
        words += [f"top-k {value.top_k}"] if value.top_k is not None else []
        words += [f"at most {value.max_new_tokens} tokens"] if value.max_new_tokens else []
    except (KeyError, TypeError, ValueError):
        return "not known"
    return ", ".join([*words, *(["system prompt"] if value.system is not None else [])])


def _differences(earlier: Provenance, used: Provenance) -> Iterator[str]:
    """How an earlier result was made otherwise than the one in use, a few words each."""
    if earlier.date is None:
        yield "made before results had a history"
        return
    for name in sorted({*earlier.options, *used.options}):
        before, now = (one.options.get(name) for one in (earlier, used))
        if before != now:
            yield f"{_WORDS.get(name, name)} {_short(before)}, now {_short(now)}"
    if earlier.threshold != used.threshold:
        yield f"threshold {earlier.threshold}, now {used.threshold}"
    for place in sorted({*earlier.rests_on, *used.rests_on}):
        before_, now_ = (one.rests_on.get(place) for one in (earlier, used))
        if before_ != now_:
            fewer = before_ is None or (now_ is not None and before_.files < now_.files)
            yield f"{'fewer' if fewer else 'other'} {place}"
    if earlier.tailbound != used.tailbound:
        yield f"tailbound {earlier.tailbound}, now {used.tailbound}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
