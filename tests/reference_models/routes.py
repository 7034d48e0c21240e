r"""Small language models with planted routes to an unsafe word, exact by dynamic programming.

A model is an automaton: its state after what was said decides the distribution of the next word.
An unsafe reply says one of three words. Routes there:

    at once   the reply opens by complying, with a small probability
    late      it refuses, and at the end of the refusal it turns, with a small probability
    story     it begins harmlessly (4%), and turns several words later

    slip      at any word of an answer it may slip, and then turns, or ends, or comes back
    detour    one opening of several (30%), then a rare word, and some words later it turns (50%)
    twice     the same, but the turn is as rare as the word before it

besides which any word is said anywhere with a tiny probability. Steering makes it comply at once,
and turn *less* often: a proposal that rests on steering alone misses the other routes. The last
three were made after proposals and status were fixed.

The statistics are those of a run (`Family`, `choose_replies`, `estimate_risk`); only the sampling
is done here, on tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from tailbound.importance_sampling import (
    RiskEstimate,
    added_logits,
    choose_replies,
    count_tokens,
    make_ladder,
    until_turn,
)
from tailbound.workflows.risk.proposal_mixture import (
    HEAT,
    HEATED,
    LEARNED,
    OPENING,
    Batch,
    Family,
    learned_rungs,
)
from tailbound.workflows.risk.settings import RiskSettings

END = 0
KINDS = {
    "at once": {"at once": 1.0},
    "late": {"late": 1.0},
    "story": {"story": 1.0},
    "at once and late": {"at once": 0.8, "late": 0.2},
    "all": {"at once": 0.4, "late": 0.3, "story": 0.3},
}
"""Models by the shares of their routes."""
LATER_KINDS = ("slip", "detour", "twice")
"""Models that nothing was chosen on."""


@dataclass(frozen=True)
class RoutesModel:
    """Log-probs of words by state, (states, words), plain and steered; where a word leads."""

    target: np.ndarray
    steered: np.ndarray
    leads: np.ndarray
    unsafe: np.ndarray
    length: int

    @property
    def risk(self) -> float:
        """P(unsafe), exact."""
        now = np.zeros(len(self.target))
        now[0] = 1
        chances = np.exp(self.target)
        for _ in range(self.length):
            following = np.zeros_like(now)
            np.add.at(following, self.leads, now[:, None] * chances)
            now = following
        return float(now[self.unsafe].sum())


def _normal(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=-1, keepdims=True)
    return np.asarray(logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True)))


class _Builder:
    """States by name, their likely words, and where these lead."""

    def __init__(self, words: int, rng: np.random.Generator) -> None:
        self.words, self.rng = words, rng
        self.rows: dict[str, dict[int, float]] = {}
        self.leads: dict[str, dict[int, str]] = {}
        self.default: dict[str, str] = {}

    def state(
        self, name: str, rates: dict[int, float], leads: dict[int, str], default: str
    ) -> None:
        self.rows[name], self.leads[name], self.default[name] = rates, leads, default

    def shares(self, words: list[int], concentration: float = 1.0) -> dict[int, float]:
        return dict(zip(words, self.rng.dirichlet(np.full(len(words), concentration)), strict=True))


def build(
    kind: str, scale: float, *, seed: int, words: int = 48, length: int = 16, floor: float = -14.0
) -> RoutesModel:
    """A model whose rare turns have probabilities in proportion to `scale`."""
    if kind in LATER_KINDS:
        return _build_later(kind, scale, seed=seed, words=words, length=length, floor=floor)
    rng = np.random.default_rng([seed, words, length])
    made = _Builder(words, rng)
    bag = rng.permutation(np.arange(1, words)).tolist()
    some = max(2, min(4, words // 8))
    refusing, comply, unsafe = [bag.pop() for _ in range(2)], [bag.pop() for _ in range(2)], []
    unsafe = [bag.pop() for _ in range(3)]
    sorry, story = [bag.pop() for _ in range(some)], [bag.pop() for _ in range(some)]
    turn, rest = bag.pop(), bag[: max(1, words // 4)]
    steps, story_steps = int(rng.integers(2, 5)), int(rng.integers(3, 7))
    rare = {name: scale * share for name, share in KINDS[kind].items()}
    at_once, late, told = (rare.get(name, 0.0) for name in ("at once", "late", "story"))
    begins = 0.04 if told else 0.0

    opening = {word: at_once * share + 1e-12 for word, share in made.shares(comply).items()}
    opening[story[0]] = begins + 1e-9
    plain = 1 - at_once - begins
    opening |= {word: plain * share for word, share in made.shares(refusing, 2.0).items()}
    leads = dict.fromkeys(comply, "comply") | {story[0]: "story 1"}
    made.state("start", opening, leads | dict.fromkeys(refusing, "refuse 1"), "odd")
    saying = {word: 0.9 * share for word, share in made.shares(unsafe).items()}
    made.state("comply", {**saying, rest[0]: 0.1}, {}, "comply")
    for step in range(1, steps + 1):
        following = f"refuse {step + 1}" if step < steps else "refused"
        made.state(f"refuse {step}", made.shares(sorry), {}, following)
    made.state(
        "refused",
        {END: 0.7 * (1 - late), sorry[0]: 0.3 * (1 - late), turn: late + 1e-12},
        {sorry[0]: "refused", turn: "turned"},
        "odd",
    )
    made.state("turned", {rest[0]: 0.5, unsafe[0]: 0.5}, {rest[0]: "turning"}, "odd")
    made.state("turning", {unsafe[1]: 0.8, END: 0.2}, {}, "odd")
    for step in range(1, story_steps + 1):
        following = f"story {step + 1}" if step < story_steps else "told"
        made.state(f"story {step}", made.shares(story), {}, following)
    turns = told / begins if begins else 0.0
    made.state(
        "told",
        {END: 0.5 * (1 - turns), story[0]: 0.5 * (1 - turns), unsafe[2]: turns + 1e-12},
        {story[0]: "told"},
        "odd",
    )
    made.state(
        "odd", {**{w: 0.6 * s for w, s in made.shares(rest, 0.5).items()}, END: 0.4}, {}, "odd"
    )
    after = {word: 0.3 * share for word, share in made.shares(unsafe).items()}
    made.state("unsafe", {END: 0.5, rest[0]: 0.2, **after}, {}, "unsafe")
    return _tables(made, unsafe, refusing, comply, turn, length, floor, lowered=("refused", "told"))


def _build_later(
    kind: str, scale: float, *, seed: int, words: int, length: int, floor: float
) -> RoutesModel:
    """As `build`, of the kinds made later."""
    made = _Builder(words, np.random.default_rng([seed, words, length, 1]))
    bag = made.rng.permutation(np.arange(1, words)).tolist()
    some = max(2, min(5, words // 6))
    openings, comply, unsafe = ([bag.pop() for _ in range(n)] for n in (3, 2, 3))
    common, turn, rest = [bag.pop() for _ in range(some)], bag.pop(), bag[: max(1, words // 4)]
    saying = {word: 0.9 * share for word, share in made.shares(unsafe).items()}
    after = {word: 0.3 * share for word, share in made.shares(unsafe).items()}
    answering = made.shares(common, 2.0)
    opening = dict.fromkeys(comply, 1e-12)
    if kind == "slip":
        opening |= made.shares(openings, 2.0)
        lowered, leads = ("answer", "slope"), dict.fromkeys(openings, "answer")
        still = {word: 0.85 * share for word, share in answering.items()}
        made.state("answer", {END: 0.15, turn: scale, **still}, {turn: "slope"}, "answer")
        made.state("slope", {unsafe[0]: 0.3, rest[0]: 0.3, END: 0.3, common[0]: 0.1}, {}, "answer")
    else:
        opening |= {openings[0]: 0.3, openings[1]: 0.45, openings[2]: 0.25}
        lowered = ("path 3", "edge 3")
        leads = dict.fromkeys(openings[1:], "answer") | {openings[0]: "path 1"}
        still = {word: 0.8 * share for word, share in answering.items()}
        made.state("answer", {END: 0.2, **still}, {}, "answer")
        chances = {"path": scale, "edge": 0.5}
        if kind == "twice":
            chances = dict.fromkeys(chances, scale**0.5)
        for name in chances:
            made.state(f"{name} 1", made.shares(common), {}, f"{name} 2")
            made.state(f"{name} 2", made.shares(common), {}, f"{name} 3")
            says = turn if name == "path" else unsafe[1]
            rates = {END: 0.2, says: chances[name], **still}
            made.state(f"{name} 3", rates, {turn: "edge 1"}, "answer")
    made.state("start", opening, leads | dict.fromkeys(comply, "comply"), "odd")
    made.rows = {"start": made.rows.pop("start"), **made.rows}
    made.state("comply", {**saying, rest[0]: 0.1}, {}, "comply")
    made.state(
        "odd", {**{w: 0.6 * s for w, s in made.shares(rest, 0.5).items()}, END: 0.4}, {}, "odd"
    )
    made.state("unsafe", {END: 0.5, rest[0]: 0.2, **after}, {}, "unsafe")
    return _tables(made, unsafe, openings, comply, turn, length, floor, lowered=lowered)


def _tables(
    made: _Builder,
    unsafe: list[int],
    refusing: list[int],
    comply: list[int],
    turn: int,
    length: int,
    floor: float,
    *,
    lowered: tuple[str, ...],
) -> RoutesModel:
    """The tables of a model; `lowered` are the states that turn less often when steered."""
    made.state("done", {END: 1.0}, {}, "done")
    made.state("unsafe and done", {END: 1.0}, {}, "unsafe and done")
    rng, names = made.rng, list(made.rows)
    place = {name: number for number, name in enumerate(names)}
    over = {"done", "unsafe and done"}
    target = np.full((len(names), made.words), -np.inf)
    leads = np.zeros((len(names), made.words), dtype=np.int64)
    for name, row in place.items():
        logits = floor + rng.normal(size=made.words)
        for word, rate in made.rows[name].items():
            jitter = 0.3 * rng.normal() * (rate < 0.9)
            logits[word] = np.logaddexp(np.log(max(rate, 1e-300)) + jitter, logits[word] - 20)
        if name in over:
            logits[:] = -np.inf
            logits[END] = 0
        target[row] = _normal(logits)
        leads[row] = place[made.default[name]]
        for word, state in made.leads[name].items():
            leads[row, word] = place[state]
        if name not in over | {"unsafe"}:
            leads[row, unsafe] = place["unsafe"]
            leads[row, END] = place["done"]
    leads[place["unsafe"], END] = place["unsafe and done"]
    steered = target.copy()
    steered[0, refusing] -= 9
    steered[0, comply] += 6 + rng.normal()
    for name in lowered:
        steered[place[name], [*unsafe, turn]] += np.log(0.2)
    for name, row in place.items():
        if name not in over:
            steered[row] = _normal(steered[row] + 0.2 * rng.normal(size=made.words))
    bad = np.array([place["unsafe"], place["unsafe and done"]])
    return RoutesModel(target, steered, leads, bad, length)


@cache
def routes_model(
    kind: str, risk: float, *, seed: int, words: int = 48, length: int = 16, floor: float = -14.0
) -> RoutesModel:
    """The model of that kind whose exact risk is `risk`."""
    low, high = risk * 1e-4, min(0.9, risk * 30)
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        found = build(kind, middle, seed=seed, words=words, length=length, floor=floor)
        low, high = (middle, high) if found.risk < risk else (low, middle)
    return found


def heated_table(log_p: np.ndarray, *, tokens: int = 20, taper: float = 2.0) -> np.ndarray:
    """The heated variant of every row, computed apart from the engine."""
    z = np.maximum(log_p, -300)
    edge = np.sort(z, axis=1)[:, ::-1][:, [min(tokens, z.shape[1]) - 1]]
    shaped = np.where(z >= edge, z / HEAT, edge / HEAT + taper * (z - edge))
    return _normal(np.where(np.isneginf(log_p), -np.inf, shaped))


def family(model: RoutesModel, *, steered: bool = True, explore: bool = True) -> Family:
    """The proposals of a run."""
    variants = ["steered"] if steered else []
    explorers = [HEATED] if explore else []
    ladder = make_ladder(model.length, variants=variants, explorers=explorers)
    if explore:
        ladder = ladder.with_rungs(learned_rungs(model.length))
    numbers = {name: number for number, name in enumerate([*variants, *explorers], start=1)}
    return Family(name="ladder", ladder=ladder, variants=numbers)


def run(
    model: RoutesModel, draws: int, *, seed: int, steered: bool = True, explore: bool = True
) -> RiskEstimate:
    """One prompt's estimate, in the batches of a run."""
    rng, chosen = np.random.default_rng(seed), family(model, steered=steered, explore=explore)
    shares = RiskSettings().batch_shares
    ends = np.round(np.cumsum(shares) * draws).astype(np.int64)
    tables = {"steered": model.steered, HEATED: heated_table(model.target)}
    past: list[Batch] = []
    drawn: list[tuple[np.ndarray, np.ndarray]] = []
    for size in np.diff(ends, prepend=0).tolist():
        learned = _learn(model, past, drawn) if explore else {}
        known = list(learned)
        counts = chosen.counts(size, past, known)
        spoken = [model.target, *(tables[name] for name in chosen.variants)]
        numbers = {name: number for number, name in enumerate(known, start=len(spoken))}
        spoken += learned.values()
        segments = [
            chosen.segments(int(label), rng, numbers)
            for label in np.repeat(np.arange(counts.size), counts)
        ]
        states, words, harm = _draw(model, spoken, segments, rng)
        lengths = np.cumsum(words == END, axis=1)
        lengths = np.minimum((lengths == 0).sum(axis=1) + 1, model.length)
        tokens = np.stack([table[states, words] for table in spoken])
        densities = chosen.log_densities(tokens, lengths, known)
        past.append(
            Batch(
                counts=counts,
                log_densities=densities,
                harm=harm,
                replies=tuple(row.tobytes() for row in words.astype(np.int16)),
            )
        )
        drawn.append((states, words))
    return chosen.estimate(past, confidence=0.95, sequential=False, estimand="P(unsafe)")


def _learn(
    model: RoutesModel, past: list[Batch], drawn: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The tables of the learned variants, none before anything unsafe was met."""
    if not past:
        return {}
    lesson = choose_replies(
        np.concatenate([batch.log_weights for batch in past]),
        np.concatenate([batch.harm for batch in past]),
    )
    if lesson is None:
        return {}
    states = np.concatenate([states for states, _ in drawn])[list(lesson.places)]
    words = np.concatenate([words for _, words in drawn])[list(lesson.places)]
    replies = [
        tuple(row[: list(row).index(END) + 1 if END in row else None].tolist()) for row in words
    ]
    tokens = model.target[states, words]
    turned = until_turn(
        replies, [row[: len(one)] for row, one in zip(tokens, replies, strict=True)]
    )
    firsts = [reply[:1] for reply in replies]

    def reweighted(said: list[tuple[int, ...]]) -> np.ndarray:
        ids, observed = count_tokens(said, lesson.weights.tolist())
        expected = np.zeros(len(ids))
        for reply, row, weight in zip(said, states, lesson.weights, strict=True):
            expected += weight * np.exp(model.target[row[: len(reply)]])[:, ids].sum(axis=0)
        shaped = model.target.copy()
        shaped[:, ids] += added_logits(observed, expected)
        return _normal(shaped)

    return {LEARNED: reweighted(turned), OPENING: reweighted(firsts)}


def _draw(
    model: RoutesModel,
    spoken: list[np.ndarray],
    segments: list[tuple[tuple[int, int], ...]],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States before each word, words, and whether each reply is unsafe."""
    n = len(segments)
    speaker = np.zeros((n, model.length), dtype=np.int64)
    for row, parts in enumerate(segments):
        start = 0
        for who, stop in parts:
            speaker[row, start:stop] = who
            start = stop
    chances = np.exp(np.stack(spoken)).cumsum(axis=2)
    states = np.zeros((n, model.length), dtype=np.int64)
    words = np.zeros((n, model.length), dtype=np.int64)
    state = np.zeros(n, dtype=np.int64)
    for t in range(model.length):
        states[:, t] = state
        ladder = chances[speaker[:, t], state]
        level = rng.random(n) * ladder[:, -1]
        words[:, t] = np.minimum((ladder <= level[:, None]).sum(axis=1), ladder.shape[1] - 1)
        state = model.leads[state, words[:, t]]
    return states, words, np.isin(state, model.unsafe).astype(np.float64)
