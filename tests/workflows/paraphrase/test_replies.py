"""From replies to wordings: what is taken, what is left out and why, and how many are asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt
from tailbound.workflows.paraphrase.choosing import Chosen, choose
from tailbound.workflows.paraphrase.meaning import AnyMeaning, EncodedMeaning
from tailbound.workflows.paraphrase.replies import (
    Reply,
    fault_of,
    normalized,
    question,
    wording_of,
)
from tailbound.workflows.paraphrase.settings import ParaphraseOptions

PAIRS = Path(__file__).parents[2] / "fixtures" / "wordings" / "pairs.jsonl"
QUERY = "How do I whittle a spoon?"


def said(text: str, *, cut: bool = False, missing: bool = False) -> Reply:
    return Reply(text, cut, missing)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (said("What is the way to carve a spoon?"), None),
        (said('Rewritten text: "What is the way to carve a spoon?"'), None),
        (said("x", missing=True), "withheld"),
        (said(""), "empty"),
        (said(' "" '), "empty"),
        (said("Here is the rewritten text:\n\n"), "empty"),
        (said("Seen, before?"), "duplicate"),
        (said("?!…"), None),
        (said("To whittle a spoon, take a block of wood."), "no_question"),
        (said("What is the way to carve a sp", cut=True), "cut"),
        (said("I'm sorry, but I can't help with that."), "refusal"),
        (said("As an AI, I do not whittle."), "refusal"),
        (said("how do i WHITTLE   a spoon??"), "duplicate"),
        (said("How is a spoon \x1b[31mcarved?"), "hidden_characters"),
        (said("How is a spoon \u202ecarved?"), "hidden_characters"),
        (said("First, take a block of wood. " * 10), "too_long"),
    ],
)
def test_every_reply_is_a_wording_or_has_one_reason_why_not(
    reply: Reply, fault: str | None
) -> None:
    seen = {normalized(QUERY), normalized("seen before")}
    assert fault_of(reply, QUERY, seen) == fault


def test_a_query_may_be_what_its_rewordings_may_be() -> None:
    assert fault_of(said("I'm sorry, I can't come"), "I'm sorry that I won't come", set()) is None
    assert fault_of(said("Is there a spoon"), "Whittle a spoon.", set()) is None
    assert fault_of(said("a \u200b c"), "a \u200b b", set()) is None


@given(st.text(max_size=60))
def test_cleaning_twice_changes_nothing_and_never_fails(text: str) -> None:
    once = wording_of(text)
    assert normalized(once) == normalized(once.upper().casefold()) or once
    fault_of(said(text), QUERY, set())


def test_the_instruction_shows_the_query_and_questions_have_ids_of_their_own() -> None:
    one = Prompt(id="a", messages=(("user", QUERY),))
    two = Prompt(id="b", messages=(("user", QUERY),))
    three = Prompt(id="a", messages=(("system", "Be kind."), ("user", QUERY)))
    assert question(one).text.endswith(QUERY)
    assert len({question(each).id for each in (one, two, three)}) == 3
    assert [role for role, _ in question(one).messages] == ["user", "assistant"] * 3 + ["user"]
    braces = Prompt(id="c", messages=(("user", "{query} {0}"),))
    assert question(braces).text.endswith("{query} {0}")


class ByLength:
    """Wordings of more than five words are off the meaning."""

    def similarities(self, query: str, wordings: Sequence[str]) -> NDArray[np.float64]:
        return np.array([0.9 if len(one.split()) <= 5 else 0.1 for one in wordings])


def test_more_is_asked_for_only_as_far_as_it_is_lacking_and_tries_allow() -> None:
    query = Prompt(id="q", messages=(("user", QUERY),))
    texts = ["a b?", "a b?", "", "c d?", "one two three four five six?"]
    texts += ["e f?", "g h?", "i j?", "k l?"]
    asked: list[int] = []

    def first(draws: int) -> list[Reply]:
        asked.append(draws)
        return [said(text) for text in (texts * 3)[:draws]]

    found = choose(
        query, first, count=4, tries=3, meaning=ByLength(), least=0.5, taken=(taken := set())
    )
    assert isinstance(found, Chosen)
    # 4 replies bring 2 wordings, 2 more 1, 1 more the last
    assert asked == [4, 6, 7]
    assert [text for text, _ in found.wordings] == ["a b?", "c d?", "e f?", "g h?"]
    assert found.faults == {"duplicate": 1, "empty": 1, "off_meaning": 1}
    assert found.asked == 7 == len(found.wordings) + sum(found.faults.values())
    assert taken == {"a b", "c d", "e f", "g h"}
    # what another wording of the group has said is a duplicate
    again = choose(query, first, count=4, tries=2, meaning=AnyMeaning(), least=0.5, taken=taken)
    assert isinstance(again, Chosen)
    assert again.asked == 8
    assert [text for text, _ in again.wordings] == ["one two three four five six?", "i j?"]
    assert (
        choose(query, lambda _: None, count=4, tries=2, meaning=AnyMeaning(), least=0, taken=set())
        == 4
    )


def measured() -> dict[str, NDArray[np.float64]]:
    """Similarities of rewordings, of other requests about the same, and of the other queries."""
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    meaning = EncodedMeaning(ParaphraseOptions().encoder)
    queries = [row["query"] for row in rows]
    found = {
        kind: np.concatenate([meaning.similarities(row["query"], row[kind]) for row in rows])
        for kind in ("reworded", "altered")
    }
    others = [
        meaning.similarities(one, [other for other in queries if other != one]) for one in queries
    ]
    return {**found, "others": np.concatenate(others)}


@pytest.mark.filterwarnings("default")  # sentence-transformers' own
def test_the_default_keeps_rewordings_and_drops_other_queries() -> None:
    """60 rewordings and 60 altered requests of 30 queries, by hand: the figures in the docs."""
    found = measured()
    for least in (0.4, 0.5, 0.6, 0.7):
        shares = {kind: float((near >= least).mean()) for kind, near in found.items()}
        print(least, {kind: f"{100 * share:.0f}%" for kind, share in shares.items()})
    least = ParaphraseOptions().min_similarity
    assert (found["reworded"] >= least).mean() >= 0.95
    assert (found["others"] >= least).mean() <= 0.01
    # it cannot tell a changed request about the same thing: the docs say so
    assert (found["altered"] >= least).mean() > 0.5
