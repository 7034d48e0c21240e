r"""The survival curve of the draws, and the calibrated bound over it.

S(t) = P(T > t), T the index of the first unsafe draw of a prompt drawn at random. The curve is
Kaplan and Meier's of prompts that were followed for a number of draws that does not depend on the
prompt: training draws, draws of a table, imported ones. Prompts that were followed as far as their
bound asks are not such: safer ones are followed longer.

With P(T >= L) >= 1 - alpha, P(T >= t) >= P(L >= t) - alpha for every t, which is what "the bound
over it" means: the curve of the bounds lies nowhere more than alpha above that of the draws.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tailbound.missing_verdicts import unsafe_or_missing
from tailbound.runs.layout import TABLE
from tailbound.storage.parquet import read_sealed
from tailbound.workflows.report.figures.chart import Axis, Band, Line, Plot
from tailbound.workflows.report.page import Figure, Paragraph, Section
from tailbound.workflows.report.page import Table as PageTable
from tailbound.workflows.report.reading import IMPORT, ReportedRun
from tailbound.workflows.table.settings import COMMAND as TABLE_COMMAND
from tailbound.workflows.words import count, percent, percents, plural

if TYPE_CHECKING:
    import polars as pl

CONFIDENCE = 0.95
_SHOWN = 12
_STEPS = 400
"""Corners of a line that is drawn: of a longer one, these many."""


@dataclass(frozen=True, kw_only=True)
class SurvivalCurve:
    """Kaplan and Meier's estimate of S at the draws `t`, with 95% intervals (log-log), all (n,).

    `prompts` were followed, `source` says on which draws; `missing` verdicts counted as unsafe.
    """

    t: NDArray[np.float64]
    survival: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    prompts: int
    events: int
    missing: int
    source: str


def kaplan_meier(
    time: NDArray[np.int64], event: NDArray[np.bool_], *, source: str = "draws", missing: int = 0
) -> SurvivalCurve:
    """The curve from each prompt's last draw `time` (n,), which was unsafe where `event` (n,).

    Source: Kaplan and Meier (1958); intervals on the log-log scale, as `scipy.stats.ecdf` makes
    them; where they are undefined (no prompt left, or no event yet) they are the estimate itself.
    """
    from scipy.stats import CensoredData, ecdf

    if event.any():
        sample = CensoredData.right_censored(time.astype(np.float64), ~event)
        curve = ecdf(sample).sf
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # undefined where nobody, or everybody, had an event: the estimate stands there
            warnings.filterwarnings("ignore", "The confidence interval is undefined")
            band = curve.confidence_interval(CONFIDENCE, method="log-log")
        t, s = np.asarray(curve.quantiles), np.asarray(curve.probabilities)
        low = np.where(np.isfinite(band.low.probabilities), band.low.probabilities, s)
        high = np.where(np.isfinite(band.high.probabilities), band.high.probabilities, s)
    else:
        t, s = np.array([float(time.max())]), np.array([1.0])
        low = high = s
    return SurvivalCurve(
        t=np.concatenate([[0.0], t]),
        survival=np.concatenate([[1.0], s]),
        low=np.concatenate([[1.0], low]),
        high=np.concatenate([[1.0], high]),
        prompts=int(time.size),
        events=int(event.sum()),
        missing=missing,
        source=source,
    )


def curve_of(run: ReportedRun) -> SurvivalCurve | None:
    """The curve of a run; None where it has no draws that were followed whatever the prompt."""
    if run.command == TABLE_COMMAND:
        path = run.run.folder / TABLE
        if not path.is_file():
            return None
        table = read_sealed(path, cure="restore it, or run the same command again").drop_nulls(
            ["time", "event"]
        )
        if table.is_empty():
            return None
        time, event = table["time"].to_numpy(), table["event"].to_numpy().astype(bool)
        return kaplan_meier(time, event, source="the units of the table")
    stream, source = ("train", "training draws") if run.command == "bound" else (IMPORT, "draws")
    if run.command not in ("bound", IMPORT) or run.threshold is None:
        return None
    draws = run.stream(stream, "prompt_id", "index", "score")
    return None if draws.is_empty() else _of_draws(draws, run.threshold, source)


def _of_draws(draws: pl.DataFrame, threshold: float, source: str) -> SurvivalCurve:
    """First events from rows sorted by prompt and index; missing verdicts count as unsafe."""
    import polars as pl

    found = unsafe_or_missing(draws["score"].to_numpy(), threshold)
    each = (
        draws.with_columns(
            pl.Series("event", found), pl.int_range(1, pl.len() + 1).over("prompt_id").alias("t")
        )
        .group_by("prompt_id", maintain_order=True)
        .agg(
            pl.col("t").filter(pl.col("event")).min().alias("first"),
            pl.col("t").max().alias("last"),
            pl.col("score").filter(pl.col("event")).first().is_null().alias("missing"),
        )
    )
    event = each["first"].is_not_null().to_numpy()
    time = each["first"].fill_null(each["last"]).to_numpy().astype(np.int64)
    missing = int((each["missing"].to_numpy() & event).sum())
    return kaplan_meier(time, event, source=source, missing=missing)


def section(run: ReportedRun) -> Section | None:
    """The survival curve, with the bounds of the test prompts where there are any."""
    curve = curve_of(run)
    if curve is None:
        return None
    limits = None if run.run.predictions is None else run.run.predictions["lower_bound"].to_numpy()
    alpha = None if run.run.bound is None else run.run.bound.bound.alpha
    said = [
        f"Kaplan–Meier curve of {plural(curve.prompts, 'prompt')} ({curve.source}): the share that "
        "has had no unsafe draw after so many."
    ]
    if limits is not None and limits.size and alpha is not None:
        said.append(
            f"Dashed: the share of {plural(limits.size, 'test prompt')} whose bound promises more "
            f"draws than that. The guarantee says that it lies nowhere more than "
            f"{percent(alpha)} above the true curve."
        )
    if curve.missing:
        said.append(f"{plural(curve.missing, 'missing verdict')} counted as unsafe.")
    return Section(
        id=f"{run.id}-survival",
        title="Survival curve",
        blocks=(
            Paragraph(text=" ".join(said)),
            Figure(
                name=f"{run.id}-survival",
                chart=_chart(curve, limits),
                caption="",
                table=_table(curve, limits),
            ),
        ),
    )


def _chart(curve: SurvivalCurve, limits: NDArray[np.int64] | None) -> Plot:
    keep = _thinned(curve.t.size)
    x = tuple(curve.t[keep].tolist())
    lines = [
        Line(label="draws", x=x, y=tuple(curve.survival[keep].tolist()), steps=True),
    ]
    last = float(curve.t[-1])
    if limits is not None and limits.size:
        at = np.unique(limits)
        above = np.array([(limits >= one).mean() for one in at])
        few = _thinned(at.size)
        # P(L > t) holds each value up to the next bound: P(L >= at) from the one before it
        places = np.concatenate([[0.0], at[few]]).astype(np.float64)
        shares = np.concatenate([above[few], [0.0]])
        lines.append(
            Line(
                label="calibrated bound",
                x=tuple(places.tolist()),
                y=tuple(shares.tolist()),
                ink="ink",
                steps=True,
                dashed=True,
            )
        )
        last = max(last, float(at[-1]))
    return Plot(
        title="Survival curve",
        description="Share of prompts without an unsafe draw after a number of draws, "
        + ("and the share whose bound promises more draws." if len(lines) > 1 else "falling."),
        x=Axis(label="draws", low=0.0, high=max(last, 1.0)),
        y=Axis(label="no unsafe draw yet", low=0.0, high=1.0, share=True),
        bands=(
            Band(
                label=f"{CONFIDENCE:.0%} interval",
                x=x,
                low=tuple(curve.low[keep].tolist()),
                high=tuple(curve.high[keep].tolist()),
                steps=True,
            ),
        ),
        lines=tuple(lines),
    )


def _table(curve: SurvivalCurve, limits: NDArray[np.int64] | None) -> PageTable:
    places = _thinned(curve.t.size, _SHOWN)
    has = limits is not None and limits.size
    rows = []
    for i in places:
        row = (
            count(float(curve.t[i])),
            percent(float(curve.survival[i])),
            percents((float(curve.low[i]), float(curve.high[i]))),
        )
        more = (percent(float((limits > curve.t[i]).mean())),) if limits is not None and has else ()
        rows.append((*row, *more))
    return PageTable(
        caption="Share of prompts without an unsafe draw",
        columns=("draws", "share", "95% interval", *(["bound promises more"] if has else [])),
        rows=tuple(rows),
        numbers=(0, 1, 2, 3) if has else (0, 1, 2),
    )


def _thinned(n: int, most: int = _STEPS) -> NDArray[np.int64]:
    """At most `most` of the places 0 ... n - 1, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
