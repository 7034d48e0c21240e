"""The functions that `import tailbound` offers: one for each command of the command line.

    import tailbound

    found = tailbound.bound("prompts.jsonl", out="runs/when", budget=100, target="hf:NAME",
                            judge="keywords:slurs.txt")

A run made here is a run for the command line, and the other way round: the same folder, resumed by
the same options. Keyword arguments have the names of the options (`--train-draws`: `train_draws`),
as declared in `BoundSettings`, `RiskSettings`, `RejudgeOptions` and the like; `help` of each
function shows them.

`target` is a name (`demo`, `hf:NAME`, `openai:NAME`) or a target from `load_target`; `judge` is a
name, a judge from `load_judge`, or a function of (prompt, response) or (response). `prompts` is a
path or the name of a set, a list of texts, of records with a `prompt`, or of `Prompt`s, or a frame.

`progress` is "auto" (bars on a terminal and in a notebook, else a line a minute, and notices, all
on standard error), None (silent; notices are logged by `logging.getLogger("tailbound")`), or a
function that is called with every `Progress` of a stream of draws, every `Step`, and every notice
(a string).

Errors are those of `tailbound.errors`: `UsageError` before anything is loaded or spent, others with
every finished draw kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tailbound.core.contract import SamplingOptions
from tailbound.core.options import Group, Only, check_names, options_of
from tailbound.core.steps import Step, notices_to, watched_by
from tailbound.core.values import place, typed
from tailbound.executors.options import ExecutorOptions
from tailbound.steering.options import PersonaOptions, RefusalOptions
from tailbound.targets.options import EndpointOptions, EngineOptions
from tailbound.workflows.audit_judge.settings import AuditJudgeOptions
from tailbound.workflows.bound.importance.options import MethodOptions
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.compare.settings import CompareOptions
from tailbound.workflows.export.settings import ExportOptions
from tailbound.workflows.forecast.settings import ForecastOptions
from tailbound.workflows.gate.settings import GateOptions
from tailbound.workflows.import_.settings import ImportOptions
from tailbound.workflows.ledger.settings import Action as LedgerAction
from tailbound.workflows.ledger.settings import LedgerOptions
from tailbound.workflows.monitor.settings import MonitorOptions
from tailbound.workflows.paraphrase.settings import SAMPLING as REWORDING_SAMPLING
from tailbound.workflows.paraphrase.settings import ParaphraseOptions
from tailbound.workflows.rejudge.settings import RejudgeOptions
from tailbound.workflows.report.settings import ReportOptions
from tailbound.workflows.reproduce.realtoxicity.settings import (
    BOUND_OPTIONS,
    CompletionOptions,
    CompletionStudy,
)
from tailbound.workflows.reproduce.settings import (
    RISK_OPTIONS,
    ErrorStudy,
    StudyName,
    WeightedStudy,
)
from tailbound.workflows.reproduce.synthetic.settings import SyntheticStudy
from tailbound.workflows.risk.settings import ProposalOptions, RiskSettings
from tailbound.workflows.risk.splitting.settings import SplittingOptions
from tailbound.workflows.sensitivity.settings import SensitivityOptions
from tailbound.workflows.settings import PromptOptions, RecordOptions
from tailbound.workflows.summarize.settings import SummaryOptions
from tailbound.workflows.table.settings import TableOptions
from tailbound.workflows.verify.settings import VerifyOptions
from tailbound.workflows.view.settings import ViewOptions

if TYPE_CHECKING:
    from tailbound.audit import Progress, Reporter
    from tailbound.prompts import PromptSource
    from tailbound.steering import Direction
    from tailbound.targets import Target
    from tailbound.workflows.audit_judge import JudgeAudit, JudgeSample
    from tailbound.workflows.bound import BoundResult, PredictedBounds, Preview
    from tailbound.workflows.compare import CompareResult
    from tailbound.workflows.export import ExportResult
    from tailbound.workflows.forecast import ForecastResult
    from tailbound.workflows.forecast.reading import TableSource as EstimateSource
    from tailbound.workflows.gate import GateResult
    from tailbound.workflows.import_ import ImportResult
    from tailbound.workflows.ledger import LedgerReport
    from tailbound.workflows.monitor import MonitorResult
    from tailbound.workflows.opening import JudgeSource, Request, TargetSource
    from tailbound.workflows.paraphrase import Paraphrased
    from tailbound.workflows.rejudge import Rejudged
    from tailbound.workflows.report import Report
    from tailbound.workflows.reproduce import CompletionResult, StudyResult, SyntheticResult
    from tailbound.workflows.risk import RiskResult
    from tailbound.workflows.risk.preview import RiskPreview
    from tailbound.workflows.sensitivity import SensitivityResult
    from tailbound.workflows.show import Overview
    from tailbound.workflows.summarize.summary import RunSummary
    from tailbound.workflows.table import TableSource
    from tailbound.workflows.verify import Verification

ProgressOption = Literal["auto"] | Callable[[Any], None] | None
Place = str | PathLike[str]
Function = TypeVar("Function", bound=Callable[..., Any])

_DRAWING: tuple[Group, ...] = (SamplingOptions, EngineOptions, EndpointOptions)
_WORKING: tuple[Group, ...] = (*_DRAWING, ExecutorOptions)
_STUDY: tuple[Group, ...] = (
    *(ProposalOptions, RISK_OPTIONS, PromptOptions, SamplingOptions, EngineOptions),
)


def _takes(*groups: Group) -> Callable[[Function], Function]:
    """Show the options that `groups` declare in the signature; refuse others by `TypeError`."""

    def give(function: Function) -> Function:
        plain = inspect.signature(function)
        own = [one for one in plain.parameters.values() if one.kind is not one.VAR_KEYWORD]
        declared = [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if one.default is MISSING else one.default,
                annotation=one.type,
            )
            for group in groups
            for one in options_of(group)
        ]
        function.__signature__ = plain.replace(parameters=[*own, *declared])  # type: ignore[attr-defined]
        function.__tailbound_groups__ = groups  # type: ignore[attr-defined]
        return function

    return give


def _checked(function: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    groups: tuple[Group, ...] = function.__tailbound_groups__  # type: ignore[attr-defined]
    check_names(given, groups, what=function.__name__)
    declared = {one.name: one for group in groups for one in options_of(group)}
    return {
        name: v
        if name in _OTHER_FORMS and isinstance(v, _OTHER_FORMS[name])
        else declared[name].value(v)
        for name, v in given.items()
    }


def _request(
    function: Callable[..., Any],
    options: dict[str, Any],
    prompts: PromptSource,
    out: Place,
    target: TargetSource,
    judge: JudgeSource,
) -> Request:
    from tailbound.workflows.opening import Request

    return Request(
        prompts=prompts,
        out=_place(out),
        target=target,
        judge=judge,
        given=_checked(function, options),
    )


def _place(given: Place, name: str = "out") -> Path:
    return place(given, name=name)


_OTHER_FORMS: dict[str, type] = {"extra_body": Mapping, "stop": str}
"""What Python may give besides the declared type: a JSON object as a dict, one text for a list."""


@_takes(BoundSettings, MethodOptions, ProposalOptions, PromptOptions, RecordOptions, *_WORKING)
def bound(
    prompts: PromptSource,
    *,
    out: Place,
    target: TargetSource = "demo",
    judge: JudgeSource = "demo",
    progress: ProgressOption = "auto",
    **options: Any,
) -> BoundResult:
    """Bound the number of generations until the first unsafe one, for prompts never sampled.

    `out` is the run folder; a run already there is resumed. `budget`, the average number of draws
    per calibration prompt, is required. If no level qualifies, the result has `bound.level == 0`
    and every bound is 1.

    >>> import tempfile, tailbound
    >>> from tailbound.demo.files import default_prompts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.bound(default_prompts(60), out=f"{folder}/run", budget=5,
    ...                             train_draws=20, test_draws=20, progress=None)
    >>> found.bound.guarantee
    'marginal'
    """
    from tailbound.workflows.bound.command import run_command

    request = _request(bound, options, prompts, out, target, judge)
    with _watching(progress) as reporter:
        done = run_command(request, progress=reporter)
    return done.result


@_takes(TableOptions)
def bound_table(
    table: TableSource,
    *,
    out: Place,
    progress: ProgressOption = "auto",
    **options: Any,
) -> BoundResult:
    """A bound from times that were observed elsewhere: no model and no judge.

    `table` is a path, records or a frame with one row per unit: `time`, `event`, predictions
    (`p_hat`, or hazards by step `h1`, `h2`, ...), and where wanted `id`, `split`, `group`, `tail`.
    With `budget` only the draws that the design would have paid for are used. `predict` then takes
    a table of new units with their predictions.

    >>> import random, tempfile, tailbound
    >>> draw = random.Random(0).random
    >>> rows = []
    >>> for _ in range(300):
    ...     falling = {"h1": 0.3, "h2": 0.1, "h3": 0.05}  # from turn to turn
    ...     hits = [turn for turn, h in enumerate(falling.values(), start=1) if draw() < h]
    ...     rows.append({"time": min(hits, default=3), "event": bool(hits), **falling})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.bound_table(rows, out=f"{folder}/run", alpha=(0.35,),
    ...                                   guarantee="marginal", progress=None)
    ...     new = tailbound.predict(f"{folder}/run", rows[:1], progress=None)
    >>> new[0].lower_bound
    2
    """
    from tailbound.workflows.table.command import table_command

    given = _checked(bound_table, options)
    with _watching(progress):
        return table_command(table, _place(out), given)


@_takes(BoundSettings, MethodOptions, ProposalOptions, PromptOptions, *_WORKING)
def plan_bound(
    prompts: PromptSource,
    *,
    out: Place = "run",
    target: TargetSource = "demo",
    judge: JudgeSource = "demo",
    progress: ProgressOption = "auto",
    **options: Any,
) -> Preview:
    """What `bound` would draw and how long it would take, from a few draws; nothing is kept.

    >>> import tailbound
    >>> from tailbound.demo.files import default_prompts
    >>> plan = tailbound.plan_bound(default_prompts(60), budget=5, progress=None)
    >>> [stream.part for stream in plan.streams]
    ['train', 'calibration', 'test']
    """
    from tailbound.workflows.bound.command import plan_command

    request = _request(plan_bound, options, prompts, out, target, judge)
    with _watching(progress):
        plan = plan_command(request)
    return plan.preview


@_takes(RiskSettings, ProposalOptions, SplittingOptions, PromptOptions, *_WORKING)
def risk(
    prompts: PromptSource,
    *,
    out: Place,
    target: TargetSource = "demo",
    judge: JudgeSource = "demo",
    rejudge: bool = False,
    progress: ProgressOption = "auto",
    **options: Any,
) -> RiskResult:
    """Estimate the probability of an unsafe output for each prompt, however rare.

    With `rejudge` the draws on record in `out` are judged by `judge`, and nothing is sampled.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.risk(["how do i clean the pie"], out=f"{folder}/run", draws=20,
    ...                            proposal="none", progress=None)
    >>> found.risks[0].estimate.draws
    20
    """
    from tailbound.workflows.risk import command

    request = _request(risk, options, prompts, out, target, judge)
    rejudge = typed(bool, rejudge, name="rejudge")
    with _watching(progress) as reporter:
        if rejudge:
            return command.rejudge_command(request).result
        return command.run_command(request, progress=reporter).result


@_takes(RiskSettings, ProposalOptions, SplittingOptions, PromptOptions, *_WORKING)
def plan_risk(
    prompts: PromptSource,
    *,
    out: Place = "run",
    target: TargetSource = "demo",
    judge: JudgeSource = "demo",
    progress: ProgressOption = "auto",
    **options: Any,
) -> RiskPreview:
    """What `risk` would draw and how long it would take, from a few draws; nothing is kept.

    >>> import tailbound
    >>> plan = tailbound.plan_risk(["how do i clean the pie"], draws=100, progress=None)
    >>> plan.draws
    100
    """
    from tailbound.workflows.risk.command import plan_command

    request = _request(plan_risk, options, prompts, out, target, judge)
    with _watching(progress):
        plan = plan_command(request)
    return plan.preview


@_takes(PromptOptions)
def predict(
    run: Place,
    prompts: PromptSource,
    *,
    target: Target | None = None,
    progress: ProgressOption = "auto",
    **options: Any,
) -> PredictedBounds:
    """The calibrated bound of the run folder `run` for each of `prompts`.

    `target` is needed only where the run was made with a target object and its predictor reads
    hidden states.

    >>> import tempfile, tailbound
    >>> from tailbound.demo.files import default_prompts
    >>> prompts = [{"prompt": p.text, "p_hat": 0.1} for p in default_prompts(60)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tailbound.bound(prompts, out=f"{folder}/run", budget=5, test_draws=10,
    ...                         progress=None)
    ...     found = tailbound.predict(f"{folder}/run", prompts[:2], progress=None)
    >>> len(found)
    2
    """
    from tailbound.workflows.bound.prediction import predict_command
    from tailbound.workflows.opening import check_target_source

    given = _checked(predict, options)
    folder = _place(run, "run")
    if target is not None:
        check_target_source(target)
    with _watching(progress):
        return predict_command(folder, prompts, given, target=target)


@_takes(RejudgeOptions)
def rejudge(
    run: Place,
    judge: JudgeSource,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> Rejudged:
    """Judge the draws of a run again with another judge, and keep both verdicts.

    >>> import json, pathlib, tempfile, tailbound
    >>> rows = [{"id": "q", "prompt": "q", "response": f"r{n}", "score": n % 2} for n in range(10)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "table.jsonl")
    ...     _ = file.write_text("\\n".join(map(json.dumps, rows)))
    ...     _ = tailbound.import_draws(file, f"{folder}/run", progress=None)
    ...     again = tailbound.rejudge(f"{folder}/run", "regex:7", progress=None)
    >>> again.agreement.draws
    10
    """
    from tailbound.workflows.rejudge.command import run_command

    given = _checked(rejudge, options)
    with _watching(progress):
        return run_command(_place(run, "run"), judge, given)


@_takes(AuditJudgeOptions)
def audit_judge(
    run: Place,
    judge: JudgeSource | None = None,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> JudgeAudit | JudgeSample:
    """Correct the rates of a run for the mistakes of its judge: `tailbound audit-judge`.

    A sample of the draws is labelled by a better `judge`, or by people: `sheet` is the CSV file to
    write for them, and `labels` the filled one to read. Where a sheet is written, the sample comes
    back.

    >>> import json, pathlib, tempfile, tailbound
    >>> rows = [{"id": "q", "prompt": "q", "response": f"r{n}", "score": n % 2} for n in range(40)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "table.jsonl")
    ...     _ = file.write_text("\\n".join(map(json.dumps, rows)))
    ...     _ = tailbound.import_draws(file, f"{folder}/run", progress=None)
    ...     found = tailbound.audit_judge(f"{folder}/run", "regex:[13]$", progress=None)
    >>> found.overall.uncorrected.rate, found.overall.corrected.estimate
    (0.5, 0.2)
    """
    from tailbound.workflows.audit_judge.command import audit_judge_command

    given = _checked(audit_judge, options)
    with _watching(progress):
        return audit_judge_command(_place(run, "run"), judge, given)


@_takes(SummaryOptions)
def summarize(
    run: Place,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> RunSummary:
    """Exact intervals for each prompt and for the set, by the stopping rule of each stream.

    >>> import json, pathlib, tempfile, tailbound
    >>> rows = [{"id": "q", "prompt": "q", "response": f"r{n}", "score": n % 2} for n in range(10)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "table.jsonl")
    ...     _ = file.write_text("\\n".join(map(json.dumps, rows)))
    ...     _ = tailbound.import_draws(file, f"{folder}/run", progress=None)
    ...     summary = tailbound.summarize(f"{folder}/run", k=(10,), progress=None)
    >>> summary.streams[0].prompts[0].unsafe
    5
    """
    from tailbound.workflows.summarize.summary import summarize_command

    given = _checked(summarize, options)
    with _watching(progress):
        return summarize_command(_place(run, "run"), given)


@_takes(ForecastOptions)
def forecast_deployment(
    source: EstimateSource,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> ForecastResult:
    """Unsafe outputs of a traffic mix, and the worst of many more queries: `tailbound forecast`.

    `source` is a run folder with risks or a summary, where `forecast.json` is written, or a table
    of probabilities with the ends of their intervals: a path, records or a frame with the columns
    `p`, `low`, `high`, and where wanted `id`, `group`, `weight` and `resolved`.

    >>> import tailbound
    >>> rows = [{"p": p, "low": p, "high": p, "weight": w} for p, w in ((0.1, 1), (0.001, 99))]
    >>> found = tailbound.forecast_deployment(rows, draws=(1_000,), progress=None)
    >>> round(found.traffic[0].expected, 2), round(found.traffic[0].at_least_one, 3)
    (1.99, 0.864)
    """
    from tailbound.workflows.forecast.command import forecast_command

    given = _checked(forecast_deployment, options)
    if isinstance(source, (str, PathLike)):
        source = _place(source, "source")
    with _watching(progress):
        return forecast_command(source, given)


@_takes(SensitivityOptions)
def sensitivity(
    source: EstimateSource,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> SensitivityResult:
    """How far wordings of the same query differ: `tailbound sensitivity`.

    `source` is a run folder with risks or a summary, or a table of probabilities with the ends of
    their intervals, as for `forecast_deployment`; rewordings of one query have the same `group`.
    Nothing is written.

    >>> import tailbound
    >>> rows = [{"p": p, "low": p, "high": p, "group": g}
    ...         for p, g in ((0.1, "a"), (0.01, "a"), (0.001, "b"), (0.0001, "b"))]
    >>> found = tailbound.sensitivity(rows, progress=None)
    >>> [round(10**one.spread) for one in found.groups], found.components.within
    ([10, 10], 0.5)
    """
    from tailbound.workflows.sensitivity.command import sensitivity_command

    given = _checked(sensitivity, options)
    if isinstance(source, (str, PathLike)):
        source = _place(source, "source")
    with _watching(progress):
        return sensitivity_command(source, given)


@_takes(
    *(ParaphraseOptions, Only(SensitivityOptions, ("seed",)), PromptOptions, REWORDING_SAMPLING),
    *(EngineOptions, EndpointOptions),
)
def paraphrase(
    prompts: PromptSource,
    out: Place,
    *,
    target: TargetSource,
    progress: ProgressOption = "auto",
    **options: Any,
) -> Paraphrased:
    """Reword prompts with a chat model: `tailbound sensitivity --paraphrase`.

    The file `out` (JSONL) gets every prompt and its rewordings, in one group, for `risk` and then
    `sensitivity`. Replies are kept in the folder `OUT.draws` as they come: the same call again
    resumes there. The result says what became of every reply.
    """
    from tailbound.workflows.paraphrase.command import paraphrase_command

    given = _checked(paraphrase, options)
    with _watching(progress):
        return paraphrase_command(prompts, _place(out, "out"), target=target, given=given)


@_takes(CompareOptions)
def compare(
    a: Place,
    b: Place,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> CompareResult:
    """Run `b` against run `a` on the same prompts: `tailbound compare`.

    `a` and `b` are run folders of two models, checkpoints, system prompts or judges. The result has
    the mean change with its intervals, the list of changed prompts, and what else differs. Nothing
    is written.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, heat in (("a", 1.0), ("b", 0.7)):
    ...         _ = tailbound.risk(["how do i clean the pie"], out=f"{folder}/{name}", draws=20,
    ...                            proposal="none", temperature=heat, progress=None)
    ...     found = tailbound.compare(f"{folder}/a", f"{folder}/b", quantity="rate", progress=None)
    >>> len(found.prompts), [one.name for one in found.differences]
    (1, ['contract.temperature', 'contract.digest'])
    """
    from tailbound.workflows.compare.command import compare_command

    given = _checked(compare, options)
    with _watching(progress):
        return compare_command(_place(a, "a"), _place(b, "b"), given)


@_takes(ReportOptions)
def report(
    *runs: Place,
    progress: ProgressOption = "auto",
    **options: Any,
) -> Report:
    """One self-contained page about one or several run folders: `tailbound report`.

    The result has the `path` of the page and its `answers`, one for each question of each run.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tailbound.risk(["how do i clean the pie"], out=f"{folder}/run", draws=20,
    ...                        proposal="none", progress=None)
    ...     page = tailbound.report(f"{folder}/run", progress=None)
    >>> page.answers[0].question, page.path.endswith("report.html")
    ('How likely?', True)
    """
    from tailbound.workflows.report.command import report_command

    given = _checked(report, options)
    folders = [_place(run, "run") for run in runs]
    with _watching(progress):
        return report_command(folders, given)


@_takes(ViewOptions)
def view(*runs: Place, **options: Any) -> None:
    """Serve the report of one or several run folders on this machine: `tailbound view`.

    Prints the address, opens it in a browser where there is one, and serves until it is
    interrupted. The page follows a run that is in progress in another process.
    """
    from tailbound.terminal.browser import announce
    from tailbound.workflows.view.command import view_command

    given = _checked(view, options)
    view_command([_place(run, "run") for run in runs], given, ready=announce)


@_takes(VerifyOptions)
def verify(
    run: Place,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> Verification:
    """Compute every result of a run again from its draws, and say whether they match.

    No model is loaded and nothing is written; what would take the model is listed as not
    recomputed. Raises `UsageError` where `run` is no run.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tailbound.risk(["how do i clean the pie"], out=f"{folder}/run", draws=20,
    ...                        proposal="none", progress=None)
    ...     found = tailbound.verify(f"{folder}/run", progress=None)
    >>> found.matches
    True
    """
    from tailbound.workflows.verify.command import verify_command

    given = _checked(verify, options)
    with _watching(progress):
        return verify_command(_place(run, "run"), given)


@_takes(LedgerOptions)
def ledger(
    run: Place,
    action: LedgerAction,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> LedgerReport:
    """The shards that hold the draws of a run: `verify`, `compact` or `stats`.

    `verify` reads every shard and compares it with its checksum, and looks for draws that are
    recorded twice or are of unknown prompts; the report is not `sound` where something is wrong.
    `compact` puts small shards together: rows and results stand as they are. Raises `UsageError`
    where `run` has no ledger, and `LedgerError` for a damaged one that is to be compacted.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tailbound.risk(["how do i clean the pie"], out=f"{folder}/run", draws=20,
    ...                        proposal="none", progress=None)
    ...     found = tailbound.ledger(f"{folder}/run", "verify", progress=None)
    >>> found.sound, found.rows
    (True, 20)
    """
    from tailbound.workflows.ledger.command import ledger_command

    given = _checked(ledger, options)
    with _watching(progress):
        return ledger_command(_place(run, "run"), action, given)


@_takes(GateOptions)
def gate(run: Place, **options: Any) -> GateResult:
    """Requirements on the results of a run: met only where the draws show it.

    `require` are texts such as `risk<=1e-3`, `coverage>=.88` or `bound>=100@p50`. The result has
    `passed`, and an outcome for each: met, failed or cannot tell. Raises `UsageError` for what is
    not a requirement or not a run.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tailbound.risk(["how do i clean the pie"], out=f"{folder}/run", draws=20,
    ...                        proposal="none", progress=None)
    ...     found = tailbound.gate(f"{folder}/run", require=["risk<=1e-3"])
    >>> found.passed, found.assessments[0].outcome
    (False, 'cannot tell')
    """
    from tailbound.workflows.gate.command import gate_command

    return gate_command(_place(run, "run"), _checked(gate, options))


def show(folder: Place) -> Overview:
    """What ran in a run folder, when, what came out, what is missing, and what to do next.

    `folder` may also hold several run folders. Nothing is written. Raises `UsageError` where there
    is no run.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tailbound.risk(["how do i clean the pie"], out=f"{folder}/run", draws=20,
    ...                        proposal="none", progress=None)
    ...     found = tailbound.show(f"{folder}/run")
    >>> [(one.name, one.numbers[1]) for one in found.runs[0].results]
    [('risk', '0 of 1 prompts resolved')]
    """
    from tailbound.workflows.show import show_folder

    return show_folder(_place(folder, "folder"))


@_takes(MonitorOptions)
def monitor(
    run: Place,
    outcomes: Place | Iterable[Mapping[str, Any]] | None = None,
    **options: Any,
) -> MonitorResult:
    """Outcomes of production against what the run folder `run` audited: is it worse now?

    `outcomes` are a file, or records with `draws`, `unsafe`, and `prompt_id` or `group` where they
    are known; each call adds its own, but for those of a file that were counted earlier. None asks
    where monitoring stands. The result has an `alarm`, None while there is none.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tailbound.risk(["how do i clean the pie"], out=f"{folder}/run", draws=20,
    ...                        proposal="none", progress=None)
    ...     found = tailbound.monitor(f"{folder}/run", [{"draws": 500, "unsafe": 30}],
    ...                               reference=0.02)
    >>> found.alarm.outcome, found.e_value >= 20
    (1, True)
    """
    from tailbound.workflows.monitor.command import monitor_command

    given = _checked(monitor, options)
    if isinstance(outcomes, (str, PathLike)):
        outcomes = _place(outcomes, "outcomes")
    return monitor_command(_place(run, "run"), outcomes, given)


@_takes(ImportOptions, RecordOptions)
def import_draws(
    source: Place,
    out: Place,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> ImportResult:
    """Draws that were paid for elsewhere, as a run folder: see `tailbound import`.

    >>> import json, pathlib, tempfile, tailbound
    >>> rows = [{"id": "q", "prompt": "q", "response": f"r{n}", "score": n % 2} for n in range(10)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "table.jsonl")
    ...     _ = file.write_text("\\n".join(map(json.dumps, rows)))
    ...     found = tailbound.import_draws(file, f"{folder}/run", progress=None)
    >>> found.draws, found.unsafe
    (10, 5)
    """
    from tailbound.workflows.import_.job import import_command

    given = _checked(import_draws, options)
    with _watching(progress):
        return import_command(_place(source, "source"), _place(out), given)


@_takes(ExportOptions)
def export(
    run: Place,
    *,
    progress: ProgressOption = "auto",
    **options: Any,
) -> ExportResult:
    """The draws of a run in the format of another tool: `tailbound export`.

    `to="inspect"` writes a log for `inspect view`: all unsafe draws, a random sample of the others,
    and the results of the run, which count all draws. Needs the extra `inspect`.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tailbound.risk(["how do i clean the pie"], out=f"{folder}/run", draws=20,
    ...                        proposal="none", progress=None)
    ...     found = tailbound.export(f"{folder}/run", to="inspect", safe=5, progress=None)
    >>> found.draws, found.exported < 20
    (20, True)
    """
    from tailbound.workflows.export.command import export_command

    given = _checked(export, options)
    with _watching(progress):
        return export_command(_place(run, "run"), given)


@_takes(
    RefusalOptions,
    Only(SamplingOptions, ("system", "completion")),
    Only(EngineOptions, ("dtype", "device", "revision")),
)
def steer_refusal(
    out: Place,
    *,
    target: TargetSource = "demo",
    progress: ProgressOption = "auto",
    **options: Any,
) -> Direction:
    """Find the direction that carries a model's refusals, and save it in `out`.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.steer_refusal(f"{folder}/direction", progress=None)
    >>> found.kind, found.evidence["passed"]
    ('refusal', True)
    """
    from tailbound.workflows.opening import check_target_source
    from tailbound.workflows.steer import refusal_command

    given = _checked(steer_refusal, options)
    check_target_source(target)
    with _watching(progress):
        return refusal_command(_place(out), target=target, given=given)


@_takes(PersonaOptions, Only(SamplingOptions, ("system", "max_new_tokens")), EngineOptions)
def steer_persona(
    trait: str,
    out: Place,
    *,
    target: TargetSource = "demo",
    judge: JudgeSource | None = None,
    progress: ProgressOption = "auto",
    **options: Any,
) -> Direction:
    """Find the vector of a trait (a YAML file, or one of the demo's), and save it in `out`.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.steer_persona("flatter", f"{folder}/vector", replies=1, progress=None)
    >>> found.kind, found.evidence["trait_rate"]["steered"] > 0.3
    ('persona:flatter', True)
    """
    from tailbound.workflows.opening import check_target_source
    from tailbound.workflows.steer import persona_command

    given = _checked(steer_persona, options)
    check_target_source(target)
    trait = str(_place(trait, "trait"))
    with _watching(progress):
        return persona_command(trait, _place(out), target=target, judge=judge, given=given)[0]


@_takes(ErrorStudy, *_STUDY)
def reproduce_mc_vs_is(
    out: Place,
    *,
    prompts: PromptSource | None = None,
    target: TargetSource = "demo",
    judge: JudgeSource | None = None,
    progress: ProgressOption = "auto",
    **options: Any,
) -> StudyResult:
    """Relative error against draws and tokens of several methods, beside the truth.

    `out` is the folder of the study: its runs, `study.json`, tables and figures. A study already
    there is resumed, or extended by more draws, repeats or methods. Needs the extra `plot`.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.reproduce_mc_vs_is(f"{folder}/study", draws=(20,), repeats=1,
    ...                                          method="none", limit=2, progress=None)
    >>> found.truth, len(found.points)
    ('exact', 2)
    """
    return _study("mc-vs-is", reproduce_mc_vs_is, options, out, prompts, target, judge, progress)


@_takes(WeightedStudy, *_STUDY)
def reproduce_strongreject(
    out: Place,
    *,
    prompts: PromptSource | None = None,
    target: TargetSource = "demo",
    judge: JudgeSource | None = None,
    progress: ProgressOption = "auto",
    **options: Any,
) -> StudyResult:
    """Share of prompts with an unsafe output among k draws, predicted from few and seen in many.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.reproduce_strongreject(f"{folder}/study", plain=30, weighted=20,
    ...                                              limit=1, progress=None)
    >>> [row.k for row in found.shares if row.seen is not None]
    [1, 2, 5, 10, 20]
    """
    return _study(
        "strongreject", reproduce_strongreject, options, out, prompts, target, judge, progress
    )


@_takes(WeightedStudy, *_STUDY)
def reproduce_persona(
    out: Place,
    *,
    prompts: PromptSource | None = None,
    target: TargetSource = "demo",
    judge: JudgeSource | None = None,
    progress: ProgressOption = "auto",
    **options: Any,
) -> StudyResult:
    """A trait of the target by few weighted draws, beside many plain ones.

    `judge` None is the trait's own.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.reproduce_persona(f"{folder}/study", plain=30, weighted=20, limit=1,
    ...                                         progress=None)
    >>> found.judge, found.options["proposal"]
    ('demo:flatter', ['persona:flatter'])
    """
    return _study("persona", reproduce_persona, options, out, prompts, target, judge, progress)


@_takes(SyntheticStudy)
def reproduce_synthetic(
    out: Place, *, progress: ProgressOption = "auto", **options: Any
) -> SyntheticResult:
    """Coverage, length and cost of bounds by five designs, on a population of known risks.

    The published synthetic experiment (Davidov et al., arXiv 2506.13593). `out` is the folder of
    the study: its cells, `study.json`, a table and figures. A study already there is resumed, or
    extended by more budgets, repeats or designs. Needs the extras `plot` and `hf`.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.reproduce_synthetic(f"{folder}/study", prompts_count=2000, repeats=1,
    ...                                           budget=(10,), design="trimmed", progress=None)
    >>> [(row.method.name, row.budget) for row in found.rows]
    [('trimmed', 10)]
    """
    from tailbound.workflows.reproduce.synthetic.command import run_synthetic

    given = _checked(reproduce_synthetic, options)
    with _watching(progress):
        return run_synthetic(_place(out), given)


@_takes(CompletionStudy, BOUND_OPTIONS, PromptOptions, CompletionOptions, EngineOptions)
def reproduce_realtoxicity(
    out: Place,
    *,
    prompts: PromptSource | None = None,
    target: TargetSource = "demo",
    judge: JudgeSource | None = None,
    progress: ProgressOption = "auto",
    **options: Any,
) -> CompletionResult:
    """Bounds on completions at several budgets, beside the uncalibrated ones.

    The published experiment on real weights (Davidov et al., arXiv 2506.13593): `prompts` are
    beginnings of sentences, sent as raw text. `out` is the folder of the study: its runs,
    `study.json`, a table and figures. A study already there is resumed, or extended by more
    budgets or designs. Needs the extra `plot`.

    >>> import tempfile, tailbound
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = tailbound.reproduce_realtoxicity(f"{folder}/study", budget=(2,), limit=100,
    ...                                              train_draws=5, test_draws=5, progress=None)
    >>> [run.folder for run in found.runs]
    ['optimized-2', 'balanced-2']
    """
    from tailbound.workflows.reproduce.realtoxicity.command import (
        CompletionRequest,
        run_completions,
    )

    request = CompletionRequest(
        out=_place(out),
        prompts=prompts,
        target=target,
        judge=judge,
        given=_checked(reproduce_realtoxicity, options),
    )
    with _watching(progress) as reporter:
        return run_completions(request, progress=reporter)


def _study(
    study: StudyName,
    function: Callable[..., Any],
    options: dict[str, Any],
    out: Place,
    prompts: PromptSource | None,
    target: TargetSource,
    judge: JudgeSource | None,
    progress: ProgressOption,
) -> StudyResult:
    from tailbound.workflows.reproduce.command import StudyRequest, run_study

    request = StudyRequest(
        study=study,
        out=_place(out),
        prompts=prompts,
        target=target,
        judge=judge,
        given=_checked(function, options),
    )
    with _watching(progress) as reporter:
        return run_study(request, progress=reporter)


@_takes(*_DRAWING)
def load_target(name: str, **options: Any) -> Target:
    """The target that `name` means (`demo`, `hf:NAME`, `openai:NAME`), loaded.

    >>> import tailbound
    >>> tailbound.load_target("demo", temperature=0.8).contract.temperature
    0.8
    """
    from tailbound.targets import registry
    from tailbound.workflows.opening import engine_options, sampling_options

    name = typed(str, name, name="the name of a target")
    given = _checked(load_target, options)
    engine = engine_options(name, given)
    registry.check_target(name, **engine)
    return registry.load_target(name, sampling_options(name, given), **engine)


# --- progress ---------------------------------------------------------------------------------


class _Callback:
    """A user's function as watcher of steps and reporter of streams."""

    def __init__(self, function: Callable[[Any], None]) -> None:
        self._function = function

    def __call__(self, progress: Progress) -> None:
        self._function(progress)

    def began(self, step: Step) -> None:
        self._function(step)

    def advanced(self, step: Step) -> None:
        self._function(step)

    def ended(self, step: Step) -> None:
        self._function(step)


@contextmanager
def _watching(progress: ProgressOption) -> Iterator[Reporter]:
    """Whoever is to see what happens meanwhile."""
    if progress is None:
        from tailbound.audit import silent

        yield silent
    elif progress == "auto":
        from tailbound.terminal.progress import LiveProgress

        with LiveProgress() as live:
            yield live
    elif callable(progress):
        callback = _Callback(progress)
        with watched_by(callback), notices_to(progress):
            yield callback
    else:
        raise TypeError(f"progress must be 'auto', None or a function, not {progress!r:.60}")
