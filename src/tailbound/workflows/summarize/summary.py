"""From the ledger of a run to exact summaries of every stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.options import make
from tailbound.core.steps import notice, step
from tailbound.errors import UsageError
from tailbound.runs import first_round, manifest, reply_notices
from tailbound.runs.draws import draw_store
from tailbound.runs.history import keep_result
from tailbound.runs.layout import BOUND, SUMMARY
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.storage.plain import finite, from_plain
from tailbound.summaries.population import SetSummary, summarize_set
from tailbound.summaries.prompt_intervals import (
    PromptSummary,
    check_levels,
    summarize_first_event,
    summarize_fixed,
)
from tailbound.workflows.result import Result
from tailbound.workflows.summarize.counting import (
    clusters,
    first_event_counts,
    fixed_counts,
    ordered_draws,
)
from tailbound.workflows.summarize.settings import SummaryOptions
from tailbound.workflows.table.settings import COMMAND as TABLE_COMMAND

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
NAME = "summary"
"""What summaries are called in `results/`."""
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StreamSummary:
        """Inverse of `to_dict`."""
        rows = [
            {name: value for name, value in row.items() if name != "id"}
            for row in values["prompts"]
        ]
        return cls(
            stream=from_plain(str, values["stream"]),
            stopping=from_plain(str, values["stopping"]),
            ids=tuple(from_plain(str, row["id"]) for row in values["prompts"]),
            prompts=from_plain(tuple[PromptSummary, ...], rows),
            whole=from_plain(tuple[SetSummary, ...], values["set"]),
            weighted=from_plain(int, values["weighted_draws_left_out"]),
            later=from_plain(int, values["later_draws_left_out"]),
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class RunSummary(Result):
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
            "streams": [finite(stream.to_dict()) for stream in self.streams],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], *, folder: str = "") -> RunSummary:
        """Inverse of `to_dict`, which does not say the folder."""
        return cls(
            folder=folder,
            threshold=from_plain(float, document["threshold"]),
            confidence=from_plain(float, document["confidence"]),
            alpha=from_plain(float, document["alpha"]),
            streams=tuple(StreamSummary.from_dict(one) for one in document["streams"]),
        )

    def facts(self) -> dict[str, object]:
        """The threshold, and the mean over the prompts of each stream."""
        found: dict[str, object] = {"unsafe from score": self.threshold}
        for stream in self.streams:
            low, high = stream.whole[0].interval
            found[f"P(unsafe), stream {stream.stream}"] = (
                f"{low:.3g} to {high:.3g} ({100 * self.confidence:g}%)"
            )
        return found

    def frame(self) -> pl.DataFrame:
        """One row per stream and prompt."""
        import polars as pl

        names = ("draws", "unsafe", "missing", "estimate", "interval", "upper", "lower_bound")
        schema: dict[str, Any] = {
            "stream": pl.String,
            "id": pl.String,
            "draws": pl.Int64,
            "unsafe": pl.Int64,
            "missing": pl.Int64,
            "estimate": pl.Float64,
            "interval": pl.List(pl.Float64),
            "upper": pl.Float64,
            "lower_bound": pl.Int64,
        }
        rows = [
            [stream.stream, name, *(getattr(one, field) for field in names)]
            for stream in self.streams
            for name, one in zip(stream.ids, stream.prompts, strict=True)
        ]
        return pl.DataFrame(rows, schema=schema, orient="row")


def read_summary(folder: Path) -> RunSummary | None:
    """The summary in `summary.json`, None where there is none; `LedgerError` for damage."""
    path = folder / SUMMARY
    cure = "restore it, or run tailbound summarize again"
    if not path.is_file():
        return None
    document = read_json(path, cure=cure)
    with understood(path, cure=cure):
        return RunSummary.from_dict(document, folder=str(folder))


def summarize_run(
    folder: Path,
    *,
    ks: tuple[int, ...] = (10, 100),
    confidence: float = 0.95,
    alpha: float = 0.1,
    threshold: float | None = None,
) -> RunSummary:
    """Summaries of every stream in the ledger of `folder`; writes `summary.json` there.

    As `summary_of`, which writes nothing.
    """
    result = summary_of(folder, ks=ks, confidence=confidence, alpha=alpha, threshold=threshold)
    path, document = folder / SUMMARY, result.to_dict()
    keep_result(
        folder,
        NAME,
        document,
        before=lambda: read_json(path) if path.is_file() else None,
        command="summarize",
        options={"k": ks, "confidence": confidence, "alpha": alpha, "threshold": threshold},
    )
    write_json(path, document)
    return result


def summary_of(
    folder: Path,
    *,
    ks: tuple[int, ...] = (10, 100),
    confidence: float = 0.95,
    alpha: float = 0.1,
    threshold: float | None = None,
) -> RunSummary:
    """Summaries of every stream in the ledger of `folder`; nothing is written.

    `threshold` defaults to the run's own; another one is refused where a stream stopped at the
    first unsafe draw, because it decided where that was. Raises `UsageError` for what is no run
    and `LedgerError` for a record that is damaged.
    """
    for k in ks:
        if not 1 <= k <= MOST:
            raise UsageError(
                f"--k takes numbers of generations from 1 to {MOST:,}, not {str(k)[:20]}"
            )
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError(f"--threshold must lie in (0, 1], not {threshold:g}")
    check_levels(confidence, alpha)
    document = manifest.read_manifest(folder)
    if document["command"] == TABLE_COMMAND:
        raise UsageError(
            f"{folder} holds a bound from a table, without draws to summarize: its result is in "
            f"{BOUND}"
        )
    own = document["threshold"]
    chosen = float(own) if threshold is None else threshold
    if not draw_store(folder).paths():
        raise UsageError(f"{folder} holds no draws yet: run it first")
    summarize = partial(_Summarizer, ks=ks, confidence=confidence, alpha=alpha)
    units = clusters(folder)
    streams = []
    for (name,), part in ordered_draws(folder).partition_by("stream", as_dict=True).items():
        stopping = str(part["stopping"][0])
        if stopping == FIRST_EVENT and chosen != own:
            raise UsageError(
                f"stream {name!r} stopped at the first score >= {own:g}: its draws say nothing "
                f"about a threshold of {chosen:g} (leave --threshold out)"
            )
        found = _stream(part, folder, chosen, summarize(stopping), units)
        if found is not None:
            streams.append(found)
    return RunSummary(
        folder=str(folder),
        threshold=chosen,
        confidence=confidence,
        alpha=alpha,
        streams=tuple(streams),
    )


def _stream(
    part: pl.DataFrame,
    folder: Path,
    threshold: float,
    summarize: _Summarizer,
    units: Mapping[str, str],
) -> StreamSummary | None:
    """The summary of one stream; None where no draw of the target itself can be counted."""
    name = str(part["stream"][0])
    plain = part.filter(part["proposal"].is_null())
    every = plain.height
    if name == RISK:
        plain = first_round(plain, folder)
    count = first_event_counts if summarize.stopping == FIRST_EVENT else fixed_counts
    counts = count(plain, threshold)
    if counts.is_empty():
        return None
    ids = tuple(counts["prompt_id"].to_list())
    summaries = tuple(summarize(*row[1:]) for row in counts.iter_rows())
    clustered = [units.get(i, i) for i in ids]
    return StreamSummary(
        stream=name,
        stopping=summarize.stopping,
        ids=ids,
        prompts=summaries,
        whole=summarize_set(summaries, clustered, confidence=summarize.confidence),
        weighted=part.height - every,
        later=every - plain.height,
    )


class _Summarizer:
    """From (draws, unsafe, missing) to a summary; thousands of prompts share a few counts."""

    def __init__(
        self, stopping: str, *, ks: tuple[int, ...], confidence: float, alpha: float
    ) -> None:
        self.stopping, self.confidence = stopping, confidence
        self._levels: dict[str, Any] = {"ks": ks, "confidence": confidence, "alpha": alpha}
        self._known: dict[tuple[int, int, int], PromptSummary] = {}

    def __call__(self, draws: int, unsafe: int, missing: int) -> PromptSummary:
        counts = draws, unsafe, missing
        if counts not in self._known:
            self._known[counts] = self._summarize(*counts)
        return self._known[counts]

    def _summarize(self, draws: int, unsafe: int, missing: int) -> PromptSummary:
        if self.stopping == FIRST_EVENT:
            return summarize_first_event(
                draws, unsafe=bool(unsafe), missing=bool(missing), **self._levels
            )
        return summarize_fixed(draws, unsafe, missing, **self._levels)


def summarize_command(folder: Path, given: Mapping[str, Any]) -> RunSummary:
    """Everything that `tailbound summarize` does; `given` are options of `SummaryOptions`."""
    asked = make(SummaryOptions, given)
    with step("counting"):
        result = summarize_run(
            folder,
            ks=tuple(sorted(set(asked.k))),
            confidence=asked.confidence,
            alpha=asked.alpha,
            threshold=asked.threshold,
        )
    for line in reply_notices(folder):
        notice(line)
    return result
