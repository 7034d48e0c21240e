"""`monitor` from its keyword arguments to its result: outcomes in, evidence on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tailbound.core.interrupts import keeping
from tailbound.core.options import make
from tailbound.core.values import place
from tailbound.errors import UsageError
from tailbound.monitoring import EProcess, Shares, Unit, total, watch
from tailbound.runs.layout import MONITOR
from tailbound.runs.lock import FolderLock
from tailbound.runs.manifest import read_manifest
from tailbound.storage.files import remove_unfinished
from tailbound.workflows.monitor.outcomes import (
    Outcome,
    given_outcomes,
    is_standard_input,
    read_outcomes,
    streamed_outcomes,
)
from tailbound.workflows.monitor.references import Reference, compare, find_reference
from tailbound.workflows.monitor.settings import ALPHA, By, MonitorOptions
from tailbound.workflows.monitor.state import (
    AlarmState,
    Kind,
    MonitorResult,
    Source,
    UnitState,
    read_monitor,
    write_monitor,
)

Key = tuple[Kind, str]
OVERALL: Key = ("overall", "")
OTHER: Key = ("other", "")
MOST_NEW = 100_000
"""Units that were not known in advance: more are no groups, and each costs memory."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one file, or one piece of a stream, brought; `state` is after it."""

    outcomes: int
    draws: int
    unsafe: int
    missing: int
    repeated: int
    state: MonitorResult


def monitor_command(
    folder: Path,
    outcomes: Path | Iterable[Mapping[str, Any]] | None,
    given: Mapping[str, Any],
    *,
    report: Callable[[Update], None] = lambda update: None,
) -> MonitorResult:
    """Everything that `tailbound monitor` does; `given` are options of `MonitorOptions`.

    `outcomes` are a file, standard input (`-`), records, or None to see where monitoring stands.
    `report` is called after each update, once it is on disk.
    """
    asked = make(MonitorOptions, given)
    if outcomes is None:
        return _opened(folder, asked)[0]
    read_manifest(folder)
    lock = FolderLock(folder)
    try:
        remove_unfinished(folder)
        state, reference = _opened(folder, asked)
        monitor = _Monitor(folder, reference, state)
        with keeping(folder):
            if is_standard_input(outcomes):
                for found in streamed_outcomes():
                    _add_piece(monitor, found, report)
                    if asked.stop_at_alarm and monitor.state.alarm is not None:
                        break
            elif isinstance(outcomes, (str, Path)):
                path = place(outcomes, name="outcomes")
                report(monitor.add_file(str(path.resolve()), read_outcomes(path)))
            else:
                report(monitor.add(given_outcomes(outcomes)))
        return monitor.state
    finally:
        lock.release()


def _add_piece(
    monitor: _Monitor, outcomes: Sequence[Outcome], report: Callable[[Update], None]
) -> None:
    """Count a piece of a stream: where an outcome cannot be used, those that come before it."""
    try:
        update = monitor.add(outcomes)
    except UsageError:
        for one in outcomes:
            report(monitor.add([one]))
        raise
    report(update)


def _opened(folder: Path, asked: MonitorOptions) -> tuple[MonitorResult, Reference]:
    """The state to begin with, and the audited values; refuses options that were changed."""
    held = read_monitor(folder)
    if held is not None:
        for name in ("alpha", "reference", "margin", "by"):
            value, was = getattr(asked, name), getattr(held, name)
            if value is not None and value != was:
                raise UsageError(
                    f"{folder} is monitored with --{name} {was}, which may not change after a look "
                    f"at the outcomes: leave it out, or remove {MONITOR} to begin again"
                )
        reference = find_reference(folder, reference=held.reference, margin=held.margin)
        return replace(held, statement=reference.statement), reference
    margin = 1.0 if asked.margin is None else asked.margin
    reference = find_reference(folder, reference=asked.reference, margin=margin)
    by: By = asked.by or ("prompt" if reference.by_prompt else "overall")
    if by == "prompt" and not (reference.by_prompt or reference.every_draw):
        raise UsageError(
            f"--by prompt needs an audited value of each prompt, which {folder} does not hold: use "
            "--by group or overall, or give --reference"
        )
    state = MonitorResult(
        statement=reference.statement,
        alpha=ALPHA if asked.alpha is None else asked.alpha,
        reference=asked.reference,
        margin=margin,
        by=by,
        **dict.fromkeys(("updates", "outcomes", "draws", "unsafe", "missing", "unused", "cut"), 0),
        e_value=1.0,
        alarm=None,
        shares=shares_of(reference, by),
        units=(),
        sources=(),
    )
    return state, reference


def shares_of(reference: Reference, by: By) -> Shares:
    """How the evidence is shared among the units that `reference` names."""
    return Shares.of(by_unit=by != "overall", known=len(_known(reference, by)))


def _known(reference: Reference, by: By) -> set[Key]:
    """The units that the run itself names."""
    if by == "group":
        return {("group", name) for name in reference.groups.values()}
    if by == "overall":
        return set()
    if reference.every_draw:
        return {("prompt", name) for name in reference.ids}
    return {OTHER, *(("prompt", name) for name in reference.by_prompt)}


class _Monitor:
    """The state in memory; every update is on disk before it is reported."""

    def __init__(self, folder: Path, reference: Reference, state: MonitorResult) -> None:
        self.state = state
        self._folder, self._reference = folder, reference
        self._known = _known(reference, state.by)
        self._units: dict[Key, UnitState] = {(one.kind, one.name): one for one in state.units}
        self._used = sum(one.known for one in state.units)

    def add_file(self, name: str, outcomes: list[Outcome]) -> Update:
        """Count what was added to the file since the last call; all of it if it was replaced."""
        ends = _digests(outcomes)
        before = next((one for one in self.state.sources if one.name == name), None)
        skip = 0
        if before is not None and 0 < before.outcomes <= len(outcomes):
            skip = before.outcomes if ends[before.outcomes - 1] == before.digest else 0
        if len(outcomes) == skip:
            return self._updated([], repeated=skip)
        source = Source(name=name, outcomes=len(outcomes), digest=ends[-1])
        rest = tuple(one for one in self.state.sources if one.name != name)
        return self.add(outcomes[skip:], sources=(*rest, source), repeated=skip)

    def add(
        self,
        outcomes: Sequence[Outcome],
        *,
        sources: tuple[Source, ...] | None = None,
        repeated: int = 0,
    ) -> Update:
        """Count outcomes, and write down where that leaves the evidence."""
        if not outcomes:
            return self._updated([], repeated=repeated)
        state = self.state
        compared = compare(self._reference, outcomes)
        members: dict[Key, list[int]] = {}
        for at in np.flatnonzero(compared.used).tolist():
            for key in self._keys(outcomes[at]):
                members.setdefault(key, []).append(at)
        for key in members:
            self._open(key)
        units = {
            key: Unit(process=one.process, share=one.share) for key, one in self._units.items()
        }
        places = {key: np.array(ats, dtype=np.int64) for key, ats in members.items()}
        found = watch(units, places, compared.factors, compared.allowed, alpha=state.alpha)
        for key, ats in members.items():
            self._count(key, [outcomes[at] for at in ats], found.units[key].process)
        for key, at in found.crossed.items():
            if self._units[key].alarm is None:
                self._units[key] = replace(self._units[key], alarm=state.outcomes + at + 1)
        alarm = state.alarm
        over = np.flatnonzero(found.path >= 1 / state.alpha)
        if alarm is None and len(over):
            at = int(over[0])
            alarm = AlarmState(
                update=state.updates + 1,
                outcome=state.outcomes + at + 1,
                place=outcomes[at].place,
            )
        self.state = replace(
            state,
            updates=state.updates + 1,
            outcomes=state.outcomes + len(outcomes),
            draws=state.draws + sum(one.draws for one in outcomes),
            unsafe=state.unsafe + sum(one.unsafe for one in outcomes),
            missing=state.missing + sum(one.missing for one in outcomes),
            unused=state.unused + len(outcomes) - int(compared.used.sum()),
            cut=state.cut + int(compared.used.sum()) - compared.full,
            e_value=total(found.units, state.alpha),
            alarm=alarm,
            units=tuple(self._units.values()),
            sources=state.sources if sources is None else sources,
        )
        write_monitor(self._folder, self.state)
        return self._updated(outcomes, repeated=repeated)

    def _updated(self, outcomes: Sequence[Outcome], *, repeated: int) -> Update:
        return Update(
            outcomes=len(outcomes),
            draws=sum(one.draws for one in outcomes),
            unsafe=sum(one.unsafe for one in outcomes),
            missing=sum(one.missing for one in outcomes),
            repeated=repeated,
            state=self.state,
        )

    def _keys(self, outcome: Outcome) -> list[Key]:
        """The units to which an outcome belongs: all outcomes, and its prompt or group."""
        reference, prompt = self._reference, outcome.prompt
        if self.state.by == "group":
            group = outcome.group or reference.groups.get(prompt or "")
            return [OVERALL] if group is None else [OVERALL, ("group", group)]
        if self.state.by == "prompt":
            if prompt is not None and (reference.every_draw or prompt in reference.by_prompt):
                return [OVERALL, ("prompt", prompt)]
            return [OVERALL] if reference.every_draw else [OVERALL, OTHER]
        return [OVERALL]

    def _open(self, key: Key) -> None:
        """Give a unit its share when its first outcome arrives."""
        if key in self._units:
            return
        shares, known = self.state.shares, False
        if key == OVERALL:
            share = shares.overall
        elif key in self._known and self._used < shares.known:
            share, known = shares.each, True
            self._used += 1
        else:
            new = len(self._units) - self._used - (OVERALL in self._units) + 1
            if new > MOST_NEW:
                raise UsageError(
                    f"over {MOST_NEW:,} units that the run does not name: use --by overall, or "
                    "fewer groups"
                )
            share = shares.of_new(new)
        self._units[key] = UnitState(
            kind=key[0], name=key[1], share=share, known=known, draws=0, unsafe=0, missing=0,
            alarm=None, process=EProcess(),
        )  # fmt: skip

    def _count(self, key: Key, outcomes: Sequence[Outcome], process: EProcess) -> None:
        before = self._units[key]
        self._units[key] = replace(
            before,
            draws=before.draws + sum(one.draws for one in outcomes),
            unsafe=before.unsafe + sum(one.unsafe for one in outcomes),
            missing=before.missing + sum(one.missing for one in outcomes),
            process=process,
        )


def _digests(outcomes: Sequence[Outcome]) -> list[str]:
    """A digest of the outcomes up to each of them."""
    found, running = [], hashlib.sha256()
    for one in outcomes:
        running.update(one.key() + b"\n")
        found.append(running.copy().hexdigest()[:32])
    return found
