r"""Persona vectors: what the residual stream looks like while a trait is shown.

The target answers questions under system prompts that ask for the trait and under others that ask
for its opposite; replies with which the judge agrees are kept. Per layer the vector is

    v = mean over replies with the trait - mean over those without     (stream, response tokens).

It is added with a coefficient, in units of its own length; layer and coefficient are chosen by the
trait rate of steered replies (under no system prompt but the target's own), among settings whose
replies stay coherent: their mean log-probability per token under the unsteered target is at most
`MAX_INCOHERENCE` nats below that of its own replies. A reply that the target would never give is of
no use to importance sampling, whatever a judge thinks of it.

Source: Chen et al., arXiv 2507.21509, section 3 (extraction from contrastive prompts, choice of the
layer). They rate coherence with a judge; the log-probability in its place is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from tailbound.contract import Draw, DrawRequest
from tailbound.errors import UsageError
from tailbound.judges import Exchange, Judge
from tailbound.prompts import Prompt
from tailbound.steering.direction import Direction
from tailbound.steering.interventions import Add
from tailbound.steering.reading import mean_stream
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.decoding.proposals import ProposalModel, instructed, steered
from tailbound.targets.decoding.voices import Voice

COEFFICIENTS = (1.0, 2.0, 4.0)
MAX_INCOHERENCE = 2.0
ENOUGH_REPLIES = 4
"""Replies of either kind that a vector must rest on."""


@dataclass(frozen=True, kw_only=True)
class Trait:
    """A trait to be induced: system prompts for it and against it, and questions to answer."""

    name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    questions: tuple[Prompt, ...]
    description: str = ""

    @classmethod
    def read(cls, path: Path) -> Trait:
        """From YAML with `name`, `positive`, `negative`, `questions`, perhaps `description`."""
        import yaml

        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = str(error).partition("\n")[0]
            raise UsageError(f"the trait file {path} cannot be read: {reason}") from error
        if not isinstance(found, dict):
            raise UsageError(f"{path} must hold a mapping with name, positive, negative, questions")
        lists: dict[str, tuple[str, ...]] = {}
        for key in ("positive", "negative", "questions"):
            value = found.get(key)
            if not (isinstance(value, list) and value and all(isinstance(v, str) for v in value)):
                raise UsageError(f"{path} needs {key!r}: a list of one or more texts")
            lists[key] = tuple(value)
        return cls(
            name=str(found.get("name") or path.stem),
            description=str(found.get("description") or ""),
            positive=lists["positive"],
            negative=lists["negative"],
            questions=tuple(
                Prompt(id=f"question-{number}", messages=(("user", text),))
                for number, text in enumerate(lists["questions"], start=1)
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One layer and coefficient, tried out; `log_prob` in nats per token under the target."""

    layer: int
    coefficient: float
    trait_rate: float
    log_prob: float
    coherent: bool


def find_persona_vector(
    target: LocalModel,
    trait: Trait,
    judge: Judge,
    *,
    replies: int = 4,
    coefficients: Sequence[float] = COEFFICIENTS,
    seed: int = 0,
) -> Direction:
    """The vector of `trait` with its layer and coefficient; `judge` scores replies for the trait.

    `replies` are made per question and system prompt, and again per question and setting.
    `evidence` holds the trait rates, every setting and warnings. Raises `UsageError` where too few
    replies show the trait, or lack it, to make a vector.
    """
    kept = {
        asked: _contrast(target, trait, judge, prompts, replies, seed, wanted=asked == "positive")
        for asked, prompts in (("positive", trait.positive), ("negative", trait.negative))
    }
    for asked, (states, rate) in kept.items():
        if len(states) < ENOUGH_REPLIES:
            raise UsageError(
                f"only {len(states)} replies under the {asked} system prompts of trait "
                f"{trait.name!r} were judged as asked (trait rate {rate:.2g}): use clearer system "
                "prompts, more questions, or --proposal prompt:FILE"
            )
    difference = kept["positive"][0].mean(0) - kept["negative"][0].mean(0)
    own = _answers(target, target.voice, trait.questions, replies, seed, "persona-plain")
    usual = _coherence(target, trait.questions, own)
    settings: list[Setting] = []
    for layer in range(1, max(2, int(0.8 * (len(difference) - 1)) + 1)):
        for coefficient in coefficients:
            add = Add(difference[layer], layer - 1, coefficient)
            voice = steered(target, add, 1.0, name=f"layer {layer} x {coefficient:g}")
            name = f"persona-{layer}-{coefficient:g}"
            found = _answers(target, voice, trait.questions, replies, seed, name)
            target.network.steer(None)
            log_prob = _coherence(target, trait.questions, found)
            settings.append(
                Setting(
                    layer=layer,
                    coefficient=coefficient,
                    trait_rate=_rate(_scores(judge, trait.questions, found), judge.threshold),
                    log_prob=log_prob,
                    coherent=log_prob >= usual - MAX_INCOHERENCE,
                )
            )
    ranked = sorted(settings, key=lambda s: (not s.coherent, -s.trait_rate, s.coefficient))
    best = ranked[0]
    warnings = []
    if not best.coherent:
        warnings.append("no setting left replies coherent: the most effective one was kept")
    if best.trait_rate < 0.1:
        warnings.append(
            f"the steered model shows the trait in {best.trait_rate:.0%} of its replies only: a "
            "system prompt may do better"
        )
    return Direction(
        kind=f"persona:{trait.name}",
        vector=difference[best.layer].float().clone(),
        layer=best.layer,
        position=None,
        coefficient=best.coefficient,
        model=target.contract.target,
        revision=target.contract.revision,
        contract=target.contract.digest,
        evidence={
            "trait_rate": {
                "plain": _rate(_scores(judge, trait.questions, own), judge.threshold),
                "positive_prompts": kept["positive"][1],
                "negative_prompts": kept["negative"][1],
                "steered": best.trait_rate,
            },
            "log_prob_per_token": {"plain": usual, "steered": best.log_prob},
            "kept_replies": {asked: len(states) for asked, (states, _) in kept.items()},
            "judge": judge.id,
            "settings": [asdict(setting) for setting in ranked],
            "warnings": warnings,
        },
    )


def _contrast(
    target: LocalModel,
    trait: Trait,
    judge: Judge,
    systems: Sequence[str],
    replies: int,
    seed: int,
    *,
    wanted: bool,
) -> tuple[Tensor, float]:
    """Mean streams of the replies that are as asked, (kept, layers + 1, width); the trait rate."""
    states: list[Tensor] = []
    all_scores: list[float] = []
    for number, system in enumerate(systems):
        voice = instructed(target, system, name=f"system {number}")
        name = f"persona-{'positive' if wanted else 'negative'}-{number}"
        draws = _answers(target, voice, trait.questions, replies, seed, name)
        scores = _scores(judge, trait.questions, draws)
        all_scores += scores
        by_id = {question.id: question for question in trait.questions}
        kept = [
            draw
            for draw, score in zip(draws, scores, strict=True)
            if (score >= judge.threshold) == wanted and score == score
        ]
        if kept:
            prompts = [voice.encode(by_id[draw.prompt_id]) for draw in kept]
            states.append(mean_stream(target, prompts, [draw.token_ids for draw in kept]))
    rate = _rate(all_scores, judge.threshold)
    return (torch.cat(states) if states else torch.empty(0)), rate


def _answers(
    target: LocalModel,
    voice: Voice,
    questions: Sequence[Prompt],
    replies: int,
    seed: int,
    stream: str,
) -> list[Draw]:
    """`replies` replies of `voice` to each question."""
    voices = [] if voice is target.voice else [voice]
    segments = ((len(voices), target.contract.max_new_tokens),)
    requests = [
        DrawRequest(prompt=question, stream=stream, index=index, segments=segments)
        for question in questions
        for index in range(1, replies + 1)
    ]
    return list(ProposalModel(target, voices).draw(requests, seed=seed))


def _scores(judge: Judge, questions: Sequence[Prompt], draws: Sequence[Draw]) -> list[float]:
    """Scores of the replies, NaN where the judge gives none."""
    by_id = {question.id: question for question in questions}
    verdicts = judge.judge([Exchange(by_id[draw.prompt_id], draw.text) for draw in draws])
    return [float("nan") if v.score is None else v.score for v in verdicts]


def _rate(scores: Sequence[float], threshold: float) -> float:
    judged = [score for score in scores if score == score]
    if not judged:
        return 0.0
    return sum(score >= threshold for score in judged) / len(judged)


def _coherence(target: LocalModel, questions: Sequence[Prompt], draws: Sequence[Draw]) -> float:
    """Mean log-probability per token under the unsteered target, a token counting at least -20."""
    engine = ProposalModel(target, [])
    total, tokens = 0.0, 0
    for question in questions:
        said = [draw.token_ids for draw in draws if draw.prompt_id == question.id]
        for table in engine.score(question, said) if said else ():
            total += float(table[0].clip(min=-20.0).sum())
            tokens += table.shape[1]
    return total / max(tokens, 1)
