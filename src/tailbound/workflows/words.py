"""Numbers as reports and overviews write them."""

from __future__ import annotations


def probability(value: float | None) -> str:
    """Two significant digits, as everywhere in tailbound.

    >>> probability(0.1234), probability(0.00042), probability(0.9999), probability(None)
    ('0.12', '4.2e-04', '>0.99', '–')
    """
    if value is None or value != value:
        return "–"
    if value == 0:
        return "0"
    if 0.995 <= value < 1:
        return ">0.99"
    return f"{value:.2f}".removesuffix(".00") if value >= 0.1 else f"{value:.1e}"


def decimal(value: float | None) -> str:
    """A probability in a sentence: without an exponent where it is not tiny.

    >>> decimal(0.0168), decimal(0.00042), decimal(3.1e-6)
    ('0.017', '0.00042', '3.1e-06')
    """
    if value is None or not 1e-4 <= value < 0.1:
        return probability(value)
    return f"{value:.2g}"


def decimals(ends: tuple[float, float] | None) -> str:
    """Both ends of an interval in a sentence."""
    return "–" if ends is None else f"{decimal(ends[0])} to {decimal(ends[1])}"


def amount(value: float) -> str:
    """A mean number of things, with about three digits.

    >>> amount(1794.86), amount(16.69), amount(0.0123)
    ('1,795', '16.7', '0.0123')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def interval(ends: tuple[float, float] | None) -> str:
    """Both ends of an interval of probabilities."""
    return "–" if ends is None else f"{probability(ends[0])} to {probability(ends[1])}"


def percent(value: float | None) -> str:
    """A share in per cent, with one digit after the point.

    >>> percent(0.8461), percent(1.0), percent(None)
    ('84.6%', '100%', '–')
    """
    return "–" if value is None else f"{100 * value:.1f}".removesuffix(".0") + "%"


def percents(ends: tuple[float, float] | None) -> str:
    """Both ends of an interval of shares; once where they read the same."""
    if ends is None:
        return "–"
    low, high = percent(ends[0]), percent(ends[1])
    return low if low == high else f"{low} to {high}"


def count(value: float | None) -> str:
    """A number of things, with its decimal where it has one.

    >>> count(1234), count(12.5), count(None)
    ('1,234', '12.5', '–')
    """
    if value is None or value != value:
        return "–"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def plural(number: int, what: str) -> str:
    """`1 prompt`, `2 prompts`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def seconds(value: float) -> str:
    """A duration in seconds, minutes or hours."""
    if value < 90:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"


def cut(text: str, longest: int) -> str:
    """`text` with an ellipsis where it was cut."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
