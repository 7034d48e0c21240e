"""From the ledger of a run to exact summaries of every stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tailbound.errors import UsageError
from tailbound.runs import first_round, manifest, scan
from tailbound.runs.schema import shards
from tailbound.storage.files import write_json
from tailbound.summaries.population import SetSummary, summarize_set
from tailbound.summaries.prompt_intervals import (
    PromptSummary,
    check_levels,
    summarize_first_event,
    summarize_fixed,
)
from tailbound.workflows.summarize.counting import (
    check_once,
    clusters,
    first_event_counts,
    fixed_counts,
)

SCHEMA = 1
FIRST_EVENT = "first-event"
RISK = "risk"
#: The largest k.
MOST = 10**12


@dataclass(frozen=True, kw_only=True)
class StreamSummary:
    """All prompts of one stream.

    Left out are `weighted` draws, which came from proposals, and `later` ones of `tailbound risk`:
    those of all rounds but the first, whose number depended on what the first one brought.
    """

    stream: str
    stopping: str
    ids: tuple[str, ...]
    prompts: tuple[PromptSummary, ...]
    whole: tuple[SetSummary, ...]
    weighted: int
    later: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "stream": self.stream,
            "stopping": self.stopping,
            "weighted_draws_left_out": self.weighted,
            "later_draws_left_out": self.later,
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
                "groups as clusters with equal weights, for prompts chosen as those of the stream "
                "were: a stream that stopped may have followed risky prompts more often"
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
    first unsafe draw, because it decided where that was. Raises `UsageError` for what is no run
    and `LedgerError` for a record that is damaged.
    """
    import polars as pl

    for k in ks:
        if not 1 <= k <= MOST:
            raise UsageError(
                f"--k takes numbers of generations from 1 to {MOST:,}, not {str(k)[:20]}"
            )
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError(f"--threshold must lie in (0, 1], not {threshold:g}")
    check_levels(confidence, alpha)
    document = manifest.read_manifest(folder)
    own = document["threshold"]
    chosen = float(own) if threshold is None else threshold
    if not shards(folder):
        raise UsageError(f"{folder} holds no draws yet: run it first")
    frame = (
        scan(folder)
        .select("stream", "stopping", "prompt_id", "index", "proposal", "score")
        .with_columns(pl.col("score").fill_nan(None))
        .sort("stream", "prompt_id", "index")
        .collect()
    )
    check_once(frame, folder)
    units = clusters(folder)
    streams = []
    for (name,), part in frame.partition_by("stream", as_dict=True, maintain_order=True).items():
        stopping = str(part["stopping"][0])
        if stopping == FIRST_EVENT and chosen != own:
            raise UsageError(
                f"stream {name!r} stopped at the first score >= {own:g}: its draws say nothing "
                f"about a threshold of {chosen:g} (leave --threshold out)"
            )
        plain = part.filter(pl.col("proposal").is_null())
        every = plain.height
        if name == RISK:
            plain = first_round(plain, folder)
        counts = (
            first_event_counts(plain, chosen)
            if stopping == FIRST_EVENT
            else fixed_counts(plain, chosen)
        )
        if counts.is_empty():
            continue
        ids = tuple(counts["prompt_id"].to_list())
        summarize = _summarizer(stopping, ks, confidence, alpha)
        summaries = tuple(summarize(*row[1:]) for row in counts.iter_rows())
        streams.append(
            StreamSummary(
                stream=str(name),
                stopping=stopping,
                ids=ids,
                prompts=summaries,
                whole=summarize_set(
                    summaries, [units.get(i, i) for i in ids], confidence=confidence
                ),
                weighted=part.height - every,
                later=every - plain.height,
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


def _summarizer(
    stopping: str, ks: tuple[int, ...], confidence: float, alpha: float
) -> Callable[[int, int, int], PromptSummary]:
    """From (draws, unsafe, missing) to a summary; thousands of prompts share a few counts."""

    @cache
    def summarize(draws: int, unsafe: int, missing: int) -> PromptSummary:
        if stopping == FIRST_EVENT:
            return summarize_first_event(
                draws,
                unsafe=bool(unsafe),
                missing=bool(missing),
                ks=ks,
                confidence=confidence,
                alpha=alpha,
            )
        return summarize_fixed(draws, unsafe, missing, ks=ks, confidence=confidence, alpha=alpha)

    return summarize
