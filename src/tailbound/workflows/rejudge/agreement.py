"""How far two judges agree about the same draws, and the rates under each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.intervals import clopper_pearson
from tailbound.missing_verdicts import missing_counts_as_unsafe
from tailbound.runs import first_round

if TYPE_CHECKING:
    import polars as pl

FIXED = "fixed"
RISK = "risk"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Counts of draws by both verdicts; `both_missing` to `missing_new` are missing somewhere."""

    draws: int
    both_unsafe: int
    both_safe: int
    only_recorded: int
    only_new: int
    missing_recorded: int
    missing_new: int
    both_missing: int

    @property
    def share(self) -> float | None:
        """Share of equal verdicts among the draws that both judges have one on; None for none."""
        known = self.both_unsafe + self.both_safe + self.only_recorded + self.only_new
        return (self.both_unsafe + self.both_safe) / known if known else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "agree": self.share}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Share of unsafe draws in a stream with a fixed number of draws per prompt.

    `rate` is over the draws with a verdict, None without one. `interval` is Clopper and Pearson's
    for all draws, missing verdicts safe in its lower end and unsafe in its upper one; over several
    prompts it is for the mean of their probabilities, weighted by their draws (conservative there
    wherever a limit lies more than one draw from the count, Hoeffding 1956; else, as for the lower
    limit after one unsafe draw, off by about 1% of itself at 95%).
    """

    verdicts: str
    draws: int
    unsafe: int
    missing: int
    rate: float | None
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class StreamComparison:
    """Both judges on one stream; `rates` are empty where the stream's length was not fixed."""

    stream: str
    stopping: str
    agreement: Agreement
    rates: tuple[Rate, ...]


def compare_stream(
    part: pl.DataFrame, *, folder: Path, filled: bool, confidence: float
) -> StreamComparison:
    """Both judges on the draws of one stream.

    `part` has a row per draw: `stream`, `stopping`, `prompt_id`, `index`, `proposal`, and what
    `count_agreement` reads. Rates are of draws without a proposal, where their number was fixed (of
    the run in `folder`, the first round of those planned in rounds); with `filled` the second one
    is of the recorded verdicts, and of the new ones where those are missing.
    """
    plain = part.filter(part["proposal"].is_null())
    if part["stream"][0] == RISK:
        plain = first_round(plain, folder)
    rates: tuple[Rate, ...] = ()
    if part["stopping"][0] == FIXED and plain.height:
        other = (
            ("filled", plain["old"].fill_null(plain["new"])) if filled else ("new", plain["new"])
        )
        rates = tuple(
            _rate(label, values, confidence)
            for label, values in (("recorded", plain["old"]), other)
        )
    return StreamComparison(
        stream=str(part["stream"][0]),
        stopping=str(part["stopping"][0]),
        agreement=count_agreement(part),
        rates=rates,
    )


def count_agreement(frame: pl.DataFrame) -> Agreement:
    """Counts over the draws that the new judge was asked about.

    `frame` has a row per draw: `judged`, and `old` and `new`, true for unsafe, null for missing.
    """
    seen = frame.filter(frame["judged"])
    counts: dict[tuple[bool | None, bool | None], int] = {
        (old, new): n for old, new, n in seen.group_by("old", "new").len().iter_rows()
    }

    def total(*pairs: tuple[bool | None, bool | None]) -> int:
        return sum(counts.get(pair, 0) for pair in pairs)

    return Agreement(
        draws=seen.height,
        both_unsafe=total((True, True)),
        both_safe=total((False, False)),
        only_recorded=total((True, False)),
        only_new=total((False, True)),
        missing_recorded=total((None, True), (None, False)),
        missing_new=total((True, None), (False, None)),
        both_missing=total((None, None)),
    )


def _rate(label: str, unsafe: pl.Series, confidence: float) -> Rate:
    """The rate of one judge's verdicts, null where they are missing."""
    return rate_of(
        label, unsafe.len(), int(unsafe.sum()), unsafe.null_count(), confidence=confidence
    )


def rate_of(label: str, draws: int, events: int, missing: int, *, confidence: float) -> Rate:
    """The rate of so many draws with so many unsafe and missing ones."""
    low = clopper_pearson(events, draws, confidence=confidence)[0]
    possible = missing_counts_as_unsafe(events, missing)
    high = clopper_pearson(possible, draws, confidence=confidence)[1]
    return Rate(
        verdicts=label,
        draws=draws,
        unsafe=events,
        missing=missing,
        rate=events / (draws - missing) if draws > missing else None,
        interval=(float(low), float(high)),
    )
