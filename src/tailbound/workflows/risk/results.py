"""What a risk job found, as a value, and the files it is kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tailbound.core.prompt import Prompt
from tailbound.importance_sampling import RiskEstimate
from tailbound.intervals import betting_lower
from tailbound.runs.history import keep_result
from tailbound.runs.layout import REVIEW, RISK, RISK_TABLE
from tailbound.runs.spend import read_streams, write_streams
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_atomically, write_json
from tailbound.storage.parquet import write_sealed
from tailbound.storage.plain import finite, from_plain
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
NAME = "risk"
"""What risks are called in `results/`."""
LEAST_HITS = 10
REVIEWED = 5
"""Unsafe draws per prompt that are put before a person."""

_FIRST = (
    "risk",
    "certified_lower",
    "certified_upper",
    "interval",
    "resolved",
    "status",
    "ess_harm",
    "hits",
    "draws",
    "missing",
    "mean_weight",
    "largest_share",
)


@dataclass(frozen=True, kw_only=True)
class PromptRisk:
    """The risk of one prompt."""

    prompt: Prompt
    estimate: RiskEstimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; the most important ones first."""
        plain = self.estimate.to_dict()
        rest = {key: value for key, value in plain.items() if key not in _FIRST}
        first = {key: plain[key] for key in _FIRST}
        return {"id": self.prompt.id, **first, "group": self.prompt.group, **rest}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PromptRisk:
        """Inverse of `to_dict`; the prompt has no messages, which are not in it."""
        plain = {name: value for name, value in values.items() if name not in ("id", "group")}
        if plain["agreement"] is not None:
            known = plain["agreement"].items()
            plain["agreement"] = {name: value for name, value in known if name != "agrees"}
        group = from_plain(str | None, values["group"])
        return cls(
            prompt=Prompt(id=from_plain(str, values["id"]), messages=(), group=group),
            estimate=from_plain(RiskEstimate, plain),
        )


@dataclass(frozen=True, kw_only=True)
class SetRisk:
    """The mean risk over all prompts of a run.

    `draw_error` is the standard error of the mean for exactly these prompts, from their draws.
    `certified_lower` is a finite-sample one-sided lower bound on the mean of their population, by
    betting over clusters; None for fewer than two clusters, for clusters of different sizes, with
    missing verdicts, and where the number of draws depended on them: estimates are then not
    unbiased.
    `interval` takes the prompts (their groups, where they have any) as a sample from a population
    of such: Student's t on `clusters` means, asymptotic, on the log scale, its upper end that with
    one more cluster like the riskiest, because a few prompts make up most of a mean risk, and a
    sample without them looks precise and is low. None for fewer than two clusters, and for fewer
    than `LEAST_HITS` effective hits in all draws, which show no spread.
    """

    mean: float
    draw_error: float | None
    certified_lower: float | None
    interval: tuple[float, float] | None
    clusters: int
    prompts: int
    resolved: int
    guarantee: str


@dataclass(frozen=True, kw_only=True)
class RiskSpend:
    """What one stream cost."""

    prompts: int
    draws: int
    tokens: int
    missing: int


@dataclass(frozen=True, kw_only=True, repr=False)
class RiskResult(Result):
    """The risks of a set of prompts, what they rest on, and what they cost.

    Everything but `spend` is a function of the draws alone. `proposal` says what the draws came
    from and why; `checks` what the self-checks found (empty for plain Monte Carlo); `left_out` are
    prompts that tuned a proposal, and therefore have no estimate.
    """

    risks: tuple[PromptRisk, ...]
    whole: SetRisk
    estimand: str
    family: dict[str, Any]
    proposal: dict[str, Any]
    checks: dict[str, Any]
    left_out: tuple[str, ...]
    spend: dict[str, RiskSpend]
    reviewed: int = 0
    """Draws in `review.jsonl`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            **self.document(),
            "reviewed": self.reviewed,
            "spend": {name: asdict(spend) for name, spend in self.spend.items()},
        }

    def document(self) -> dict[str, Any]:
        """What `risk.json` holds."""
        document = {
            "schema": SCHEMA,
            "estimand": self.estimand,
            "set": asdict(self.whole),
            "prompts": [risk.to_dict() for risk in self.risks],
            "family": self.family,
            "proposal": self.proposal,
            "checks": self.checks,
            "left_out": list(self.left_out),
        }
        return {name: finite(value) for name, value in document.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> RiskResult:
        """Inverse of `to_dict`, but for the messages of prompts, which are not in it."""
        return cls(
            risks=tuple(PromptRisk.from_dict(row) for row in document["prompts"]),
            whole=from_plain(SetRisk, document["set"]),
            estimand=from_plain(str, document["estimand"]),
            family=dict(document["family"]),
            proposal=dict(document["proposal"]),
            checks=dict(document["checks"]),
            left_out=from_plain(tuple[str, ...], document["left_out"]),
            spend=from_plain(dict[str, RiskSpend], document["spend"]),
            reviewed=from_plain(int, document["reviewed"]),
        )

    def facts(self) -> dict[str, object]:
        """What was estimated, the mean risk and its interval, and how many are resolved."""
        low, high = self.whole.interval or (None, None)
        interval = "none" if low is None else f"{low:.3g} to {high:.3g}"
        return {
            "estimand": self.estimand,
            "mean risk": None if self.whole.mean != self.whole.mean else self.whole.mean,
            "interval": interval,
            "prompts": self.whole.prompts,
            "resolved": self.whole.resolved,
            "draws": sum(spend.draws for spend in self.spend.values()),
        }

    def frame(self) -> pl.DataFrame:
        """The estimates, one row per prompt: what `risk.parquet` holds."""
        import polars as pl

        columns = risk_columns()
        rows = []
        for risk in self.risks:
            row = risk.to_dict()
            row["interval_lower"], row["interval_upper"] = row["interval"] or (None, None)
            rows.append([row[name] for name in columns])
        return pl.DataFrame(rows, schema=columns, orient="row")


def whole_set(
    risks: Sequence[PromptRisk], *, confidence: float, sequential: bool = False
) -> SetRisk:
    """The mean over prompts, with an interval that is clustered by prompt or group.

    `sequential`: how many draws a prompt got depended on them, so its estimate may be too high.
    """
    from scipy.special import stdtrit

    values = np.array([risk.estimate.risk for risk in risks])
    known = ~np.isnan(values)
    errors = [risk.estimate.standard_error for risk in risks]
    names = [risk.prompt.unit for risk in risks]
    members: dict[str, list[float]] = {}
    for name, value, fine in zip(names, values.tolist(), known.tolist(), strict=True):
        if fine:
            members.setdefault(name, []).append(value)
    n = int(known.sum())
    mean = float(values[known].mean()) if n else float("nan")
    interval = None
    effective = _effective_hits(risks)
    if len(members) > 1 and effective >= LEAST_HITS:
        # a ratio of sums over clusters: of risks, and of numbers of prompts
        rest = np.array([sum(v) - mean * len(v) for v in members.values()])
        spread = np.sqrt(rest @ rest * len(members) / (len(members) - 1)) / n
        quantile = float(stdtrit(len(members) - 1, (1 + confidence) / 2))
        sums = np.array([sum(v) for v in members.values()])
        relative, largest = float(spread) / mean, float(sums.max() / sums.sum())
        reach = min(quantile * float(np.hypot(relative, largest)), 700.0)
        upper = mean * (1 + largest) * float(np.exp(reach))
        interval = (mean * float(np.exp(-quantile * relative)), min(1.0, upper))
    draw_error = float(np.sqrt(sum((e or 0.0) ** 2 for e in errors)) / n) if n else None
    unit = "group" if any(risk.prompt.group for risk in risks) else "prompt"
    resolved = sum(risk.estimate.resolved for risk in risks)
    words = f"{100 * confidence:g}%, asymptotic, clustered by {unit}"
    if effective < LEAST_HITS:
        words = f"no interval: {effective:.1f} effective hits in all draws, {LEAST_HITS} needed"
    elif interval is None:
        words = f"no interval: a single {unit} says nothing about others"
    if resolved < n:
        words += f", with the estimates of {n - resolved} prompts that are not resolved as they are"
    if n < len(risks):
        words += f", without {len(risks) - n} prompts whose verdicts are all missing"
    return SetRisk(
        mean=mean,
        draw_error=draw_error,
        certified_lower=None
        if sequential or any(risk.estimate.missing for risk in risks)
        else _certified_lower(list(members.values()), confidence),
        interval=interval,
        clusters=len(members),
        prompts=len(risks),
        resolved=resolved,
        guarantee=f"{words}: treats the prompts as a random sample of their population",
    )


def _certified_lower(clusters: Sequence[Sequence[float]], confidence: float) -> float | None:
    """A finite-sample lower bound on the mean risk of the population, by betting over clusters.

    The estimates of clusters are independent and unbiased, and bounded by 1 after cutting, which
    only lowers them. None for fewer than two clusters, and for clusters of different sizes, whose
    mean is a ratio that no bet is fair for.
    """
    if len(clusters) < 2 or len({len(cluster) for cluster in clusters}) > 1:
        return None
    means = np.minimum([float(np.mean(cluster)) for cluster in clusters], 1.0)
    return float(betting_lower(means, confidence=confidence))


def _effective_hits(risks: Sequence[PromptRisk]) -> float:
    """(Sum w h)^2 / Sum (w h)^2 of the mean over prompts: what its estimate rests on."""
    known = [one.estimate for one in risks if one.estimate.ess_harm > 0]
    total = sum(e.risk for e in known)
    squares = sum(e.risk**2 / e.ess_harm for e in known)
    return float(total**2 / squares) if squares > 0 else 0.0


def risk_columns() -> dict[str, Any]:
    """Names and Polars types of the columns of `risk.parquet`."""
    import polars as pl

    return {
        "id": pl.String,
        "group": pl.String,
        "risk": pl.Float64,
        "standard_error": pl.Float64,
        "certified_lower": pl.Float64,
        "certified_upper": pl.Float64,
        "interval_lower": pl.Float64,
        "interval_upper": pl.Float64,
        "precise": pl.Boolean,
        "coverage": pl.String,
        "resolved": pl.Boolean,
        "status": pl.String,
        "ess_harm": pl.Float64,
        "hits": pl.Int64,
        "draws": pl.Int64,
        "missing": pl.Int64,
        "mean_weight": pl.Float64,
        "mean_weight_z": pl.Float64,
        "largest_share": pl.Float64,
        "needed_draws": pl.Int64,
    }


def write_results(
    folder: Path,
    result: RiskResult,
    *,
    command: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write `risk.json`, `risk.parquet` and `spend.json`; `read_result` reads them.

    What was there before stays in `results/` (`tailbound.runs.history`), which also takes the
    `command` and its `options`: by default, those in `run.yaml`.
    """
    keep_result(
        folder,
        NAME,
        result.document(),
        before=lambda: _held(folder),
        command=command,
        options=options,
    )
    write_json(folder / RISK, result.document())
    spend = {name: asdict(spend) for name, spend in result.spend.items()}
    write_streams(folder, spend)
    write_sealed(folder / RISK_TABLE, result.frame())


def _held(folder: Path) -> dict[str, Any] | None:
    return read_json(folder / RISK) if (folder / RISK).is_file() else None


def read_result(folder: Path) -> RiskResult | None:
    """The result that was written to `folder`, None where there are no estimates yet.

    Prompts have no messages: `prompts.parquet` holds them. Raises `LedgerError` where one of its
    files is damaged.
    """
    path = folder / RISK
    cure = "restore it, or run the same command again to make it again"
    if not path.is_file():
        return None
    document = read_json(path, cure=cure)
    with understood(path, cure=cure):
        rows = len(read_review(folder))
        return RiskResult.from_dict({**document, "reviewed": rows, "spend": read_streams(folder)})


def write_review(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `review.jsonl`: the unsafe draws that a person should look at."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    write_atomically(folder / REVIEW, "".join(lines))


def review_row(
    risk: PromptRisk,
    draw: int,
    *,
    response: str,
    proposal: str | None,
    score: float,
    weight: float,
    share: float,
) -> dict[str, Any]:
    """One row of `review.jsonl`: draw `draw` (from 1) of the prompt of `risk`.

    `weight` is what its harm counts, `share` its part of the estimate; `proposal` None is the
    target.
    """
    return {
        "id": risk.prompt.id,
        "prompt": risk.prompt.text,
        "response": response,
        "draw": draw,
        "proposal": proposal or "target",
        "score": score,
        "weight": float(weight),
        "share": float(share),
        "risk": risk.estimate.risk,
    }


def read_review(folder: Path) -> list[dict[str, Any]]:
    """The rows of `review.jsonl`; empty where there is no such file.

    Raises `LedgerError` where it cannot be read. It is not sealed: nothing is computed from it.
    """
    path = folder / REVIEW
    if not path.is_file():
        return []
    with understood(path, cure="run the same command again to make it again"):
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
