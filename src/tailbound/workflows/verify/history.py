"""The history of results: every file of `results/` is whole, and the newest is the one in use."""

from __future__ import annotations

from pathlib import Path

from tailbound.errors import LedgerError
from tailbound.runs import layout
from tailbound.runs.history import RecordedResult, read_recorded, seals_of
from tailbound.workflows.in_use import in_use, without_call
from tailbound.workflows.verify.compare import differences
from tailbound.workflows.verify.findings import Findings


def check_history(findings: Findings) -> None:
    """`results/` of the run, and of every further judge."""
    folder = findings.folder
    homes = [folder, *sorted((folder / layout.VERDICTS).glob("*"))]
    for home in homes:
        if (home / layout.RESULTS).is_dir():
            _check_home(findings, home)


def _check_home(findings: Findings, home: Path) -> None:
    place = (home / layout.RESULTS).relative_to(findings.folder).as_posix()
    sound: dict[int, RecordedResult] = {}
    damaged = set()
    for path in sorted((home / layout.RESULTS).iterdir()):
        if path.name.startswith("."):
            continue
        try:
            found = read_recorded(path)
            sound[found.number] = found
        except (LedgerError, FileNotFoundError) as error:
            damaged.add(path.name.partition("-")[0])
            said = str(error).replace(f"{home}/", "")
            findings.differs(f"{place}/{path.name}", f"it was changed or damaged: {said}")
    every = {*sound, *(int(number) for number in damaged if number.isdecimal())}
    for number in sorted(set(range(1, max(every, default=0) + 1)) - every):
        findings.missing(f"{place}/{number:04d}-*.json", "later results are there: it was removed")
    newest = {one.name: one for _, one in sorted(sound.items())}
    for one in newest.values():
        _check_newest(findings, home, place, one)
    if sound:
        earlier = len(sound) - len(newest)
        findings.matches(f"{place}/", f"results that bear their checksums: {len(sound)}")
        if earlier:
            findings.not_recomputed(
                f"{place}/ ({earlier} earlier)", "they were made under other options or fewer draws"
            )


def _check_newest(findings: Findings, home: Path, place: str, newest: RecordedResult) -> None:
    """It is the result under the plain name, and the draws that it rests on are still there."""
    name = f"{place}/{layout.result_name(newest.number, newest.name)}"
    plain = f"{newest.name}.json"
    try:
        held = in_use(home, newest.name)
    except LedgerError:
        return  # the file has a check of its own
    if held is None:
        return  # a run that goes on under other options; its own check says what is missing
    kept, now = (without_call(newest.name, one) for one in (newest.result, held))
    wrong = list(differences(kept, now, tolerance=findings.tolerance))
    findings.compare(name, wrong, against=plain)
    rests = newest.provenance.rests_on
    try:
        there = seals_of(home, {place: seals.files for place, seals in rests.items()})
    except LedgerError:
        return  # so have the draws
    if rests and there != rests:
        changed = sorted(place for place in rests if rests[place] != there.get(place))
        findings.differs(
            f"{name} (draws)",
            f"it rests on other files in {' and '.join(changed)} than are there: some were "
            "removed or changed, so run the same command again",
        )
