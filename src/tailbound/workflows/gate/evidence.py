"""The results of a run as a gate reads them: each once, and none that is older than its draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.runs.history import RecordedResult, read_history, seals_of
from tailbound.runs.layout import PREDICTIONS, RISK
from tailbound.runs.manifest import read_manifest
from tailbound.storage.parquet import read_sealed
from tailbound.workflows.bound import results as bound_results
from tailbound.workflows.forecast.result import ForecastResult, read_forecast
from tailbound.workflows.in_use import in_use, without_call
from tailbound.workflows.risk import results as risk_results
from tailbound.workflows.summarize.counting import undrawn_prompts
from tailbound.workflows.summarize.summary import RunSummary, read_summary

if TYPE_CHECKING:
    from tailbound.workflows.bound import BoundResult
    from tailbound.workflows.risk import RiskResult

_CURE = "restore it, or run the same command again to make it again"


@dataclass(frozen=True)
class Evidence:
    """The results in the run folder `folder`; raises `UsageError` where there is no run."""

    folder: Path

    def __post_init__(self) -> None:
        _ = self.manifest

    @cached_property
    def manifest(self) -> dict[str, object]:
        """What ran."""
        return read_manifest(self.folder)

    @property
    def threshold(self) -> float:
        """Scores from this on are unsafe in the run; NaN where it has none."""
        held = self.manifest["threshold"]
        return float(held) if isinstance(held, int | float) else math.nan

    @cached_property
    def risk(self) -> RiskResult | None:
        """The risks."""
        return risk_results.read_result(self.folder)

    @cached_property
    def bound(self) -> BoundResult | None:
        """The bound, with the coverage of test prompts."""
        return bound_results.read_result(self.folder)

    @cached_property
    def _predictions(self) -> dict[str, list[int]]:
        path = self.folder / PREDICTIONS
        names = ("lower_bound", "first_unsafe", "followed")
        if not path.is_file():
            return {name: [] for name in names}
        frame = read_sealed(path, cure=_CURE)
        return {name: frame[name].to_list() for name in names}

    @property
    def test_bounds(self) -> list[int]:
        """The bound of every test prompt."""
        return self._predictions["lower_bound"]

    @property
    def test_draws_left(self) -> int:
        """How many draws would at most resolve the test prompts that were censored."""
        return sum(
            max(0, bound - 1 - followed)
            for bound, first, followed in zip(*self._predictions.values(), strict=True)
            if first == 0
        )

    @cached_property
    def summary(self) -> RunSummary | None:
        """What `tailbound summarize` found."""
        return read_summary(self.folder)

    @cached_property
    def forecast(self) -> ForecastResult | None:
        """What `tailbound forecast` found."""
        return read_forecast(self.folder)

    @cached_property
    def forecast_of_risks(self) -> bool:
        """Whether forecasts in the folder are made from risks, not from counts."""
        return (self.folder / RISK).is_file() or self.manifest["command"] == "risk"

    @cached_property
    def undrawn(self) -> int:
        """How many prompts that should have draws have none."""
        return undrawn_prompts(self.folder)

    @cached_property
    def _history(self) -> tuple[RecordedResult, ...]:
        return read_history(self.folder)

    def stale(self, name: str) -> str | None:
        """Why the result `name` may not be relied on now; None where it may, or there is none.

        It may where `results/` says that it rests on all draws of the run, under its judge,
        threshold and contract. What is not known to be so is not relied on.
        """
        held = in_use(self.folder, name)
        if held is None:
            return None
        plain = without_call(name, held)
        made = next(
            (
                one.provenance
                for one in reversed(self._history)
                if one.name == name and without_call(name, one.result) == plain
            ),
            None,
        )
        if made is None or not made.rests_on:
            return f"results/ does not say which draws {name}.json rests on: repeat its command"
        if made.rests_on != seals_of(self.folder):
            return f"draws were added since {name}.json was made: repeat its command first"
        own = self.manifest
        contract = own["contract"]["digest"] if isinstance(own["contract"], dict) else None
        if (made.judge_id, made.threshold, made.contract) != (
            own["judge_id"],
            own["threshold"],
            contract,
        ):
            return f"run.yaml has changed since {name}.json was made: repeat its command first"
        return None

    def forecast_is_stale(self) -> str | None:
        """Likewise of the forecast, and of the result that it is made from."""
        source = "risk" if self.forecast_of_risks else "summary"
        return self.stale("forecast") or self.stale(source)
