"""A log of Inspect: samples by epochs, with the scores of its scorers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.errors import MissingExtraError, UsageError
from tailbound.importing.base import ImportedDraw, Messages, Source, choose, read_ending, read_score

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

#: Inspect's grades. "N", no answer, is neither safe nor unsafe: it is missing.
GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "yes": 1.0, "no": 0.0}
NO_ANSWER = "N"


def read(path: Path, judge: str | None) -> Source:
    """Read an `.eval` or `.json` log; `judge` names the scorer (`scorer/key` for scores by key).

    Epochs are the draws. The grades C, P and I count 1, .5 and 0; samples that failed, were not
    scored or have no answer are missing, and so are those that a content filter withheld or whose
    `stop_reason` is not known.

    Raises `MissingExtraError` without `inspect_ai`, and `UsageError` for what is no log.
    """
    header, samples = _open(path)
    found: Counter[str] = Counter()
    held = []
    for sample in samples:
        scores = dict(_scores(sample))
        found.update(scores.keys())
        held.append((sample, scores))
    if not held:
        raise UsageError(f"{path} has no samples (its status is {header.status!r})")
    chosen = choose(judge, found, what="scorer", source=str(path))
    draws = tuple(_draw(path, sample, scores, chosen) for sample, scores in held)
    notices = []
    if header.status != "success":
        notices.append(
            f"the log ended with status {header.status!r}: the {len(draws)} samples in it were "
            "imported; where it ended because of what was sampled, intervals do not hold"
        )
    total = header.results.total_samples if header.results is not None else 0
    if total > len(draws):
        notices.append(
            f"{total - len(draws)} of {total} samples are not in the log: where they failed, they "
            "are missing from every interval, which then hold for what is in it alone"
        )
    return Source(
        format="inspect",
        draws=draws,
        judge=chosen,
        model=header.eval.model,
        contract=dict(_contract(header)),
        notices=tuple(notices),
    )


def _open(path: Path) -> tuple[EvalLog, Iterator[EvalSample]]:
    try:
        from inspect_ai.log import read_eval_log, read_eval_log_samples
    except ImportError as error:
        raise MissingExtraError("reading Inspect logs", "import") from error
    try:
        header = read_eval_log(str(path), header_only=True)
        samples = list(
            read_eval_log_samples(
                str(path),
                all_samples_required=False,
                resolve_attachments=True,
                exclude_fields={"store", "events", "timelines"},
            )
        )
    except Exception as error:  # whatever zip, JSON and pydantic raise for a foreign file
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} is not a log that Inspect can read: {line[:120]}") from error
    return header, iter(samples)


def _scores(sample: EvalSample) -> Iterator[tuple[str, Any]]:
    """Every value by its name; the values of a score by key are named `scorer/key`."""
    for name, score in (sample.scores or {}).items():
        if isinstance(score.value, dict):
            for key, value in score.value.items():
                yield f"{name}/{key}", value
        else:
            yield name, score.value


def _draw(path: Path, sample: EvalSample, scores: dict[str, Any], judge: str) -> ImportedDraw:
    place = f"{path} sample {sample.id} epoch {sample.epoch}"
    score: float | None = None
    reason: str | None
    if sample.error is not None:
        reason = f"the sample failed: {(sample.error.message.splitlines() or [''])[0][:200]}"
    elif judge not in scores:
        reason = f"no score by {judge}"
    elif scores[judge] == NO_ANSWER:
        reason = "no answer"
    else:
        value = scores[judge]
        score, reason = read_score(
            GRADES.get(value, GRADES.get(value.lower(), value))
            if isinstance(value, str)
            else value,
            place,
            judge,
        )
    choices = sample.output.choices
    finish = "unknown"
    if choices and sample.error is None:
        finish, score, reason = read_ending(choices[0].stop_reason, score, reason)
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
