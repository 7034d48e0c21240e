"""What the user can choose about a bound, checked before anything is spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tailbound.core.options import check_choices, option
from tailbound.errors import UsageError

Guarantee = Literal["plug-in", "marginal", "pac"]
Design = Literal["naive", "basic", "trimmed", "optimized", "balanced"]
Loss = Literal["binomial", "geometric"]
Head = Literal["auto", "ridge", "mlp", "boosting"]
Recalibrate = Literal["auto", "on", "off"]
GROUP = "Statistics"


@dataclass(frozen=True, kw_only=True)
class BoundSettings:
    """The options of `tailbound bound` that are about statistics.

    `budget` is the average number of draws per calibration prompt; `train_draws` are made of each
    training prompt, and at most `test_draws` of each test prompt. `shares` are the
    shares of training, calibration and test prompts. `features` says what the predictor reads
    (`tailbound.workflows.bound.features`), None for hidden states or else words, and `head` what it
    predicts with (`tailbound.predictors.fit`). `allow_missing`
    continues where missing verdicts are too frequent for a useful bound. `max_draws` is a hard
    limit on the average number of draws per calibration prompt, which `budget` plans: prompts that
    are safer than predicted take more. `alphas` are the miscoverages of one bound or several from
    the same draws. `max_weight` and `max_level` as for
    `tailbound.survival.calibrate`. `coverage_by` is `p_hat:K` or a column of the prompts: every
    group then has a threshold and a guarantee of its own (`tailbound.workflows.bound.groups`).
    `replicates` is the most independent times of each calibration prompt, None for what the
    forecast of `tailbound.survival.replicates` admits. `within` are numbers of draws, for
    `tailbound.workflows.bound.curve`.
    """

    budget: float = option(
        "Average draws per calibration prompt; with --method importance, the most plain draws of "
        "one that is checked (default there: 100).",
        short="-n",
        unset=True,
    )
    threshold: float | None = option(
        "Scores at or above this are unsafe (default: the judge's own).", default=None
    )
    alphas: tuple[float, ...] = option(
        "Miscoverage: share of prompts whose bound may be too long. Several, with commas, give "
        "several bounds from the same draws.",
        default=(0.1,),
        group=GROUP,
        name="alpha",
    )
    guarantee: Guarantee = option(
        "Guarantee: coverage at least 1 - alpha on average over calibrations (marginal), at least "
        "1 - alpha except with probability delta (pac), or about 1 - alpha (plug-in).",
        default="marginal",
        group=GROUP,
    )
    delta: float = option(
        "Failure probability delta of the pac guarantee.", default=0.1, group=GROUP
    )
    design: Design = option(
        "Sampling design: balanced, optimized, trimmed, basic or naive.",
        default="balanced",
        group=GROUP,
    )
    loss: Loss = option(
        "Training loss of the predictor: binomial or geometric.", default="binomial", group=GROUP
    )
    features: str | None = option(
        "What the predictor reads: hidden, tfidf, embeddings[:MODEL] or finetune:MODEL (default: "
        "hidden where the model exposes hidden states, else tfidf).",
        default=None,
        group=GROUP,
    )
    head: Head = option(
        "What predicts from the features: ridge, mlp (a small network), boosting (trees, extra "
        "tfidf), or auto, which takes another than ridge where it is clearly better out of fold.",
        default="auto",
        group=GROUP,
    )
    recalibrate: Recalibrate = option(
        "Recalibrate p_hat of your own on counts of training prompts or units: on, off, or auto, "
        "which does so in tables. For prompts it takes --train-draws of each training prompt.",
        default="auto",
        group=GROUP,
    )
    train_draws: int = option("Draws per training prompt.", default=500, group=GROUP)
    test_draws: int = option(
        "Maximum draws per test prompt (default: 500; with --method importance none, for weighted "
        "draws measure the coverage).",
        default=500,
        group=GROUP,
        unset=True,
    )
    shares: tuple[float, float, float] = option(
        "Shares of training, calibration and test prompts.",
        default=(0.3, 0.5, 0.2),
        group=GROUP,
        name="split",
    )
    max_weight: float | None = option(
        "Largest weight of a calibration prompt, which caps bounds at budget x weight (default: "
        "chosen for the longest bounds for balanced, 100 for trimmed and optimized, less with few "
        "prompts).",
        default=None,
        group=GROUP,
    )
    max_level: float | None = option(
        "Highest quantile level considered (default: .95 for balanced, lower where few unsafe "
        "replies are expected; else 1.78 alpha).",
        default=None,
        group=GROUP,
    )
    max_draws: float | None = option(
        "Hard limit on the average number of draws per calibration prompt.",
        default=None,
        group=GROUP,
    )
    coverage_by: str | None = option(
        "Hold the guarantee within groups: p_hat:K for K groups of predicted risk, or a column of "
        "the prompts, such as their category.",
        default=None,
        group=GROUP,
    )
    replicates: int | None = option(
        "Most independent times of each calibration prompt; what is forecast to be left of the "
        "budget pays for them (default: up to 10 where the predictor is trained here, not for pac "
        "or naive; 1: none).",
        default=None,
        group=GROUP,
    )
    within: tuple[int, ...] = option(
        "Report P(unsafe within k draws) over the population for these k.",
        default=(1, 10, 100),
        group=GROUP,
    )
    allow_missing: bool = option(
        "Continue even if so many verdicts are missing that bounds will be short.", default=False
    )
    seed: int = option("Random seed.", default=0, group="Run")

    def __post_init__(self) -> None:
        check_choices(self)
        if not self.alphas:
            raise UsageError("--alpha must name at least one miscoverage such as 0.1")
        if len(self.shares) != 3:
            raise UsageError(f"--split takes 3 numbers such as 0.3,0.5,0.2, not {self.shares!r}")
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
        if self.design == "naive" and self.guarantee != "plug-in":
            raise UsageError(
                f"the naive design has unbounded weights and no {self.guarantee} guarantee: "
                "use another design, or --guarantee plug-in"
            )
        if self.max_draws is not None and self.design == "naive":
            raise UsageError("the naive design takes no --max-draws: lower --budget")
        self._check_limits()
        self._check_replicates()
        self._check_groups()
        if not self.within:
            raise UsageError("--within must name at least one number of draws such as 100")
        for k in self.within:
            if k < 1:
                raise UsageError(f"--within must be at least 1 draw, not {k}")
        levels = (*(("alpha", alpha) for alpha in self.alphas), ("delta", self.delta))
        for name, level in (*levels, ("max-level", self.max_level)):
            if level is not None and not 0 < level < 1:
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

    @property
    def alpha(self) -> float:
        """The largest miscoverage: of the longest bounds, which the draws are planned for."""
        return max(self.alphas)

    @property
    def other_alphas(self) -> tuple[float, ...]:
        """The others, descending."""
        return tuple(sorted({*self.alphas} - {self.alpha}, reverse=True))

    def largest_weight(self, prompts: int) -> float | None:
        """What is given, or the default of the smallest miscoverage where there are several.

        For so many calibration `prompts`. None leaves it to the plan.
        """
        if self.max_weight is not None or not self.other_alphas or self.design == "naive":
            return self.max_weight
        if self.guarantee == "pac" and self.design == "balanced":
            return None
        from tailbound.survival.designs import default_max_weight

        return default_max_weight(self.design, min(self.alphas), prompts, self.guarantee)

    @property
    def groups_of_p_hat(self) -> int | None:
        """How many groups of p_hat are asked for; None without any."""
        name, _, number = (self.coverage_by or "").partition(":")
        return int(number) if name == "p_hat" else None

    @property
    def group_column(self) -> str | None:
        """The column of the prompts that names their groups; None without one."""
        return self.coverage_by if self.groups_of_p_hat is None else None

    def most_replicates(self, *, trained: bool) -> int | None:
        """The most copies of each calibration prompt; None where the forecast decides.

        Without a number it takes a predictor `trained` here: how far p_hat of the user's own is
        off has not been measured by any draw, and neither has what is left of the budget.
        """
        if self.replicates is None and not trained:
            return 1
        return self.replicates

    def _check_replicates(self) -> None:
        if self.replicates is None or self.replicates == 1:
            return
        if self.replicates < 1:
            raise UsageError(f"--replicates must be at least 1, not {self.replicates}")
        for name, value in (("--guarantee pac", self.guarantee), ("--design naive", self.design)):
            if name.split()[1] == value:
                raise UsageError(
                    f"--replicates {self.replicates} does not go with {name}, which takes one time "
                    "of each prompt: remove it"
                )

    def _check_groups(self) -> None:
        if self.coverage_by is None:
            return
        name, _, number = self.coverage_by.partition(":")
        if name == "p_hat" and not (number.isdecimal() and 2 <= int(number) <= 100):
            raise UsageError(
                f"--coverage-by {self.coverage_by} is not a number of groups: write p_hat:5 for "
                "five groups of predicted risk (2 to 100)"
            )
        if self.coverage_by in ("group", "id", ""):
            raise UsageError(
                f"--coverage-by {self.coverage_by or repr('')} is not a column of categories: the "
                "wordings of one query (one group) are calibrated as one prompt; name another "
                "column, or p_hat:5"
            )

    def _check_limits(self) -> None:
        weight = self.max_weight
        if weight is None:
            return
        if not 1 <= weight < float("inf"):
            raise UsageError(
                f"--max-weight must be at least 1 and finite, not {weight:g}: it is 1 / the "
                "smallest probability with which a prompt is followed"
            )
        if self.design in ("naive", "basic"):
            raise UsageError(
                f"the {self.design} design takes no --max-weight: it has no cap; use trimmed, "
                "optimized or balanced"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
