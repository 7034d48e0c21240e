"""From the ledger of a run to exact summaries of every stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tailbound import run_folder
from tailbound.errors import UsageError
from tailbound.files import write_json
from tailbound.ledger import scan
from tailbound.ledger.schema import shards
from tailbound.summaries.counts import PromptSummary, summarize_first_event, summarize_fixed
from tailbound.summaries.whole import SetSummary, summarize_set

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
FIRST_EVENT = "first-event"


@dataclass(frozen=True, kw_only=True)
class StreamSummary:
    """All prompts of one stream; `weighted` draws came from proposals and are left out here."""

    stream: str
    stopping: str
    ids: tuple[str, ...]
    prompts: tuple[PromptSummary, ...]
    whole: tuple[SetSummary, ...]
    weighted: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "stream": self.stream,
            "stopping": self.stopping,
            "weighted_draws_left_out": self.weighted,
            "set": [one.to_dict() for one in self.whole],
            "prompts": [
                {"id": name, **one.to_dict()}
                for name, one in zip(self.ids, self.prompts, strict=True)
            ],
        }


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Every stream of a run under one threshold."""

    folder: str
    threshold: float
    confidence: float
    alpha: float
    streams: tuple[StreamSummary, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "schema": SCHEMA,
            "estimand": f"P(unsafe) of one reply per prompt: score >= {self.threshold:g}",
            "guarantee": (
                f"intervals {100 * self.confidence:g}%, two-sided, exact for each prompt by the "
                "stopping rule of its stream (binomial or geometric); 'upper' one-sided at the "
                "same confidence; the set's interval finite-sample (betting), prompts or their "
                "groups as clusters"
            ),
            "threshold": self.threshold,
            "confidence": self.confidence,
            "alpha": self.alpha,
            "streams": [stream.to_dict() for stream in self.streams],
        }


def summarize_run(
    folder: Path,
    *,
    ks: tuple[int, ...] = (10, 100),
    confidence: float = 0.95,
    alpha: float = 0.1,
    threshold: float | None = None,
) -> RunSummary:
    """Summaries of every stream in the ledger of `folder`; writes `summary.json` there.

    `threshold` defaults to the run's own; another one is refused where a stream stopped at the
    first unsafe draw, because it decided where that was. Raises `UsageError` for what is no run.
    """
    import polars as pl

    if any(k < 1 for k in ks):
        raise UsageError(f"--k takes numbers of generations from 1 on, not {list(ks)}")
    document = run_folder.read(folder)
    own = float(document["threshold"])
    chosen = own if threshold is None else threshold
    if not shards(folder):
        raise UsageError(f"{folder} holds no draws yet: run it first")
    frame = (
        scan(folder)
        .select("stream", "stopping", "prompt_id", "index", "proposal", "score")
        .sort("stream", "prompt_id", "index")
        .collect()
    )
    units = _units(folder)
    streams = []
    for (name,), part in frame.partition_by("stream", as_dict=True, maintain_order=True).items():
        stopping = str(part["stopping"][0])
        if stopping == FIRST_EVENT and chosen != own:
            raise UsageError(
                f"stream {name!r} stopped at the first score >= {own:g}: its draws say nothing "
                f"about a threshold of {chosen:g} (leave --threshold out)"
            )
        plain = part.filter(pl.col("proposal").is_null())
        if plain.is_empty():
            continue
        found = [
            (key[0], _prompt(rows, stopping, chosen, ks, confidence, alpha))
            for key, rows in plain.partition_by(
                "prompt_id", as_dict=True, maintain_order=True
            ).items()
        ]
        ids = tuple(str(name) for name, _ in found)
        summaries = tuple(summary for _, summary in found)
        streams.append(
            StreamSummary(
                stream=str(name),
                stopping=stopping,
                ids=ids,
                prompts=summaries,
                whole=summarize_set(
                    summaries, [units.get(i, i) for i in ids], confidence=confidence
                ),
                weighted=part.height - plain.height,
            )
        )
    result = RunSummary(
        folder=str(folder),
        threshold=chosen,
        confidence=confidence,
        alpha=alpha,
        streams=tuple(streams),
    )
    write_json(folder / "summary.json", result.to_dict())
    return result


def _prompt(
    rows: pl.DataFrame,
    stopping: str,
    threshold: float,
    ks: tuple[int, ...],
    confidence: float,
    alpha: float,
) -> PromptSummary:
    scores = rows["score"].fill_null(float("nan")).to_numpy()
    missing, unsafe = np.isnan(scores), scores >= threshold
    if stopping != FIRST_EVENT:
        return summarize_fixed(
            scores.size,
            int(unsafe.sum()),
            int(missing.sum()),
            ks=ks,
            confidence=confidence,
            alpha=alpha,
        )
    # Draws finish out of order: those after the first event, or after a gap, do not count.
    indices = rows["index"].to_numpy()
    gapless = int((indices == np.arange(1, indices.size + 1)).sum())
    events = np.flatnonzero((missing | unsafe)[:gapless])
    end = int(events[0]) if events.size else gapless - 1
    return summarize_first_event(
        end + 1,
        unsafe=bool(events.size and unsafe[end]),
        missing=bool(events.size and missing[end]),
        ks=ks,
        confidence=confidence,
        alpha=alpha,
    )


def _units(folder: Path) -> dict[str, str]:
    """The cluster of each prompt: its group where it has one."""
    import polars as pl

    path = folder / "prompts.parquet"
    if not path.is_file():
        return {}
    table = pl.read_parquet(path)
    if "group" not in table.columns:
        return {}
    return {
        row[0]: f"group {row[1]}" if row[1] is not None else row[0]
        for row in table.select("id", "group").iter_rows()
    }
