"""Self-checks before anything is spent: does steering do what it should, everywhere?

Hooks that silently edit no row, or edit other tokens in scoring than in sampling, give wrong
numbers that look right. A few short draws show, for every variant, that

* it moves the distribution of every token of a response (scoring);
* the log-probability that each token was sampled with is the one that scoring gives it under the
  variant that spoke it, also after a change of variants (so sampling does the same as scoring).

That weights have mean 1 is checked on the draws of the run, after every round of them: draws made
for this alone were a twelfth of all positions read.

What was found stands in DIR/checks.json, with a digest of everything that it depends on: once a run
has ended, the same command checks nothing again.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.contract import DrawRequest, SamplingContract
from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.errors import TargetError, UsageError
from tailbound.importance_sampling import mean_weight
from tailbound.runs.layout import BOUND, CHECKS, RISK
from tailbound.runs.manifest import versions
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.storage.plain import finite
from tailbound.targets.capabilities import ProposalEngine, Traced
from tailbound.workflows.risk.proposal_mixture import Family, Segments

SCHEMA = 2
AGAIN = "remove it, and the checks are made again"
FOUND = ("least_effect",)
PROMPTS = 3
TRIALS, TURNS = 3, (2, 4)
"""Trial draws of a variant, at least; from the first of `TURNS` to the second the target speaks."""
LEAST_EFFECT = 1e-6
"""Movement of the logits, up to a common shift, below which a variant is the target itself."""
TOKEN_GAP = 1e-3
"""Largest |sampled - scored| log-probability of a token in float32 and float64, in nats."""
TRUNCATED_GAP = 1e-2
"""The same under top-p or top-k, where a token at the border may be kept in only one of them."""
LOW_PRECISION_GAPS = {"float16": (0.02, 0.06), "bfloat16": (0.1, 0.3)}
"""Largest median and 90% quantile of |sampled - scored| in half precision, which rounds the logits
themselves: to 0.06 at 16 in bfloat16. The largest of many such gaps says nothing."""
LARGEST_BIAS = 0.05
"""How far the mean of scored / sampled probability may lie from 1 beyond 4 standard errors."""
LARGEST_Z = 5.0


def check_engine(engine: ProposalEngine, prompts: Sequence[Prompt], *, seed: int) -> dict[str, Any]:
    """Run the checks on the first few prompts; what was found, for the record.

    Raises `UsageError` for a variant that changes nothing and `TargetError` where sampling and
    scoring disagree.
    """
    with step("checking the proposal", stage="self-checks"):
        return {"least_effect": _check_voices(engine, list(prompts[:PROMPTS]), seed)}


def check_learned(
    engine: ProposalEngine, number: int, prompts: Sequence[Prompt], *, seed: int
) -> None:
    """Check variant `number`, which joined the engine during a run, on the first few prompts.

    That it changes the model is not asked: one that does not is of little use, and no fault. Raises
    `TargetError` where sampling and scoring disagree.
    """
    with step("checking what was learned", stage="self-checks"):
        _traced(engine, [number], prompts[:PROMPTS], seed)


def recorded_checks(
    folder: Path,
    engine: ProposalEngine,
    family: Family,
    prompts: Sequence[Prompt],
    *,
    proposal: str,
    seed: int,
) -> dict[str, Any]:
    """As `check_engine`, or what it found for the same when the run in `folder` ended.

    The same: contract, `proposal` (its id), family, the prompts that are tried, seed, versions of
    the packages, and machine. A run that was interrupted is checked again: it then reads prompts in
    the same company, and ends with the same last digits as an undisturbed one.
    """
    depends_on = [
        engine.contract.digest,
        proposal,
        [str(name) for name in family.names],
        [[prompt.id, prompt.messages] for prompt in prompts[:PROMPTS]],
        seed,
        versions("torch", "transformers"),
        platform.platform(),
    ]
    digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:32]
    path = folder / CHECKS
    if path.is_file() and any((folder / name).is_file() for name in (RISK, BOUND)):
        held = read_json(path, cure=AGAIN)
        with understood(path, cure=AGAIN):
            if held["digest"] == digest:
                return {name: held[name] for name in FOUND}
    found = check_engine(engine, prompts, seed=seed)
    write_json(path, {"schema": SCHEMA, "digest": digest, **finite(found)})
    return found


def _check_voices(engine: ProposalEngine, prompts: Sequence[Prompt], seed: int) -> dict[str, float]:
    by_id = {prompt.id: prompt for prompt in prompts}
    numbers = range(1, len(engine.variants))
    traces = _traced(engine, numbers, prompts, seed)
    effects: dict[str, float] = {}
    for number in numbers:
        name = engine.variants[number].name
        least = np.inf
        for traced in traces[number]:
            effect = engine.effect(number, by_id[traced.draw.prompt_id], traced.draw.token_ids)
            least = min(least, float(effect.min()))
            if not least > LEAST_EFFECT:
                place = int(np.argmin(effect))
                raise UsageError(
                    f"proposal {name} does not change the model (token {place} of a reply "
                    f"to prompt {traced.draw.prompt_id!r} has the same distribution): use another"
                )
        effects[name] = least
    return effects


def _trial(number: int, longest: int) -> Segments:
    """Who speaks in a trial draw of variant `number` of at most `longest` tokens."""
    there, back = TURNS
    turns = ((number, there), (0, back), (number, max(longest, back + 1)))
    return turns if longest > there else turns[:1]


def _traced(
    engine: ProposalEngine, numbers: Sequence[int], prompts: Sequence[Prompt], seed: int
) -> dict[int, list[Traced]]:
    """Draws in which variants `numbers` speak, by number, all drawn in one batch.

    Each begins with the variant, changes to the target and back to the variant. Raises
    `TargetError` where scoring disagrees.
    """
    longest = engine.contract.max_new_tokens
    speaker = {number: _trial(number, longest) for number in numbers}
    requests = [
        DrawRequest(prompt=prompt, stream=f"check {number}", index=index, segments=speaker[number])
        for number in numbers
        for prompt in prompts
        for index in range(1, -(-TRIALS // len(prompts)) + 1)
    ]
    number_of = {f"check {number}": number for number in numbers}
    found: dict[int, list[Traced]] = {number: [] for number in numbers}
    gaps: dict[int, list[NDArray[np.float64]]] = {number: [] for number in numbers}
    for traced in engine.trace(requests, seed=seed):
        number = number_of[traced.draw.stream]
        steps = np.arange(len(traced.draw.token_ids))
        spoken_by = [next(v for v, stop in speaker[number] if t < stop) for t in steps.tolist()]
        gap = traced.spoken - traced.scored[spoken_by, steps]
        # -inf: a token at the edge of a truncated distribution, which rounding may drop
        gaps[number].append(gap[np.isfinite(gap)])
        found[number].append(traced)
    for number in numbers:
        fault = difference_of_densities(np.concatenate(gaps[number]), engine.contract)
        if fault is not None:
            raise TargetError(
                f"proposal {engine.variants[number].name}: tokens of replies to prompt "
                f"{prompts[0].id!r} and others were sampled with another probability than scoring "
                f"gives them ({fault}): the weights would be wrong"
            )
    return found


def difference_of_densities(gap: NDArray[np.float64], contract: SamplingContract) -> str | None:
    """What is wrong with `gap` (tokens,), the sampled less the scored log-probabilities in nats.

    None where they agree as well as the contract's precision allows. In float32 every token must;
    in half precision the median and the 90% quantile of |gap| must be small. In either, the mean of
    exp(-gap), which is 1 in expectation, must not differ from 1 by more than chance explains.
    """
    if not len(gap):
        return None
    size, ratio = np.abs(gap), np.exp(-gap)
    if contract.precision in ("float32", "float64"):
        truncated = contract.top_p < 1 or contract.top_k is not None
        if size.max() > (TRUNCATED_GAP if truncated else TOKEN_GAP):
            return f"up to {size.max():.2g} nats apart"
    else:
        quantiles = np.quantile(size, [0.5, 0.9])
        limits = LOW_PRECISION_GAPS.get(contract.precision, LOW_PRECISION_GAPS["bfloat16"])
        if (quantiles > limits).any():
            return (
                f"half of them at least {quantiles[0]:.2g} nats apart, a tenth {quantiles[1]:.2g}"
            )
    error = float(ratio.std(ddof=1)) / len(ratio) ** 0.5 if len(ratio) > 1 else 0.0
    if abs(float(ratio.mean()) - 1) > LARGEST_BIAS + 4 * error:
        return f"mean ratio {ratio.mean():.3g}, which should be 1"
    return None


def check_mean_weight(
    log_shares: NDArray[np.float64], strata: NDArray[np.int64], *, largest: float
) -> tuple[float, float]:
    """The mean weight of the draws of a run so far, which must be 1, and its z-score.

    `log_shares` (n,) are logarithms of w / P(scored), -inf for draws that were not scored; `strata`
    (n,) says of each draw from which proposal it came, in a number fixed in advance; `largest` is
    the most that w / P(scored) can be. Raises `TargetError` where no chance explains the
    difference.
    """
    mean, z = mean_weight(log_shares, strata, largest=largest)
    if abs(z) > LARGEST_Z:
        raise TargetError(
            f"the mean weight of {log_shares.size:,} draws is {mean:.3g} (z = {z:.1f}), and should "
            "be 1: a density is wrong, and so would be every estimate from these draws"
        )
    return mean, z
