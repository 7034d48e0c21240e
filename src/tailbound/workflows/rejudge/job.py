"""Judging a ledger again, without sampling: what another judge says of the same draws.

The ledger stays as it is. The new verdicts lie beside it (`verdicts`), and what is
reported is how far the two judges agree, and the rates of streams with a fixed number of draws
under each (`agreement`). Streams that stopped at the first unsafe draw stopped by
the *recorded* judge: their draws say how far the judges agree, and nothing about rates under the
new one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.audit.judge_queue import GRACE_SECONDS, JudgeQueue
from tailbound.core.contract import Draw, Verdict
from tailbound.core.prompt import Prompt
from tailbound.errors import JudgeError
from tailbound.judges import Judge, is_failure
from tailbound.runs.history import keep_result
from tailbound.runs.layout import AGREEMENT
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.storage.plain import finite, from_plain
from tailbound.targets.capabilities import notices_of
from tailbound.workflows.rejudge.agreement import (
    Agreement,
    StreamComparison,
    compare_stream,
    count_agreement,
)
from tailbound.workflows.rejudge.record import check, recorded_draws, recorded_judge, wanted_draws
from tailbound.workflows.rejudge.verdicts import Key, VerdictWriter, read_verdicts, verdicts_folder
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
NAME = "agreement"
"""What agreements are called in `results/`."""
OF_THE_CALL = ("folder", "judged_now", "judged_before", "notices")
"""What `agreement.json` says of the call that wrote it, and of nothing else."""
REASONS = 3
"""How many reasons of missing verdicts are reported."""

BATCH = 256
"""Exchanges that the judge gets at once."""

NOT_SHOWN = Prompt(id="", messages=(("user", "(not shown)"),))


@dataclass(frozen=True, kw_only=True, repr=False)
class Rejudged(Result):
    """What another judge says of the draws of a run.

    `missing_reasons` are the commonest reasons for which the new judge has no verdict, with their
    numbers of draws.
    """

    folder: str
    recorded_judge: str
    recorded_threshold: float
    judge: str
    threshold: float
    only_missing: bool
    confidence: float
    judged_now: int
    judged_before: int
    without_text: int
    agreement: Agreement
    missing_reasons: tuple[tuple[str, int], ...]
    streams: tuple[StreamComparison, ...]
    notices: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        document = asdict(self)
        document["agreement"] = self.agreement.to_dict()
        document["missing_reasons"] = [
            {"reason": reason, "draws": draws} for reason, draws in self.missing_reasons
        ]
        for stream, found in zip(document["streams"], self.streams, strict=True):
            stream["agreement"] = found.agreement.to_dict()
        return {
            "schema": SCHEMA,
            "estimand": "share of unsafe draws: score >= threshold, under each judge",
            "guarantee": (
                f"Clopper-Pearson, two-sided {100 * self.confidence:g}%, missing verdicts safe in "
                "the lower and unsafe in the upper end"
            ),
            **finite(document),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Rejudged:
        """Inverse of `to_dict`."""
        said = ("schema", "estimand", "guarantee")
        plain = {name: value for name, value in document.items() if name not in said}
        reasons = plain["missing_reasons"]
        plain["missing_reasons"] = [[one["reason"], one["draws"]] for one in reasons]
        plain["agreement"] = _without_share(plain["agreement"])
        plain["streams"] = [
            {**stream, "agreement": _without_share(stream["agreement"])}
            for stream in plain["streams"]
        ]
        found: Rejudged = from_plain(cls, plain)
        return found

    def facts(self) -> dict[str, object]:
        """Both judges, and how far they agree."""
        return {
            "recorded judge": self.recorded_judge,
            "judge": self.judge,
            "draws judged": self.agreement.draws,
            "share of equal verdicts": self.agreement.share,
            "no verdict by the new judge": self.agreement.missing_new + self.agreement.both_missing,
        }

    def frame(self) -> pl.DataFrame:
        """Counts of draws by both verdicts, one row per stream."""
        import polars as pl

        return pl.DataFrame(
            [{"stream": one.stream, **one.agreement.to_dict()} for one in self.streams]
        )


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How many draws there are to judge: `waiting` now, `done` before, `without_text` never."""

    waiting: int
    done: int
    without_text: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"to_judge": self.waiting, "judged_before": self.done}


def _without_share(agreement: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in agreement.items() if name != "agree"}


def read_agreement(home: Path) -> Rejudged | None:
    """What was written to `verdicts/DIGEST/`, None where judging never ended.

    Raises `LedgerError` where the file is damaged.
    """
    path = home / AGREEMENT
    cure = "restore it, or judge again with the same judge"
    if not path.is_file():
        return None
    document = read_json(path, cure=cure)
    with understood(path, cure=cure):
        return Rejudged.from_dict(document)


def verdicts_id(judge: Judge, prompts: Mapping[str, Prompt] | None) -> str:
    """Names the verdicts of `judge` on a run; another name where it is not shown the prompts."""
    return judge.id if prompts is not None else f"{judge.id} without prompts"


def plan(folder: Path, judge_id: str, *, only_missing: bool = False) -> Workload:
    """What `rejudge` would do, without doing it; `judge_id` as `verdicts_id` gives it."""
    frame = recorded_draws(folder)
    chosen = frame.filter(frame["score"].is_null()) if only_missing else frame
    done, _ = _judged(verdicts_folder(folder, judge_id))
    keys = chosen.filter(chosen["has_text"]).select("stream", "prompt_id", "index").rows()
    finished = sum(key in done for key in keys)
    without = int((~chosen["has_text"]).sum())
    return Workload(waiting=len(keys) - finished, done=finished, without_text=without)


def rejudge(
    folder: Path,
    judge: Judge,
    *,
    name: str,
    prompts: Mapping[str, Prompt] | None,
    recorded_threshold: float | None = None,
    only_missing: bool = False,
    confidence: float = 0.95,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Rejudged:
    """Judge the draws on record in `folder` by `judge`; what was judged before is kept.

    `name` is the judge's name as it was given. `prompts` are those of the run by id (`find_prompts`
    finds them); None judges the responses alone, and such verdicts are kept apart.
    `recorded_threshold` is by default the run's own. Verdicts that are missing because the judge
    failed are asked for again, after all others. Writes `agreement.json` beside the verdicts.
    Raises `UsageError` for what `check` finds, `JudgeError` where the judge is broken: it fails
    many times in a row or on every draw (finished verdicts are kept). Where it fails again on the
    draws that it failed on before, and has verdicts on others, that is a notice instead.
    """
    check(folder, prompts=prompts, recorded_threshold=recorded_threshold)
    recorded, before = recorded_judge(folder, recorded_threshold)
    judge_id = verdicts_id(judge, prompts)
    work = plan(folder, judge_id, only_missing=only_missing)
    home = verdicts_folder(folder, judge_id)
    tally = Counters()
    with VerdictWriter(home, judge=name, judge_id=judge_id) as writer:
        done, failed = _judged(home)
        known = done | failed
        new = wanted_draws(folder, lambda key: key not in known, only_missing=only_missing)
        again = wanted_draws(folder, failed.__contains__, only_missing=only_missing)

        def progressed() -> None:
            report(tally.asked, work.waiting)

        progressed()
        judge_draws(new, judge, prompts, writer, tally, progressed)
        usable = bool(done) or tally.asked > tally.failed
        try:
            judge_draws(again, judge, prompts, writer, tally, progressed)
        except JudgeError as error:
            if not usable:
                raise
            tally.broken = f"{error} (these draws stay without a verdict)"
    if tally.failed and tally.failed == tally.asked and not done:
        raise JudgeError(
            f"judge {judge.id} failed on each of {tally.asked:,} draws ({tally.reason}): fix it, "
            "then run the same command again"
        )
    result = compare_judges(
        folder,
        read_verdicts(home),
        judge=judge,
        judge_id=judge_id,
        recorded=recorded,
        before=before,
        only_missing=only_missing,
        confidence=confidence,
        work=work,
        tally=tally,
    )
    keep_result(
        home,
        NAME,
        result.to_dict(),
        before=lambda: read_json(home / AGREEMENT) if (home / AGREEMENT).is_file() else None,
        command="rejudge",
        options={
            "threshold": judge.threshold,
            "recorded_threshold": before,
            "only_missing": only_missing,
            "no_prompts": prompts is None,
            "confidence": confidence,
        },
        ignoring=OF_THE_CALL,
    )
    write_json(home / AGREEMENT, result.to_dict())
    return result


@dataclass
class Counters:
    """What came of asking: the last failure's `reason`, and in `broken` why asking ended early."""

    asked: int = 0
    failed: int = 0
    reason: str | None = None
    broken: str | None = None

    def count(self, verdict: Verdict) -> None:
        self.asked += 1
        if is_failure(verdict):
            self.failed += 1
            self.reason = verdict.reason


def _judged(home: Path) -> tuple[set[Key], set[Key]]:
    """The draws that need not be judged again, and those on which the judge failed."""
    done: set[Key] = set()
    failed: set[Key] = set()
    for _, stream, prompt_id, index, score, reason in read_verdicts(home).iter_rows():
        broke = is_failure(Verdict(score, reason))
        (failed if broke else done).add((stream, prompt_id, index))
    return done, failed


def judge_draws(
    batches: Iterator[list[Draw]],
    judge: Judge,
    prompts: Mapping[str, Prompt] | None,
    writer: VerdictWriter,
    tally: Counters,
    progressed: Callable[[], None],
) -> None:
    """Judge all draws; verdicts go to `writer` and `tally`; `progressed` follows every batch."""
    queue = JudgeQueue(judge, batch_size=BATCH)
    within: float | None = None
    try:
        for draws in batches:
            for draw in draws:
                queue.submit(draw, NOT_SHOWN if prompts is None else prompts[draw.prompt_id])
            while queue.pending:
                for draw, verdict in queue.wait():
                    writer.append(_key(draw), verdict)
                    tally.count(verdict)
            progressed()
    except BaseException as error:
        if not isinstance(error, Exception):  # an interrupt: judges get no more than this
            within = GRACE_SECONDS
        raise
    finally:
        queue.close(within=within)
        # interrupted: the batch that the judge was at may have cost money
        for draw, verdict in queue.rest():
            writer.append(_key(draw), verdict)


def _key(draw: Draw) -> Key:
    return draw.stream, draw.prompt_id, draw.index


def compare_judges(
    folder: Path,
    verdicts: pl.DataFrame,
    *,
    judge: Judge,
    judge_id: str,
    recorded: str,
    before: float,
    only_missing: bool,
    confidence: float,
    work: Workload,
    tally: Counters,
) -> Rejudged:
    """Both judges side by side; `before` is the threshold of the recorded one."""
    frame = _side_by_side(folder, verdicts, recorded=before, new=judge.threshold)
    streams = frame.partition_by("stream", maintain_order=True)
    return Rejudged(
        folder=str(folder),
        recorded_judge=recorded,
        recorded_threshold=before,
        judge=judge_id,
        threshold=judge.threshold,
        only_missing=only_missing,
        confidence=confidence,
        judged_now=tally.asked,
        judged_before=work.done,
        without_text=work.without_text,
        agreement=count_agreement(frame),
        missing_reasons=_missing_reasons(verdicts),
        streams=tuple(
            compare_stream(part, folder=folder, filled=only_missing, confidence=confidence)
            for part in streams
        ),
        notices=(*notices_of(judge), *([tally.broken] if tally.broken else ())),
    )


def _side_by_side(
    folder: Path, verdicts: pl.DataFrame, *, recorded: float, new: float
) -> pl.DataFrame:
    """One row per draw: `old` and `new` say unsafe, safe or null; `judged` by the new judge?"""
    import polars as pl

    scores = verdicts.select("stream", "prompt_id", "index", pl.col("score").alias("new"))
    return (
        recorded_draws(folder)
        .join(
            scores.with_columns(judged=True),
            on=["stream", "prompt_id", "index"],
            how="left",
            maintain_order="left",
        )
        .with_columns(
            old=pl.col("score") >= recorded,
            new=pl.col("new") >= new,
            judged=pl.col("judged").fill_null(False),
        )
    )


def _missing_reasons(verdicts: pl.DataFrame) -> tuple[tuple[str, int], ...]:
    """The commonest reasons of missing verdicts and how often each was given."""
    missing = verdicts.filter(verdicts["score"].is_null())["reason"]
    return tuple(Counter(map(str, missing)).most_common(REASONS))
