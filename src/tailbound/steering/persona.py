r"""Persona vectors: what the residual stream looks like while a trait is shown.

The target answers questions under system prompts that ask for the trait and under others that ask
for its opposite; replies with which the judge agrees are kept. Per layer the vector is

    v = mean over replies with the trait - mean over those without     (stream, response tokens).

It is added with a coefficient, in units of its own length; layer and coefficient are chosen by the
trait rate of steered replies (under no system prompt but the target's own), among settings whose
replies stay coherent:

* with a coherence judge: it finds them coherent at least `COHERENT_SHARE` times as often as the
  target's own replies;
* without one: their mean log-probability per token under the unsteered target is at most
  `MAX_INCOHERENCE` nats below that of its own replies. A reply that the target would never give is
  of no use to importance sampling, whatever a judge thinks of it.

The trait rate that is reported for the chosen setting comes from replies made anew, not from those
that it was chosen by.

Source: Chen et al., arXiv 2507.21509, section 3 (extraction from contrastive prompts, choice of the
layer; coherence by a judge). The log-probability in the judge's place is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from tailbound.core.steps import Step, step
from tailbound.errors import UsageError
from tailbound.judges import Judge
from tailbound.steering.direction import Direction
from tailbound.steering.interventions import Add
from tailbound.steering.modules import anatomy
from tailbound.steering.reading import mean_stream
from tailbound.steering.replies import Rater, answers, log_prob_per_token
from tailbound.steering.traits import Trait as Trait
from tailbound.targets.capabilities import WhiteBox
from tailbound.targets.decoding.proposals import instructed, steered
from tailbound.targets.decoding.variant import ModelVariant

COEFFICIENTS = (1.0, 2.0, 4.0)
MAX_INCOHERENCE = 2.0
COHERENT_SHARE = 0.75
ENOUGH_REPLIES = 4
"""Replies of either kind that a vector must rest on."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One layer and coefficient, tried out.

    `log_prob` is in nats per token under the target; `coherence` is the share of replies that the
    coherence judge finds coherent, None without such a judge; `coherent` is what comes of them.
    """

    layer: int
    coefficient: float
    trait_rate: float
    log_prob: float
    coherence: float | None
    coherent: bool


def find_persona_vector(
    target: WhiteBox,
    trait: Trait,
    judge: Judge,
    *,
    coherence: Judge | None = None,
    replies: int = 4,
    coefficients: Sequence[float] = COEFFICIENTS,
    seed: int = 0,
) -> Direction:
    """The vector of `trait` with its layer and coefficient; `judge` scores replies for the trait.

    `coherence` scores replies for being sound text (at its threshold or above); without it the
    target's own log-probabilities decide. `replies` are made per question and system prompt, and
    again per question and setting. `evidence` holds the trait rates, every setting and warnings.
    Raises `UsageError` where too few replies show the trait, or lack it, to make a vector, and
    where a judge has no verdicts.
    """
    with step("finding the persona vector", unit="settings", stage="direction") as now:
        return _find(target, trait, judge, coherence, replies, coefficients, seed, now)


def _find(
    target: WhiteBox,
    trait: Trait,
    judge: Judge,
    coherence: Judge | None,
    replies: int,
    coefficients: Sequence[float],
    seed: int,
    now: Step,
) -> Direction:
    anatomy(target.model)  # an unknown architecture fails before anything is spent
    rater = Rater(judge)
    sound = None if coherence is None else Rater(coherence)
    positive, asked_rate = _contrast(target, trait, rater, replies, seed, wanted=True)
    negative, opposite_rate = _contrast(target, trait, rater, replies, seed, wanted=False)
    difference = positive.mean(0) - negative.mean(0)
    trials = _Trials(target, trait, rater, sound, replies, seed, difference)
    plain_rate, usual, usual_sound = trials.of(target.variant, "persona-plain")
    settings: list[Setting] = []
    layers = range(1, max(2, int(0.8 * (len(difference) - 1)) + 1))
    now.total = len(layers) * len(coefficients)
    for layer in layers:
        for coefficient in coefficients:
            name = f"persona-{layer}-{coefficient:g}"
            rate, log_prob, share = trials.steered_by(layer, coefficient, name)
            now.advance()
            settings.append(
                Setting(
                    layer=layer,
                    coefficient=coefficient,
                    trait_rate=rate,
                    log_prob=log_prob,
                    coherence=share,
                    coherent=_coherent(log_prob - usual, share, usual_sound),
                )
            )
    ranked = sorted(settings, key=lambda s: (not s.coherent, -s.trait_rate, s.coefficient))
    best = ranked[0]
    # the best of many settings looks better than it is on the replies that chose it
    rate, log_prob, _ = trials.steered_by(best.layer, best.coefficient, "persona-chosen")
    warnings = [*rater.warnings(), *(sound.warnings() if sound is not None else ())]
    warnings += _warnings(best, rate)
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
                "plain": plain_rate,
                "positive_prompts": asked_rate,
                "negative_prompts": opposite_rate,
                "steered": rate,
            },
            "log_prob_per_token": {"plain": usual, "steered": log_prob},
            "kept_replies": {"positive": len(positive), "negative": len(negative)},
            "judge": judge.id,
            "coherence": {
                "judge": None if coherence is None else coherence.id,
                "plain": usual_sound,
                "steered": best.coherence,
            },
            "missing_verdicts": rater.missing + (sound.missing if sound is not None else 0),
            "settings": [asdict(setting) for setting in ranked],
            "warnings": warnings,
        },
    )


@dataclass(frozen=True, eq=False)
class _Trials:
    """Tries variants of the target; `vectors` (layers + 1, width) are the differences by layer."""

    target: WhiteBox
    trait: Trait
    rater: Rater
    sound: Rater | None
    replies: int
    seed: int
    vectors: Tensor

    def of(self, variant: ModelVariant, stream: str) -> tuple[float, float, float | None]:
        """Trait rate, log-prob per token and share of coherent replies of one variant."""
        questions = self.trait.questions
        found = answers(
            *(self.target, variant, questions),
            replies=self.replies,
            seed=self.seed,
            stream=stream,
        )
        return (
            self.rater.rate(questions, found)[1],
            log_prob_per_token(self.target, questions, found),
            None if self.sound is None else self.sound.rate(questions, found)[1],
        )

    def steered_by(
        self, layer: int, coefficient: float, stream: str
    ) -> tuple[float, float, float | None]:
        """The same of the target steered along the vector of `layer`."""
        add = Add(self.vectors[layer], layer - 1, coefficient)
        try:
            return self.of(steered(self.target, add, 1.0, name=stream), stream)
        finally:
            self.target.network.steer(None)


def _warnings(best: Setting, rate: float) -> list[str]:
    """What speaks against the chosen setting, whose replies show the trait at `rate`."""
    found = []
    if not best.coherent:
        found.append("no setting left replies coherent: the most effective one was kept")
    if rate < 0.1:
        found.append(
            f"the steered model shows the trait in {rate:.0%} of its replies only: a system prompt "
            "may do better"
        )
    return found


def _coherent(change: float, share: float | None, usual: float | None) -> bool:
    """Whether replies are sound: by the shares of a judge, else by the change of log-prob."""
    if share is None or usual is None:
        return change >= -MAX_INCOHERENCE
    return share >= COHERENT_SHARE * usual


def _contrast(
    target: WhiteBox, trait: Trait, rater: Rater, replies: int, seed: int, *, wanted: bool
) -> tuple[Tensor, float]:
    """Mean streams of the replies that are as asked, (kept, layers + 1, width); the trait rate."""
    asked = "positive" if wanted else "negative"
    states: list[Tensor] = []
    said, shown = 0, 0
    for number, system in enumerate(trait.positive if wanted else trait.negative):
        variant = instructed(target, system, name=f"system {number}")
        draws = answers(
            *(target, variant, trait.questions),
            replies=replies,
            seed=seed,
            stream=f"persona-{asked}-{number}",
        )
        judged, _ = rater.rate(trait.questions, draws)
        said += sum(reply.shown is not None for reply in judged)
        shown += sum(reply.shown is True for reply in judged)
        kept = [reply for reply in judged if reply.shown is wanted]
        if kept:
            prompts = [variant.encode(reply.question) for reply in kept]
            states.append(mean_stream(target, prompts, [reply.draw.token_ids for reply in kept]))
    found = sum(len(part) for part in states)
    if found < ENOUGH_REPLIES:
        raise UsageError(
            f"only {found} replies under the {asked} system prompts of trait {trait.name!r} were "
            f"judged as asked (trait rate {shown / said:.2g}): use clearer system prompts, more "
            "questions, or --proposal prompt:FILE"
        )
    return torch.cat(states), shown / said
