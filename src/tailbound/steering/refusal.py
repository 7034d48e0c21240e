r"""The refusal direction: a difference of mean activations, chosen by what it does.

For each of the last token positions that all prompts share (the template after the user's words)
and each layer in the first 80% of them,

    r = mean over harmful prompts - mean over harmless prompts     (of the residual stream).

With R the model's own first tokens of refusals, and refusal log-odds log P(R) / (1 - P(R)) of the
first token of a reply, a candidate is judged on prompts that did not make it:

* ablation: refusal log-odds on harmful prompts while r is ablated (low is good; the choice);
* induction: refusal log-odds on harmless prompts while r is added at its layer (must be > 0);
* KL: KL(plain | ablated) of the first token on harmless prompts (must be < 0.1).

Candidates are ranked lexicographically: those that pass, by ablation; then the others by KL, in
bands that double (below 0.1, 0.2, 0.4, ...: how far the model is from what it was), and within a
band by ablation. If none passes, the first is kept and flagged: any proposal is valid, only less
useful.

With more than `IN_FULL` candidates, not all are measured: they are sorted by their effects to first
order on a few of the held-out prompts (see `attribution`), which takes one pass for all of them;
the first `SCREENED` are measured on these few prompts, and the best `FINALISTS` of them on all.
If none passes, the next ones follow, `ROUNDS` times at most. A fifth of those that are measured
are the first by what ablation is expected to do, the others by rank, with the expected KL.
Induction is then measured only where the KL lets a candidate pass, and for the one that is chosen.

Source: Arditi et al., arXiv 2406.11717, section 2.3 and appendix C (selection: both conditions, and
the least refusal score under ablation among those that fulfil them). Taking R from the model's own
distributions, in place of a list per model family, the order of those that fail, and the screening
are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from tailbound.core.prompt import Prompt
from tailbound.core.steps import Step, step
from tailbound.errors import UsageError
from tailbound.steering.attribution import first_order
from tailbound.steering.checks import ALIKE, FEW, check_enough
from tailbound.steering.direction import Direction
from tailbound.steering.interventions import Ablate, Add
from tailbound.steering.modules import anatomy
from tailbound.steering.reading import TokenIds, encode, next_token_log_probs, stream_at_end
from tailbound.targets.capabilities import WhiteBox

MAX_POSITIONS = 8
LAYER_SHARE = 0.8
MAX_KL = 0.1
REFUSAL_TOKENS = 5
IN_FULL = 24
"""Up to so many candidates, each is measured on all held-out prompts."""
FEW_PROMPTS = 4
"""Held-out prompts of a kind in the screening."""
SCREENED, FINALISTS, ROUNDS, PROBES = 10, 4, 3, 6
GENTLE = 4
"""Candidates that are expected to pass for each that is expected to do most, whatever its KL."""
HARDLY = 0.25
"""Mean probability of refusing harmful prompts below which a model does not seem to refuse."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One position and layer, judged; log-odds and KL in nats.

    `induction` is None where it was not measured, because the KL alone is too large to pass.
    """

    position: int
    layer: int
    ablation: float
    induction: float | None
    kl: float

    @property
    def passes(self) -> bool:
        """Whether it fulfils both conditions."""
        return self.induction is not None and self.induction > 0 and self.kl < MAX_KL

    @property
    def finite(self) -> bool:
        """Whether it was measured at all: half precision may overflow under an addition."""
        return all(map(math.isfinite, (self.ablation, self.induction or 0.0, self.kl)))

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Smaller is better: those that pass, then bands of KL that double, then ablation."""
        return not self.passes, band(self.kl) * (not self.passes), self.ablation


def band(kl: float) -> int:
    """0 for a KL that may pass, then one more with every doubling: 1 from .1, 2 from .2."""
    return 0 if kl < MAX_KL else 1 + int(math.log2(kl / MAX_KL))


def find_refusal_direction(
    target: WhiteBox,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    *,
    layer: int | None = None,
    position: int | None = None,
) -> Direction:
    """The best direction of `target` by these prompts, at least two of each kind.

    Half of each (rounded up) makes the candidates, the other half judges them. Nothing is random.
    `layer` (1: after the first) and `position` (-1: the last token) leave only their candidates;
    a layer given so may lie beyond the first 80%. `evidence` holds the refusal tokens, every
    candidate that was measured on all prompts, whether the chosen one passed, and `warnings`.
    Raises `UsageError` for too few prompts, for prompts of both kinds that are the same or are read
    alike, and for a layer or position that there is not.
    """
    with step("finding the refusal direction", unit="candidates", stage="direction") as now:
        return _find(target, harmful, harmless, layer, position, now)


def _find(
    target: WhiteBox,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    layer: int | None,
    position: int | None,
    now: Step,
) -> Direction:
    anatomy(target.model)  # an unknown architecture fails before anything is spent
    check_enough("harmful", harmful)
    check_enough("harmless", harmless)
    bad, good = encode(target, harmful), encode(target, harmless)
    if set(bad) == set(good):
        raise UsageError(f"harmful and harmless prompts are the same: --harmful {ALIKE}")
    with step("reading the prompts"):
        plain = next_token_log_probs(target, [*bad, *good])
        plain_bad, plain_good = plain[: len(bad)], plain[len(bad) :]
        tokens = _refusal_tokens(plain_bad, plain_good)
        if not tokens:
            raise UsageError(f"harmful and harmless prompts are read alike: --harmful {ALIKE}")
        positions = min(_common_ending([*bad, *good]), MAX_POSITIONS)
        states = stream_at_end(target, [*bad[::2], *good[::2]], positions)
        makers = len(bad[::2])
        # (layers + 1, positions, width)
        differences = states[:makers].mean(0) - states[makers:].mean(0)
        trials = _Trials(target, tokens, bad[1::2], good[1::2], plain_bad[1::2], plain_good[1::2])
    places = [
        (at, -back)
        for at in _layers(len(differences) - 1, layer)
        for back in _positions(positions, position)
        if differences[at, -back].norm() > 0
    ]
    candidates = _measured(trials, differences, places, now)
    if not candidates:
        raise UsageError(
            "no layer separates harmful from harmless prompts in finite numbers: use others, or "
            "a wider --dtype"
        )
    ranked = sorted(candidates, key=lambda one: one.rank)
    if ranked[0].induction is None:
        ranked[0] = trials.of(differences, ranked[0].layer, ranked[0].position)
    best = ranked[0]
    rates = {
        "harmful": _rate(trials.plain_bad, tokens),
        "harmless": _rate(trials.plain_good, tokens),
    }
    warnings = _warnings(best, harmful, harmless)
    if rates["harmful"] < HARDLY:
        warnings.insert(
            0,
            f"this model does not seem to refuse: {rates['harmful']:.0%} of its replies to harmful "
            f"prompts begin as refusals would, and {rates['harmless']:.0%} of those to harmless "
            "ones: removing the direction may change little (--proposal none needs none)",
        )
    return Direction(
        kind="refusal",
        vector=differences[best.layer, best.position].float().clone(),
        layer=best.layer,
        position=best.position,
        coefficient=1.0,
        model=target.contract.target,
        revision=target.contract.revision,
        contract=target.contract.digest,
        evidence={
            "passed": best.passes,
            "refusal_tokens": [
                {"id": token, "text": target.tokenizer.decode([token])} for token in tokens
            ],
            "refusal_log_odds": {
                "harmful": _log_odds(trials.plain_bad, tokens),
                "harmful_ablated": best.ablation,
                "harmless": _log_odds(trials.plain_good, tokens),
                "harmless_added": best.induction,
            },
            "refusal_rate": rates,
            "kl": best.kl,
            "prompts": {"harmful": len(harmful), "harmless": len(harmless)},
            "screened": len(places),
            "candidates": [{**asdict(c), "passes": c.passes} for c in ranked],
            "warnings": warnings,
        },
    )


def _layers(count: int, given: int | None) -> list[int]:
    """The layers to try, of a model that has `count`."""
    if given is None:
        return list(range(1, max(1, int(LAYER_SHARE * count)) + 1))
    if not 1 <= given <= count:
        raise UsageError(f"--layer must lie in 1 .. {count} for this model, not {given}")
    return [given]


def _positions(count: int, given: int | None) -> list[int]:
    """The positions to try, counted back from the end, of `count` that all prompts share."""
    if given is None:
        return list(range(1, count + 1))
    if not -count <= given <= -1:
        raise UsageError(
            f"--position must lie in -{count} .. -1 (tokens that all prompts end with), not {given}"
        )
    return [-given]


class _Trials:
    """Measures candidates on held-out prompts of both kinds."""

    def __init__(
        self,
        target: WhiteBox,
        tokens: Sequence[int],
        harmful: Sequence[TokenIds],
        harmless: Sequence[TokenIds],
        plain_bad: Tensor,
        plain_good: Tensor,
    ) -> None:
        """`plain_bad` and `plain_good` are log-probs of the first token, (prompts, vocabulary)."""
        self.target, self.tokens = target, tokens
        self.harmful, self.harmless = harmful, harmless
        self.plain_bad, self.plain_good = plain_bad, plain_good

    def of(
        self,
        differences: Tensor,
        layer: int,
        position: int,
        *,
        few: bool = False,
        sparing: bool = False,
    ) -> Candidate:
        """The candidate of that place, on all prompts or on a `few` of each kind.

        `sparing` leaves induction out where the KL is too large to pass.
        """
        vector = differences[layer, position]
        most = FEW_PROMPTS if few else None
        bad, good = self.harmful[:most], self.harmless[:most]
        # one pass for both kinds: they are steered alike
        ablated = next_token_log_probs(self.target, [*bad, *good], Ablate(vector))
        kl = _divergence(self.plain_good[:most], ablated[len(bad) :])
        induction = None
        if kl < MAX_KL or not sparing:
            added = next_token_log_probs(self.target, good, Add(vector, layer - 1))
            induction = _log_odds(added, self.tokens)
        return Candidate(
            position=position,
            layer=layer,
            ablation=_log_odds(ablated[: len(bad)], self.tokens),
            induction=induction,
            kl=kl,
        )

    def order(self, vectors: Tensor, layers: Sequence[int]) -> list[int]:
        """Numbers of candidates, the most promising first, by their effects to first order."""
        few = (self.target, self.harmful[:FEW_PROMPTS], self.tokens, vectors, layers)
        ablated = first_order(*few).ablated.nan_to_num(math.inf).tolist()
        few = (self.target, self.harmless[:FEW_PROMPTS], self.tokens, vectors, layers)
        _, shifted, kl = first_order(*few, probes=PROBES)
        added = shifted.tolist()
        bands = [band(one) for one in kl.nan_to_num(1e9).clamp(max=1e9).tolist()]
        plain = _log_odds(self.plain_good[:FEW_PROMPTS], self.tokens)
        # adding it must lead towards refusals at all; how far is measured
        numbers = range(len(vectors))
        strong = sorted(numbers, key=lambda n: (not added[n] > plain, ablated[n]))
        least = max(plain, 0.0)
        gentle = sorted(numbers, key=lambda n: (not added[n] > least, bands[n], ablated[n]))
        # both: what is expected of KL and of ablation is rough
        merged: list[int] = []
        for turn, number in enumerate(strong):
            merged += [*gentle[GENTLE * turn : GENTLE * (turn + 1)], number]
        return list(dict.fromkeys(merged))


def _measured(
    trials: _Trials, differences: Tensor, places: Sequence[tuple[int, int]], now: Step
) -> list[Candidate]:
    """Candidates measured on all prompts: every one where there are few, else the best."""

    def measure(chosen: Sequence[tuple[int, int]], *, few: bool = False) -> list[Candidate]:
        now.total = (now.total or 0) + len(chosen)
        found = []
        for layer, position in chosen:
            found.append(trials.of(differences, layer, position, few=few, sparing=sparing))
            now.advance()
        return [one for one in found if one.finite]

    sparing = len(places) > IN_FULL
    if not sparing:
        return measure(places)
    with step(f"comparing {len(places)} candidates to first order"):
        vectors = torch.stack([differences[place] for place in places])
        order = trials.order(vectors, [layer for layer, _ in places])
    kept: list[Candidate] = []
    small = max(len(trials.harmful), len(trials.harmless)) <= FEW_PROMPTS
    for start in range(0, ROUNDS * SCREENED, SCREENED):
        chosen = [places[number] for number in order[start : start + SCREENED]]
        tried = sorted(measure(chosen, few=True), key=lambda one: one.rank)
        if small:  # these few prompts are all there are
            kept += tried
        else:
            kept += measure([(one.layer, one.position) for one in tried[:FINALISTS]])
        if any(one.passes for one in kept):
            break
    return kept


def _warnings(best: Candidate, harmful: Sequence[Prompt], harmless: Sequence[Prompt]) -> list[str]:
    found = [
        f"only {len(prompts)} {kind} prompts: the direction may be poor, {FEW} or more are better"
        for kind, prompts in (("harmful", harmful), ("harmless", harmless))
        if len(prompts) < FEW
    ]
    if not best.passes:
        found.append(
            f"no direction passed (the best one has induced log-odds {best.induction:.2g}, which "
            f"should be above 0, and KL {best.kl:.2g}, which should be below {MAX_KL}): estimates "
            "stay valid, but may need more draws"
        )
    return found


def _refusal_tokens(harmful: Tensor, harmless: Tensor) -> list[int]:
    """First tokens of replies that are most frequent on harmful prompts as against harmless ones.

    From their log-probs (prompts, vocabulary): the exact frequencies, averaged over prompts, not
    those of sampled replies.
    """
    excess = harmful.exp().mean(0) - harmless.exp().mean(0)
    order = excess.argsort(descending=True)[:REFUSAL_TOKENS]
    best = float(excess[order[0]])
    # tokens with a tenth of the largest excess or less are not what refusals begin with
    return [int(token) for token in order if float(excess[token]) > best / 10]


def _common_ending(prompts: Sequence[TokenIds]) -> int:
    """Number of last tokens that all prompts share, at least 1."""
    shortest = min(len(ids) for ids in prompts)
    count = 0
    while count < shortest and len({ids[-1 - count] for ids in prompts}) == 1:
        count += 1
    return max(1, count)


def _log_odds(log_probs: Tensor, tokens: Sequence[int]) -> float:
    """Mean over prompts of log P(R) / (1 - P(R)), from log-probs (n, vocabulary)."""
    refusal = log_probs[:, list(tokens)].logsumexp(1).exp().clamp(1e-12, 1 - 1e-12)
    return float(refusal.logit().mean())


def _rate(log_probs: Tensor, tokens: Sequence[int]) -> float:
    """Mean over prompts of P(R)."""
    return float(log_probs[:, list(tokens)].logsumexp(1).exp().mean())


def _divergence(plain: Tensor, steered: Tensor) -> float:
    """Mean over prompts of KL(plain | steered), from log-probs (n, vocabulary)."""
    return float((plain.exp() * (plain - steered)).sum(1).mean())
