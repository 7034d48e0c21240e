"""Which replies become wordings, and how many more are to be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tailbound.core.prompt import Prompt
from tailbound.workflows.paraphrase.meaning import Meaning
from tailbound.workflows.paraphrase.replies import Reply, fault_of, normalized, wording_of


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The wordings of one query: (text, similarity), and what became of every reply.

    `faults` counts the replies that are no wordings, by reason; `off_meaning` is one.
    """

    wordings: tuple[tuple[str, float], ...]
    faults: dict[str, int]
    asked: int


def choose(
    query: Prompt,
    replies: Callable[[int], list[Reply] | None],
    *,
    count: int,
    tries: int,
    meaning: Meaning,
    least: float,
    taken: set[str],
) -> Chosen | int:
    """The wordings of a query, or how many replies are needed to go on.

    `replies(n)` are the first n replies, None where they are not all there. As many are asked for
    as wordings are wanted, then as many as are still lacking, up to `tries * count`: what comes out
    depends on the replies alone, and never on where a process was interrupted. `taken` are the
    normalized wordings of the group, to which those chosen are added.
    """
    asked = count
    while True:
        held = replies(asked)
        if held is None:
            return asked
        found = _sorted(query, held, meaning, least, set(taken))
        lacking = count - len(found.wordings)
        if lacking <= 0 or asked >= tries * count:
            taken.update(normalized(text) for text, _ in found.wordings)
            return found
        asked = min(tries * count, asked + lacking)


def _sorted(
    query: Prompt, replies: list[Reply], meaning: Meaning, least: float, seen: set[str]
) -> Chosen:
    seen.add(normalized(query.text))
    faults: dict[str, int] = {}
    kept: list[str] = []
    for reply in replies:
        fault = fault_of(reply, query.text, seen)
        if fault is not None:
            faults[fault] = faults.get(fault, 0) + 1
            continue
        text = wording_of(reply.text)
        seen.add(normalized(text))
        kept.append(text)
    near = meaning.similarities(query.text, kept)
    off = [bool(value < least) for value in near]  # NaN: not measured
    if any(off):
        faults["off_meaning"] = sum(off)
    pairs = zip(kept, near, off, strict=True)
    wordings = tuple((text, float(value)) for text, value, is_off in pairs if not is_off)
    return Chosen(wordings=wordings, faults=faults, asked=len(replies))
