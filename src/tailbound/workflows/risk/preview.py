"""What the risks of a set of prompts would take, from a few draws: nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tailbound.audit.measuring import PROBE_DRAWS, measure
from tailbound.core.contract import Draw
from tailbound.core.prompt import Prompt
from tailbound.storage.plain import finite
from tailbound.targets import Target
from tailbound.targets.capabilities import Scoring
from tailbound.workflows.result import Result
from tailbound.workflows.risk.plan import scoring_chance
from tailbound.workflows.risk.settings import RiskSettings

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True, repr=False)
class RiskPreview(Result):
    """Draws, and tokens and seconds at the rates of a probe.

    `seconds` are those of drawing and scoring `draws`; `seconds_at_most` those of `draws_at_most`.
    Neither holds the search for a proposal and its self-checks.
    """

    prompts: int
    prompt_tokens: int
    draws: int
    draws_at_most: int
    tokens: int
    tokens_at_most: int
    tokens_per_draw: float
    draws_per_second: float
    probe_draws: int
    seconds: float
    seconds_at_most: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain

    def facts(self) -> dict[str, object]:
        """Draws, tokens and time."""
        return {
            "prompts": self.prompts,
            "draws": self.draws,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }

    def frame(self) -> pl.DataFrame:
        """One row."""
        import polars as pl

        return pl.DataFrame([self.to_dict()])


def preview_risk(
    prompts: Sequence[Prompt],
    *,
    target: Target,
    settings: RiskSettings,
    versions: int | None,
    most: int,
) -> RiskPreview:
    """Count the draws; time and tokens come from `PROBE_DRAWS` real draws of the target itself.

    `most` draws are the most that a prompt may get. Draws that will be scored are scored under the
    target and under each of `versions` unsafe versions, at the time that the target takes for the
    draws of the probe; None where nothing is scored.
    """
    tokens, _, rate, drawn = measure(target, prompts, settings.seed)
    each = 1 / rate
    if versions is not None:
        chances = np.concatenate([scoring_chance(size) for size in settings.batch_sizes])
        passes = 1 + versions * len(settings.intensities)
        each += float(chances.mean()) * passes * _scoring_seconds(target, prompts, drawn)
    draws = len(prompts) * settings.draws
    most *= len(prompts)
    return RiskPreview(
        prompts=len(prompts),
        prompt_tokens=int(target.prompt_tokens(prompts).sum()),
        draws=draws,
        draws_at_most=most,
        tokens=round(draws * tokens),
        tokens_at_most=most * target.contract.max_new_tokens,
        tokens_per_draw=tokens,
        draws_per_second=rate,
        probe_draws=PROBE_DRAWS,
        seconds=draws * each,
        seconds_at_most=most * each,
    )


def _scoring_seconds(target: Target, prompts: Sequence[Prompt], drawn: Sequence[Draw]) -> float:
    """What it takes to score one draw under one variant, drawn ones scored together by prompt."""
    if not isinstance(target, Scoring):
        return 0.0
    by_id = {prompt.id: prompt for prompt in prompts}
    responses: dict[str, list[tuple[int, ...]]] = {}
    for draw in drawn:
        responses.setdefault(draw.prompt_id, []).append(tuple(draw.token_ids))
    started = time.perf_counter()
    for prompt_id, texts in responses.items():
        target.score(by_id[prompt_id], texts)
    return (time.perf_counter() - started) / len(drawn)
