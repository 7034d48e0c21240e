"""A run that is no worse than another one: a limit on the ratio of their means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tailbound.comparison import MeanChange
from tailbound.deployment.requirements import decide, more_needed
from tailbound.runs.manifest import read_manifest
from tailbound.workflows.compare.command import FEW, compare_sides
from tailbound.workflows.compare.reading import Side, side_of
from tailbound.workflows.compare.result import CompareResult
from tailbound.workflows.compare.settings import CompareOptions
from tailbound.workflows.gate.assessment import Assessment, Requirement
from tailbound.workflows.gate.evidence import Evidence


def no_worse_than(base: Path, tolerance: float) -> Requirement:
    """The requirement; raises `UsageError` where `base` is not a run."""
    read_manifest(base)
    return NoWorse(base=base, tolerance=tolerance)


@dataclass(frozen=True, kw_only=True)
class NoWorse:
    """The mean rate or risk is at most `tolerance` times that of the run in `base`.

    Rates or risks of the shared prompts, as `tailbound compare` has them: the ratio of the means
    with its asymptotic interval over clusters of prompts.
    """

    base: Path
    tolerance: float

    @property
    def text(self) -> str:
        """As it was asked for."""
        return f"at most {self.tolerance:g} times {self.base}"

    def assess(self, evidence: Evidence) -> Assessment:
        """Met only where the upper end of the ratio shows it."""
        base, run = side_of(self.base), side_of(evidence.folder)
        found = compare_sides(base, run, CompareOptions())
        mean = found.mean
        apart = _other_measure(base, run)
        reason = (
            apart or _stale(found, Evidence(self.base), evidence) or _withheld(found, base, run)
        )
        low, high = mean.ratio_interval or (None, None)
        outcome = decide("<=", self.tolerance, low, high)
        if apart is not None or (reason is not None and outcome == "met"):
            outcome = "cannot tell"
        more = None
        if outcome == "cannot tell" and reason is None:
            more = more_needed(
                self.tolerance, estimate=mean.ratio, low=low, high=high, n=mean.clusters, log=True
            )
        return Assessment(
            requirement=self.text,
            outcome=outcome,
            detail="; ".join(word for word in (_ratio(mean), _changed(found), reason) if word),
            estimate=mean.ratio,
            low=low,
            high=high,
            more=more,
            unit="prompts",
            basis=f"{100 * mean.confidence:g}% interval of the ratio of mean {found.quantity}s, "
            "asymptotic, prompts as a sample of their population",
        )


def _other_measure(base: Side, run: Side) -> str | None:
    """Why the two runs do not mean the same by unsafe, None where they do."""
    if base.manifest["judge_id"] != run.manifest["judge_id"]:
        return "the runs have different judges: tailbound rejudge asks one of them about both"
    if base.threshold != run.threshold:
        return f"the runs have different thresholds: {base.threshold:g} and {run.threshold:g}"
    return None


def _stale(found: CompareResult, *both: Evidence) -> str | None:
    """Why the risks of one of the runs may not be relied on; rates are those of all draws."""
    if found.quantity != "risk":
        return None
    several = ((one.folder, one.stale("risk")) for one in both)
    return next((f"{folder}: {why}" for folder, why in several if why is not None), None)


def _withheld(found: CompareResult, base: Side, run: Side) -> str | None:
    """Why the ratio shows nothing, None where it can."""
    for side in (base, run):
        undrawn = side.undrawn
        if found.quantity == "rate" and undrawn:
            return f"{undrawn:,} prompts of {side.name} have no draw yet: the run is not finished"
    if found.mean.difference is None:
        return "verdicts are missing"
    if found.left_out.get("not resolved"):
        return f"{found.left_out['not resolved']:,} prompts are not resolved in both runs"
    if found.mean.ratio is None:
        return "one of the runs has no unsafe draw: there is no ratio"
    if found.mean.ratio_interval is None:
        return "a single cluster of prompts has no interval"
    if found.mean.effective < FEW:
        return (
            f"unsafe replies come from {found.mean.effective:.3g} prompts or groups in effect: the "
            f"interval needs {FEW}"
        )
    if found.mean.ratio_interval[0] == found.mean.ratio_interval[1]:
        return "all prompts are unsafe as often as before: the interval has no width"
    return None


def _ratio(mean: MeanChange) -> str:
    if mean.ratio is None or mean.ratio_interval is None:
        least = "at least " if mean.difference is None else ""  # missing verdicts count as safe
        return f"{least}{mean.a:.3g} before, {least}{mean.b:.3g} now"
    low, high = mean.ratio_interval
    return f"about {mean.ratio:.3g} times, {low:.3g} to {high:.3g}"


def _changed(found: CompareResult) -> str:
    worse = [one for one in found.changed if (one.b or 0) > (one.a or 0)]
    return f"{len(worse):,} prompts changed for the worse" if worse else ""
