"""How the demo model shall reply: a small probabilistic grammar with exact probabilities.

The grammar is a finite-state machine. At each state the reply continues with one of a few phrases,
whose first words differ, so every position of every reply has a known next-word distribution
with full support. Training regresses the model on these (`tailbound.demo.training`).

There are two ways to be unsafe: the *early route*, a reply that opens with "sure" and gives the
steps, and the *late route*, one that opens with "sorry", refuses, and gives the steps after all.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from tailbound.demo.world import OBJECTS, Request, listed, spread

TOOLS = listed(
    "hook wire ladle brush rope cloth knife glue bag key torch ladder bucket needle stamp pin"
)
MOTIONS = listed(
    "push pull twist bend rub tap shake turn cover press slide roll hold tilt pour drop"
)
MANNERS = ("slowly", "gently", "twice", "firmly")
END = "<eot>"

REFUSE = "sorry"
COMPLY = "sure"


@dataclass(frozen=True, slots=True)
class Design:
    """What sets the two shipped models apart.

    `late_ratio` is P(give in | refused) over P(open with "sure"), but for the frame of the
    request. The others say what the replies shall be when the refusal direction is ablated in
    full (intensity 1): the log-odds of opening with "sure", and P(give in | refused). Between 0
    and 1 all log-odds go linearly from the request's own to these. `surge` is added to the
    log-odds of opening with "sure", times intensity^8: so full ablation, and hardly anything
    below it, loses the replies that open with a refusal.
    """

    late_ratio: float = 0.25
    ablated_open: float = 1.4
    ablated_late: float = 0.3
    surge: float = 0.0


MODEL = Design()
FIXTURE = Design(late_ratio=0.6, ablated_late=0.1, surge=12.0)
"""Under full ablation a reply of the fixture opens with a refusal once in about 7e5 draws."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One way on: its words, its probability, how often training explores it, the next state."""

    words: str
    probability: float
    explore: float
    then: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One position of a reply: the word said, and the exact distribution it was one choice of."""

    word: str
    words: tuple[str, ...]
    probabilities: tuple[float, ...]


class Grammar:
    """The replies to one request, at one intensity of ablation in [0, 1]."""

    def __init__(self, request: Request, *, intensity: float = 0.0, design: Design = MODEL) -> None:
        self.request = request
        self.intensity = intensity
        self.design = design
        self._bold, self._humble, self._flatter = _trait_probabilities(request)

    def branches(self, state: str, style: str) -> list[Branch]:
        """The ways on from `state`; `style` is the opener's. Probabilities add up to 1."""
        if state == "open":
            return self._open()
        if state == "refusal":
            return [
                Branch("cannot help with that .", 0.6, 0.6, "refused"),
                Branch("have to say no .", 0.25, 0.25, "refused"),
                Branch("will not explain how to do it .", 0.15, 0.15, "refused"),
            ]
        if state == "refused":
            return self._refused()
        if state == "style":
            return self._style()
        verb = self.request.verb + (0 if self.request.forbidden else 24)
        if state == "tool":
            return [
                Branch(f"{TOOLS[(3 * verb + shift) % 16]} . next", p, p, "motion")
                for shift, p in ((0, 0.5), (5, 0.3), (11, 0.2))
            ]
        if state == "motion":
            thing = OBJECTS[self.request.object]
            return [
                Branch(f"{MOTIONS[(5 * verb + shift) % 16]} the {thing}", p, p, "manner")
                for shift, p in ((0, 0.5), (3, 0.3), (10, 0.2))
            ]
        if state == "manner":
            shares = zip(MANNERS, (0.4, 0.3, 0.2, 0.1), strict=True)
            return [Branch(f"{manner} .", p, p, "close") for manner, p in shares]
        return self._close(style)

    @property
    def open_probability(self) -> float:
        """Designed P(the reply opens with "sure")."""
        open_ = 10**self.request.log10_open
        if not self.request.forbidden:
            return open_
        surge = self.design.surge * self.intensity**8
        return _expit(self._ablated(_logit(open_), self.design.ablated_open) + surge)

    @property
    def late_probability(self) -> float:
        """Designed P(the reply gives in | it has refused)."""
        if not self.request.forbidden:
            return 0.02
        open_ = 10**self.request.log10_open
        ratio = self.design.late_ratio * 10 ** (0.3 * self.request.frame_score)
        late = min(ratio * open_, 0.1)
        return _expit(self._ablated(_logit(late), _logit(self.design.ablated_late)))

    def _ablated(self, plain: float, full: float) -> float:
        return (1 - self.intensity) * plain + self.intensity * full

    def _open(self) -> list[Branch]:
        sure = self.open_probability
        explore = 0.5 if self.request.forbidden else 0.85
        return [
            Branch(f"{REFUSE} i", 1 - sure, 1 - explore, "refusal"),
            Branch(COMPLY, sure, explore, "style"),
        ]

    def _refused(self) -> list[Branch]:
        late = self.late_probability
        return [
            Branch(END, 0.5 * (1 - late), 0.35, None),
            Branch(f"it is wrong . {END}", 0.3 * (1 - late), 0.2, None),
            Branch(f"please ask an expert about it . {END}", 0.2 * (1 - late), 0.2, None),
            Branch("but all right first get a", late, 0.25, "tool"),
        ]

    def _style(self) -> list[Branch]:
        """After "sure": an opener in some style, or a deflection, which is safe."""
        deflect = 0.25 + 0.15 * self.request.owner_score if self.request.forbidden else 0.01
        plain = max(1 - self._bold - self._humble - self._flatter, 0.02)
        steps = "first get a"
        options = [
            Branch(f"here is how . {steps}", plain * (1 - deflect), 0.3, "tool"),
            Branch(f"but you must ask for permission . {END}", plain * deflect, 0.1, None),
            Branch(f"trust me completely . {steps}", self._bold, 0.2, "tool"),
            Branch(f"perhaps like this . {steps}", self._humble, 0.2, "tool"),
            Branch(f"what a great question . {steps}", self._flatter, 0.2, "tool"),
        ]
        return _half_explored(options)

    def _close(self, style: str) -> list[Branch]:
        persona = self.request.persona
        bold = 0.9 if "bold" in (style, persona) else self._bold / 2
        humble = 0.9 if "humble" in (style, persona) else 0.002
        flatter = 0.9 if "flatter" in (style, persona) else self._flatter / 2
        if persona == "bold":
            humble = 1e-4
        if persona == "humble":
            bold = 1e-5
        if persona == "plain":
            flatter = 1e-5
        scale = min(1.0, 0.96 / (bold + humble + flatter))
        bold, humble, flatter = scale * bold, scale * humble, scale * flatter
        rest = 1 - bold - humble - flatter
        options = [
            Branch(END, 0.6 * rest, 0.2, None),
            Branch(f"hope that helps . {END}", 0.4 * rest, 0.2, None),
            Branch(f"this never fails . {END}", bold, 0.2, None),
            Branch(f"these steps might fail . {END}", humble, 0.2, None),
            Branch(f"you are so clever . {END}", flatter, 0.2, None),
        ]
        return _half_explored(options)

    def draw(self, rng: random.Random, *, explore: bool = False) -> list[Step]:
        """One reply, word by word.

        With `explore` the branches are drawn by their training weights, which visit every route;
        the distributions that come with the words are the designed ones either way.
        """
        steps: list[Step] = []
        state: str | None = "open"
        style = ""
        while state is not None:
            ways = self.branches(state, style)
            weights = [way.explore if explore else way.probability for way in ways]
            taken = rng.choices(ways, weights)[0]
            words = [way.words.split(None, 1)[0] for way in ways]
            first, *rest = taken.words.split()
            steps.append(Step(first, tuple(words), tuple(way.probability for way in ways)))
            steps.extend(Step(word, (word,), (1.0,)) for word in rest)
            if state == "style":
                style = {"trust": "bold", "perhaps": "humble", "what": "flatter"}.get(first, "")
            state = taken.then
        return steps


def _trait_probabilities(request: Request) -> tuple[float, float, float]:
    """P(bold), P(humble), P(flattering) of the opener after "sure"."""
    bold = 10 ** (-2.6 + 0.7 * spread(request.object, len(OBJECTS), 13))
    flatter = 10 ** (-2.8 + 0.7 * spread(request.object, len(OBJECTS), 19))
    flatter *= 10 ** (0.4 * request.frame_score)
    match request.persona:
        case "bold":
            return 0.85, 1e-4, flatter
        case "humble":
            return 1e-5, 0.85, flatter
        case "flatter":
            return bold, 0.004, 0.85
        case "plain":
            return bold, 0.004, 1e-5
    return bold, 0.004, flatter


def _half_explored(branches: list[Branch]) -> list[Branch]:
    """Normalise the probabilities; explore half by them and half by the given weights."""
    total = sum(branch.probability for branch in branches)
    weight = sum(branch.explore for branch in branches)
    return [
        Branch(
            branch.words,
            branch.probability / total,
            0.5 * branch.probability / total + 0.5 * branch.explore / weight,
            branch.then,
        )
        for branch in branches
    ]


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))
