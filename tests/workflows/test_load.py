"""A run folder as a value: what `load_run` reads is what the commands wrote."""

import json
from pathlib import Path

import numpy as np
import pytest

from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.demo.files import default_prompts
from tailbound.demo.judge import load as load_judge
from tailbound.demo.target import load as load_target
from tailbound.errors import LedgerError, UsageError
from tailbound.prompts import PromptSet
from tailbound.runs import manifest
from tailbound.storage.plain import finite, from_plain
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.bound import (
    BoundResult,
    BoundSettings,
    PredictedBounds,
    divide,
    run_bound,
)
from tailbound.workflows.bound.prediction import PredictedBound
from tailbound.workflows.import_ import ImportResult, import_run
from tailbound.workflows.load import Run, load_run
from tailbound.workflows.rejudge import Rejudged, find_prompts, rejudge
from tailbound.workflows.risk import RiskResult, RiskSettings, make_proposal, run_risk
from tailbound.workflows.summarize.summary import RunSummary, summarize_run


def write_manifest(folder: Path, command: str, contract, judge, options) -> None:
    manifest.write_manifest(
        folder,
        manifest.full_manifest(
            command=command,
            contract=contract,
            target=contract.target,
            engine={},
            judge=judge.id,
            judge_id=judge.id,
            threshold=judge.threshold,
            options=options,
            notices=("a notice",),
        ),
    )


@pytest.fixture(scope="module")
def bound_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BoundResult]:
    folder = tmp_path_factory.mktemp("bound") / "run"
    rng = np.random.default_rng(0)
    ids = [f"<b>p{number}</b>" for number in range(90)]
    target = KnownRiskTarget({name: float(10 ** rng.uniform(-2, -1)) for name in ids})
    judge = WordJudge()
    prompts = PromptSet(
        prompts=tuple(Prompt(id=name, messages=(("user", name),)) for name in ids),
        field="prompt",
        source="test",
    )
    settings = BoundSettings(budget=30, train_draws=40, test_draws=40)
    parts = divide(prompts, settings)
    write_manifest(folder, "bound", target.contract, judge, settings.to_dict())
    result = run_bound(parts, target=target, judge=judge, settings=settings, folder=folder)
    return folder, result


@pytest.fixture(scope="module")
def risk_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RiskResult]:
    folder = tmp_path_factory.mktemp("risk") / "run"
    target = load_target("", SamplingOptions(max_new_tokens=32), batch_size=64)
    judge = load_judge()
    prompts = default_prompts(3)
    settings = RiskSettings(draws=40)
    write_manifest(folder, "risk", target.contract, judge, settings.to_dict())
    proposal = make_proposal(["refusal"], target, judge, prompts, folder=folder)
    result = run_risk(prompts, proposal=proposal, judge=judge, settings=settings, folder=folder)
    return folder, result


def test_a_bound_is_read_back_as_it_was_found(bound_run: tuple[Path, BoundResult]) -> None:
    folder, result = bound_run
    run = load_run(folder)
    assert run.bound == result
    assert BoundResult.from_json(result.to_json()) == result
    assert run.evaluation == result.evaluation
    assert run.predictions is not None
    assert run.predictions.height == len(run.prompts.filter(run.prompts["part"] == "test"))
    assert run.draws.height == sum(spend.generated for spend in result.spend.values())
    assert (run.risk, run.summary, run.rejudged, run.review) == (None, None, {}, [])
    assert run.notices == ("a notice",)
    assert run.spend.streams["train"]["generated"] == result.spend["train"].generated > 0
    assert run.spend.cost == 0
    assert result.frame()["name"][0] == "all"


def test_risks_are_read_back_as_they_were_found(risk_run: tuple[Path, RiskResult]) -> None:
    folder, result = risk_run
    run = load_run(folder)
    assert run.risk is not None
    assert run.risk.to_dict() == result.to_dict()
    assert RiskResult.from_json(result.to_json()).to_dict() == result.to_dict()
    assert run.risk.frame().equals(result.frame())
    assert run.risk.frame().height == 3
    assert len(run.review) == result.reviewed
    assert run.spend.stages["risk"].draws == result.spend["risk"].draws == 120
    assert run.bound is None
    assert "mean risk" in repr(run)


def test_another_judge_and_a_summary_are_read_back(
    risk_run: tuple[Path, RiskResult],
) -> None:
    folder, _ = risk_run
    found = rejudge(folder, WordJudge(), name="words", prompts=find_prompts(folder))
    summary = summarize_run(folder)
    run = load_run(folder)
    assert run.rejudged == {found.judge: found}
    assert run.verdicts[found.judge].height == found.judged_now == run.draws.height
    assert Rejudged.from_json(found.to_json()) == found
    assert found.frame()["draws"].sum() == found.agreement.draws
    assert run.summary == summary
    assert RunSummary.from_json(summary.to_json()).to_dict() == summary.to_dict()
    assert summary.frame().height == sum(len(stream.ids) for stream in summary.streams)


def test_an_import_is_read_back(tmp_path: Path) -> None:
    source = tmp_path / "draws.jsonl"
    source.write_text('{"prompt_id": "a", "response": "x", "score": 1.0}\n')
    result = import_run(source, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.draws.height == result.draws == 1
    assert ImportResult.from_json(result.to_json()) == result
    assert "result: draws" in repr(run)


def test_what_others_wrote_never_reaches_a_page_raw(bound_run: tuple[Path, BoundResult]) -> None:
    folder, _ = bound_run
    bad = "<script>alert(1)</script>\x1b[2J\u202e"
    predicted = PredictedBounds(
        bounds=(PredictedBound(id=bad, lower_bound=3, p_hat=0.1, unfamiliar=True),)
    )
    summary = summarize_run(folder)
    for page in (predicted._repr_html_(), summary._repr_html_(), load_run(folder)._repr_html_()):
        assert "<script" not in page
        assert "<b>" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
    assert "&lt;script&gt;" in predicted._repr_html_()
    assert "\x1b" not in repr(predicted)
    assert "&lt;b&gt;" in summary._repr_html_()


@pytest.mark.parametrize(
    ("file", "ask"),
    [
        ("bound.json", lambda run: run.bound),
        ("evaluation.json", lambda run: run.evaluation),
        ("evaluation.json", lambda run: run.bound),
        ("spend.json", lambda run: run.bound),
        ("spend.json", lambda run: run.spend),
        ("predictions.parquet", lambda run: run.predictions),
        ("prompts.parquet", lambda run: run.prompts),
        ("draws/part-000001.parquet", lambda run: run.draws),
        ("ledger.json", lambda run: run.draws),
        ("draws/part-000001.parquet", repr),
    ],
)
def test_nothing_is_computed_from_a_damaged_file(
    file: str, ask, bound_run: tuple[Path, BoundResult]
) -> None:
    folder, _ = bound_run
    path = folder / file
    data = path.read_bytes()
    try:
        path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
        with pytest.raises(LedgerError, match=path.name) as raised:
            ask(load_run(folder))
        assert "\n" not in str(raised.value)
    finally:
        path.write_bytes(data)
    assert isinstance(load_run(folder), Run)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a run folder"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 1}', '{"predictions": [{"id": 3}]}', "[" * 10_000]
)
def test_other_json_is_no_result(text: str) -> None:
    for kind in (BoundResult, RiskResult, Rejudged, RunSummary, ImportResult, PredictedBounds):
        with pytest.raises(UsageError, match=kind.__name__):
            kind.from_json(text)


def test_plain_values_become_what_their_type_says() -> None:
    assert from_plain(dict[str, tuple[int, float]], {"a": [1, 2]}) == {"a": (1, 2.0)}
    assert np.isnan(from_plain(float, None))
    assert from_plain(float | None, None) is None
    for kind, value in ((int, True), (int, 1.5), (str, 1), (tuple[int, int], [1]), (float, "1")):
        with pytest.raises((TypeError, ValueError)):
            from_plain(kind, value)
    with pytest.raises(KeyError, match="colour"):
        from_plain(
            PredictedBound,
            {"id": "a", "lower_bound": 1, "p_hat": 0.1, "unfamiliar": False, "colour": 1},
        )
    assert json.dumps(finite({"a": (np.inf, float("nan"))}), allow_nan=False)
