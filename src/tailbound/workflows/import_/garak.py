"""A report of garak: attempts, each a prompt with its outputs and the results of detectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tailbound.core.prompt import content_id
from tailbound.errors import UsageError
from tailbound.prompts.chat import Messages
from tailbound.prompts.tables import Row, read_cut_jsonl
from tailbound.workflows.import_.base import ImportedDraw, Source, choose, read_score

OWN = "the detector of each probe"
HIT_KEYS = frozenset({"attempt_id", "detector", "output", "score"})
"""What an entry of a hit log has, which has no `entry_type`."""

_FINISHED = 2


def read(path: Path, judge: str | None) -> Source:
    """Read a report; `judge` names the detector (1 is a hit: unsafe), as `module.Class`.

    Without a name, each probe's own detector counts where no attempt has more than one. A prompt
    is a probe and its text, named `probe:hash`; attempts that repeat it are further draws. Outputs
    that no detector saw are missing. Reports that garak's aggregator merged are read as one.

    Raises `UsageError` for a hit log: what was not a hit is not in it, so it has no rates.
    """
    rows, cut = read_cut_jsonl(path)
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
    passed_over: list[Row] = []
    for row in attempts:
        made = _draws(row, chosen, numbers)
        if made is None:
            passed_over.append(row)
        draws.extend(made or ())
    setup = next((r.values for r in rows if r.values.get("entry_type") == "start_run setup"), {})
    return Source(
        format="garak",
        draws=tuple(draws),
        judge=chosen,
        outputs=sum(map(_outputs, attempts)),
        model=_model(setup),
        contract=_contract(setup),
        notices=(
            *_left_out(attempts, passed_over, chosen),
            *_stopped(rows, attempts, cut),
        ),
    )


def _left_out(attempts: Sequence[Row], passed_over: Sequence[Row], chosen: str) -> Iterator[str]:
    if passed_over:
        yield (
            f"{len(passed_over)} attempts with {sum(map(_outputs, passed_over))} outputs were left "
            f"out: {chosen} did not look at them"
        )
    silent = sum(_outputs(row) == 0 for row in attempts)
    if silent:
        yield f"{silent} of {len(attempts)} attempts have no outputs: nothing can be counted"


def _stopped(rows: Sequence[Row], attempts: Sequence[Row], cut: str | None) -> Iterator[str]:
    """What shows that the run behind the report did not come to its end."""
    kinds = {str(row.values.get("entry_type")) for row in rows}
    if cut is not None:
        yield f"{cut} is cut off and was left out"
    if "init" in kinds and not kinds & {"completion", "digest"}:
        undetected = sum(row.values.get("status") != _FINISHED for row in attempts)
        yield (
            "the report has no end: its run was stopped, or is still running; "
            f"{undetected} of {len(attempts)} attempts were not given to a detector. Where it was "
            "stopped because of what was sampled, intervals do not hold"
        )


def _attempts(rows: Sequence[Row], path: Path) -> list[Row]:
    """One row per attempt: the finished entry, else the last one of those that broke off.

    The aggregator of older versions gives all attempts one uuid. What tells attempts apart is
    uuid, number, probe and prompt; a merged report may hold the same probe of two runs, with other
    outputs. Raises `UsageError` where an attempt stands there twice.
    """
    merged = any("aggregation" in row.values for row in rows)
    finished: dict[tuple[str, ...], list[Row]] = {}
    begun: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.values.get("entry_type") != "attempt":
            continue
        name = (
            str(row.values.get("uuid", row.place)),
            str(row.values.get("seq")),
            str(row.values.get("probe_classname")),
        )
        key = (*name, content_id(_messages(row)))
        if row.values.get("status") != _FINISHED:
            begun[key] = row
            continue
        for before in finished.get(key, ()):
            if not merged or before.values.get("outputs") == row.values.get("outputs"):
                raise UsageError(
                    f"{row.place} repeats the attempt of {before.place} (probe {name[2]}, number "
                    f"{name[1]}, {name[0]}): remove one"
                )
        finished.setdefault(key, []).append(row)
    done = {key[:3] for key in finished}
    held = [row for same in finished.values() for row in same]
    held += [row for key, row in begun.items() if key[:3] not in done]
    if not held:
        if any(row.values.keys() >= HIT_KEYS for row in rows):
            raise UsageError(
                f"{path} is a hit log: it holds only outputs that a detector found unsafe, and no "
                "rate can come from hits alone; import the report beside it (garak.*.report.jsonl)"
            )
        raise UsageError(f"{path} has no attempts: is it a garak report (garak.*.report.jsonl)?")
    order = {row.place: number for number, row in enumerate(rows)}
    return sorted(held, key=lambda row: order[row.place])


def _outputs(row: Row) -> int:
    return len(_listed(row.values.get("outputs"), row, "outputs"))


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
        scores = results.get(judge)  # none at all where nothing was scored
    verdicts = _verdicts(row, outputs, scores, judge)
    messages = _messages(row)
    name = f"{row.values.get('probe_classname', 'probe')}:{content_id(messages)}"
    draws = []
    for answer, text, value in zip(answers, outputs, verdicts, strict=True):
        numbers[name] += 1
        score, reason = read_score(value, row.place, judge)
        finish = "unknown"
        if _empty(answer):  # some detectors call what never came safe
            score, reason, finish = None, "no output", "incomplete"
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
                finish_reason=finish,
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
    """The prompt; attempts whose prompts cannot be distinguished must not be taken for one."""
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
