"""The risks of a run, made again from its draws, its plan and its scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import silent
from tailbound.core.contract import SamplingContract
from tailbound.core.prompt import Prompt
from tailbound.errors import LedgerError, TargetError, UsageError
from tailbound.importance_sampling import MixSwitch
from tailbound.importance_sampling.estimate import CERTAIN
from tailbound.runs import Ledger, StreamRecord, read
from tailbound.runs.layout import (
    CHECKS,
    CHOICE,
    PLAN,
    PROPOSAL,
    REVIEW,
    RISK,
    RISK_TABLE,
    SCORES,
    SPEND,
    SPLITTING,
    round_name,
)
from tailbound.runs.prompts import kept_table
from tailbound.storage.documents import read_json, understood
from tailbound.workflows.risk.checks import FOUND
from tailbound.workflows.risk.families import make_family
from tailbound.workflows.risk.job import STREAM, RiskJob
from tailbound.workflows.risk.pilot import recorded_choice
from tailbound.workflows.risk.plan import Plan
from tailbound.workflows.risk.proposals.base import LEARN, Proposal, Proposals
from tailbound.workflows.risk.replies import REPORTED
from tailbound.workflows.risk.results import write_results, write_review
from tailbound.workflows.risk.scores import LARGEST_GAP, Due, check_gap
from tailbound.workflows.risk.settings import RiskSettings
from tailbound.workflows.risk.splitting.check import SPLITTING as SPLITTING_SPEC
from tailbound.workflows.risk.splitting.job import SplittingJob
from tailbound.workflows.risk.splitting.record import read_scores
from tailbound.workflows.risk.splitting.settings import SplittingOptions
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.prompts import prompts_of
from tailbound.workflows.verify.recorded import (
    MissingDrawsError,
    RecordedJudge,
    RecordedTarget,
    settings_of,
)
from tailbound.workflows.verify.result import Difference

AGAINST = "the record (draws, plan and scores)"
_RISKS = "risk"


def check_risk(findings: Findings, manifest: Mapping[str, Any], copy: Path) -> None:
    """Every file of results of `tailbound risk`, made again in `copy`."""
    folder = findings.folder
    names = (RISK, RISK_TABLE, REVIEW, SPEND)
    if not (folder / RISK).is_file():
        findings.missing(RISK, "there are no risks: the run is not finished, or it was removed")
        return
    if not findings.sound:
        for name in names:
            findings.not_recomputed(name, "the record that it rests on is damaged")
        return
    recorded = _recorded(folder / RISK)
    judge = RecordedJudge(
        id=manifest["judge_id"],
        threshold=float(manifest["threshold"]),
        deterministic=_by_reply(recorded),
    )
    splits = SPLITTING_SPEC in manifest["options"].get("proposal", ())
    with findings.recomputing(copy, *names):
        prompts = _prompts(findings, recorded, part=SPLITTING_SPEC if splits else STREAM)
        settings = settings_of(RiskSettings, manifest["options"])
        with opened(copy, manifest) as ledger:
            if splits:
                against = "the record (draws, their beginnings, and scores)"
                _split(findings, manifest, copy, prompts, judge, settings, ledger)
            else:
                against = AGAINST
                job = recorded_job(copy, manifest, judge, settings, ledger)
                if not _estimated(findings, job, prompts, copy):
                    return
        _compare(findings, copy, "", against=against)
    if not splits and (folder / PLAN).is_dir():
        findings.not_recomputed(
            f"{PLAN}/ (choice)", "why each batch drew what it did: the plan is compared with draws"
        )


def check_rejudged_risk(
    findings: Findings,
    manifest: Mapping[str, Any],
    copy: Path,
    home: str,
    judge: RecordedJudge,
    verdicts: Mapping[str, Mapping[int, float | None]],
) -> None:
    """The risks under another judge in the folder `home` of the run (`verdicts/DIGEST`)."""
    folder = findings.folder
    names = [f"{home}/{name}" for name in (RISK, RISK_TABLE, REVIEW, SPEND)]
    recorded = _recorded(folder / home / RISK)
    estimates = recorded.get("prompts") or [{}]
    options = dict(manifest["options"], threshold=None)
    # these may be other ones than those of the run
    if str(recorded.get("estimand", "")).startswith("mean score"):
        options["estimand"] = "score"
    options["confidence"] = estimates[0].get("confidence", options["confidence"])
    judge = replace(judge, deterministic=_by_reply(recorded))
    with findings.recomputing(copy, *names):
        prompts = _prompts(findings, recorded, part=STREAM)
        settings = settings_of(RiskSettings, options)
        with opened(copy, manifest) as ledger:
            job = recorded_job(copy, manifest, judge, settings, ledger)
            job.verdicts = verdicts
            if not _estimated(findings, job, prompts, copy / home, silent_on_record=True):
                return
        _compare(findings, copy, f"{home}/", against="the record, with its verdicts")


def _compare(findings: Findings, copy: Path, home: str, *, against: str) -> None:
    findings.document(f"{home}{RISK}", copy, against=against)
    findings.table(f"{home}{RISK_TABLE}", copy, against=against)
    findings.lines(f"{home}{REVIEW}", copy, against=against)
    findings.document(f"{home}{SPEND}", copy, against="the ledger", only=("streams",))


def _recorded(path: Path) -> dict[str, Any]:
    """What the file says, whether or not it bears its checksum; empty where that is nothing."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _by_reply(recorded: Mapping[str, Any]) -> bool:
    """Whether bounds rest on verdicts being a function of the reply: the results say so."""
    estimates = recorded.get("prompts") or []
    said = [str(one.get("guarantee", "")) for one in estimates if isinstance(one, dict)]
    return any(CERTAIN in words or REPORTED in words for words in said)


def opened(copy: Path, manifest: Mapping[str, Any]) -> Ledger:
    """The ledger of a run in a copy of its folder."""
    return Ledger.open(
        copy,
        run=copy.name,
        contract=SamplingContract.from_dict(manifest["contract"]),
        judge_id=manifest["judge_id"],
        seed=manifest["options"]["seed"],
    )


def _prompts(findings: Findings, recorded: Mapping[str, Any], *, part: str) -> list[Prompt]:
    """The prompts of the last call: all on file, or the first of them where earlier calls had more.

    Those of the last call come first on file.
    """
    table = kept_table(findings.folder)
    known = list(prompts_of(table.filter(table["part"] == part)).values())
    named = {str(one.get("id")) for one in recorded.get("prompts") or []}
    named |= set(recorded.get("left_out") or [])
    first = known[: len(named)]
    if len(first) < len(known) and {prompt.id for prompt in first} == named:
        findings.not_recomputed(
            "prompts of earlier calls",
            f"{len(known) - len(first)} prompts have draws and are not in {RISK}",
        )
        return first
    return known


class _Silent:
    """Stands for a variant of the target: only its name is on record."""

    name = "on record"


def recorded_proposals(folder: Path, target: RecordedTarget) -> Proposals:
    """What `proposal.json` of a run says of its proposals; none of them can speak."""
    path = folder / PROPOSAL
    document = read_json(path)
    names = _planned_names(folder)
    with understood(path):
        parts = []
        for one in document["parts"]:
            part = Proposal(
                spec=one["spec"],
                id=one["id"],
                target=target,
                variant=lambda intensity: _Silent(),
                evidence=one["evidence"],
            )
            levels = any(f"{part.label} x " in name for name in names)
            parts.append(replace(part, steerable=levels))
        found = Proposals(
            target=target,
            parts=tuple(parts),
            explore=document["explore"],
            learn=LEARN in document["spec"],
        )
        if (found.id, list(found.spec)) != (document["id"], document["spec"]):
            raise ValueError(f"its parts make {found.id!r}, and it says {document['id']!r}")
    return found


def _planned_names(folder: Path) -> list[str]:
    """The names of the proposals in the first round."""
    path = folder / PLAN / round_name(1)
    if not path.is_file():
        raise LedgerError(f"{PLAN}/{round_name(1)} is missing: nobody can tell what was drawn")
    document = read_json(path)
    with understood(path):
        return [str(name) for name in document["proposals"] if name is not None]


def recorded_job(
    copy: Path,
    manifest: Mapping[str, Any],
    judge: RecordedJudge,
    settings: RiskSettings,
    ledger: Ledger,
) -> RecordedRisk:
    """The job of `tailbound risk` that the record in `copy` is of."""
    target = RecordedTarget(contract=SamplingContract.from_dict(manifest["contract"]))
    proposal = recorded_proposals(copy, target)
    threshold = settings.threshold if settings.threshold is not None else judge.threshold
    return RecordedRisk(proposal, judge, settings, threshold, copy, ledger, silent)


class RecordedRisk(RiskJob):
    """A finished job from its record alone: it draws nothing and scores nothing.

    `verdicts` are those of another judge by prompt and draw, None for those in the ledger;
    `unplanned` are prompts with more draws than the plan has, and `lacking` the draws whose scores
    are not on record.
    """

    verdicts: Mapping[str, Mapping[int, float | None]] | None = None
    unplanned: tuple[Difference, ...] = ()
    lacking: tuple[Due, ...] = ()

    @property
    def plan(self) -> Plan:
        """All rounds on record."""
        return self._plan

    def _make_variants(self) -> None:
        main = self._choose() if self._settings.family == "mix-switch" else None
        self._family, _ = make_family(self._proposal, self._settings, main)
        path = self._folder / CHECKS
        document = read_json(path)
        with understood(path):
            self._checks = {name: document[name] for name in FOUND}

    def _choose(self) -> MixSwitch:
        self._leave_out()
        self._choice = recorded_choice(self._folder)
        if self._choice is None:
            raise LedgerError(f"{CHOICE} is missing: restore it")
        return MixSwitch(**self._choice["setting"])

    def draw_counts(self) -> dict[str, NDArray[np.float64]]:
        """What each draw counts in the mean risk, 0 for safe ones that were not scored."""
        found = {}
        for prompt in self._prompts:
            batches = self._batches(prompt)
            each = self._family.draw_counts(batches, sequential=self._sequential(prompt))
            found[prompt.id] = each / (each.size * len(self._prompts))
        return found

    def next_round(self) -> bool:
        """Nothing more is drawn."""
        return False

    def finish_round(self) -> None:
        """Nothing is drawn or scored: what is lacking is noted."""
        self._record = self._draw()
        self.unplanned = tuple(
            Difference(
                place=f"draws of prompt {prompt.id!r}",
                recorded=planned,
                found=int(self._record[prompt.id].indices[-1]),
            )
            for prompt in self._prompts
            if self._record[prompt.id].indices[-1] > (planned := self._plan.draws(prompt.id))
        )
        if self._family.ladder is not None and not self.unplanned:
            due = self._scores.due(
                self._plan,
                self._folder,
                self._prompts,
                self._record,
                unsafe_from=self._unsafe_from,
            )
            self.lacking = tuple(one for some in due.values() for one in some)

    def _draw(self) -> dict[str, StreamRecord]:
        held = self._ledger.index(STREAM)
        found: dict[str, StreamRecord] = {}
        for prompt in self._prompts:
            own, planned = held.get(prompt.id), self._plan.draws(prompt.id)
            have = 0 if own is None else own.indices.size
            if own is None or have < planned:
                raise MissingDrawsError(
                    f"prompt {prompt.id!r} has {have} of {planned} planned draws on record: "
                    "shards were removed, or the run is not finished"
                )
            found[prompt.id] = own if self.verdicts is None else self._judged(prompt.id, own)
        return found

    def _judged(self, name: str, own: StreamRecord) -> StreamRecord:
        """The draws of a prompt with the verdicts of the other judge."""
        assert self.verdicts is not None
        given, asked = self.verdicts.get(name, {}), own.indices.tolist()
        absent = [index for index in asked if index not in given]
        if absent:
            raise UsageError(f"draw {absent[0]} of prompt {name!r} was not judged by this judge")
        scores = np.array([given[index] for index in asked], dtype=np.float64)
        return replace(own, scores=scores)

    def odd_proposals(self) -> Iterator[Difference]:
        """Draws that are recorded as those of another proposal than the plan has them from."""
        for name, index, said in self._rows("proposal"):
            planned = self._plan.proposal(name, index)
            if said != planned:
                yield Difference(
                    place=f"prompt {name!r}, draw {index}",
                    recorded=said or "target",
                    found=f"{planned or 'target'} (planned)",
                )

    def odd_scores(self) -> Iterator[Difference]:
        """Draws whose density under what drew them is not the one that they were drawn with.

        Mixtures are left out: which of their tokens who spoke is not in their density.
        """
        ladder, main = self._family.ladder, self._family.main
        if ladder is None:
            return
        mixing = [rung.mixing for rung in ladder.rungs] + ([main.mixing] if main else [])
        gaps, places = [], []
        for name, index, log_prob in self._rows("log_prob"):
            label = self._plan.label(name, index)
            if mixing[label] != 1 or log_prob is None:
                continue
            density = self._scores.of(name, index, 1, len(mixing))[label, 0]
            if not np.isnan(density):
                gaps.append(log_prob - density)
                places.append((name, index, log_prob, density))
        gap = np.array(gaps)
        contract = self._proposal.target.contract
        if contract.precision in ("float32", "float64"):
            for number in np.flatnonzero(~(np.abs(gap) <= LARGEST_GAP)).tolist():
                name, index, log_prob, density = places[number]
                yield Difference(
                    place=f"prompt {name!r}, draw {index}: log q",
                    recorded=float(density) if np.isfinite(density) else str(density),
                    found=log_prob,
                )
        elif gap.size:
            try:
                check_gap(gap, contract)
            except TargetError as error:
                yield Difference(place="log q", recorded=str(error), found="equal densities")

    def _rows(self, column: str) -> Iterator[tuple[str, int, Any]]:
        """(prompt id, draw, value) of the planned draws."""
        known = {prompt.id for prompt in self._prompts}
        frame = read(self._folder, stream=STREAM).sort("prompt_id", "index")
        for name, index, value in frame.select("prompt_id", "index", column).iter_rows():
            if name in known and index <= self._plan.draws(name):
                yield name, index, value


def _estimated(
    findings: Findings,
    job: RecordedRisk,
    prompts: Sequence[Prompt],
    into: Path,
    *,
    silent_on_record: bool = False,
) -> bool:
    """Make the results again in `into`; False where scores that they rest on are not on record.

    With `silent_on_record` plan and scores were looked at before.
    """
    job.prepare(prompts)
    if not job.plan.rounds:
        raise LedgerError(f"{PLAN}/ is missing: nobody can tell what was drawn")
    if not silent_on_record:
        _check_plan(findings, job)
    if job.unplanned:
        for name in (RISK, RISK_TABLE, REVIEW):
            findings.not_recomputed(name, "the draws are not those of the plan")
        return False
    if job.lacking:
        first = job.lacking[0]
        findings.missing(
            f"{SCORES}/",
            f"{len(job.lacking):,} draws have no log-densities (the first: draw {first.index} of "
            f"prompt {first.prompt.id!r}): a shard was removed, or the run is not finished",
        )
        for name in (RISK, RISK_TABLE, REVIEW):
            findings.not_recomputed(name, "scores that it rests on are missing; they take a model")
        return False
    result = job.result()
    into.mkdir(parents=True, exist_ok=True)
    write_results(into, result)
    write_review(into, job.review(result))
    return True


def _check_plan(findings: Findings, job: RecordedRisk) -> None:
    folder = findings.folder
    rounds = sorted((folder / PLAN).glob("round-*.json"))
    planned = [folder / PLAN / round_name(number) for number in range(1, len(rounds) + 1)]
    for path in planned:
        if path not in rounds:
            findings.missing(f"{PLAN}/{path.name}", "later rounds are there: it was removed")
    findings.compare(
        f"{PLAN}/",
        [*job.unplanned, *job.odd_proposals()],
        against="the ledger (numbers and proposals of its draws)",
    )
    if (folder / SCORES).is_dir():
        findings.compare(
            f"{SCORES}/ (own)",
            job.odd_scores(),
            against="the log-probability that each draw was made with",
        )
        findings.not_recomputed(
            f"{SCORES}/ (others)", "log-densities under other proposals take the model"
        )
    if (folder / CHECKS).is_file():
        findings.not_recomputed(CHECKS, "self-checks take the model")
    if (folder / CHOICE).is_file():
        findings.not_recomputed(CHOICE, "its pilot draws are scored by the model")


def _split(
    findings: Findings,
    manifest: Mapping[str, Any],
    copy: Path,
    prompts: Sequence[Prompt],
    judge: RecordedJudge,
    settings: RiskSettings,
    ledger: Ledger,
) -> None:
    """Make the results of splitting again in `copy`: every round must follow from those before."""
    target = RecordedTarget(contract=SamplingContract.from_dict(manifest["contract"]))
    options = settings_of(SplittingOptions, manifest["options"])
    job = SplittingJob(prompts, target, judge, settings, options, copy, ledger, silent)
    job.recall()
    if job.next_round():
        raise MissingDrawsError("repeats have not ended: the run is not finished")
    result = job.result()
    write_results(copy, result)
    write_review(copy, job.review(result))
    findings.matches(f"{SPLITTING}/", "every round is what the scores before it ask for")
    findings.compare(
        f"{SPLITTING}/ (scores)",
        _odd_levels(copy, prompts),
        against="the ledger (verdicts on whole replies)",
    )
    findings.not_recomputed(
        f"{SPLITTING}/ (beginnings)", "scores of beginnings take the tokenizer and the judge"
    )


def _odd_levels(folder: Path, prompts: Sequence[Prompt]) -> Iterator[Difference]:
    """Draws whose verdict in the ledger is not the score of the whole that splitting went by."""
    frame = read(folder, stream=SPLITTING_SPEC).select("prompt_id", "index", "score")
    held = {(name, index): score for name, index, score in frame.iter_rows()}
    seen = dict.fromkeys((prompt.id for prompt in prompts), 0)
    number = 1
    while (scores := read_scores(folder, number)) is not None:
        for name, paths in scores.items():
            for path in paths:
                seen[name] = index = seen.get(name, 0) + 1
                whole = float(path.scores[-1])
                said = None if whole != whole else whole
                if (name, index) in held and held[name, index] != said:
                    yield Difference(
                        place=f"prompt {name!r}, draw {index}",
                        recorded=said,
                        found=held[name, index],
                    )
        number += 1
