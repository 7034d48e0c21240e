"""From values to places on paper: linear and logarithmic scales, and their ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tailbound.workflows.report.figures.chart import Axis

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps the range of `axis` to [first, last]; values outside it lie on its ends."""

    axis: Axis
    first: float
    last: float

    def at(self, value: float) -> float:
        """The place of `value`."""
        low, high = self.axis.low, self.axis.high
        held = min(max(value, low), high)
        if self.axis.log:
            held, low, high = math.log(held), math.log(low), math.log(high)
        part = (held - low) / (high - low) if high > low else 0.5
        return self.first + part * (self.last - self.first)


def ticks(axis: Axis, *, most: int = 6) -> list[float]:
    """Round values within the range, at most about `most`.

    >>> ticks(Axis(label="", low=0, high=1))
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(Axis(label="", low=2e-4, high=0.5, log=True))
    [0.001, 0.01, 0.1]
    """
    if axis.log:
        return _decades(axis, most)
    span = axis.high - axis.low
    if span <= 0:
        return [axis.low]
    rough = span / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(one * unit for one in _STEPS if one * unit >= rough * 0.999)
    first = math.ceil(axis.low / step - 1e-9)
    last = math.floor(axis.high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _decades(axis: Axis, most: int) -> list[float]:
    """Powers of ten; with fewer than two of them, 2 and 5 times these as well."""
    first = math.ceil(math.log10(axis.low) - 1e-9)
    last = math.floor(math.log10(axis.high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / most))
    found = [float(f"1e{place}") for place in range(first, last + 1, every)]
    if len(found) < 3:
        found = [
            float(f"{digit}e{place}")
            for place in range(first - 1, last + 1)
            for digit in (1, 2, 5)
            if axis.low * 0.999 <= float(f"{digit}e{place}") <= axis.high * 1.001
        ]
    return found


def tick_text(axis: Axis, value: float) -> str:
    """A tick as it is written.

    >>> tick_text(Axis(label="", low=0, high=1, share=True), 0.25)
    '25%'
    >>> [tick_text(Axis(label="", low=1e-6, high=1e6, log=True), one) for one in (1e-4, 0.1, 1e5)]
    ['1e-04', '0.1', '100,000']
    """
    if axis.share:
        return f"{100 * value:g}%"
    if value and abs(value) < 0.01:
        return f"{value:.0e}"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def around(values: list[float], *, log: bool = False, label: str = "", share: bool = False) -> Axis:
    """An axis that holds `values` with a little room; of positive ones for `log`."""
    held = [one for one in values if math.isfinite(one) and (one > 0 or not log)]
    if not held:
        held = [0.1, 1.0]
    low, high = min(held), max(held)
    if log:
        return Axis(label=label, low=low / 1.4, high=max(high, low) * 1.4, log=True, share=share)
    room = 0.05 * (high - low) or 0.5
    return Axis(label=label, low=low - room, high=high + room, share=share)
