"""The results of a run as a gate reads them: each once, and none that is older than its draws."""

from __future__ import annotations

import math
from functools import cached_property

from tailbound.runs.layout import RISK
from tailbound.workflows.audit_judge.fresh import fresh_audit
from tailbound.workflows.audit_judge.result import NAME as AUDIT
from tailbound.workflows.in_use import stale
from tailbound.workflows.load import Run
from tailbound.workflows.summarize.counting import undrawn_prompts


class Evidence(Run):
    """The results in a run folder as a gate reads them; `UsageError` where there is no run."""

    @property
    def threshold(self) -> float:
        """Scores from this on are unsafe in the run; NaN where it has none."""
        held = self.manifest["threshold"]
        return float(held) if isinstance(held, int | float) else math.nan

    @property
    def test_bounds(self) -> list[int]:
        """The bound of every test prompt."""
        return [] if self.predictions is None else self.predictions["lower_bound"].to_list()

    @property
    def test_draws_left(self) -> int:
        """How many draws would at most resolve the test prompts that were censored."""
        if self.predictions is None:
            return 0
        rows = self.predictions.select("lower_bound", "first_unsafe", "followed").iter_rows()
        return sum(max(0, bound - 1 - followed) for bound, first, followed in rows if first == 0)

    @cached_property
    def forecast_of_risks(self) -> bool:
        """Whether forecasts in the folder are made from risks, not from counts."""
        return (self.folder / RISK).is_file() or self.manifest["command"] == "risk"

    @cached_property
    def undrawn(self) -> int:
        """How many prompts that should have draws have none."""
        return undrawn_prompts(self.folder)

    def stale(self, name: str) -> str | None:
        """Why the result `name` may not be relied on now; None where it may, or there is none.

        It may where `results/` says that it rests on all draws of the run, under its judge,
        threshold and contract. What is not known to be so is not relied on.
        """
        if name == AUDIT and self.judge_audit is not None:
            return fresh_audit(self.folder)[1]
        found = stale(self.folder, name, history=self.history, manifest=self.manifest)
        return None if found is None else found.why

    def forecast_is_stale(self) -> str | None:
        """Likewise of the forecast, and of the result that it is made from."""
        source = "risk" if self.forecast_of_risks else "summary"
        return self.stale("forecast") or self.stale(source)
