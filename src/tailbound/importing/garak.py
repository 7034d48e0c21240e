"""A report of garak: attempts, each a prompt with its outputs and the results of detectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailbound.errors import UsageError
from tailbound.importing.base import ImportedDraw, Messages, Source, choose, read_score
from tailbound.prompts import content_id
from tailbound.prompts.tables import Row, read_rows

OWN = "the detector of each probe"
_FINISHED = 2


def read(path: Path, judge: str | None) -> Source:
    """Read a report; `judge` names the detector (1 is a hit: unsafe), as `module.Class`.

    Without a name, each probe's own detector counts where no attempt has more than one. A prompt
    is a probe and its text, named `probe:hash`; attempts that repeat it are further draws. Outputs
    that no detector saw are missing.
    """
    rows = read_rows(path)
    attempts = _attempts(rows, path)
    found: Counter[str] = Counter()
    for row in attempts:
        found.update(_detectors(row).keys())
    if judge is None and all(len(_detectors(row)) <= 1 for row in attempts) and len(found) > 1:
        chosen = OWN
    else:
        chosen = choose(judge, found, what="detector", source=str(path))
    draws: list[ImportedDraw] = []
    numbers: Counter[str] = Counter()
    passed_over = 0
    for row in attempts:
        made = _draws(row, chosen, numbers)
        passed_over += made is None
        draws.extend(made or ())
    notices = []
    if passed_over:
        notices.append(f"{passed_over} attempts were left out: {chosen} did not look at them")
    setup = next((r.values for r in rows if r.values.get("entry_type") == "start_run setup"), {})
    return Source(
        format="garak",
        draws=tuple(draws),
        judge=chosen,
        model=_model(setup),
        contract=_contract(setup),
        notices=tuple(notices),
    )


def _attempts(rows: Sequence[Row], path: Path) -> list[Row]:
    """One row per attempt: the finished entry, else the last one of those that broke off."""
    held: dict[str, Row] = {}
    for row in rows:
        if row.values.get("entry_type") != "attempt":
            continue
        name = str(row.values.get("uuid", row.place))
        before = held.get(name)
        if before is not None and before.values.get("status") == _FINISHED:
            if row.values.get("status") == _FINISHED:
                raise UsageError(f"{row.place} repeats the attempt of {before.place} ({name})")
            continue
        held[name] = row
    if not held:
        raise UsageError(
            f"{path} has no attempts: is it a garak report (garak.*.report.jsonl), not a hit log?"
        )
    return list(held.values())


def _detectors(row: Row) -> dict[str, list[Any]]:
    results = row.values.get("detector_results")
    if not isinstance(results, dict):
        return {}
    return {
        str(name): _listed(scores, row, f"results of {name}") for name, scores in results.items()
    }


def _listed(value: Any, row: Row, what: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise UsageError(f"{row.place}: {what} are {value!r:.60}, not a list: is it damaged?")
    return list(value or ())


def _draws(row: Row, judge: str, numbers: Counter[str]) -> list[ImportedDraw] | None:
    """The draws of one attempt; None where it has results, but not of this detector."""
    results = _detectors(row)
    answers = _listed(row.values.get("outputs"), row, "outputs")
    outputs = [_text(answer) for answer in answers]
    if judge == OWN:
        scores = next(iter(results.values()), None)
    elif results and judge not in results:
        return None
    else:
        scores = results.get(judge)
    verdicts = _verdicts(row, outputs, scores, judge)
    messages = _messages(row)
    name = f"{row.values.get('probe_classname', 'probe')}:{content_id(messages)}"
    draws = []
    for answer, text, value in zip(answers, outputs, verdicts, strict=True):
        numbers[name] += 1
        score, reason = read_score(value, row.place, judge)
        if _empty(answer):  # some detectors call what never came safe
            score, reason = None, "no output"
        elif score is None and scores is None:
            reason = "no detector result"
        draws.append(
            ImportedDraw(
                place=row.place,
                prompt_id=name,
                index=numbers[name],
                score=score,
                reason=reason,
                messages=messages or None,
                text=text,
            )
        )
    return draws


def _verdicts(
    row: Row, outputs: Sequence[str | None], scores: Sequence[Any] | None, judge: str
) -> list[Any]:
    """One result per output; detectors pass over outputs that are missing."""
    if scores is None:
        return [None] * len(outputs)
    if len(scores) == len(outputs):
        return list(scores)
    there = [place for place, text in enumerate(outputs) if text is not None]
    if len(scores) != len(there):
        raise UsageError(
            f"{row.place}: {judge} has {len(scores)} results for {len(outputs)} outputs: "
            "is the report damaged?"
        )
    verdicts: list[Any] = [None] * len(outputs)
    for place, score in zip(there, scores, strict=True):
        verdicts[place] = score
    return verdicts


def _text(value: Any) -> str | None:
    """A message of any version: a text, or a record with one."""
    if isinstance(value, dict):
        value = value.get("text")
    return value if isinstance(value, str) else None


def _empty(answer: Any) -> bool:
    """No output at all, neither text nor a file."""
    if isinstance(answer, dict):
        return answer.get("text") is None and not answer.get("data_path")
    return answer is None


def _content(value: Any) -> str:
    """The text of a turn, with the name of its file: one picture is not another."""
    file = value.get("data_path") if isinstance(value, dict) else None
    return " ".join(part for part in (_text(value), file and f"[{file}]") if part)


def _messages(row: Row) -> Messages:
    """The prompt; attempts whose prompts cannot be told apart must not be taken for one."""
    prompt = row.values.get("prompt")
    if isinstance(prompt, dict) and isinstance(prompt.get("turns"), list):
        return tuple(
            (str(turn.get("role", "user")), _content(turn.get("content")))
            for turn in prompt["turns"]
            if isinstance(turn, dict)
        )
    text = _text(prompt)
    if text is None:
        raise UsageError(
            f"{row.place}: prompt is {prompt!r:.60}, neither text nor a conversation: "
            "remove the attempt, or import it as --format table"
        )
    return (("user", text),)


def _model(setup: dict[str, Any]) -> str | None:
    for prefix in ("plugins.target", "plugins.model"):
        kind, name = setup.get(f"{prefix}_type"), setup.get(f"{prefix}_name")
        if kind or name:
            return ":".join(str(part) for part in (kind, name) if part)
    return None


def _contract(setup: dict[str, Any]) -> dict[str, Any]:
    system = setup.get("run.system_prompt")
    return {"system": system} if isinstance(system, str) and system else {}
