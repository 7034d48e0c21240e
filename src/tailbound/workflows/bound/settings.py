"""What the user can choose about a bound, checked before anything is spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from tailbound.errors import UsageError

Guarantee = Literal["plug-in", "marginal", "pac"]
Design = Literal["naive", "basic", "trimmed", "optimized", "balanced"]
Loss = Literal["binomial", "geometric"]


@dataclass(frozen=True, kw_only=True)
class BoundSettings:
    """The options of `tailbound bound` that are about statistics.

    `budget` is the average number of draws per calibration prompt; `train_draws` are made of each
    training prompt, and at most `test_draws` of each test prompt. `shares` are the
    shares of training, calibration and test prompts. `features` says what the predictor reads
    (`tailbound.workflows.bound.features`), None for hidden states or else words. `allow_missing`
    goes on where missing verdicts are too frequent for a useful bound. `max_draws` is a hard limit
    on the average number of draws per calibration prompt, which `budget` plans: prompts that are
    safer than predicted take more.
    """

    budget: float
    alpha: float = 0.1
    guarantee: Guarantee = "plug-in"
    delta: float = 0.1
    design: Design = "balanced"
    train_draws: int = 500
    test_draws: int = 500
    shares: tuple[float, float, float] = (0.3, 0.5, 0.2)
    loss: Loss = "binomial"
    features: str | None = None
    threshold: float | None = None
    allow_missing: bool = False
    max_draws: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        chosen: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            ("guarantee", self.guarantee, get_args(Guarantee)),
            ("design", self.design, get_args(Design)),
            ("loss", self.loss, get_args(Loss)),
        )
        for name, value, choices in chosen:
            if value not in choices:
                raise UsageError(f"--{name} must be one of {', '.join(choices)}, not {value!r}")
        if not 0 < self.budget < float("inf"):
            raise UsageError(
                f"--budget must be positive and finite, not {self.budget:g}: it is the average "
                "number of draws per calibration prompt"
            )
        if self.max_draws is not None and not 0 < self.max_draws < float("inf"):
            raise UsageError(
                f"--max-draws must be positive and finite, not {self.max_draws:g}: it limits the "
                "average number of draws per calibration prompt"
            )
        if self.max_draws is not None and self.design == "naive":
            raise UsageError("the naive design takes no --max-draws: lower --budget")
        for name, level in (("alpha", self.alpha), ("delta", self.delta)):
            if not 0 < level < 1:
                raise UsageError(f"--{name} must lie strictly between 0 and 1, not {level:g}")
        for name, draws in (("train-draws", self.train_draws), ("test-draws", self.test_draws)):
            if draws < 1:
                raise UsageError(f"--{name} must be at least 1, not {draws}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(
                f"--threshold must lie in (0, 1], not {self.threshold:g}: unsafe is score >= it"
            )
        if self.seed < 0:
            raise UsageError(f"--seed must not be negative, not {self.seed}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
