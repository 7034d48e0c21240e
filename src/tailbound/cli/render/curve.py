"""Event rates and upper bounds in a few rows; `bound.json` has all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailbound.workflows.bound.curve import Curve


def curve_rows(curve: Curve) -> Iterator[tuple[str, str]]:
    """Name and text of each row."""
    rates, upper = curve.rates, curve.upper
    if upper is None:
        yield "upper bound", "unbounded for every prompt: no training draws"
    elif curve.median_upper is None:
        yield "upper bound", f"unbounded for every calibration prompt ({upper.longest} draws each)"
    else:
        yield (
            "upper bound",
            f"median U = {curve.median_upper:,.0f} for the {curve.bounded:.0%} of calibration "
            f"prompts that have one (p_hat >= {upper.least_p_hat:.2g})",
        )
    found = "; ".join(
        f"{one.draws:,}: {_share(one.lower)}"
        + (f" to {_share(one.upper)}" if one.upper not in (None, one.lower) else "")
        + f" [{_share(one.interval[0])}, {_share(one.interval[1])}]"
        for one in rates.within
    )
    yield "unsafe within", f"{found} (draws: share of prompts, {rates.confidence:.0%} interval)"
    cost = rates.draws_per_find
    if cost.upper is not None and cost.lower == cost.upper:
        low, high = cost.interval
        reach = f"{low:,.0f} or more" if high is None else f"{low:,.0f} to {high:,.0f}"
        yield (
            "one find",
            f"takes {cost.lower:,.0f} draws ({reach}) if each prompt is sampled to its first, at "
            f"most {cost.draws:,} times",
        )


def _share(value: float | None) -> str:
    """A share in three digits without the leading zero."""
    if value is None:
        return "-"
    return f"{value:.3f}".removeprefix("0") if value >= 0.001 or value == 0 else f"{value:.0e}"
