"""A plain table: one row per draw, with prompt id, draw and score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailbound.core.outside import shown
from tailbound.errors import UsageError
from tailbound.prompts.tables import Row, read_rows
from tailbound.workflows.import_.base import (
    ImportedDraw,
    Source,
    read_ending,
    read_identity,
    read_label,
    read_messages,
    read_score,
)

#: Names under which each column is looked for, in order.
IDS = ("prompt_id", "id")
DRAWS = ("draw", "index", "epoch", "sample")
SCORES = ("score",)
RESPONSES = ("response", "completion", "output", "text")
PROMPTS = ("prompt", "messages")
MODELS = ("model", "model_name")
ENDINGS = ("finish_reason", "stop_reason")
#: Larger numbers of draws are no longer whole in float64.
_MOST = 2**53


def read(path: Path, judge: str | None) -> Source:
    """Read a CSV, JSONL or Parquet table.

    Columns: `prompt_id` or `id`; `score`, or the column named like the judge; and, where there
    are any, `draw` (or index, epoch, sample; else rows are numbered within each prompt), `response`
    (or completion, output, text), `prompt` or `messages`, `group`, `finish_reason` (or stop_reason)
    and `reason` (why a score is missing). What a content filter withheld is missing. Draws that
    count from 0 are moved to 1. A column `model` names the one model.
    """
    rows = read_rows(path)
    if not rows:
        raise UsageError(f"{path} has no rows: there is nothing to import")
    have = set().union(*(row.values for row in rows[:1000]))
    id_name = _column(have, IDS, path, "prompt ids")
    scores = (judge, *SCORES) if judge is not None else SCORES
    score_name = _column(have, scores, path, "scores")
    draw_name = next((name for name in DRAWS if name in have), None)
    text_name = next((name for name in RESPONSES if name in have), None)
    prompt_name = next((name for name in PROMPTS if name in have), None)
    ending_name = next((name for name in ENDINGS if name in have), "")
    numbers = _numbers(rows, draw_name, id_name)
    notices = []
    if judge is not None and score_name != judge:
        notices.append(
            f"{path} has no column {judge!r}: the scores are those of the column {score_name!r}"
        )
    draws = []
    for row, number in zip(rows, numbers, strict=True):
        score, reason = read_score(_value(row, score_name), row.place, score_name)
        given = row.values.get("reason")
        if score is None and given:
            reason = str(given)
        finish, score, reason = read_ending(row.values.get(ending_name), score, reason)
        text = row.values.get(text_name) if text_name else None
        if isinstance(text, (list, dict)):
            raise UsageError(f"{row.place}: {text_name} is not text: one response per row")
        draws.append(
            ImportedDraw(
                place=row.place,
                prompt_id=read_identity(row.values.get(id_name), row.place, id_name),
                index=number,
                score=score,
                reason=reason,
                messages=read_messages(row.values.get(prompt_name), row.place, prompt_name)
                if prompt_name
                else None,
                group=read_label(row.values.get("group"), row.place, "group"),
                text=None if text is None else str(text),
                finish_reason=finish,
            )
        )
    return Source(
        format="table",
        draws=tuple(draws),
        judge=judge or score_name,
        outputs=len(draws),
        model=_model(rows, have, path),
        notices=tuple(notices),
    )


def _model(rows: Sequence[Row], have: set[str], path: Path) -> str | None:
    """The one model that made all draws, None where the table does not say.

    Raises `UsageError` where it names several: their draws are of different distributions.
    """
    column = next((name for name in MODELS if name in have), None)
    if column is None:
        return None
    names = sorted({str(value) for row in rows if (value := row.values.get(column))})
    if len(names) > 1:
        raise UsageError(
            f"{path} holds draws of {len(names)} models ({', '.join(names[:3])}): import a table "
            "of each into a folder of its own"
        )
    return names[0] if names else None


def _column(have: set[str], names: Sequence[str], path: Path, what: str) -> str:
    for name in names:
        if name in have:
            return name
    raise UsageError(
        f"{path} has no column {' or '.join(map(repr, names))} for the {what}: "
        f"it has {', '.join(sorted(have)) or 'no columns'}"
    )


def _value(row: Row, name: str) -> Any:
    if name not in row.values:
        raise UsageError(f"{row.place} has no {name}: leave it empty (null) where it is missing")
    return row.values[name]


def _numbers(rows: Sequence[Row], name: str | None, id_name: str) -> list[int]:
    """The number of each draw within its prompt, from 1 on."""
    if name is None:
        seen: Counter[str] = Counter()
        numbers = []
        for row in rows:
            identity = read_identity(row.values.get(id_name), row.place, id_name)
            seen[identity] += 1
            numbers.append(seen[identity])
        return numbers
    numbers = [_number(row, name) for row in rows]
    shift = 1 if min(numbers) == 0 else 0
    return [number + shift for number in numbers]


def _number(row: Row, name: str) -> int:
    value = _value(row, name)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not (0 <= number < _MOST and number == int(number)):
        raise UsageError(
            f"{row.place}: {name} must be a whole number from 0 on, not {shown(value)}"
        )
    return int(number)
