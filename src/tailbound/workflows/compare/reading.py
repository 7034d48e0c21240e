"""What a run folder brings to a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import UsageError
from tailbound.runs.draws import draw_store
from tailbound.runs.layout import PREDICTIONS, RISK
from tailbound.runs.manifest import read_manifest
from tailbound.runs.prompts import kept_table
from tailbound.runs.rounds import first_round
from tailbound.storage.parquet import read_sealed
from tailbound.workflows.audit_judge.fresh import fresh_audit
from tailbound.workflows.rejudge.agreement import FIXED
from tailbound.workflows.rejudge.agreement import RISK as RISK_DRAWS
from tailbound.workflows.risk.results import read_result
from tailbound.workflows.summarize.counting import ordered_draws, undrawn_prompts
from tailbound.workflows.table.settings import COMMAND as TABLE_COMMAND

if TYPE_CHECKING:
    import polars as pl

    from tailbound.importance_sampling import RiskEstimate
    from tailbound.workflows.audit_judge import JudgeAudit


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two runs; `texts` are the messages of each prompt, None where they are not known.

    `outcomes` are the draws of each prompt in a stream with a fixed number of them, in order: 0 or
    1, NaN for a missing verdict; `undrawn` counts prompts that have none yet. `risks` are the
    estimates of `tailbound risk`, `bounds` the lower predictive bounds of test prompts, `audit` is
    what `fresh_audit` has.
    """

    folder: Path
    manifest: Mapping[str, Any]
    texts: Mapping[str, str | None]
    groups: Mapping[str, str | None]
    outcomes: Mapping[str, NDArray[np.float64]]
    undrawn: int
    risks: Mapping[str, RiskEstimate] | None
    bounds: Mapping[str, int] | None
    audit: tuple[JudgeAudit | None, str | None]

    @property
    def threshold(self) -> float:
        """Scores from this on are unsafe."""
        return float(self.manifest["threshold"])

    @property
    def name(self) -> str:
        """The folder, as it was given."""
        return str(self.folder)


def side_of(folder: Path) -> Side:
    """Read a run folder; raises `UsageError` where it is none, `LedgerError` for damage."""
    document = read_manifest(folder)
    if document["command"] == TABLE_COMMAND:
        raise UsageError(f"{folder} holds a bound from a table: there are no draws to compare")
    table = kept_table(folder)
    ids = table["id"].to_list()
    return Side(
        folder=folder,
        manifest=document,
        texts=dict(zip(ids, table["messages"].to_list(), strict=True)),
        groups=dict(zip(ids, table["group"].to_list(), strict=True)),
        outcomes=_outcomes(folder, float(document["threshold"])),
        undrawn=undrawn_prompts(folder),
        risks=_risks(folder),
        bounds=_bounds(folder),
        audit=fresh_audit(folder),
    )


def _risks(folder: Path) -> dict[str, RiskEstimate] | None:
    if not (folder / RISK).is_file():
        return None
    result = read_result(folder)
    assert result is not None
    return {one.prompt.id: one.estimate for one in result.risks}


def _bounds(folder: Path) -> dict[str, int] | None:
    path = folder / PREDICTIONS
    if not path.is_file():
        return None
    frame = read_sealed(path, cure="restore it, or run the same command again to make it again")
    return dict(frame.select("id", "lower_bound").iter_rows())


def _outcomes(folder: Path, threshold: float) -> dict[str, NDArray[np.float64]]:
    """A prompt in several streams counts in the first by name."""
    import polars as pl

    if not draw_store(folder).paths():
        return {}
    frame = ordered_draws(folder).filter(pl.col("stopping") == FIXED)
    found: dict[str, NDArray[np.float64]] = {}
    for (name,), part in frame.partition_by("stream", as_dict=True, maintain_order=True).items():
        plain = part.filter(pl.col("proposal").is_null())
        if name == RISK_DRAWS:
            plain = first_round(plain, folder)
        for prompt, values in _by_prompt(plain, threshold):
            found.setdefault(prompt, values)
    return found


def _by_prompt(frame: pl.DataFrame, threshold: float) -> Sequence[tuple[str, NDArray[np.float64]]]:
    scores = frame["score"].cast(float).fill_null(float("nan")).to_numpy()
    unsafe = np.where(np.isnan(scores), np.nan, (scores >= threshold).astype(np.float64))
    runs = frame["prompt_id"].rle().struct.unnest()
    ends = np.cumsum(runs["len"].to_numpy())
    return [
        (str(name), unsafe[end - size : end])
        for name, size, end in zip(runs["value"], runs["len"], ends, strict=True)
    ]


def differing(a: Side, b: Side) -> list[tuple[str, str, str]]:
    """(name, value in A, value in B) of everything that `run.yaml` says differently."""
    first, second = (_flat(one.manifest) for one in (a, b))
    names = [*first, *(name for name in second if name not in first)]
    none = "-"
    return [
        (name, first.get(name, none), second.get(name, none))
        for name in names
        if first.get(name, none) != second.get(name, none)
    ]


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in document.items():
        if prefix == "" and name in ("schema", "checksum", "notices"):
            continue
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = "-" if value is None else str(value)
    return found
