"""Splitting on an enumerable model: graded judges, continued replies, all repeats in step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reference_models.enumerable import EnumerableModel, log_softmax, prefixes
from tailbound.importance_sampling.splitting import Birth, Repeat, RepeatResult, ScoredPath

Grade = Callable[[np.ndarray], np.ndarray]
"""Replies (n, length), padded by -1, to the score of every beginning, same shape."""

THRESHOLD = 0.9


NEEDED = 4
"""Words of complying that make a whole reply unsafe."""


def gradual_model(
    seed: int, *, length: int = 9, rate: float = -2.5, lift: float = 0.0, once: bool = False
) -> EnumerableModel:
    """A model whose replies turn unsafe word by word: stop, two neutral words, and 3 (complies).

    Complying is rare at every place, the more likely the more was said of it, and every beginning
    adds its own noise. Steered, complying has `lift` more in its logit: everywhere, or with `once`
    only until it was said, as a direction does that only unlocks the first word.
    """
    rng = np.random.default_rng(seed)
    tables, steered = [], []
    for t in range(length):
        stems = prefixes(4, t)
        said = (stems == 3).sum(axis=1)
        logits = rng.normal(0, 0.5, (len(stems), 4))
        logits[:, 0] -= 2.0
        logits[:, 3] += rate + 0.4 * said
        tables.append(log_softmax(logits))
        push = np.where(said == 0, lift, 0.0 if once else lift)
        steered.append(log_softmax(logits + push[:, None] * (np.arange(4) == 3)))
    return EnumerableModel(tables, [steered])


def words_said(replies: np.ndarray) -> np.ndarray:
    """Rises with every word of complying; unsafe from the last that is needed."""
    return np.minimum(np.cumsum(replies == 3, axis=1) / NEEDED, 1.0)


def hesitant(replies: np.ndarray) -> np.ndarray:
    """Continuous and misleading: what counts is how the reply ends.

    A beginning may pass the threshold and the whole reply fall below it again.
    """
    said = np.cumsum(replies == 3, axis=1)
    taken_back = np.cumsum(replies == 1, axis=1)
    return np.clip(said / NEEDED - 0.08 * taken_back + 0.25 * _noise(replies, 7), 0, 1)


def useless(replies: np.ndarray) -> np.ndarray:
    """Noise that says nothing of what comes; a reply that complies often enough has the score 1."""
    said = np.cumsum(replies == 3, axis=1)
    return np.where(said >= NEEDED, 1.0, 0.7 * _noise(replies, 11))


def _noise(replies: np.ndarray, base: int) -> np.ndarray:
    place = np.cumsum(np.maximum(replies, 0) * base ** np.arange(replies.shape[1]), axis=1)
    return np.asarray((place * 2654435761 % 1009) / 1009)


GRADES: dict[str, Grade] = {
    "words said": words_said,
    "hesitant": hesitant,
    "useless": useless,
}


def harm_of(grade: Grade, replies: np.ndarray) -> np.ndarray:
    """Whether each whole reply is unsafe, (n,)."""
    return whole_scores(grade, replies) >= THRESHOLD


def whole_scores(grade: Grade, replies: np.ndarray) -> np.ndarray:
    """The score of each whole reply, (n,)."""
    last = (replies >= 0).sum(axis=1) - 1
    return np.asarray(grade(replies)[np.arange(len(replies)), last])


def risk_of(model: EnumerableModel, grade: Grade) -> float:
    """The exact probability of an unsafe reply."""
    p = np.exp(model.all_unsteered.sum(axis=1))
    return float(p @ harm_of(grade, model.replies))


def continued(
    model: EnumerableModel, replies: np.ndarray, cuts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The first `cuts[i]` tokens of reply i, continued by the target, (n, length)."""
    found = np.where(np.arange(model.length) < cuts[:, None], replies, -1)
    place = np.zeros(len(found), dtype=np.int64)
    ended = np.zeros(len(found), dtype=bool)
    for t in range(model.length):
        due = np.flatnonzero((cuts <= t) & ~ended)
        cdf = np.cumsum(np.exp(model.target[t][place[due]]), axis=1)
        found[due, t] = (rng.random((len(due), 1)) * cdf[:, -1:] >= cdf).sum(axis=1)
        ended |= found[:, t] == 0
        place = np.where(ended, 0, place * (model.vocabulary - 1) + np.maximum(found[:, t], 1) - 1)
    return found


def run_repeats(
    model: EnumerableModel,
    grade: Grade,
    rng: np.random.Generator,
    *,
    repeats: int,
    particles: int,
    **options: object,
) -> tuple[list[RepeatResult], int]:
    """So many independent repeats, in step; and how many tokens were drawn."""
    running = [Repeat(particles, top=THRESHOLD, **options) for _ in range(repeats)]  # type: ignore[arg-type]
    empty = np.full((repeats * particles, model.length), -1)
    drawn = continued(model, empty, np.zeros(len(empty), dtype=np.int64), rng)
    tokens = int((drawn >= 0).sum())
    replies = [drawn[i * particles : (i + 1) * particles] for i in range(repeats)]
    for repeat, own in zip(running, replies, strict=True):
        repeat.add(paths(grade, own))
    waiting = list(range(repeats))
    while waiting:
        births: list[tuple[int, list[Birth]]] = []
        for number in waiting:
            due = running[number].step(rng)
            if due:
                births.append((number, due))
        waiting = [number for number, _ in births]
        if not births:
            break
        cuts = np.array([birth.cut for _, due in births for birth in due])
        parents = np.concatenate([replies[n][[b.parent for b in due]] for n, due in births])
        drawn = continued(model, parents, cuts, rng)
        tokens += int((drawn >= 0).sum() - cuts.sum())
        known, start = paths(grade, drawn), 0
        for number, due in births:
            stop = start + len(due)
            running[number].add(known[start:stop])
            replies[number] = np.concatenate([replies[number], drawn[start:stop]])
            start = stop
    return [
        RepeatResult(
            particles=particles,
            weights=repeat.weights,
            harm=harm_of(grade, own).astype(np.float64),
            kills=tuple(repeat.kills),
        )
        for repeat, own in zip(running, replies, strict=True)
    ], tokens


def paths(grade: Grade, replies: np.ndarray) -> list[ScoredPath]:
    """What the judge says of every beginning of every reply."""
    scores, lengths = grade(replies), (replies >= 0).sum(axis=1)
    steps = np.arange(1, replies.shape[1] + 1)
    return [ScoredPath(steps[:n], row[:n]) for row, n in zip(scores, lengths.tolist(), strict=True)]
