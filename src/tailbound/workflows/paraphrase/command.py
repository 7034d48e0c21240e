"""`sensitivity --paraphrase` from its arguments to a file of wordings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tailbound.core.extras import require
from tailbound.core.interrupts import keeping
from tailbound.core.options import make
from tailbound.core.prompt import Prompt
from tailbound.core.steps import notice, step
from tailbound.core.values import typed
from tailbound.errors import NoChatTemplateError, UsageError
from tailbound.prompts import PromptSet, PromptSource, prompt_set
from tailbound.runs import Ledger
from tailbound.runs.layout import LEDGER
from tailbound.runs.spend import stages_kept
from tailbound.storage.files import make_folder, write_atomically
from tailbound.storage.places import check_place
from tailbound.targets import Target
from tailbound.targets.capabilities import WhiteBox, late_notices_of, notices_of
from tailbound.targets.registry import check_target, load_target
from tailbound.workflows.costs import Costs, check_plan, spent_before
from tailbound.workflows.opening import (
    TargetSource,
    check_target_source,
    engine_options,
    report,
    sampling_options,
)
from tailbound.workflows.paraphrase.choosing import Chosen, choose
from tailbound.workflows.paraphrase.drawing import JUDGE, Replies, folder_of
from tailbound.workflows.paraphrase.meaning import AnyMeaning, EncodedMeaning, Meaning
from tailbound.workflows.paraphrase.replies import Reply, normalized, question
from tailbound.workflows.paraphrase.result import REASONS, Paraphrased, QueryWordings, median_of
from tailbound.workflows.paraphrase.settings import ParaphraseOptions
from tailbound.workflows.settings import PromptOptions


def paraphrase_command(
    source: PromptSource, out: Path, *, target: TargetSource, given: Mapping[str, Any]
) -> Paraphrased:
    """Reword prompts with a chat model, and write them with their rewordings to the file `out`.

    `given` are options of `ParaphraseOptions`, of the sampler and of the target's loader, and
    `seed`. Raises `UsageError` for what cannot work, before a model is loaded or a server asked.
    """
    asked = make(ParaphraseOptions, given)
    seed = _seed(given)
    folder = _place(out)
    check_target_source(target)
    if isinstance(target, str):
        check_target(target, **engine_options(target, given))
        sampling_options(target, given)
    if asked.min_similarity > 0:
        require("--paraphrase (it compares meanings; --min-similarity 0 does not)", "embeddings")
    named = make(PromptOptions, given)
    queries = prompt_set(source, field=named.field, limit=named.limit)
    _check_ids(queries, asked.count)
    meaning: Meaning = AnyMeaning()
    if asked.min_similarity > 0:
        with step("loading the sentence encoder"):
            meaning = EncodedMeaning(asked.encoder)
    loaded = _load(target, given, folder)
    report(*queries.notices, *notices_of(loaded))
    questions = [question(query) for query in queries]
    with step("encoding the prompts"):
        loaded.prompt_tokens(questions)
    check_plan(
        loaded,
        certain=[(questions, asked.count)],
        at_most=[(questions, asked.count * (asked.tries - 1))],
    )
    chosen = _draw(loaded, queries, questions, folder, meaning, asked, seed)
    rows = [row for query, one in zip(queries, chosen, strict=True) for row in _rows(query, one)]
    write_atomically(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return _result(out, loaded, target, queries, chosen, asked, seed)


def _seed(given: Mapping[str, Any]) -> int:
    seed: int = typed(int, given.get("seed", 0), name="--seed")
    if seed < 0:
        raise UsageError(f"--seed must be a whole number of at least 0, not {seed}")
    return seed


def _place(out: Path) -> Path:
    """The folder of the replies; raises `UsageError` where `out` is not ours to write."""
    if out.suffix.lower() not in (".jsonl", ".ndjson"):
        raise UsageError(f"--out {out} must be a JSONL file, such as wordings.jsonl")
    folder = folder_of(out)
    if out.is_dir() or (out.exists() and not (folder / LEDGER).is_file()):
        raise UsageError(f"--out {out} exists and is not a file of rewordings: name another file")
    check_place(folder)
    return folder


def _load(target: TargetSource, given: Mapping[str, Any], folder: Path) -> Target:
    name = target if isinstance(target, str) else target.contract.target
    no_chat = UsageError(
        f"{name} has no chat template, so it cannot be asked for a rewording: --paraphrase needs a "
        "chat model (hf:NAME?chat_template=FILE gives a model one)"
    )
    if not isinstance(target, str):
        found = target
    else:
        engine = engine_options(target, given)
        try:
            found = load_target(
                target, sampling_options(target, given), **engine, **spent_before(target, folder)
            )
        except NoChatTemplateError as error:
            raise no_chat from error
    if isinstance(found, WhiteBox) and found.contract.template is None:
        raise no_chat
    return found


def _draw(
    target: Target,
    queries: PromptSet,
    questions: Sequence[Prompt],
    folder: Path,
    meaning: Meaning,
    asked: ParaphraseOptions,
    seed: int,
) -> list[Chosen]:
    """Ask until every query has its wordings, or has had its tries."""
    make_folder(folder)
    ledger = Ledger.open(
        folder, run="rewordings", contract=target.contract, judge_id=JUDGE, seed=seed
    )
    costs = Costs(target, None)
    with keeping(folder), stages_kept(folder), costs.kept(folder), ledger:
        replies = Replies(target, ledger, seed=seed)
        while True:
            found = _choices(queries, questions, replies, meaning, asked)
            wanted = [(q, n) for q, n in zip(questions, found, strict=True) if isinstance(n, int)]
            if not wanted:
                break
            requests = replies.lacking(wanted)
            with step("rewording", total=len(requests), unit="replies") as now:
                replies.draw(requests, now)
    report(*late_notices_of(target))
    return [one for one in found if isinstance(one, Chosen)]


def _choices(
    queries: PromptSet,
    questions: Sequence[Prompt],
    replies: Replies,
    meaning: Meaning,
    asked: ParaphraseOptions,
) -> list[Chosen | int]:
    """What is chosen for each query by now, or the number of replies that it needs.

    No text is a wording twice in one group, and none is the own one of another query of it.
    """
    taken: dict[str, set[str]] = {}
    for query in queries:
        taken.setdefault(query.unit, set()).add(normalized(query.text))
    found: list[Chosen | int] = []
    for query, asks in zip(queries, questions, strict=True):

        def first(draws: int, asks: Prompt = asks) -> list[Reply] | None:
            return replies.first(asks, draws) if not replies.lacking([(asks, draws)]) else None

        one = choose(
            query,
            first,
            count=asked.count,
            tries=asked.tries,
            meaning=meaning,
            least=asked.min_similarity,
            taken=taken[query.unit],
        )
        found.append(one)
    return found


def _rows(query: Prompt, chosen: Chosen) -> list[dict[str, Any]]:
    """The query's own wording, then its rewordings, as lines of a file of prompts."""
    rows = []
    texts = [(query.text, math.nan), *chosen.wordings]
    for number, (text, similarity) in enumerate(texts):
        messages = [*query.messages[:-1], (query.messages[-1][0], text)]
        plain = len(messages) == 1 and messages[0][0] == "user"
        row: dict[str, Any] = {
            "id": _id(query, number),
            "group": query.unit,
            "prompt": text if plain else [{"role": r, "content": c} for r, c in messages],
            "wording": number,
        }
        if not math.isnan(similarity):
            row["similarity"] = round(similarity, 4)
        rows.append(row)
    return rows


def _check_ids(queries: PromptSet, count: int) -> None:
    """Raise `UsageError` where a query has the id that a rewording of another is to get."""
    ids = {query.id for query in queries}
    for query in queries:
        for number in range(1, count + 1):
            if _id(query, number) in ids:
                raise UsageError(
                    f"{queries.source}: {_id(query, number)!r} is to be the id of a rewording of "
                    f"{query.id!r}: change it"
                )


def _id(query: Prompt, number: int) -> str:
    return query.id if number == 0 else f"{query.id}/w{number}"


def _result(
    out: Path,
    loaded: Target,
    target: TargetSource,
    queries: PromptSet,
    chosen: Sequence[Chosen],
    asked: ParaphraseOptions,
    seed: int,
) -> Paraphrased:
    rows = tuple(
        QueryWordings(
            query=query.id,
            group=query.unit,
            asked=one.asked,
            kept=len(one.wordings),
            **{name: one.faults.get(name, 0) for name in REASONS},
            similarity=median_of([value for _, value in one.wordings]),
        )
        for query, one in zip(queries, chosen, strict=True)
    )
    found = Paraphrased(
        file=str(out),
        draws=str(folder_of(out)),
        target=target if isinstance(target, str) else loaded.contract.target,
        contract=loaded.contract.digest,
        temperature=loaded.contract.temperature,
        seed=seed,
        count=asked.count,
        tries=asked.tries,
        min_similarity=asked.min_similarity,
        encoder=asked.encoder if asked.min_similarity > 0 else None,
        queries=rows,
        warnings=_warnings(rows, asked),
    )
    for line in found.warnings:
        notice(line)
    return found


def _warnings(rows: Sequence[QueryWordings], asked: ParaphraseOptions) -> tuple[str, ...]:
    few = [one for one in rows if one.kept < asked.count]
    if not few:
        return ()
    lost = {name: sum(getattr(one, name) for one in few) for name in REASONS}
    why = ", ".join(
        f"{number:,} {name.replace('_', ' ')}"
        for name, number in sorted(lost.items(), key=lambda pair: -pair[1])
        if number
    )
    kept = sum(one.kept for one in few)
    none = sum(one.kept == 0 for one in few)
    return (
        f"{len(few):,} of {len(rows):,} queries have fewer than {asked.count} rewordings after "
        f"{asked.tries * asked.count} replies each ({kept:,} in all; {none:,} have none): {why}",
    )
