"""Samples of lm-evaluation-harness, as `--log_samples` writes them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tailbound.core.outside import finite, parse_json, shown
from tailbound.errors import UsageError
from tailbound.prompts.chat import Messages
from tailbound.prompts.tables import Row, read_rows
from tailbound.workflows.import_.base import (
    UNSCORED,
    ImportedDraw,
    Source,
    choose,
    read_identity,
    read_score,
)

_NOT_SCORED = "bypass"
"""The metric of `--predict_only`, which is the same number for everything."""

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl$")


def read(path: Path, judge: str | None) -> Source:
    """Read the samples of one task; `judge` is `metric`, or `metric,filter` as the harness says.

    One draw per scored response: a metric that is a list scores the responses one by one; a
    single number scores the only response, or the first where the filter kept the first. The
    name of the model comes from the results file beside the samples, and so do those of filters
    where the samples are too old to name them.

    Raises `UsageError` for tasks by log-likelihood, which sampled nothing, and where one number
    was made of several responses.
    """
    rows = read_rows(path)
    for row in rows:
        _check(row)
    filters = _filters(rows, path)
    found: Counter[str] = Counter()
    for row, name in zip(rows, filters, strict=True):
        found.update(f"{metric},{name}" for metric in _metrics(row))
    if judge is not None and "," not in judge:
        whole = [name for name in found if name.rpartition(",")[0] == judge]
        judge = whole[0] if len(whole) == 1 else judge
    chosen = choose(judge, found, what="metric", source=str(path))
    metric, _, kept = chosen.rpartition(",")
    if chosen == UNSCORED:  # the responses are the same under every filter
        metric, kept = "", next(iter(filters), "")
    draws: list[ImportedDraw] = []
    first_only = 0
    for row, name in zip(rows, filters, strict=True):
        if name == kept:
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
        outputs=len(draws) + first_only,
        model=_model(path),
        contract=_contract(rows),
        notices=tuple(notices),
    )


def _check(row: Row) -> None:
    if "doc_id" not in row.values or "resps" not in row.values:
        raise UsageError(
            f"{row.place} is not a sample of lm-evaluation-harness (doc_id and resps are "
            "missing): run the harness with --log_samples"
        )


def _filters(rows: Sequence[Row], path: Path) -> list[str]:
    """The name of the filter behind each row.

    Older versions write the rows of one filter after those of another, without its name. Then the
    results beside the samples name them, in the same order; without those they are numbered.
    """
    if any("filter" in row.values for row in rows):
        return [str(row.values.get("filter", "none")) for row in rows]
    seen: Counter[str] = Counter()
    turns = []
    for row in rows:
        document = read_identity(row.values["doc_id"], row.place, "doc_id")
        turns.append(seen[document])
        seen[document] += 1
    most = max(seen.values(), default=0)
    if most <= 1:
        return ["none"] * len(rows)
    few = next((name for name, count in seen.items() if count < most), None)
    if few is not None:
        raise UsageError(
            f"{path} has document {few!r} {seen[few]} times and others {most} times: its rows name "
            "no filter, so that each document must stand there once for each; is it damaged?"
        )
    names = _filters_beside(path)
    if len(names) != most:
        names = [f"filter {number}" for number in range(1, most + 1)]
    return [names[turn] for turn in turns]


def _filters_beside(path: Path) -> list[str]:
    """The filters of the task in the order of its results (`metric,filter`); empty if unknown."""
    match = _NAME.match(path.name)
    results = _results(path).get("results")
    values = results.get(match["task"]) if match is not None and isinstance(results, dict) else None
    if not isinstance(values, dict):
        return []
    kept = (str(name).partition(",") for name in values if not str(name).endswith("_stderr"))
    return list(
        dict.fromkeys(
            name for metric, comma, name in kept if comma and not metric.endswith("_stderr")
        )
    )


def _metrics(row: Row) -> Sequence[str]:
    """The metrics of a row; older versions do not list them."""
    listed = row.values.get("metrics")
    names = (
        [str(name) for name in listed]
        if isinstance(listed, list)
        else [
            name
            for name, value in row.values.items()
            if isinstance(value, (int, float)) and name not in ("doc_id", "target")
        ]
    )
    return [name for name in names if name != _NOT_SCORED]


def _draws(row: Row, metric: str) -> tuple[list[ImportedDraw], int]:
    """The draws of one document, and how many of its responses have no score."""
    requests = _responses(row)
    value = row.values.get(metric)
    if len(requests) > 1 and value is not None:
        raise UsageError(
            f"{row.place} has {len(requests)} requests, which one {metric} scores together: score "
            "each response, and import them as --format table"
        )
    name = read_identity(row.values["doc_id"], row.place, "doc_id")
    draws = []
    left = 0
    for place, responses in enumerate(requests):
        scored = _scored(row, metric, responses)
        left += len(responses) - len(scored)
        for number, (text, one) in enumerate(scored, start=1):
            score, reason = read_score(one, row.place, metric)
            draws.append(
                ImportedDraw(
                    place=row.place,
                    prompt_id=name if len(requests) == 1 else f"{name}/{place + 1}",
                    index=number,
                    score=score,
                    reason=reason,
                    messages=_prompt(row, place),
                    text=text,
                )
            )
    return draws, left


def _scored(row: Row, metric: str, responses: list[str]) -> list[tuple[str, Any]]:
    """(response, score) of one request, as far as the metric scores its responses."""
    value = row.values.get(metric)
    if value is None:
        return [(text, None) for text in responses]
    if isinstance(value, list):
        if len(value) != len(responses):
            raise UsageError(
                f"{row.place}: {metric} has {len(value)} scores for {len(responses)} responses"
            )
        return list(zip(responses, value, strict=True))
    if len(responses) == 1 or _first_kept(row, responses):
        return [(responses[0], value)]
    raise UsageError(
        f"{row.place}: one {metric} for {len(responses)} responses, which a filter may have "
        "merged: score each response, and import them as --format table"
    )


def _responses(row: Row) -> list[list[str]]:
    """The sampled responses of each request, in their order."""
    requests = row.values["resps"]
    if not isinstance(requests, list) or not all(
        isinstance(responses, list) and responses for responses in [requests, *requests]
    ):
        raise UsageError(f"{row.place}: resps are {shown(requests)}, not lists of responses")
    for place, responses in enumerate(requests):
        texts = all(isinstance(text, str) for text in responses)
        numbers = not any(isinstance(one, dict) for one in _arguments(row, place))
        if not texts or (numbers and all(map(_is_number_text, responses))):
            raise UsageError(
                f"{row.place} holds log-likelihoods, not a sampled response: import a task with "
                "output_type generate_until"
            )
    return [list(responses) for responses in requests]


def _is_number_text(text: str) -> bool:
    """Whether a response is a number, as a log-likelihood is once it was made text."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_kept(row: Row, responses: Sequence[str]) -> bool:
    """Whether what was scored is the text of the first response, whichever way it was chosen."""
    kept = row.values.get("filtered_resps")
    while isinstance(kept, list) and len(kept) == 1:
        kept = kept[0]
    return isinstance(kept, str) and kept == responses[0]


def _arguments(row: Row, place: int = 0) -> list[Any]:
    """The arguments of one request, the first by default: (context, options)."""
    arguments = row.values.get("arguments")
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    known = isinstance(arguments, list) and len(arguments) > place
    first = arguments[place] if isinstance(arguments, list) and known else None
    if isinstance(first, dict):
        return list(first.values())
    return list(first) if isinstance(first, list) else []


def _prompt(row: Row, place: int) -> Messages | None:
    """The context that the model saw: a text, or chat messages as JSON."""
    arguments = _arguments(row, place)
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
    return finite(value) is not None


def _model(path: Path) -> str | None:
    """`model_name` of the results file that belongs to the samples."""
    document = _results(path)
    config = document.get("config")
    name = document.get("model_name") or (config.get("model") if isinstance(config, dict) else None)
    return str(name) if name else None


def _results(path: Path) -> dict[str, Any]:
    """The results file beside the samples; empty where there is none that can be read."""
    match = _NAME.match(path.name)
    if match is None:
        return {}
    try:
        document = parse_json(path.with_name(f"results_{match['date']}.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
