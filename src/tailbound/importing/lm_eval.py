"""Samples of lm-evaluation-harness, as `--log_samples` writes them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tailbound.errors import UsageError
from tailbound.importing.base import (
    ImportedDraw,
    Messages,
    Source,
    choose,
    read_identity,
    read_score,
)
from tailbound.outside import parse_json
from tailbound.prompts.tables import Row, read_rows

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl$")


def read(path: Path, judge: str | None) -> Source:
    """Read the samples of one task; `judge` is `metric`, or `metric,filter` as the harness says.

    One draw per scored response: a metric that is a list scores the responses one by one; a
    single number scores the only response, or the first where the filter kept the first. The
    name of the model comes from the results file beside the samples.

    Raises `UsageError` for tasks by log-likelihood, which sampled nothing, and where one number
    was made of several responses.
    """
    rows = read_rows(path)
    found: Counter[str] = Counter()
    for row in rows:
        found.update(f"{metric},{_filter(row)}" for metric in _metrics(row))
    if judge is not None and "," not in judge:
        whole = [name for name in found if name.rpartition(",")[0] == judge]
        judge = whole[0] if len(whole) == 1 else judge
    chosen = choose(judge, found, what="metric", source=str(path))
    metric, _, kept = chosen.rpartition(",")
    draws: list[ImportedDraw] = []
    first_only = 0
    for row in rows:
        if _filter(row) != kept:
            continue
        made, more = _draws(row, metric)
        draws.extend(made)
        first_only += more
    notices = []
    if first_only:
        notices.append(
            f"{first_only} responses have no score of their own ({chosen} scores the first one of "
            "each prompt) and were left out"
        )
    return Source(
        format="lm-eval",
        draws=tuple(draws),
        judge=chosen,
        model=_model(path),
        contract=_contract(rows),
        notices=tuple(notices),
    )


def _filter(row: Row) -> str:
    return str(row.values.get("filter", "none"))


def _metrics(row: Row) -> Sequence[str]:
    """The metrics of a row; older versions do not list them."""
    if "doc_id" not in row.values or "resps" not in row.values:
        raise UsageError(
            f"{row.place} is no sample of lm-evaluation-harness (doc_id and resps are missing): "
            "run the harness with --log_samples"
        )
    listed = row.values.get("metrics")
    if isinstance(listed, list):
        return [str(name) for name in listed]
    return [
        name
        for name, value in row.values.items()
        if isinstance(value, (int, float)) and name not in ("doc_id", "target")
    ]


def _draws(row: Row, metric: str) -> tuple[list[ImportedDraw], int]:
    """The draws of one document, and how many of its responses have no score."""
    responses = _responses(row)
    value = row.values.get(metric)
    if value is None:
        pairs = [(text, None) for text in responses]
    elif isinstance(value, list):
        if len(value) != len(responses):
            raise UsageError(
                f"{row.place}: {metric} has {len(value)} scores for {len(responses)} responses"
            )
        pairs = list(zip(responses, value, strict=True))
    elif len(responses) == 1 or _first_kept(row, responses):
        pairs = [(responses[0], value)]
    else:
        raise UsageError(
            f"{row.place}: one {metric} for {len(responses)} responses, which a filter may have "
            "merged: score each response, and import them as --format table"
        )
    messages = _prompt(row)
    draws = []
    for number, (text, one) in enumerate(pairs, start=1):
        score, reason = read_score(one, row.place, metric)
        draws.append(
            ImportedDraw(
                place=row.place,
                prompt_id=read_identity(row.values["doc_id"], row.place, "doc_id"),
                index=number,
                score=score,
                reason=reason,
                messages=messages,
                text=text,
            )
        )
    return draws, len(responses) - len(pairs)


def _responses(row: Row) -> list[str]:
    """The sampled responses of one request, in their order."""
    requests = row.values["resps"]
    if (
        not isinstance(requests, list)
        or len(requests) != 1
        or not isinstance(requests[0], list)
        or not requests[0]
        or not all(isinstance(text, str) for text in requests[0])
    ):
        raise UsageError(
            f"{row.place} holds log-likelihoods, not a sampled response: import a task with "
            "output_type generate_until"
        )
    return list(requests[0])


def _first_kept(row: Row, responses: Sequence[str]) -> bool:
    """Whether what was scored is the text of the first response, whichever way it was chosen."""
    kept = row.values.get("filtered_resps")
    while isinstance(kept, list) and len(kept) == 1:
        kept = kept[0]
    return isinstance(kept, str) and kept == responses[0]


def _arguments(row: Row) -> list[Any]:
    """The arguments of the first request: (context, options)."""
    arguments = row.values.get("arguments")
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    first = arguments[0] if isinstance(arguments, list) and arguments else None
    if isinstance(first, dict):
        return list(first.values())
    return list(first) if isinstance(first, list) else []


def _prompt(row: Row) -> Messages | None:
    """The context that the model saw: a text, or chat messages as JSON."""
    arguments = _arguments(row)
    context = arguments[0] if arguments else None
    if isinstance(context, list) and len(context) == 1:
        context = context[0]
    if not isinstance(context, str) or not context:
        return None
    if context.startswith("[{"):
        try:
            return tuple((str(m["role"]), str(m["content"])) for m in parse_json(context))
        except (ValueError, KeyError, TypeError):
            pass
    return (("user", context),)


def _contract(rows: Sequence[Row]) -> dict[str, Any]:
    """What the options of the requests tell, where all rows agree."""
    known: dict[str, Any] = {}
    for number, row in enumerate(rows):
        facts = dict(_facts(_arguments(row)))
        known = (
            facts
            if number == 0
            else {key: value for key, value in known.items() if facts.get(key) == value}
        )
    return known


def _facts(arguments: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    options = next((one for one in arguments if isinstance(one, dict)), {})
    if options.get("do_sample") is False:
        yield "temperature", 0.0
    elif _is_number(options.get("temperature")):
        yield "temperature", float(options["temperature"])
    for theirs, ours in (
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        ("max_gen_toks", "max_new_tokens"),
    ):
        if _is_number(options.get(theirs)):
            yield ours, options[theirs]
    until = options.get("until")
    if until and isinstance(until, (str, list)):
        yield "stop", tuple([until] if isinstance(until, str) else map(str, until))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _model(path: Path) -> str | None:
    """`model_name` of the results file that belongs to the samples."""
    match = _NAME.match(path.name)
    if match is None:
        return None
    beside = path.with_name(f"results_{match['date']}.json")
    try:
        document = parse_json(beside.read_text(encoding="utf-8"))
        name = document.get("model_name") or document.get("config", {}).get("model")
    except (OSError, ValueError, AttributeError):
        return None
    return str(name) if name else None
