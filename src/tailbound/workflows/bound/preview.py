"""What a bound would cost, from a few draws: nothing is kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tailbound.audit.measuring import PROBE_DRAWS, measure
from tailbound.core.prompt import Prompt
from tailbound.storage.plain import finite
from tailbound.survival import Requirement, required
from tailbound.survival.designs import default_max_weight
from tailbound.survival.replicates import MOST
from tailbound.targets import Target
from tailbound.workflows.bound.importance.options import MethodOptions
from tailbound.workflows.bound.parts import PromptSplit
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class StreamCost:
    """Prompts and draws of one part, and tokens of responses at the rate of the probe.

    `prompt_tokens` are those of all prompts of the part, each as often as it is drawn from.
    `draws` is exact for training, the planned average for calibration (prompts with early unsafe
    draws cost less), and an upper limit for test.
    """

    part: str
    prompts: int
    draws: int
    prompt_tokens: int
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True, repr=False)
class Preview(Result):
    """The cost of a bound, part by part, and what the guarantee needs."""

    streams: tuple[StreamCost, ...]
    tokens_per_draw: float
    draws_per_second: float
    probe_draws: int
    requirement: Requirement
    replicates: int
    """The most independent times of a calibration prompt; predictions say how many there are."""
    samples: tuple[tuple[Prompt, str], ...]
    """Some draws of the probe: prompts and responses, for a judge whose verdicts cost something."""

    @property
    def draws(self) -> int:
        """Draws of all parts."""
        return sum(stream.draws for stream in self.streams)

    @property
    def seconds(self) -> float:
        """Time of all parts at the rate of the probe."""
        return sum(stream.seconds for stream in self.streams)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, without the samples."""
        document = asdict(self)
        del document["samples"]
        return {**finite(document), "draws": self.draws, "seconds": self.seconds}

    def facts(self) -> dict[str, object]:
        """Draws, tokens and time."""
        return {
            "draws": self.draws,
            "tokens": sum(stream.tokens for stream in self.streams),
            "seconds": self.seconds,
            "longest bound": self.requirement.longest_bound,
        }

    def frame(self) -> pl.DataFrame:
        """One row per part."""
        import polars as pl

        return pl.DataFrame([asdict(stream) for stream in self.streams])


def trains(parts: PromptSplit, settings: BoundSettings) -> bool:
    """Whether training prompts are drawn: to fit a predictor, or to recalibrate p_hat."""
    return not parts.supplied or settings.recalibrate == "on"


def planned(
    parts: PromptSplit, settings: BoundSettings, method: MethodOptions
) -> list[tuple[str, Sequence[Prompt], float]]:
    """(part, prompts, draws of each) of a bound: exact for training, else planned or at most."""
    train: float = settings.train_draws
    calibration, test = settings.budget, float(settings.test_draws)
    if method.weighted:
        train = method.weighted_draws
        calibration = method.weighted_draws + method.checked_share * settings.budget
        test = method.weighted_draws + (settings.test_draws if method.plain_test else 0)
    return [
        ("train", parts.train, train if trains(parts, settings) else 0),
        ("calibration", parts.calibration, calibration),
        ("test", parts.test, test),
    ]


def preview_bound(
    parts: PromptSplit,
    *,
    target: Target,
    settings: BoundSettings,
    method: MethodOptions | None = None,
) -> Preview:
    """Count the draws of every part; time and tokens come from `PROBE_DRAWS` real draws."""
    everyone = (*(parts.train if trains(parts, settings) else ()), *parts.calibration, *parts.test)
    tokens, counted, rate, drawn = measure(target, everyone, settings.seed)
    prompts = {prompt.id: prompt for prompt in everyone}
    method = method or MethodOptions()
    plan = planned(parts, settings, method)
    return Preview(
        streams=tuple(
            StreamCost(
                part=part,
                prompts=len(members),
                draws=round(len(members) * each),
                prompt_tokens=round(each * counted * _prompt_tokens(target, members)),
                tokens=round(len(members) * each * tokens),
                seconds=len(members) * each / rate,
            )
            for part, members, each in plan
        ),
        tokens_per_draw=tokens,
        draws_per_second=rate,
        probe_draws=PROBE_DRAWS,
        requirement=(
            replace(_requirement(settings, len(parts.calibration)), longest_bound=method.cap)
            if method.weighted
            else _requirement(settings, _largest_group(parts, settings))
        ),
        replicates=1 if method.weighted else _most_replicates(parts, settings),
        samples=tuple(
            (prompts[draw.prompt_id], draw.text)
            for draw in [draw for draw in drawn if draw.missing is None][:SAMPLES]
        ),
    )


def _most_replicates(parts: PromptSplit, settings: BoundSettings) -> int:
    if settings.guarantee == "pac" or settings.design == "naive":
        return 1
    asked = settings.most_replicates(trained=trains(parts, settings))
    return MOST if asked is None else asked


def _largest_group(parts: PromptSplit, settings: BoundSettings) -> int:
    """Calibration prompts of the largest group; of groups by p_hat, as many as are expected."""
    if parts.labels:
        return max(Counter(parts.labels[prompt.id] for prompt in parts.calibration).values())
    return math.ceil(len(parts.calibration) / (settings.groups_of_p_hat or 1))


def _requirement(settings: BoundSettings, prompts: int) -> Requirement:
    """What the guarantee needs, and the longest bound with so many calibration `prompts`.

    That is with the usual largest weight, where none is given: the plan may choose a larger one
    when it has predictions. With `--coverage-by`, of one group: what it needs, and its longest
    bound at the mean budget.
    """
    need = required(
        guarantee=settings.guarantee,
        alpha=min(settings.alphas),
        delta=settings.delta,
        budget=settings.budget,
        max_weight=settings.max_weight,
    )
    if settings.max_weight is None and settings.guarantee == "pac":  # chosen with the plan
        return need
    weight = settings.largest_weight(prompts) or default_max_weight(
        settings.design, settings.alpha, prompts, settings.guarantee
    )
    return replace(need, longest_bound=1 + math.floor(settings.budget * weight))


def _prompt_tokens(target: Target, prompts: Sequence[Prompt]) -> int:
    return int(target.prompt_tokens(prompts).sum()) if prompts else 0
