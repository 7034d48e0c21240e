"""Summaries and the verdicts of further judges, made again from the record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailbound.errors import LedgerError, TailboundError, UsageError
from tailbound.judges.registry import load_judge
from tailbound.runs.layout import AGREEMENT, JUDGE, RISK, SUMMARY, VERDICTS
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.workflows.rejudge.job import (
    OF_THE_CALL,
    Counters,
    Rejudged,
    compare_judges,
    plan,
)
from tailbound.workflows.rejudge.record import recorded_draws, recorded_judge
from tailbound.workflows.rejudge.verdicts import judge_digest, read_verdicts
from tailbound.workflows.risk.job import STREAM
from tailbound.workflows.summarize.summary import summarize_run
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.origins import QUICK
from tailbound.workflows.verify.recorded import RecordedJudge
from tailbound.workflows.verify.result import Difference
from tailbound.workflows.verify.risk import check_rejudged_risk
from tailbound.workflows.verify.verdicts import check_verdicts


def check_summary(findings: Findings, copy: Path) -> None:
    """`summary.json`, where there is one, under the levels that it states."""
    path = findings.folder / SUMMARY
    if not path.is_file():
        return
    if not findings.sound:
        findings.not_recomputed(SUMMARY, "the record that it rests on is damaged")
        return
    with findings.recomputing(copy, SUMMARY):
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            rows = [row for stream in held["streams"] for row in stream["prompts"]]
            ks = tuple(one["k"] for one in rows[0]["at_least_one"]) if rows else (10,)
            levels = {name: held[name] for name in ("confidence", "alpha", "threshold")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{SUMMARY} cannot be read ({type(error).__name__})") from error
        summarize_run(copy, ks=ks, **levels)
        findings.document(SUMMARY, copy, against="the ledger")


def check_rejudged(findings: Findings, manifest: Mapping[str, Any], copy: Path) -> None:
    """Everything in `verdicts/`: which draws were judged, agreement, and risks."""
    homes = findings.folder / VERDICTS
    if not homes.is_dir():
        return
    for home in sorted(path for path in homes.iterdir() if path.is_dir()):
        if not home.name.startswith("."):
            _check_judge(findings, manifest, copy, f"{VERDICTS}/{home.name}")


def _check_judge(findings: Findings, manifest: Mapping[str, Any], copy: Path, home: str) -> None:
    folder = findings.folder
    place = f"{home}/{AGREEMENT}"
    if not findings.sound:
        findings.not_recomputed(place, "the record that it rests on is damaged")
        return
    if not (folder / home / JUDGE).is_file():
        findings.missing(f"{home}/{JUDGE}", "nobody can tell whose verdicts these are: restore it")
        return
    with findings.recomputing(copy, place):
        document = read_json(folder / home / JUDGE)
        with understood(folder / home / JUDGE):
            judge_id, judge_name = str(document["judge_id"]), str(document["judge"])
        _check_name(findings, home, judge_id)
        _check_keys(findings, copy, home)
        _judge_again(findings, copy, home, judge_name, judge_id)
        if not (folder / place).is_file():
            findings.missing(place, "the judge did not get to the end, or it was removed")
            return
        judge = _compare_agreement(findings, copy, home, judge_id)
        if judge is not None and (folder / home / RISK).is_file():
            verdicts: dict[str, dict[int, float | None]] = {}
            columns = ("stream", "prompt_id", "index", "score")
            for stream, name, index, score in (
                read_verdicts(copy / home).select(columns).iter_rows()
            ):
                if stream == STREAM:
                    verdicts.setdefault(name, {})[index] = score
            check_rejudged_risk(findings, manifest, copy, home, judge, verdicts)


def _check_name(findings: Findings, home: str, judge_id: str) -> None:
    """The folder is named after the judge's id."""
    digest = judge_digest(judge_id)
    wrong = []
    if Path(home).name != digest:
        wrong.append(Difference(place="judge_id", recorded=judge_id, found=f"another: {digest}"))
    findings.compare(f"{home}/{JUDGE}", wrong, against="the name of the folder")


def _check_keys(findings: Findings, copy: Path, home: str) -> None:
    """Every verdict is on a draw of the run."""
    keys = ["stream", "prompt_id", "index"]
    verdicts = read_verdicts(copy / home)
    odd = verdicts.join(recorded_draws(copy), on=keys, how="anti")
    wrong = [
        Difference(
            place=f"{stream}, prompt {name!r}, draw {index}",
            recorded="has a verdict",
            found="is no draw of the run",
        )
        for stream, name, index in odd.select(keys).iter_rows()
    ]
    findings.compare(f"{home}/", wrong, against="the ledger (which draws there are)")


def _judge_again(findings: Findings, copy: Path, home: str, judge_name: str, judge_id: str) -> None:
    """The verdicts in the folder, by the judge of that name where it needs no model."""
    name = f"{home}/ (verdicts)"
    if judge_name.partition(":")[0] not in QUICK:
        findings.not_recomputed(name, f"{judge_name} takes a model, or code of others")
        return
    try:
        judge = load_judge(judge_name)
    except UsageError as error:
        findings.not_recomputed(name, f"{judge_name} cannot be made here: {error}")
        return
    if judge.id != judge_id.removesuffix(" without prompts"):
        findings.not_recomputed(name, f"{judge_name} is now another judge, {judge.id}")
        return
    keys = ("stream", "prompt_id", "index", "score")
    rows = read_verdicts(copy / home).select(keys).iter_rows()
    check_verdicts(findings, name, judge, others={tuple(row[:3]): row[3] for row in rows})


def _compare_agreement(
    findings: Findings, copy: Path, home: str, judge_id: str
) -> RecordedJudge | None:
    """Compare `agreement.json`; the judge, None where the file says nothing usable of it."""
    folder, place = findings.folder, f"{home}/{AGREEMENT}"
    try:
        held = json.loads((folder / place).read_text(encoding="utf-8"))
        held.pop("checksum", None)
        recorded = Rejudged.from_dict(held)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, TailboundError) as error:
        findings.differs(place, f"cannot be read: {type(error).__name__}")
        return None
    judge = RecordedJudge(id=judge_id, threshold=recorded.threshold)
    work = plan(copy, judge_id, only_missing=recorded.only_missing)
    found = compare_judges(
        copy,
        read_verdicts(copy / home),
        judge=judge,
        judge_id=judge_id,
        recorded=recorded_judge(copy, None)[0],
        before=recorded.recorded_threshold,
        only_missing=recorded.only_missing,
        confidence=recorded.confidence,
        work=work,
        tally=Counters(),
    )
    write_json(copy / place, found.to_dict())
    findings.document(place, copy, against="the ledger and the verdicts", without=OF_THE_CALL)
    findings.not_recomputed(
        f"{place} (call)", "how many draws that call judged, and its notices, are on no record"
    )
    if work.waiting:
        findings.missing(f"{home}/", f"{work.waiting:,} draws with a text have no verdict")
    return judge
