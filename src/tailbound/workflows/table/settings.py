"""What the user can choose about a bound from a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tailbound.core.options import check_choices, option
from tailbound.workflows.bound.settings import BoundSettings, Recalibrate

Guarantee = Literal["plug-in", "marginal", "pac"]
TableDesign = Literal["basic", "trimmed", "optimized", "balanced"]
GROUP = "Statistics"
COMMAND = "bound-table"
"""What `run.yaml` calls it."""

_DEFAULTS = {field.name: field.default for field in fields(BoundSettings)}


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """The options of `tailbound bound --from-table`: those of a bound that need no model.

    Without a `budget` every calibration unit is followed as far as the table goes. `shares` are
    those of training units (whose predictions fix the design in advance), calibration and test
    units, where the table does not say which is which.
    """

    budget: float | None = option(
        "Average draws per calibration unit that the design may use (default: all of the table).",
        default=None,
        short="-n",
    )
    alphas: tuple[float, ...] = option(
        "Miscoverage: share of units whose bound may be too long. Several, with commas, give "
        "several bounds from the same draws.",
        default=(0.1,),
        group=GROUP,
        name="alpha",
    )
    guarantee: Guarantee = option(
        "Guarantee: plug-in, marginal or pac, as for `bound`.",
        default=_DEFAULTS["guarantee"],
        group=GROUP,
    )
    delta: float = option(
        "Failure probability delta of the pac guarantee.", default=0.1, group=GROUP
    )
    design: TableDesign = option(
        "Sampling design: balanced, optimized, trimmed or basic.", default="balanced", group=GROUP
    )
    recalibrate: Recalibrate = option(
        "Recalibrate p_hat on the times of training units: on, off, or auto, which does so where "
        "there are 10 with an event among them. Hazards by step stay as they are.",
        default="auto",
        group=GROUP,
    )
    shares: tuple[float, float, float] = option(
        "Shares of training, calibration and test units.",
        default=(0.2, 0.6, 0.2),
        group=GROUP,
        name="split",
    )
    max_weight: float | None = option(
        "Largest weight of a calibration unit.", default=None, group=GROUP
    )
    max_level: float | None = option(
        "Highest quantile level considered.", default=None, group=GROUP
    )
    max_draws: float | None = option(
        "Hard limit on the average number of draws per calibration unit.", default=None, group=GROUP
    )
    seed: int = option("Random seed.", default=0, group="Run")

    def __post_init__(self) -> None:
        check_choices(self)
        self.settings(1)

    def settings(self, follow_up: int) -> BoundSettings:
        """As the settings of a bound, checked; without a budget, `follow_up` draws are enough."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        budget = float(follow_up) if self.budget is None else self.budget
        return BoundSettings(**{**values, "budget": budget})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
