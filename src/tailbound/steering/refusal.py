r"""The refusal direction: a difference of mean activations, chosen by what it does.

For each of the last token positions that all prompts share (the template after the user's words)
and each layer in the first 80% of them,

    r = mean over harmful prompts - mean over harmless prompts     (of the residual stream).

With R the model's own first tokens of refusals, and refusal log-odds log P(R) / (1 - P(R)) of the
first token of a reply, a candidate is judged on prompts that did not make it:

* ablation: refusal log-odds on harmful prompts while r is ablated (low is good; the choice);
* induction: refusal log-odds on harmless prompts while r is added at its layer (must be > 0);
* KL: KL(plain | ablated) of the first token on harmless prompts (must be < 0.1).

If no candidate passes, the best by ablation is kept and flagged: any proposal is valid, only less
useful. Source: Arditi et al., arXiv 2406.11717, section 2.3 and appendix C (selection). Taking R
from the model's own distributions, in place of a list per model family, is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from tailbound.core.prompt import Prompt
from tailbound.core.steps import Step, step
from tailbound.errors import UsageError
from tailbound.steering.checks import ALIKE, FEW, check_enough
from tailbound.steering.direction import Direction
from tailbound.steering.interventions import Ablate, Add
from tailbound.steering.modules import anatomy
from tailbound.steering.reading import TokenIds, encode, next_token_log_probs, stream_at_end
from tailbound.targets.capabilities import WhiteBox
from tailbound.targets.decoding.interventions import Intervention

MAX_POSITIONS = 8
LAYER_SHARE = 0.8
MAX_KL = 0.1
REFUSAL_TOKENS = 5


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One position and layer, judged; log-odds and KL in nats."""

    position: int
    layer: int
    ablation: float
    induction: float
    kl: float

    @property
    def passes(self) -> bool:
        """Whether it fulfils both conditions."""
        return self.induction > 0 and self.kl < MAX_KL


def find_refusal_direction(
    target: WhiteBox, harmful: Sequence[Prompt], harmless: Sequence[Prompt]
) -> Direction:
    """The best direction of `target` by these prompts, at least two of each kind.

    Half of each (rounded up) makes the candidates, the other half judges them. Nothing is random.
    `evidence` holds the refusal tokens, every candidate, whether the chosen one passed, and
    `warnings`. Raises `UsageError` for too few prompts, and for prompts of both kinds that are the
    same or are read alike.
    """
    with step("finding the refusal direction", unit="candidates", stage="direction") as now:
        return _find(target, harmful, harmless, now)


def _find(
    target: WhiteBox, harmful: Sequence[Prompt], harmless: Sequence[Prompt], now: Step
) -> Direction:
    anatomy(target.model)  # an unknown architecture fails before anything is spent
    check_enough("harmful", harmful)
    check_enough("harmless", harmless)
    bad, good = encode(target, harmful), encode(target, harmless)
    if set(bad) == set(good):
        raise UsageError(f"harmful and harmless prompts are the same: --harmful {ALIKE}")
    fit_bad, fit_good = bad[::2], good[::2]
    test_bad, test_good = bad[1::2], good[1::2]
    tokens = _refusal_tokens(target, bad, good)
    if not tokens:
        raise UsageError(f"harmful and harmless prompts are read alike: --harmful {ALIKE}")
    plain_bad = next_token_log_probs(target, test_bad)
    plain_good = next_token_log_probs(target, test_good)
    positions = min(_common_ending([*bad, *good]), MAX_POSITIONS)
    means = [stream_at_end(target, ids, positions).mean(0) for ids in (fit_bad, fit_good)]
    differences = means[0] - means[1]  # (layers + 1, positions, width)
    last_layer = max(1, int(LAYER_SHARE * (len(differences) - 1)))

    candidates: list[Candidate] = []
    now.total = last_layer * positions
    for layer in range(1, last_layer + 1):
        for position in range(1, positions + 1):
            vector = differences[layer, -position]
            now.advance()
            if not vector.norm() > 0:
                continue
            ablate, add = Ablate(vector), Add(vector, layer - 1)
            candidate = Candidate(
                position=-position,
                layer=layer,
                ablation=_refusal(target, test_bad, tokens, ablate),
                induction=_refusal(target, test_good, tokens, add),
                kl=_divergence(target, test_good, plain_good, ablate),
            )
            # half precision may overflow under an addition; such a candidate is none
            if all(map(math.isfinite, (candidate.ablation, candidate.induction, candidate.kl))):
                candidates.append(candidate)
    if not candidates:
        raise UsageError(
            "no layer separates harmful from harmless prompts in finite numbers: use others, or "
            "a wider --dtype"
        )
    # those that pass come first, then the strongest ablation
    ranked = sorted(candidates, key=lambda c: (not c.passes, c.ablation))
    best = ranked[0]
    warnings = _warnings(best, harmful, harmless)
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
                "harmful": _log_odds(plain_bad, tokens),
                "harmful_ablated": best.ablation,
                "harmless": _log_odds(plain_good, tokens),
                "harmless_added": best.induction,
            },
            "kl": best.kl,
            "prompts": {"harmful": len(harmful), "harmless": len(harmless)},
            "candidates": [{**asdict(c), "passes": c.passes} for c in ranked],
            "warnings": warnings,
        },
    )


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


def _refusal_tokens(
    target: WhiteBox, harmful: Sequence[TokenIds], harmless: Sequence[TokenIds]
) -> list[int]:
    """First tokens of replies that are most frequent on harmful prompts as against harmless ones.

    The exact frequencies, averaged over prompts, not those of sampled replies.
    """
    bad, good = (
        next_token_log_probs(target, prompts).exp().mean(0) for prompts in (harmful, harmless)
    )
    excess = bad - good
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


def _refusal(
    target: WhiteBox,
    prompts: Sequence[TokenIds],
    tokens: Sequence[int],
    intervention: Intervention,
) -> float:
    return _log_odds(next_token_log_probs(target, prompts, intervention), tokens)


def _divergence(
    target: WhiteBox, prompts: Sequence[TokenIds], plain: Tensor, intervention: Intervention
) -> float:
    steered = next_token_log_probs(target, prompts, intervention)
    return float((plain.exp() * (plain - steered)).sum(1).mean())
