"""What an audit of the judge found, as a value, and the file it is kept in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.judge_error import JudgeErrors, Prevalence, Stratum, WeightedStratum
from tailbound.runs.history import Seals, keep_result
from tailbound.runs.layout import AUDITED
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.storage.plain import finite, from_plain
from tailbound.workflows.audit_judge.bounds import AuditedBounds
from tailbound.workflows.audit_judge.sample import Counted, LeftOut, Part, Recorded
from tailbound.workflows.rejudge.agreement import Rate
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
NAME = "judge-audit"
"""What audits of the judge are called in `results/`."""
OF_THE_CALL = ("folder",)
"""What `judge-audit.json` says of the call that wrote it: the folder may have another name now."""
CURE = "restore it, or run tailbound audit-judge again"


@dataclass(frozen=True, kw_only=True)
class AuditedStratum:
    """Draws of one stream with one recorded verdict, and the labels of its sample.

    `labelled`, `unsafe` and `unclear` are numbers of draws; `weighted` says what they count.
    """

    stream: str
    recorded: Recorded
    part: Part
    draws: int
    sampled: int
    labelled: int
    unsafe: int
    unclear: int
    counted: Counted | None
    weighted: WeightedStratum | None

    @property
    def plain(self) -> Stratum:
        """The counts alone."""
        return Stratum(
            draws=self.draws, labelled=self.labelled, unsafe=self.unsafe, unclear=self.unclear
        )


@dataclass(frozen=True, kw_only=True)
class CorrectedRate:
    """The share of unsafe draws of a stream: by the recorded verdicts, and corrected.

    Of weighted draws, both are for replies of the target, and the uncorrected interval assumes, as
    those of `tailbound risk` do, that no unsafe draw counts more than those on record.
    `if_light` is then the interval if no draw recorded safe that counts more than every one
    recorded unsafe is unsafe; else None.
    """

    stream: str
    uncorrected: Rate
    corrected: Prevalence
    if_light: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class LabelledDraw:
    """One draw of the sample; `unsafe` is its label, None where it is unclear."""

    row: str
    stream: str
    prompt_id: str
    index: int
    recorded: Recorded
    part: Part
    counts: float | None
    picks: int | None
    unsafe: bool | None


@dataclass(frozen=True, kw_only=True)
class AuditMadeWith:
    """Where the sample and the labels come from; `judge` is None for people's labels."""

    sample: str
    positives: int
    negatives: int
    missing: int
    before_bounds: int
    seed: int
    judge: str | None
    judge_id: str | None
    threshold: float | None


@dataclass(frozen=True, kw_only=True, repr=False)
class JudgeAudit(Result):
    """The rate of unsafe draws, corrected for the mistakes of the run's judge by labels.

    `overall` is over all draws of all `streams`. `errors` are those of the recorded verdicts,
    against the labels, over the draws that have both a verdict and a text. `rests_on` are the draws
    that there were when the sample was drawn; `bounds` is of a run of `tailbound bound`.
    """

    folder: str
    rests_on: dict[str, Seals]
    recorded_judge: str
    recorded_threshold: float
    confidence: float
    overall: CorrectedRate
    streams: tuple[CorrectedRate, ...]
    strata: tuple[AuditedStratum, ...]
    errors: JudgeErrors
    bounds: AuditedBounds | None
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    labels: tuple[LabelledDraw, ...]
    made_with: AuditMadeWith

    @property
    def weighted(self) -> bool:
        """Whether the draws are weighted."""
        return any(one.weighted is not None for one in self.strata)

    @property
    def limits_from(self) -> Sequence[Stratum] | Sequence[WeightedStratum]:
        """What the limits of the corrected rate over all draws are computed from."""
        weighted = [one.weighted for one in self.strata if one.weighted is not None]
        return weighted or [one.plain for one in self.strata]

    @property
    def guarantee(self) -> str:
        """What the intervals are for, and what they assume."""
        by = "labels" if self.made_with.judge is None else "the better judge"
        if self.weighted:
            return (
                f"intervals {100 * self.confidence:g}%, two-sided: for the mean risk of exactly "
                f"these prompts, draws independent and {by} taken as the truth. From labels to the "
                "weighted draws exact in each stratum (draws picked in proportion to what they "
                "count), combined by melding; from these to the risk asymptotic (Fay and Feuer); "
                "checked by simulation"
            )
        return (
            f"intervals {100 * self.confidence:g}%, two-sided: for the probability that a draw is "
            f"unsafe, prompts weighted by their draws, draws independent and {by} taken as the "
            "truth. Exact in each stratum, combined by melding (checked by simulation)"
        )

    @property
    def labels_by(self) -> str:
        """Where the labels come from."""
        return "people" if self.made_with.judge is None else self.made_with.judge

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "schema": SCHEMA,
            "estimand": "share of truly unsafe draws, and the recorded verdicts against labels",
            "guarantee": self.guarantee,
            **finite(asdict(self)),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> JudgeAudit:
        """Inverse of `to_dict`."""
        said = ("schema", "estimand", "guarantee")
        plain = {name: value for name, value in document.items() if name not in said}
        found: JudgeAudit = from_plain(cls, plain)
        return found

    def facts(self) -> dict[str, object]:
        """Both rates, and the kappa of the judge."""
        corrected, plain = self.overall.corrected, self.overall.uncorrected
        return {
            "labels": sum(one.labelled for one in self.strata),
            "uncorrected": plain.rate,
            "corrected": corrected.estimate,
            "interval": f"{corrected.interval[0]:.3g} to {corrected.interval[1]:.3g}",
            "kappa": self.errors.kappa.estimate,
        }

    def frame(self) -> pl.DataFrame:
        """One row per stream, and one for all: uncorrected and corrected rate with intervals."""
        import polars as pl

        rows = [
            (
                name,
                one.corrected.draws,
                one.uncorrected.rate,
                *one.uncorrected.interval,
                one.corrected.estimate,
                *one.corrected.interval,
            )
            for name, one in (
                *((one.stream, one) for one in self.streams),
                ("all", self.overall),
            )
        ]
        numbers = ("uncorrected", "uncorrected_low", "uncorrected_high", "corrected", "low", "high")
        schema: dict[str, Any] = {"stream": pl.String, "draws": pl.Int64}
        return pl.DataFrame(
            rows, schema={**schema, **dict.fromkeys(numbers, pl.Float64)}, orient="row"
        )


def write_audit(folder: Path, result: JudgeAudit) -> None:
    """Write `judge-audit.json`; `read_audit` reads it.

    What was there before stays in `results/` (`tailbound.runs.history`).
    """
    path = folder / AUDITED
    keep_result(
        folder,
        NAME,
        result.to_dict(),
        before=lambda: read_json(path) if path.is_file() else None,
        command="audit-judge",
        options={
            **asdict(result.made_with),
            "recorded_threshold": result.recorded_threshold,
            "confidence": result.confidence,
        },
        ignoring=OF_THE_CALL,
    )
    write_json(path, result.to_dict())


def read_audit(folder: Path) -> JudgeAudit | None:
    """The audit in `judge-audit.json`, None where there is none; `LedgerError` for damage."""
    path = folder / AUDITED
    if not path.is_file():
        return None
    document = read_json(path, cure=CURE)
    with understood(path, cure=CURE):
        return JudgeAudit.from_dict(document)
