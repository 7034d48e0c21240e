"""The true risk of the demo model: P(unsafe | prompt), computed, not estimated."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tailbound.core.contract import SamplingContract, SamplingOptions
from tailbound.core.prompt import Prompt, content_id
from tailbound.demo import vocabulary
from tailbound.demo.enumeration import Masses, enumerate_replies
from tailbound.demo.files import Variant, default_prompts, model_folder, weights_digest
from tailbound.demo.judge import PATTERNS, DemoJudge
from tailbound.demo.replies import REFUSE
from tailbound.demo.world import is_forbidden
from tailbound.errors import UsageError
from tailbound.huggingface.checkpoints import load_checkpoint

MAX_NEW_TOKENS = 32
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class ExactRisk:
    """P(unsafe | prompt) at temperature 1, no truncation, at most 32 new tokens.

    The truth lies in [`risk`, `risk + missing_mass`]: `missing_mass` is the probability of all
    replies that the enumeration left undecided. `late_risk` is the part of `risk` that refuses
    first and gives in later.
    """

    risk: float
    missing_mass: float
    late_risk: float

    @property
    def upper(self) -> float:
        """The largest value that the truth can have."""
        return self.risk + self.missing_mass

    @property
    def late_share(self) -> float:
        """Share of the late route in the risk, NaN where the risk is 0."""
        return self.late_risk / self.risk if self.risk > 0 else math.nan


def exact_risk(prompt: Prompt, *, variant: Variant = "model") -> ExactRisk:
    """The true risk of one prompt under a shipped model, by enumeration of its replies.

    `missing_mass` is at most 0.1 % of `risk`, or what is left after 20,000 prefixes. Values of
    `default_prompts()` are read from a file that belongs to the weights by their SHA-256; all
    others are computed (about 0.1 s). A request without a forbidden verb has risk 0.
    """
    return exact_risks([prompt], variant=variant)[0]


def exact_risks(
    prompts: Sequence[Prompt],
    *,
    variant: Variant = "model",
    progress: Callable[[int, int], None] | None = None,
) -> list[ExactRisk]:
    """`exact_risk` of each prompt, in order.

    `progress` is called with (done, all) after each prompt.
    """
    risks = []
    for done, prompt in enumerate(prompts, 1):
        risks.append(_cached(prompt, variant) or compute_risk(prompt, variant=variant))
        if progress is not None:
            progress(done, len(prompts))
    return risks


def is_exact_for(contract: SamplingContract, judge_id: str) -> bool:
    """Whether `exact_risk` is the risk of the demo model under that contract and judge."""
    plain = SamplingOptions(max_new_tokens=MAX_NEW_TOKENS)
    asked = ("temperature", "top_p", "top_k", "system", "max_new_tokens")
    return (
        judge_id == DemoJudge("unsafe").id
        and contract.target == "demo"
        and contract.precision == "float32"
        and contract.template is not None
        and not contract.stop
        and all(getattr(contract, name) == getattr(plain, name) for name in asked)
    )


def prompts_of_spread_risks(n: int) -> list[Prompt]:
    """`n` of the default prompts with risks evenly spread in log from 1e-1 to 1e-5, riskiest first.

    Raises `UsageError` for fewer than one, and for more than there are.
    """
    left = default_prompts()
    if not 1 <= n <= len(left):
        raise UsageError(f"there are 1 to {len(left)} demo prompts with known risks, not {n}")
    logs = np.log([exact.risk for exact in exact_risks(left)])
    chosen: list[Prompt] = []
    for wanted in np.log(np.geomspace(1e-1, 1e-5, n)):
        nearest = int(np.argmin(np.abs(logs - wanted)))
        chosen.append(left[nearest])
        logs[nearest] = np.inf
    return chosen


def compute_risk(prompt: Prompt, *, variant: Variant = "model") -> ExactRisk:
    """`exact_risk`, without a look at the stored values."""
    if not is_forbidden(prompt):
        return ExactRisk(0.0, 0.0, 0.0)
    masses = risk_masses(load_model(variant), prompt)
    return ExactRisk(masses.unsafe, masses.undecided, masses.late)


def risk_masses(model: Any, prompt: Prompt, *, tolerance: float = TOLERANCE) -> Masses:
    """The enumeration itself, for a model in whatever hooks are active; a forbidden request."""
    unsafe = PATTERNS["unsafe"].search
    return enumerate_replies(
        model,
        vocabulary.encode(prompt.messages),
        lambda text: unsafe(text) is not None,
        lambda text: text.startswith(REFUSE),
        tolerance=tolerance,
        max_new_tokens=MAX_NEW_TOKENS,
    )


@cache
def load_model(variant: Variant = "model") -> Any:
    """A shipped model, fp32, on the CPU, in evaluation mode; loaded once.

    Raises `MissingExtraError` without transformers and torch.
    """
    return load_checkpoint(
        model_folder(variant), shown="demo", needed_by="the demo model", dtype="float32"
    ).model


def truth_file(variant: Variant) -> Path:
    """Where the values of the default prompts are stored."""
    return model_folder(variant) / "truth.json"


def store(prompts: Sequence[Prompt], risks: Sequence[ExactRisk], variant: Variant) -> None:
    """Write the values of `prompts` beside the weights, six digits, rounded outwards."""
    values = {
        content_id(prompt.messages): _rounded(risk)
        for prompt, risk in zip(prompts, risks, strict=True)
    }
    document = {"weights": weights_digest(variant), "risks": values}
    text = json.dumps(document, separators=(",", ":")).replace("],", "],\n")
    truth_file(variant).write_text(text + "\n")
    _stored.cache_clear()


def _rounded(risk: ExactRisk) -> tuple[float, float, float]:
    low, late = (_digits(value, math.floor) for value in (risk.risk, risk.late_risk))
    return low, _digits(risk.upper - low, math.ceil), late


def _digits(value: float, towards: Callable[[float], int]) -> float:
    if value == 0:
        return 0.0
    exponent = math.floor(math.log10(value)) - 5
    return float(f"{towards(value / 10.0**exponent)}e{exponent}")


def _cached(prompt: Prompt, variant: Variant) -> ExactRisk | None:
    return _stored(variant, weights_digest(variant)).get(content_id(prompt.messages))


@cache
def _stored(variant: Variant, digest: str) -> dict[str, ExactRisk]:
    """The stored values, none where they belong to other weights."""
    file = truth_file(variant)
    if not file.exists():
        return {}
    document = json.loads(file.read_text())
    if document["weights"] != digest:
        return {}
    return {key: ExactRisk(*values) for key, values in document["risks"].items()}
