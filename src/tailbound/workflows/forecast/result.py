"""What a forecast found, as a value, and the file it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.deployment import Backtest, MixRisk, TrafficForecast, WorstForecast
from tailbound.runs.history import keep_result
from tailbound.runs.layout import FORECAST
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.storage.plain import finite, from_plain
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
NAME = "forecast"
"""What forecasts are called in `results/`."""
OF_THE_CALL = ("source",)
"""What `forecast.json` says of the call that wrote it: the folder may have another name now."""
CURE = "restore it, or run tailbound forecast again"


@dataclass(frozen=True, kw_only=True)
class RiskyQuery:
    """One of the queries that make up most of the risk of the mix.

    `share` is its part of it; `at_least_one` is P(at least one unsafe output) in each number of
    draws of this query alone.
    """

    id: str
    group: str | None
    p: float
    low: float
    high: float
    share: float
    at_least_one: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ForecastMadeWith:
    """The options that decide everything in a forecast."""

    draws: tuple[int, ...]
    queries: tuple[int, ...]
    weights: str | None
    threshold: float | None
    top: int | None
    far: bool
    seed: int


@dataclass(frozen=True, kw_only=True, repr=False)
class ForecastResult(Result):
    """Traffic, and the worst of many more queries, from `evaluated` estimates.

    `unknown` of the evaluated have no estimate at all; they are unsafe in every upper end of the
    traffic. `weights` says where the mix comes from. `worst` is None where too few queries are
    resolved for a tail, and `backtest` where there are too few for one.
    """

    source: str
    what: str
    confidence: float
    evaluated: int
    resolved: int
    unknown: int
    weights: str
    mix: MixRisk
    traffic: tuple[TrafficForecast, ...]
    riskiest: tuple[RiskyQuery, ...]
    worst: WorstForecast | None
    backtest: Backtest | None
    warnings: tuple[str, ...]
    made_with: ForecastMadeWith

    @property
    def guarantee(self) -> str:
        """What the intervals are for, and what they assume."""
        return (
            f"intervals {100 * self.confidence:g}%, asymptotic. Traffic: for exactly these queries "
            "in this mix, draws independent, with each query's own interval carried through. Worst "
            "query: for the largest true p that occurs among new queries, if the evaluated ones "
            "are a random sample of them and the tail of -log(-log p) is exponential (gumbel) or "
            "generalised Pareto (pareto); a kind of query that was not evaluated is in neither"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        names = ("source", "what", "confidence", "evaluated", "resolved", "unknown", "weights")
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "estimand": self.what,
            "guarantee": self.guarantee,
            **{name: getattr(self, name) for name in names if name != "what"},
            "mix": asdict(self.mix),
            "traffic": [asdict(one) for one in self.traffic],
            "riskiest": [asdict(one) for one in self.riskiest],
            "worst": None if self.worst is None else asdict(self.worst),
            "backtest": None if self.backtest is None else asdict(self.backtest),
            "warnings": list(self.warnings),
            "made_with": asdict(self.made_with),
        }
        return {name: finite(value) for name, value in document.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ForecastResult:
        """Inverse of `to_dict`."""
        return cls(
            source=from_plain(str, document["source"]),
            what=from_plain(str, document["estimand"]),
            confidence=from_plain(float, document["confidence"]),
            evaluated=from_plain(int, document["evaluated"]),
            resolved=from_plain(int, document["resolved"]),
            unknown=from_plain(int, document["unknown"]),
            weights=from_plain(str, document["weights"]),
            mix=from_plain(MixRisk, document["mix"]),
            traffic=from_plain(tuple[TrafficForecast, ...], document["traffic"]),
            riskiest=from_plain(tuple[RiskyQuery, ...], document["riskiest"]),
            worst=from_plain(WorstForecast | None, document["worst"]),
            backtest=from_plain(Backtest | None, document["backtest"]),
            warnings=from_plain(tuple[str, ...], document["warnings"]),
            made_with=from_plain(ForecastMadeWith, document["made_with"]),
        )

    def facts(self) -> dict[str, object]:
        """P(at least one) for each number of draws, and the worst query by the first tail."""
        found: dict[str, object] = {"queries": self.evaluated, "resolved": self.resolved}
        for one in self.traffic:
            low, high = one.at_least_one_interval
            found[f"P(at least one) in {one.draws:,}"] = (
                f"{one.at_least_one:.3g} ({low:.3g} to {high:.3g})"
            )
        for worst in self.worst.forecasts if self.worst else ():
            if worst.method == "gumbel":
                low, high = worst.interval
                found[f"worst of {worst.queries:,}"] = (
                    f"{worst.median:.3g} ({low:.3g} to {high:.3g})"
                )
        return found

    def frame(self) -> pl.DataFrame:
        """One row per number: what, of how many draws or queries, by which tail, and its interval.

        `what` is expected, at_least_one, worst, or exceeds (P(worst > threshold)).
        """
        import polars as pl

        rows: list[tuple[Any, ...]] = []
        for one in self.traffic:
            rows.append(("expected", one.draws, None, one.expected, *one.expected_interval))
            ends = one.at_least_one_interval
            rows.append(("at_least_one", one.draws, None, one.at_least_one, *ends))
        for worst in self.worst.forecasts if self.worst else ():
            n, by = worst.queries, worst.method
            rows.append(("worst", n, by, worst.median, *worst.interval))
            for chance, ends in zip(worst.exceeds, worst.exceeds_interval, strict=True):
                rows.append(("exceeds", n, by, chance, *ends))
        schema: dict[str, Any] = {
            "what": pl.String,
            "n": pl.Int64,
            "tail": pl.String,
            "estimate": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")


def write_forecast(folder: Path, result: ForecastResult) -> None:
    """Write `forecast.json`; `read_forecast` reads it.

    What was there before stays in `results/` (`tailbound.runs.history`).
    """
    path = folder / FORECAST
    keep_result(
        folder,
        NAME,
        result.to_dict(),
        before=lambda: read_json(path) if path.is_file() else None,
        command="forecast",
        options={**asdict(result.made_with), "confidence": result.confidence},
        ignoring=OF_THE_CALL,
    )
    write_json(path, result.to_dict())


def read_forecast(folder: Path) -> ForecastResult | None:
    """The forecast in `forecast.json`, None where there is none; `LedgerError` for damage."""
    path = folder / FORECAST
    if not path.is_file():
        return None
    document = read_json(path, cure=CURE)
    with understood(path, cure=CURE):
        return ForecastResult.from_dict(document)
