"""The shape of every JSON document: the files of a run folder, and what `--json` prints.

docs/schemas/ holds the JSON Schemas that come of them (`scripts/schemas` writes them). Objects take
no other keys than those named here, so a new key without a line here fails a test. Objects that a
plugin or a user fills (options of an engine, evidence of a proposal) are open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tailbound.core.contract import SamplingContract
from tailbound.core.steps import Work
from tailbound.importance_sampling import Agreement as GroupAgreement
from tailbound.importance_sampling import MixSwitch, RiskEstimate
from tailbound.predictors.head import TrainingReport
from tailbound.runs import layout
from tailbound.runs.history import Provenance, RecordedResult
from tailbound.storage.files import make_folder, write_atomically
from tailbound.storage.json_schema import (
    AnyOf,
    ListOf,
    MapOf,
    Nullable,
    Omittable,
    Shape,
    schema_of,
    shape,
)
from tailbound.summaries import PromptSummary, SetSummary
from tailbound.survival import Evaluation, LowerPredictiveBound, UpperPredictiveBound
from tailbound.targets.endpoint.cost import Usage
from tailbound.targets.endpoint.probe import Capabilities
from tailbound.workflows.audit_judge import JudgeAudit, JudgeSample
from tailbound.workflows.bound import (
    BoundAtAlpha,
    BoundSettings,
    ConstantBound,
    PredictedBound,
    Preview,
)
from tailbound.workflows.bound.curve import Curve, TwoSided
from tailbound.workflows.bound.groups import Groups, LowerBound
from tailbound.workflows.bound.importance.report import WeightedReport
from tailbound.workflows.bound.recalibration import Recalibration
from tailbound.workflows.bound.results import MissingVerdicts, StreamSpend
from tailbound.workflows.compare import CompareResult
from tailbound.workflows.doctor import Diagnosis
from tailbound.workflows.doctor import Requirement as Package
from tailbound.workflows.export import ExportResult
from tailbound.workflows.forecast import ForecastResult
from tailbound.workflows.gate import GateResult
from tailbound.workflows.import_ import ImportResult
from tailbound.workflows.ledger import LedgerReport, ShardReport
from tailbound.workflows.monitor import MonitorResult
from tailbound.workflows.paraphrase import Paraphrased
from tailbound.workflows.rejudge import Agreement, Rejudged, StreamComparison
from tailbound.workflows.report import Report
from tailbound.workflows.reproduce.realtoxicity.results import CheckedBound, CompletionRun
from tailbound.workflows.reproduce.results import (
    MethodSummary,
    Need,
    Point,
    ShareRow,
    StudyPrompt,
    StudyRun,
)
from tailbound.workflows.reproduce.synthetic.results import SyntheticCell, SyntheticRow
from tailbound.workflows.risk.preview import RiskPreview
from tailbound.workflows.risk.results import RiskSpend, SetRisk
from tailbound.workflows.sensitivity import SensitivityResult
from tailbound.workflows.show import Overview
from tailbound.workflows.table.settings import TableOptions
from tailbound.workflows.verify import Check, Verification

ONE = Literal[1]
OPEN = MapOf(Any)

ACCOUNT = shape("account", Usage, cost=float)
CONTRACT = shape(
    "contract",
    SamplingContract,
    # null where draws were made elsewhere and the source does not say
    max_new_tokens=int | None,
)
CHOICE = shape(
    "choice",
    about="The setting of mix-switch, and how it was found.",
    schema=ONE,
    setting=MixSwitch,
    reason=str,
    fell_back=bool,
    loss=float | None,
    prompts=list[str],
)

LESSON = shape("reweighted_tokens", tokens=list[int], added=list[float])

LEVEL = shape("lower_predictive_bound", LowerPredictiveBound, schema=ONE)
GROUPS = Nullable(
    shape(
        "coverage_groups",
        Groups,
        about="Groups of prompts, each with a threshold and a guarantee of its own.",
        without=("bound",),
        groups=ListOf(shape("group_bound", name=str, statement=str, bound=LEVEL)),
    )
)
UPPER = Nullable(shape("upper_predictive_bound", UpperPredictiveBound, statement=str))
CURVE = Nullable(
    shape(
        "curve",
        Curve,
        upper=UPPER,
        two_sided=shape(
            "two_sided",
            TwoSided,
            statement=str,
            lower=shape("lower_bound", LowerBound, statement=str, bound=LEVEL, groups=GROUPS),
            upper=UPPER,
        ),
    )
)
BOUND = shape(
    "bound",
    about="A lower predictive bound on the time to the first unsafe draw, and what it rests on.",
    schema=ONE,
    estimand=str,
    statement=str,
    bound=LEVEL,
    # null without --coverage-by
    groups=GROUPS,
    median_bound=float,
    missing=MissingVerdicts,
    predictor=Nullable(
        shape("training_report", TrainingReport, features=str, explained=float | None)
    ),
    constant=ConstantBound | None,
    made_with=AnyOf(
        (
            shape("made_with", BoundSettings, prompts=str),
            shape("made_with_table", TableOptions, predictions=str, prompts=str),
        )
    ),
    # the bounds at smaller miscoverages, descending
    at_alpha=ListOf(
        shape("bound_at_alpha", BoundAtAlpha, statement=str, bound=LEVEL, groups=GROUPS)
    ),
    # null with the design naive and p_hat of one's own
    curve=CURVE,
    weighted=WeightedReport | None,
    # null where p_hat is used as it was given, or was predicted here
    recalibration=Recalibration | None,
)
EVALUATION = shape(
    "evaluation",
    about="Coverage on the test prompts; null without any.",
    schema=ONE,
    evaluation=Evaluation | None,
)

FOUND: dict[str, Any] = {
    "least_effect": Omittable(MapOf(float)),
    "mean_weight": Omittable(float),
    "mean_weight_z": Omittable(float | None),
}
ESTIMATE: dict[str, Any] = {
    "agreement": Nullable(shape("group_agreement", GroupAgreement, agrees=bool | None))
}
PROMPT_RISK = shape("prompt_risk", RiskEstimate, id=str, group=str | None, **ESTIMATE)
RISK = shape(
    "risk",
    about="The risk of each prompt and of the set, what they rest on, and what was checked.",
    schema=ONE,
    estimand=str,
    set=SetRisk,
    prompts=ListOf(PROMPT_RISK),
    family=shape("family", name=str, proposals=list[str], choice=Omittable(CHOICE)),
    proposal=shape("proposal_used", spec=list[str], id=str, parts=ListOf(OPEN)),
    checks=shape(
        "checks",
        about="What the self-checks found; empty without a proposal.",
        **FOUND,
    ),
    left_out=list[str],
)

VERDICT_AGREEMENT = shape("verdict_agreement", Agreement, agree=float | None)
REJUDGED = shape(
    "agreement",
    Rejudged,
    schema=ONE,
    estimand=str,
    guarantee=str,
    agreement=VERDICT_AGREEMENT,
    missing_reasons=ListOf(shape("missing_reason", reason=str, draws=int)),
    streams=ListOf(shape("stream_comparison", StreamComparison, agreement=VERDICT_AGREEMENT)),
)
SUMMARY = shape(
    "summary",
    about="Exact intervals of every stream under one threshold.",
    schema=ONE,
    estimand=str,
    guarantee=str,
    threshold=float,
    confidence=float,
    alpha=float,
    streams=ListOf(
        shape(
            "stream_summary",
            stream=str,
            stopping=Literal["fixed", "first-event"],
            weighted_draws_left_out=int,
            later_draws_left_out=int,
            set=ListOf(SetSummary),
            prompts=ListOf(shape("prompt_summary", PromptSummary, id=str)),
        )
    ),
)
AUDITED = shape(
    "judge_audit",
    JudgeAudit,
    about="Rates of unsafe draws, corrected for the mistakes of the judge by labels of a sample.",
    schema=ONE,
    estimand=str,
    guarantee=str,
)
JUDGE_SAMPLE = shape(
    "judge_sample",
    JudgeSample,
    about="Draws to label, and how they were chosen.",
    schema=ONE,
)
FORECAST = shape(
    "forecast",
    ForecastResult,
    without=("what",),
    about="Unsafe outputs of a traffic mix, and the worst of many more queries.",
    schema=ONE,
    estimand=str,
    guarantee=str,
)
SENSITIVITY = shape(
    "sensitivity",
    SensitivityResult,
    without=("what",),
    about="How much the wording of queries matters.",
    schema=ONE,
    estimand=str,
    guarantee=str,
)
PARAPHRASED = shape(
    "paraphrased",
    Paraphrased,
    about="Rewordings of queries by a chat model, and what became of every reply.",
    schema=ONE,
)
COMPARED = shape(
    "compare",
    CompareResult,
    without=("what",),
    about="Two runs on the same prompts: which prompts changed, and by how much all of them did.",
    schema=ONE,
    estimand=str,
    guarantee=str,
    changed=list[str],
)
MONITOR = shape(
    "monitor",
    MonitorResult,
    about="Outcomes of production against what the run audited: where the evidence stands.",
    schema=ONE,
)
DIRECTION: dict[str, Any] = {
    "kind": str,
    "layer": int,
    "position": int | None,
    "coefficient": float,
    "model": str,
    "revision": str | None,
    "contract": str,
    "evidence": OPEN,
}

FILES: dict[str, Shape] = {
    layout.MANIFEST: shape(
        "run",
        about="What was asked for. A YAML document.",
        schema=ONE,
        command=str,
        target=str,
        engine=OPEN,
        contract=shape("run_contract", CONTRACT, digest=str),
        judge=str,
        judge_id=str,
        threshold=float,
        options=OPEN,
        notices=list[str],
        capabilities=Omittable(Capabilities),
        versions=dict[str, str],
    ),
    layout.LEDGER: shape(
        "ledger",
        about="What the draws are draws of.",
        schema=ONE,
        contract=CONTRACT,
        contract_digest=str,
        judge=str,
        seed=int,
        run_id=str,
    ),
    layout.SPEND: shape(
        "spend",
        about="Draws and tokens of each stream on record, and the work of each stage.",
        schema=ONE,
        streams=Omittable(MapOf(AnyOf((StreamSpend, RiskSpend)))),
        stages=Omittable(MapOf(Work)),
    ),
    layout.USAGE: shape(
        "usage",
        about="What servers were asked for and paid, over all processes of a run.",
        target=Omittable(ACCOUNT),
        judge=Omittable(ACCOUNT),
    ),
    layout.BOUND: BOUND,
    layout.EVALUATION: EVALUATION,
    layout.FEATURES: shape("features", about="What the predictor reads.", schema=ONE, features=str),
    f"{layout.FINETUNED}/finetuned.json": shape(
        "finetuned",
        about="Tuned encoders: what they learnt from, and the SHA-256 of their files.",
        files=dict[str, str],
        schema=ONE,
        model=str,
        digest=str,
        base=float,
        folds=dict[str, int],
    ),
    layout.RISK: RISK,
    layout.PROPOSAL: shape(
        "proposal",
        about="Which proposals, and why each was chosen.",
        schema=Literal[2],
        spec=list[str],
        explore=bool,
        id=str,
        parts=ListOf(shape("proposal_part", spec=str, id=str, evidence=OPEN)),
    ),
    f"{layout.PLAN}/{layout.lesson_name(2)}": shape(
        "lesson",
        about="What a round learned from unsafe draws: tokens, and what is added to their logits.",
        schema=Literal[2],
        learned=MapOf(LESSON),
        opening=MapOf(LESSON),
        pooled=LESSON,
    ),
    f"{layout.PLAN}/{layout.adapter_name(2)}/{layout.TRAINING}": shape(
        "training",
        about="What the adapter of a round was trained on, or why there is none.",
        schema=ONE,
        trained=bool,
        reason=str | None,
        replies=dict[str, int],
        starts_from=str | None,
        steps=int,
        tokens=int,
        losses=list[float],
        seed=int,
        versions=dict[str, str],
        digest=str,
        files=dict[str, str],
    ),
    layout.CHECKS: shape(
        "self_checks",
        about="What the self-checks of a proposal found, and a digest of what they depend on.",
        schema=Literal[2],
        digest=str,
        least_effect=MapOf(float),
    ),
    layout.WEIGHTED: shape(
        "weighted_draws",
        about="For what the weighted draws of a bound were planned, and from which proposals.",
        schema=ONE,
        made_for=shape("made_for", draws=int, longest=int, prompts=str),
        # of each round, the share of each proposal
        shares=list[list[float]],
    ),
    layout.CHOICE: CHOICE,
    f"{layout.DIRECTION}/direction.json": shape(
        "direction",
        about="A direction of the residual stream; the vector lies beside it.",
        schema=ONE,
        width=int,
        sha256=str,
        **DIRECTION,
    ),
    f"{layout.PLAN}/{layout.round_name(1)}": shape(
        "round",
        about="One round of batches, written down before it is drawn.",
        schema=ONE,
        proposals=list[str | None],
        sequential=bool,
        batches=dict[str, list[int]],
    ),
    f"{layout.SPLITTING}/{layout.round_name(1)}": shape(
        "splitting_round",
        about="One round of multilevel splitting: repeat, parent and cut of each draw.",
        schema=ONE,
        particles=int,
        score_every=int,
        births=MapOf(list[tuple[int, int, int]]),
    ),
    f"{layout.SPLITTING}/{layout.levels_name(1)}": shape(
        "splitting_levels",
        about="What the judge said of the beginnings of the draws of that round.",
        schema=ONE,
        scores=MapOf(ListOf(shape("scored_beginnings", cuts=list[int], scores=list[float | None]))),
    ),
    f"{layout.VERDICTS}/{layout.JUDGE}": shape(
        "judge", about="A further judge.", schema=ONE, judge=str, judge_id=str
    ),
    f"{layout.VERDICTS}/{layout.AGREEMENT}": REJUDGED,
    layout.SUMMARY: SUMMARY,
    layout.MONITOR: MONITOR,
    layout.FORECAST: FORECAST,
    layout.AUDITED: AUDITED,
    f"{layout.JUDGE_AUDIT}/{layout.SAMPLE}": JUDGE_SAMPLE,
}
"""Sealed files by their place; `verdicts/` stands for `verdicts/DIGEST/`."""

RECORDED = shape(
    "recorded_result",
    RecordedResult,
    schema=ONE,
    provenance=shape("provenance", Provenance),
    result=AnyOf(
        (
            shape("bound_and_coverage", BOUND, evaluation=Evaluation | None),
            *(RISK, SUMMARY, FORECAST, AUDITED, REJUDGED),
        )
    ),
)

REVIEW = shape(
    "review",
    about="One line of review.jsonl: an unsafe draw that an estimate rests on.",
    id=str,
    prompt=str,
    response=str | None,
    draw=int,
    proposal=str,
    score=float,
    weight=float,
    share=float,
    risk=float | None,
)
_TRUTH = shape(
    "truth_row",
    about="One test prompt of the demo: its bound beside its exact risk.",
    id=str,
    prompt=str,
    lower_bound=int,
    p_hat=float,
    exact_risk=float,
    holds=float,
    oracle_bound=int,
)

STUDY = shape(
    "study",
    about="A study: its runs, and what follows from them.",
    schema=ONE,
    study=str,
    target=str,
    judge=str,
    judge_id=str,
    truth=Literal["exact", "brute force"],
    wanted=float,
    contract=CONTRACT,
    options=OPEN,
    versions=dict[str, str],
    prompts=ListOf(StudyPrompt),
    runs=ListOf(StudyRun),
    points=ListOf(Point),
    needs=ListOf(Need),
    methods=ListOf(MethodSummary),
    shares=ListOf(ShareRow),
)
STUDY_PLAN = shape(
    "study_plan",
    about="What may not change between two calls in the folder of a study.",
    schema=ONE,
    study=str,
    contract=str,
    judge_id=str,
    threshold=float,
    seed=int,
    confidence=float,
    intensities=list[float],
    proposal=list[str],
    explore=bool,
    prompts=list[str],
)

SYNTHETIC = shape(
    "synthetic_study",
    about="Bounds on a population of known risks: means over repeats, and every calibration.",
    schema=ONE,
    study=Literal["synthetic"],
    options=OPEN,
    versions=dict[str, str],
    rows=ListOf(SyntheticRow),
    cells=ListOf(SyntheticCell),
)
SYNTHETIC_PLAN = shape(
    "synthetic_plan",
    about="What may not change between two calls in the folder of the study.",
    schema=ONE,
    study=Literal["synthetic"],
    seed=int,
    alpha=float,
    prompts_count=int,
    train_draws=int,
)
COMPLETIONS = shape(
    "completion_study",
    about="Bounds on completions at several budgets, beside the uncalibrated ones.",
    schema=ONE,
    study=Literal["realtoxicity"],
    target=str,
    judge=str,
    judge_id=str,
    contract=CONTRACT,
    options=OPEN,
    versions=dict[str, str],
    prompts=dict[str, int],
    draws=int,
    tokens=int,
    uncalibrated=CheckedBound,
    runs=ListOf(CompletionRun),
)
COMPLETIONS_PLAN = shape(
    "completion_plan",
    about="What may not change between two calls in the folder of the study.",
    schema=ONE,
    study=Literal["realtoxicity"],
    contract=str,
    judge_id=str,
    threshold=float,
    seed=int,
    alpha=float,
    max_weight=float,
    train_draws=int,
    test_draws=int,
    split=list[float],
    loss=str,
    features=str | None,
    allow_missing=bool,
    prompts=list[str],
)
STUDIES: dict[str, tuple[Any, str]] = {
    "study": (STUDY, "study.json in the folder of a study of risks"),
    "study-plan": (STUDY_PLAN, "plan.json in the folder of a study of risks"),
    "study-synthetic": (SYNTHETIC, "study.json in the folder of the study synthetic"),
    "study-synthetic-plan": (SYNTHETIC_PLAN, "plan.json in the folder of the study synthetic"),
    "study-synthetic-cell": (
        shape("synthetic_cell", SyntheticCell, schema=ONE),
        "a cell in the folder of the study synthetic",
    ),
    "study-realtoxicity": (COMPLETIONS, "study.json in the folder of the study realtoxicity"),
    "study-realtoxicity-plan": (
        COMPLETIONS_PLAN,
        "plan.json in the folder of the study realtoxicity",
    ),
}
"""Sealed files of studies by the name of their schema, with the title of it."""

_PAID: dict[str, Any] = {
    name: Omittable(ACCOUNT)
    for name in ("endpoint", "judge_endpoint", "endpoint_of_run", "judge_endpoint_of_run")
}
_BOUND_RESULT: dict[str, Any] = {
    "evaluation": Evaluation | None,
    "spend": MapOf(StreamSpend),
}
_RISK_RESULT = shape("risk_result", RISK, reviewed=int, spend=MapOf(RiskSpend))

OUTPUTS: dict[str, Any] = {
    "bound": shape("bound_output", BOUND, **_BOUND_RESULT, **_PAID),
    "bound-plan": shape(
        "bound_plan",
        Preview,
        without=("samples",),
        draws=int,
        seconds=float,
        cost=Omittable(float),
        judge_cost=Omittable(float),
    ),
    "risk": shape("risk_output", _RISK_RESULT, contract=CONTRACT, **_PAID),
    "risk-plan": shape(
        "risk_plan", RiskPreview, cost_at_least=Omittable(float), cost_at_most=Omittable(float)
    ),
    "risk-rejudge": shape("risk_rejudged", _RISK_RESULT, agreement=VERDICT_AGREEMENT),
    "rejudge": REJUDGED,
    "rejudge-plan": shape(
        "rejudge_plan", about="Draws that would be judged.", to_judge=int, judged_before=int
    ),
    "summarize": SUMMARY,
    "monitor": MONITOR,
    "forecast": FORECAST,
    "audit-judge": AUDITED,
    "audit-judge-sheet": JUDGE_SAMPLE,
    "compare": COMPARED,
    "sensitivity": SENSITIVITY,
    "sensitivity-paraphrase": PARAPHRASED,
    "report": shape("report", Report, schema=ONE),
    "export": shape("export", ExportResult, schema=ONE, draws=int, exported=int),
    "verify": shape(
        "verification",
        Verification,
        schema=ONE,
        matches=bool,
        checks=ListOf(shape("check", Check)),
    ),
    "ledger": shape(
        "ledger_report",
        LedgerReport,
        schema=ONE,
        rows=int,
        shards=int,
        bytes=int,
        bytes_per_row=Nullable(float),
        smallest_shard=Nullable(int),
        largest_shard=Nullable(int),
        unsafe=Nullable(int),
        missing=int,
        sound=bool,
        files=ListOf(shape("shard_report", ShardReport)),
    ),
    "gate": shape("gate", GateResult, schema=ONE, passed=bool),
    "show": shape("overview", Overview, schema=ONE),
    "reproduce": STUDY,
    "reproduce-synthetic": SYNTHETIC,
    "reproduce-realtoxicity": COMPLETIONS,
    "import": ImportResult,
    "predict": shape(
        "predictions",
        about="The lower bound of each prompt.",
        predictions=ListOf(
            shape(
                "predicted_bound",
                PredictedBound,
                p_hat=float,
                unfamiliar=Omittable(bool),
                at_alpha=Omittable(MapOf(int)),
                group=Omittable(str),
                two_sided=Omittable(tuple[int, int | None]),
            )
        ),
    ),
    "steer": shape(
        "steered",
        about="A direction, with its evidence and what it cost to find.",
        **DIRECTION,
        folder=str,
        checkpoint=str | None,
        adapters=str | None,
        spend=MapOf(Work),
    ),
    "targets": dict[str, str],
    "judges": dict[str, str],
    "doctor": shape(
        "diagnosis",
        Diagnosis,
        works=bool,
        parts=MapOf(shape("part", works=bool, cure=str | None, requirements=ListOf(Package))),
    ),
    "demo": shape(
        "tour",
        BOUND,
        **_BOUND_RESULT,
        true_coverage=float,
        truth=ListOf(_TRUTH),
        risks=ListOf(shape("demo_risk", RiskEstimate, id=str, exact_risk=float, **ESTIMATE)),
    ),
}
"""What `tailbound COMMAND --json` prints; `-plan` with `--dry-run`, `-rejudge` with `--rejudge`.

`-sheet` with `--sheet`, `-paraphrase` with `--paraphrase`.
"""


def schemas() -> dict[str, dict[str, Any]]:
    """Every schema by the name of its file in docs/schemas/."""
    found = {}
    for place, document in FILES.items():
        sealed = shape(document.name, document, about=document.about, checksum=str)
        name = schema_name(place)
        found[name] = schema_of(sealed, title=f"{place} of a run folder")
    kept = shape(RECORDED.name, RECORDED, about=RECORDED.about, checksum=str)
    found["results.json"] = schema_of(kept, title="a file of results/, of a run or a judge")
    found["review.json"] = schema_of(REVIEW, title=f"a line of {layout.REVIEW}")
    truth = shape("truth", true_coverage=float, rows=ListOf(_TRUTH), checksum=str)
    found["truth.json"] = schema_of(truth, title=f"{layout.TRUTH} of the demo's run folder")
    for name, (kind, title) in STUDIES.items():
        sealed = shape(kind.name, kind, about=kind.about, checksum=str)
        found[f"{name}.json"] = schema_of(sealed, title=title)
    for command, document in OUTPUTS.items():
        title = f"what tailbound {command_of(command)} --json prints ({command})"
        found[f"output-{command}.json"] = schema_of(document, title=title)
    return dict(sorted(found.items()))


def command_of(output: str) -> str:
    """The command that prints a document of `OUTPUTS`.

    >>> command_of("bound-plan"), command_of("audit-judge-sheet")
    ('bound', 'audit-judge')
    """
    named = "audit-judge"  # the one command with a hyphen
    return named if output.startswith(named) else output.partition("-")[0]


def schema_name(place: str) -> str:
    """The name in docs/schemas/ of the schema of a file: `risk.json`, `plan-round.json`, ...

    >>> schema_name("run.yaml"), schema_name("plan/round-0001.json")
    ('run.json', 'plan-round.json')
    """
    folder, _, name = place.rpartition(".")[0].rpartition("/")
    folder, name = folder.replace("/", "-"), name.removesuffix("-0001")
    return f"{name}.json" if folder in ("", name) else f"{folder}-{name}.json"


def write_schemas(folder: Path) -> list[str]:
    """Write every schema to `folder`, remove others there, and return the names that changed."""
    make_folder(folder)
    texts = {name: text_of(schema) for name, schema in schemas().items()}
    changed = [path.name for path in sorted(folder.glob("*.json")) if path.name not in texts]
    for name in changed:
        (folder / name).unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)
            changed.append(name)
    return changed


def text_of(schema: Mapping[str, Any]) -> str:
    """A schema as it is written."""
    return json.dumps(schema, indent=2) + "\n"
