"""A log of Inspect: samples by epochs, with the scores of its scorers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile, is_zipfile

from tailbound.core.inspect_values import NO_ANSWER, graded
from tailbound.core.outside import one_line
from tailbound.errors import MissingExtraError, UsageError
from tailbound.prompts.chat import Messages
from tailbound.workflows.import_.base import (
    NO_SCORE,
    UNSCORED,
    ImportedDraw,
    Source,
    choose,
    read_ending,
    read_score,
)

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

EXPORT_MARK = "tailbound export"
"""In the metadata of every log that `tailbound export` writes."""
MOST_BYTES = 2**34
"""What the archive of a log may unpack to; events, which are not read, are most of it."""


def read(path: Path, judge: str | None) -> Source:
    """Read an `.eval` or `.json` log; `judge` names the scorer (`scorer/key` for scores by key).

    The draws are the samples that are in the file, and epochs their numbers. The grades C, P and I
    count 1, .5 and 0. Missing are samples that failed, were not scored or have no answer, and those
    that a content filter withheld or whose `stop_reason` is not known. A log without any score is
    read without a judge, for another one to look at.

    Raises `MissingExtraError` without `inspect_ai`, and `UsageError` for what is not a log.
    """
    log = _open(path)
    _check_whole(path, log)
    held = [(sample, dict(_scores(sample))) for sample in log.samples or ()]
    if not held:
        raise UsageError(f"{path} has no samples: {_ending(log)}")
    found: Counter[str] = Counter()
    for _, scores in held:
        found.update(scores.keys())
    chosen = choose(judge, found, what="scorer", source=str(path))
    exported = EXPORT_MARK in (log.eval.metadata or {})
    draws = tuple(_draw(path, sample, scores, chosen, exported=exported) for sample, scores in held)
    return Source(
        format="inspect",
        draws=draws,
        judge=chosen,
        outputs=sum(max(len(sample.output.choices), 1) for sample, _ in held),
        model=log.eval.model,
        contract=dict(_contract(log)),
        notices=tuple(_notices(log, [sample for sample, _ in held])),
    )


def _notices(log: EvalLog, samples: Sequence[EvalSample]) -> Iterator[str]:
    if log.status != "success":
        yield (
            f"{_ending(log)}: the {len(samples)} samples in it were imported; where it ended "
            "because of what was sampled, intervals do not hold"
        )
    planned = log.results.total_samples if log.results is not None else 0
    if not planned:
        planned = (log.eval.dataset.samples or 0) * (log.eval.config.epochs or 1)
    if planned > len(samples):
        yield (
            f"{planned - len(samples)} of {planned} samples are not in the log: where they failed, "
            "they are missing from every interval, which then hold for what is in it alone"
        )
    more = sum(len(sample.output.choices) - 1 for sample in samples if sample.output.choices)
    if more:
        yield (f"{more} further choices of samples were left out: Inspect scores the first of each")


def _ending(log: EvalLog) -> str:
    """How the run behind the log ended, in words."""
    words = {
        "success": "its run succeeded",
        "started": "its run was stopped before its end, or is still running (status 'started')",
        "cancelled": "its run was cancelled (status 'cancelled')",
        "error": "its run failed (status 'error')",
    }
    message = "" if log.error is None else f": {one_line(log.error.message, 120)}"
    return words.get(log.status, f"its run has the status {log.status!r}") + message


def _open(path: Path) -> EvalLog:
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise MissingExtraError("reading Inspect logs", "import") from error
    _check_size(path)
    try:
        return read_eval_log(
            str(path),
            resolve_attachments=True,
            exclude_fields={"store", "events", "timelines"},
        )
    except Exception as error:  # whatever zip, JSON and pydantic raise for a foreign file
        line = one_line(error, 120) or type(error).__name__
        raise UsageError(f"{path} is not a log that Inspect can read: {line}") from error


def _check_whole(path: Path, log: EvalLog) -> None:
    """Raise `UsageError` for an export of ours that holds some of the draws, chosen by verdict."""
    facts = log.eval.metadata or {}
    if EXPORT_MARK not in facts:
        return
    try:
        strata = facts["selection"]["strata"]
        whole = all(one["exported"] == one["draws"] and not one["weighted"] for one in strata)
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise UsageError(
            f"{path} was exported by tailbound and holds a part of the draws of a run, chosen by "
            "their verdicts, or weighted ones, so that it has no rates: use the run folder itself"
        )


def _check_size(path: Path) -> None:
    """Raise `UsageError` for an archive that says it unpacks to more than can be meant."""
    if not is_zipfile(path):
        return
    try:
        with ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (BadZipFile, OSError, ValueError):
        return  # Inspect says what is wrong with it
    if size > MOST_BYTES:
        raise UsageError(
            f"{path} unpacks to {size / 2**30:.1f} GiB, more than {MOST_BYTES / 2**30:g}: is it "
            "damaged? Write it anew in parts"
        )


def _scores(sample: EvalSample) -> Iterator[tuple[str, Any]]:
    """Every value by its name; the values of a score by key are named `scorer/key`."""
    for name, score in (sample.scores or {}).items():
        if isinstance(score.value, dict):
            for key, value in score.value.items():
                yield f"{name}/{key}", value
        else:
            yield name, score.value


def _draw(
    path: Path, sample: EvalSample, scores: dict[str, Any], judge: str, *, exported: bool
) -> ImportedDraw:
    place = f"{path} sample {sample.id} epoch {sample.epoch}"
    score: float | None = None
    reason: str | None
    if sample.error is not None:
        reason = f"the sample failed: {(sample.error.message.splitlines() or [''])[0][:200]}"
    elif judge not in scores:
        reason = NO_SCORE if judge == UNSCORED else f"no score by {judge}"
    elif scores[judge] == NO_ANSWER:
        reason = "no answer"
    else:
        value = scores[judge]
        score, reason = read_score(
            graded(value),
            place,
            judge,
        )
    choices = sample.output.choices
    finish = "unknown" if sample.error is None else "incomplete"
    if choices and sample.error is None:
        ending = sample.metadata.get("finish_reason") if exported else choices[0].stop_reason
        if not exported or ending != "unknown":  # of which the source of the run says nothing
            finish, score, reason = read_ending(ending, score, reason)
    return ImportedDraw(
        place=place,
        prompt_id=str(sample.id),
        index=sample.epoch,
        score=score,
        reason=reason,
        messages=_messages(sample),
        text=sample.output.completion if choices else None,
        finish_reason=finish,
    )


def _messages(sample: EvalSample) -> Messages | None:
    if isinstance(sample.input, str):
        return (("user", sample.input),) if sample.input else None
    return tuple((message.role, message.text) for message in sample.input) or None


def _contract(header: EvalLog) -> Iterator[tuple[str, Any]]:
    """What the generation options tell: those of the task before those of the model."""
    for theirs, ours in (
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        ("max_tokens", "max_new_tokens"),
        ("system_message", "system"),
        ("stop_seqs", "stop"),
    ):
        for config in (header.plan.config, header.eval.model_generate_config):
            value = getattr(config, theirs, None)
            if value is not None:
                yield ours, tuple(value) if isinstance(value, list) else value
                break
