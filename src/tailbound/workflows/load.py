"""A run folder as a value: what was run, its draws, and its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.steps import Work
from tailbound.core.values import place
from tailbound.errors import LedgerError
from tailbound.runs import manifest, read, reply_notices, totals
from tailbound.runs.history import RecordedResult, read_history
from tailbound.runs.layout import JUDGE, MANIFEST, PREDICTIONS, VERDICTS
from tailbound.runs.prompts import kept_table
from tailbound.runs.spend import read_stages, read_streams
from tailbound.storage.documents import read_json, understood
from tailbound.storage.parquet import read_sealed
from tailbound.storage.plain import finite
from tailbound.workflows.audit_judge.result import JudgeAudit, read_audit
from tailbound.workflows.bound import results as bound_results
from tailbound.workflows.costs import read_accounts
from tailbound.workflows.forecast.result import ForecastResult, read_forecast
from tailbound.workflows.monitor.state import MonitorResult, read_monitor
from tailbound.workflows.rejudge.job import Rejudged, read_agreement
from tailbound.workflows.rejudge.verdicts import read_verdicts
from tailbound.workflows.result import Result, html_facts, text_facts
from tailbound.workflows.risk import results as risk_results
from tailbound.workflows.show import Overview, show_folder
from tailbound.workflows.summarize.summary import RunSummary, read_summary

if TYPE_CHECKING:
    import polars as pl

    from tailbound.survival import Evaluation
    from tailbound.workflows.bound import BoundResult
    from tailbound.workflows.risk import RiskResult


@dataclass(frozen=True, kw_only=True, repr=False)
class RunSpend(Result):
    """What a run cost, over all of its processes.

    `streams` are counts of the draws on record by stream, `stages` the work of the model by stage
    (draws, tokens, token positions read, seconds), `usage` the accounts of servers ("target",
    "judge"): requests, tokens, and cost in the currency of the prices given.
    """

    streams: dict[str, dict[str, int]]
    stages: dict[str, Work]
    usage: dict[str, dict[str, float]]

    @property
    def cost(self) -> float:
        """The cost of all servers, in the currency of the given prices; 0 without prices."""
        return sum(account.get("cost", 0.0) for account in self.usage.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        stages = {name: asdict(work) for name, work in self.stages.items()}
        return {"streams": self.streams, "stages": finite(stages), "usage": finite(self.usage)}

    def facts(self) -> dict[str, object]:
        """Sums over streams and stages."""
        return {
            "draws of all stages": sum(work.draws for work in self.stages.values()),
            "tokens of all stages": sum(work.tokens for work in self.stages.values()),
            "seconds": sum(work.seconds for work in self.stages.values()),
            "cost": self.cost,
        }

    def frame(self) -> pl.DataFrame:
        """One row per stage: draws, tokens, token positions read, seconds."""
        import polars as pl

        schema: dict[str, Any] = {
            "stage": pl.String,
            "draws": pl.Int64,
            "tokens": pl.Int64,
            "positions": pl.Int64,
            "seconds": pl.Float64,
        }
        rows = [{"stage": name, **asdict(work)} for name, work in self.stages.items()]
        return pl.DataFrame(rows, schema=schema)


class Run:
    """One run folder; each property reads its files when it is first asked for.

    Files are checked as they are read: a property raises `LedgerError`, in one line, where a file
    that it needs is damaged. Results that do not exist yet are None. Nothing is written. Call
    `load_run` again to see what a run in progress has added.
    """

    def __init__(self, folder: Path) -> None:
        """Use `load_run`."""
        self.folder = folder
        self._manifest = manifest.read_manifest(folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """The document in `run.yaml`: command, target, contract, judge, options, versions."""
        return self._manifest

    @property
    def command(self) -> str:
        """What made the run: "bound", "risk" or "import"."""
        return str(self._manifest["command"])

    @cached_property
    def draws(self) -> pl.DataFrame:
        """Every draw on record, one row each (columns: `tailbound.runs.schema.columns`)."""
        return read(self.folder)

    @cached_property
    def prompts(self) -> pl.DataFrame:
        """The prompts: `id`, `part`, `group`, and `messages` as JSON, null where not known."""
        return kept_table(self.folder)

    @cached_property
    def verdicts(self) -> dict[str, pl.DataFrame]:
        """The verdicts of further judges by the judge's id: stream, prompt_id, index, score."""
        return {name: read_verdicts(home) for name, home in self._judges().items()}

    @cached_property
    def rejudged(self) -> dict[str, Rejudged]:
        """How far further judges agree with the recorded one, by the judge's id."""
        found = {name: read_agreement(home) for name, home in self._judges().items()}
        return {name: one for name, one in found.items() if one is not None}

    @cached_property
    def rejudged_risk(self) -> dict[str, RiskResult]:
        """The risks under further judges, by the judge's id."""
        found = {name: risk_results.read_result(home) for name, home in self._judges().items()}
        return {name: one for name, one in found.items() if one is not None}

    @cached_property
    def bound(self) -> BoundResult | None:
        """What `tailbound bound` found."""
        return bound_results.read_result(self.folder)

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """Coverage on the test prompts."""
        return bound_results.read_evaluation(self.folder)

    @cached_property
    def predictions(self) -> pl.DataFrame | None:
        """Bound, p_hat and what was observed of every test prompt, one row each."""
        path = self.folder / PREDICTIONS
        cure = "restore it, or run the same command again to make it again"
        return read_sealed(path, cure=cure) if path.is_file() else None

    @cached_property
    def risk(self) -> RiskResult | None:
        """What `tailbound risk` found."""
        return risk_results.read_result(self.folder)

    @cached_property
    def review(self) -> list[dict[str, Any]]:
        """The unsafe draws that the risks rest on, those that weigh most first in each prompt."""
        return risk_results.read_review(self.folder)

    @cached_property
    def summary(self) -> RunSummary | None:
        """What `tailbound summarize` found."""
        return read_summary(self.folder)

    @cached_property
    def forecast(self) -> ForecastResult | None:
        """What `tailbound forecast` found."""
        return read_forecast(self.folder)

    @cached_property
    def judge_audit(self) -> JudgeAudit | None:
        """What `tailbound audit-judge` found."""
        return read_audit(self.folder)

    @cached_property
    def monitoring(self) -> MonitorResult | None:
        """Where `tailbound monitor` stands."""
        return read_monitor(self.folder)

    @property
    def overview(self) -> Overview:
        """What ran, what came out, what is missing and what to do next (`tailbound show`)."""
        return show_folder(self.folder)

    @cached_property
    def history(self) -> tuple[RecordedResult, ...]:
        """Every result of the run in the order in which they came out, with where it came from.

        The newest of each name is the one in use. `judged_history` has those of other judges.
        """
        return read_history(self.folder)

    @cached_property
    def judged_history(self) -> dict[str, tuple[RecordedResult, ...]]:
        """The same of the results under further judges, by the judge's id."""
        return {name: read_history(home) for name, home in self._judges().items()}

    @cached_property
    def spend(self) -> RunSpend:
        """What the run cost so far; empty where nothing is on record."""
        return RunSpend(
            streams=read_streams(self.folder),
            stages=read_stages(self.folder),
            usage=read_accounts(self.folder),
        )

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What a person should know: of the run as it began, and of the replies on record."""
        return (*map(str, self._manifest.get("notices", ())), *reply_notices(self.folder))

    def facts(self) -> Mapping[str, object]:
        """What ran, when it was last started, and what came out."""
        held = self._manifest
        started = datetime.fromtimestamp((self.folder / MANIFEST).stat().st_mtime)
        found: dict[str, object] = {
            "command": held["command"],
            "target": held["target"],
            "judge": held["judge"],
            "last started": f"{started:%Y-%m-%d %H:%M}",
            "draws": sum(one.draws for one in totals(self.folder).values()),
        }
        for result in (self.bound, self.risk):
            if result is not None:
                new = {name: fact for name, fact in result.facts().items() if name not in found}
                return {**found, **new}
        return {**found, "result": "none yet" if self.command != "import" else "draws"}

    def __repr__(self) -> str:
        return f"<Run {text_facts({'folder': self.folder, **self.facts()})}>"

    def _repr_html_(self) -> str:
        return html_facts(f"Run {self.folder}", self.facts())

    def _judges(self) -> dict[str, Path]:
        """The folder of each further judge, by its id."""
        homes = self.folder / VERDICTS
        if not homes.is_dir():
            return {}
        found = {}
        for home in sorted(path for path in homes.iterdir() if path.is_dir()):
            path = home / JUDGE
            cure = "restore it, or judge again with the same judge"
            try:
                document = read_json(path, cure=cure)
            except FileNotFoundError:
                if any(home.glob("*.parquet")):
                    raise LedgerError(f"{home} holds verdicts but no {JUDGE}: {cure}") from None
                continue
            with understood(path, cure=cure):
                found[str(document["judge_id"])] = home
        return found


def load_run(folder: str | PathLike[str]) -> Run:
    """The run in `folder`, which `tailbound bound`, `risk` or `import` made, or Python.

    Raises `UsageError` where there is no run, and `LedgerError` where `run.yaml` is damaged; other
    files are read, and checked, when they are asked for.
    """
    return Run(place(folder, name="the run folder"))
