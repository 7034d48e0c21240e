"""What each round learns from the unsafe draws before it, written down before it is used.

    DIR/plan/lesson-0002.json    for round 2: by prompt id, the tokens that are made more likely and
                                 what is added to their logits; "" is what all prompts have in
                                 common, for the variant `pooled`; `opening`, the same for the
                                 first token of a reply, by prompt id

A lesson depends on complete batches alone, so weights and bounds of its round are those of any
proposal. It is a function of the draws; the file makes a resume independent of rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.errors import LedgerError
from tailbound.importance_sampling import (
    added_logits,
    choose_replies,
    count_tokens,
)
from tailbound.runs.layout import PLAN, lesson_name
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json
from tailbound.targets.capabilities import ProposalEngine, Reweightable
from tailbound.workflows.risk.proposal_mixture import (
    LEARNED,
    OPENING,
    POOLED,
    FloatArray,
    IntArray,
)

Table = tuple[list[int], list[float]]
Counted = tuple[list[int], FloatArray, FloatArray]
"""Tokens, how often replies say each, and how often the target would in their places."""
Material = tuple[Prompt, Sequence[Sequence[int]], FloatArray, FloatArray]

SCHEMA = 2


class LearningEngine(ProposalEngine, Reweightable, Protocol):
    """An engine that scores replies and can be reweighted."""


class Lessons:
    """The lessons of a run, in its folder and in its engine."""

    def __init__(self, folder: Path, engine: LearningEngine) -> None:
        self._folder = folder
        self._engine = engine
        self._numbers: dict[int, dict[str, int]] = {}

    def learn(
        self,
        number: int,
        material: Sequence[Material],
        names: Sequence[str],
        turns: Mapping[str, IntArray],
    ) -> dict[str, list[str]]:
        """Learn for round `number`; the variants that may speak in it, by id of prompts `names`.

        `material` holds, for every prompt with draws, the token ids, log-weights and harm of all of
        them (n,) each; `turns` (n,), by prompt id, how many tokens there are of each up to its
        turning point, which scoring found.
        """
        own: dict[str, Table] = {}
        openings: dict[str, Table] = {}
        observed: dict[int, float] = {}
        expected: dict[int, float] = {}
        with step("learning from unsafe draws", stage="learning"):
            for name, (ids, counts, chances), first in self._counted(material, turns):
                own[name] = (ids, added_logits(counts, chances).tolist())
                first_ids, *first_counts = first
                openings[name] = (first_ids, added_logits(*first_counts).tolist())
                # prompts count alike, however many effective hits they have
                total = float(counts.sum())
                for token, count, chance in zip(ids, counts, chances, strict=True):
                    observed[token] = observed.get(token, 0.0) + float(count) / total
                    expected[token] = expected.get(token, 0.0) + float(chance) / total
        ids = sorted(observed)
        pooled: Table = ([], [])
        if len(own) > 1:
            added = added_logits([observed[t] for t in ids], [expected[t] for t in ids])
            pooled = (ids, added.tolist())
        document = {
            "schema": SCHEMA,
            "learned": {name: _plain(table) for name, table in own.items()},
            "opening": {name: _plain(table) for name, table in openings.items()},
            "pooled": _plain(pooled),
        }
        make_folder(self._folder / PLAN)
        write_json(self._folder / PLAN / lesson_name(number), document)
        common = [POOLED] if len(own) > 1 else []
        return {name: ([LEARNED, OPENING] if name in own else []) + common for name in names}

    def _counted(
        self, material: Sequence[Material], turns: Mapping[str, IntArray]
    ) -> list[tuple[str, Counted, Counted]]:
        """What unsafe replies hold up to their turning points, and their first tokens, by prompt.

        The target reads each distinct beginning once, those of all prompts in shared passes.
        """
        weights: dict[str, dict[tuple[int, ...], float]] = {}
        for prompt, replies, log_weights, harm in material:
            lesson = choose_replies(log_weights, harm)
            if lesson is None:
                continue
            ends, totals = turns[prompt.id], weights.setdefault(prompt.id, {})
            for place, weight in zip(lesson.places, lesson.weights.tolist(), strict=True):
                turned = tuple(replies[place][: ends[place]])
                totals[turned] = totals.get(turned, 0.0) + weight
        if not weights:
            return []
        prompts = {prompt.id: prompt for prompt, *_ in material}
        counts = {name: count_tokens([*some], [*some.values()]) for name, some in weights.items()}
        expected = self._engine.expected(
            [prompts[name] for name, some in weights.items() for _ in some],
            [reply for some in weights.values() for reply in some],
            [weight for some in weights.values() for weight in some.values()],
            {name: ids for name, (ids, _) in counts.items()},
        )
        found = []
        for name, some in weights.items():
            ids, observed = counts[name]
            first_ids, firsts = count_tokens([one[:1] for one in some], [*some.values()])
            chances = expected[name][1, np.searchsorted(ids, first_ids)]
            found.append((name, (ids, observed, expected[name][0]), (first_ids, firsts, chances)))
        return found

    def recall(self, number: int) -> dict[str, int]:
        """The variants of round `number` in the engine, by name; none where nothing was learned.

        Raises `LedgerError` where its file is missing or damaged.
        """
        if number not in self._numbers:
            self._numbers[number] = self._read(number)
        return self._numbers[number]

    def _read(self, number: int) -> dict[str, int]:
        path = self._folder / PLAN / lesson_name(number)
        if not path.is_file():
            raise LedgerError(f"{path} is missing: restore it, or use another --out")
        document = read_json(path)
        with understood(path):
            own, openings = (
                {str(name): _table(one) for name, one in document[kind].items()}
                for kind in ("learned", "opening")
            )
            pooled = _table(document["pooled"])
        found: dict[str, int] = {}
        if own:
            found[LEARNED] = self._engine.add_reweighted(f"{LEARNED} {number}", own)
            found[OPENING] = self._engine.add_reweighted(f"{OPENING} {number}", openings)
        if pooled[0]:
            found[POOLED] = self._engine.add_reweighted(f"{POOLED} {number}", {"": pooled})
        return found


def _plain(table: Table) -> dict[str, Any]:
    return {"tokens": table[0], "added": table[1]}


def _table(document: Mapping[str, Any]) -> Table:
    return [int(t) for t in document["tokens"]], [float(a) for a in document["added"]]
