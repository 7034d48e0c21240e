"""What the user can choose about how a bound is calibrated: directly, or by importance sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tailbound.core.options import check_choices, make, option, options_of
from tailbound.errors import UsageError
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.risk.settings import ProposalOptions

Method = Literal["direct", "importance"]
DRAWS, CROSS_CHECKED, CHECKED_DRAWS = 15, 0.1, 100
REACH = 1000
"""Plain draws that a weighted one stands for at most, by default: bounds end at so many times."""
GROUP = "Importance sampling"

NOT_WEIGHTED = (
    *("design", "max_weight", "max_level", "max_draws", "coverage_by", "replicates"),
    *("train_draws", "loss", "head", "allow_missing", "delta", "within"),
    "recalibrate",
)
"""Options of bounds from plain draws alone."""


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """The options that say which draws a bound is calibrated from.

    With `method` "importance" every training prompt gets `draws` weighted draws, and every
    calibration prompt as many on average; a share `cross_check` of the calibration prompts is
    followed by plain draws too. Bounds are at most `longest`.
    """

    method: Method = option(
        "How the bound is calibrated: from plain draws (direct), or from a few weighted draws of "
        "each prompt, which reach far beyond the budget (importance).",
        default="direct",
        group=GROUP,
    )
    draws: int | None = option(
        "Weighted draws per training prompt, and per calibration prompt on average, with --method "
        f"importance (default: {DRAWS}).",
        default=None,
        group=GROUP,
    )
    cross_check: float | None = option(
        "Share of the calibration prompts that plain draws check, each to its bound or to "
        f"--budget, with --method importance (default: {CROSS_CHECKED:g}).",
        default=None,
        group=GROUP,
    )

    longest: int | None = option(
        f"Longest bound considered, with --method importance (default: {REACH:,} times --draws).",
        default=None,
        group=GROUP,
    )

    plain_test: bool = False
    """Whether plain draws follow the test prompts too: --test-draws was given."""

    def __post_init__(self) -> None:
        from tailbound.survival.importance import LONGEST

        check_choices(self)
        if self.longest is not None and not 2 <= self.longest <= LONGEST:
            raise UsageError(f"--longest must lie in 2 .. {LONGEST:,}, not {self.longest}")
        if self.draws is not None and self.draws < 2:
            raise UsageError(f"--draws must be at least 2, not {self.draws}")
        if self.cross_check is not None and not 0 <= self.cross_check <= 1:
            raise UsageError(f"--cross-check must lie in [0, 1], not {self.cross_check:g}")

    @property
    def weighted(self) -> bool:
        """Whether weighted draws are asked for."""
        return self.method == "importance"

    @property
    def weighted_draws(self) -> int:
        """Weighted draws per prompt."""
        return DRAWS if self.draws is None else self.draws

    @property
    def checked_share(self) -> float:
        """Share of the calibration prompts that plain draws check."""
        return CROSS_CHECKED if self.cross_check is None else self.cross_check

    @property
    def cap(self) -> int:
        """The longest bound considered."""
        from tailbound.survival.importance import LONGEST

        return min(REACH * self.weighted_draws, LONGEST) if self.longest is None else self.longest

    def to_dict(self) -> dict[str, Any]:
        """What `run.yaml` says of it."""
        if not self.weighted:
            return {"method": self.method}
        return {
            "method": self.method,
            "weighted_draws": self.weighted_draws,
            "cross_check": self.checked_share,
            "longest": self.cap,
            "plain_test": self.plain_test,
        }


def method_of(given: Mapping[str, Any]) -> tuple[MethodOptions, ProposalOptions, BoundSettings]:
    """The method, its proposals and the statistics that are asked for.

    `given` are the options that were given, without defaults. Raises `UsageError` for one that does
    not go with the method, whatever its value.
    """
    method, proposed = make(MethodOptions, given), make(ProposalOptions, given)
    if not method.weighted:
        _check_direct(given)
        if given.get("budget") is None:
            raise UsageError(
                "--budget is required: the average number of draws per calibration prompt (or give "
                "--method importance)"
            )
        return method, proposed, make(BoundSettings, given)
    _check_weighted(proposed, given)
    asked = {**given, "guarantee": "plug-in"}
    if asked.get("budget") is None:
        asked["budget"] = float(CHECKED_DRAWS)
    settings = make(BoundSettings, asked)
    if settings.budget < 1:
        raise UsageError(f"--budget must be at least 1, not {settings.budget:g}")
    method = replace(method, plain_test=given.get("test_draws") is not None)
    return method, proposed, settings


def _check_direct(given: Mapping[str, Any]) -> None:
    for group in (MethodOptions, ProposalOptions):
        for one in options_of(group):
            if one.name != "method" and given.get(one.name) not in (None, ()):
                raise UsageError(f"{one.flag} goes with --method importance: add it, or remove it")


def _check_weighted(proposed: ProposalOptions, given: Mapping[str, Any]) -> None:
    from tailbound.workflows.risk.proposals.base import LEARN
    from tailbound.workflows.risk.proposals.registry import SPLITTING

    guarantee = given.get("guarantee")
    if guarantee not in (None, "plug-in"):
        raise UsageError(
            f"--method importance states the guarantee plug-in, not {guarantee}: its "
            "weights rest on the proposals; remove --guarantee, or use --method direct"
        )
    for name in NOT_WEIGHTED:
        value = given.get(name)
        if value is not None and value is not False:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} does not go with --method importance: remove it")
    if (str(given.get("features") or "")).partition(":")[0] == "finetune":
        raise UsageError(
            "--features finetune does not go with --method importance: use hidden, tfidf or "
            "embeddings"
        )
    if given.get("no_text"):
        raise UsageError(
            "--no-text does not go with --method importance, whose draws are scored: remove it"
        )
    for spec in (LEARN, SPLITTING):
        if spec in proposed.specs:
            raise UsageError(
                f"--proposal {spec} does not go with --method importance: its proposals are fixed "
                "in advance; use refusal, heat or another one"
            )
