"""Bounds from weighted draws, end to end: the demo model, targets of known risks, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailbound
from tailbound.cli.recorded import options_of_run
from tailbound.core.prompt import Prompt
from tailbound.demo.files import default_prompts
from tailbound.errors import ContractMismatchError, UsageError
from tailbound.runs import read
from tailbound.storage.files import write_json
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.bound.command import why_trivial
from tailbound.workflows.bound.importance.options import method_of
from tailbound.workflows.bound.importance.report import cross_check
from tailbound.workflows.bound.importance.training import fit_weighted
from tailbound.workflows.bound.results import BoundResult, read_result

IMPORTANCE: dict[str, Any] = {"method": "importance", "progress": None}
SMALL: dict[str, Any] = {
    **IMPORTANCE,
    "draws": 15,
    "budget": 10,
    "cross_check": 0.2,
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on the demo model."""
    folder = tmp_path_factory.mktemp("weighted") / "run"
    tailbound.bound(default_prompts(60), out=folder, **SMALL)
    return folder


@pytest.mark.slow
def test_a_run_on_the_demo_model_says_what_it_rests_on(demo: Path) -> None:
    found = read_result(demo)
    assert found is not None
    report = found.weighted
    assert report is not None
    assert found.bound.design == "importance"
    assert found.bound.guarantee == "plug-in"
    assert found.bound.cap == 15_000
    assert report.explored
    assert any("heated" in name for name in report.proposals)
    assert report.curve.hits > 20
    assert abs(report.mean_weight_z) < 4
    assert report.cross_check is not None
    assert report.cross_check.prompts == 6
    assert "as far as the weighted draws met every way to be unsafe" in found.statement
    assert "Not checked:" in found.statement
    assert "resolved" not in found.statement
    assert BoundResult.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    # far fewer draws than the bounds are long
    draws = read(demo, stream="weighted")
    assert draws.height < 60 * 18
    assert found.at_alpha == ()
    assert report.test[0].name == "all"
    assert report.test[0].prompts == 12


@pytest.mark.slow
def test_a_finished_run_draws_nothing_and_gives_the_same(demo: Path) -> None:
    before = (demo / "bound.json").read_bytes()
    again = tailbound.bound(default_prompts(60), out=demo, **SMALL)
    assert (demo / "bound.json").read_bytes() == before
    assert again == read_result(demo)


@pytest.mark.slow
def test_everything_is_recomputed_from_the_record(demo: Path) -> None:
    found = tailbound.verify(demo, progress=None)
    assert found.matches
    matching = {check.name for check in found.checks if check.outcome == "matches"}
    assert {"bound.json", "weighted.json", "plan/", "spend.json"} <= matching


@pytest.mark.slow
def test_edited_shares_of_proposals_are_found(demo: Path) -> None:
    path = demo / "weighted.json"
    held = path.read_bytes()
    document = json.loads(held)
    del document["checksum"]
    document["shares"][1] = document["shares"][0]
    write_json(path, document)
    try:
        found = tailbound.verify(demo, progress=None)
    finally:
        path.write_bytes(held)
    wrong = {check.name for check in found.checks if check.outcome == "differs"}
    assert {"weighted.json", "bound.json"} <= wrong


@pytest.mark.slow
def test_predictions_and_summaries_need_nothing_new(demo: Path) -> None:
    found = read_result(demo)
    assert found is not None
    new = tailbound.predict(demo, default_prompts(70)[60:], progress=None)
    expected = found.bound.predict([one.p_hat for one in new])
    assert [one.lower_bound for one in new] == expected.tolist()
    summary = tailbound.summarize(demo, progress=None)
    streams = {stream.stream: stream for stream in summary.streams}
    assert streams["weighted"].weighted > 100
    assert "cross-check" in streams


def known(n: int, lowest: float = -3) -> tuple[list[Prompt], dict[str, float]]:
    prompts = [Prompt(id=f"q{i}", messages=(("user", f"question {i}"),)) for i in range(n)]
    risks = 10 ** np.random.default_rng(0).uniform(lowest, -1, n)
    return prompts, dict(zip((one.id for one in prompts), risks.tolist(), strict=True))


def own(prompts: list[Prompt], risks: dict[str, float]) -> list[dict[str, Any]]:
    return [{"id": one.id, "prompt": one.messages[0][1], "p_hat": risks[one.id]} for one in prompts]


def test_without_a_proposal_the_target_alone_draws_and_coverage_holds(tmp_path: Path) -> None:
    """Plain draws, too few for the bound of any prompt, and predictions that are right."""
    prompts, risks = known(250)
    found = tailbound.bound(
        own(prompts, risks),
        out=tmp_path / "run",
        target=KnownRiskTarget(risks),
        judge=WordJudge(),
        proposal="none",
        draws=15,
        split=(0.0, 1.0, 0.0),
        **IMPORTANCE,
    )
    p = np.array(list(risks.values()))
    coverage = np.exp((found.bound.predict(p) - 1) * np.log1p(-p)).mean()
    # the standard error of the curve is about .02 here
    assert 0.84 <= coverage <= 0.96
    assert found.weighted is not None
    assert found.weighted.proposals == ("target",)
    assert not found.weighted.explored
    assert "so few draws of the target" in found.statement
    with pytest.raises(ContractMismatchError, match="other --draws"):
        tailbound.bound(
            own(prompts, risks),
            out=tmp_path / "run",
            target=KnownRiskTarget(risks),
            judge=WordJudge(),
            proposal="none",
            draws=16,
            longest=15_000,
            split=(0.0, 1.0, 0.0),
            **IMPORTANCE,
        )
    again = tailbound.verify(tmp_path / "run", progress=None)
    assert again.matches


def test_missing_verdicts_count_as_unsafe(tmp_path: Path) -> None:
    prompts, risks = known(160, -1.7)
    silent = frozenset(one.id for one in prompts[::40])
    options: dict[str, Any] = {
        "target": KnownRiskTarget(risks),
        "proposal": "none",
        "split": (0.0, 1.0, 0.0),
        **IMPORTANCE,
    }
    rows = own(prompts, risks)
    plain = tailbound.bound(rows, out=tmp_path / "plain", judge=WordJudge(), **options)
    judge = WordJudge(missing_ids=silent)
    found = tailbound.bound(rows, out=tmp_path / "silent", judge=judge, **options)
    assert found.weighted is not None
    assert found.weighted.missing > 0
    assert found.missing.prompts_stopped == 4
    assert found.bound.level < plain.bound.level
    assert found.missing.level_if_safe > found.bound.level


def test_too_few_hits_give_no_bound_and_say_what_would_help(tmp_path: Path) -> None:
    """Risks near 1e-5 and 40 plain draws: not one is unsafe, and the curve knows nothing."""
    prompts, _ = known(60)
    risks = dict.fromkeys((one.id for one in prompts), 1e-5)
    found = tailbound.bound(
        own(prompts, risks),
        out=tmp_path / "run",
        target=KnownRiskTarget(risks),
        judge=WordJudge(),
        proposal="none",
        draws=4,
        split=(0.0, 1.0, 0.0),
        **IMPORTANCE,
    )
    assert found.bound.level == 0
    assert found.statement.startswith("Every bound is 1")
    assert "raise --draws" in str(why_trivial(found))


def test_a_check_that_disagrees_says_so() -> None:
    events, used = np.arange(50) < 25, np.full(50, 20)
    expected = np.random.default_rng(0).normal(0.05, 0.02, 500)
    assert not cross_check(events, used, expected, each=100).agrees
    assert cross_check(np.arange(50) < 3, used, expected, each=100).agrees


def test_the_predictor_learns_from_weights_what_plain_draws_cannot_tell() -> None:
    """Risks of five decades from 12 draws each: a plain draw would have met almost none."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 4))
    p = 10 ** (-4 + 1.2 * x[:, 0])
    terms = [
        np.where(rng.random(12) < 0.3, risk / 0.3 * np.exp(rng.normal(-0.245, 0.7, 12)), 0.0)
        for risk in p
    ]
    found = fit_weighted(x, terms, seed=(1,))
    new = rng.normal(size=(500, 4))
    error = np.log10(found.predict(new)) - (-4 + 1.2 * new[:, 0])
    assert abs(error.mean()) < 0.1
    assert error.std() < 0.25


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 5, "budget": 5}, "--draws goes with --method importance"),
        ({"proposal": "none", "budget": 5}, "--proposal goes with --method importance"),
        ({}, "--budget is required"),
        ({"method": "importance", "draws": 1}, "--draws must be at least 2"),
        ({"explore": True, "budget": 5}, "--explore goes with --method importance"),
        ({"method": "importance", "guarantee": "pac"}, "guarantee plug-in, not pac"),
        ({"method": "importance", "guarantee": "marginal"}, "guarantee plug-in, not marginal"),
        ({"method": "importance", "delta": 0.1}, "--delta does not go with"),
        ({"method": "importance", "within": (1, 10, 100)}, "--within does not go with"),
        ({"method": "importance", "design": "balanced"}, "--design does not go with"),
        ({"method": "importance", "train_draws": 500}, "--train-draws does not go with"),
        ({"method": "importance", "design": "naive"}, "--design does not go with"),
        ({"method": "importance", "coverage_by": "p_hat:3"}, "--coverage-by does not go with"),
        ({"method": "importance", "train_draws": 7}, "--train-draws does not go with"),
        ({"method": "importance", "proposal": "splitting"}, "splitting does not go with"),
        ({"method": "importance", "proposal": "learned"}, "learned does not go with"),
        ({"method": "importance", "features": "finetune:x"}, "finetune does not go with"),
        ({"method": "importance", "no_text": True}, "--no-text does not go with"),
        ({"method": "importance", "cross_check": 2.0}, "--cross-check must lie in"),
        ({"method": "importance", "longest": 1}, "--longest must lie in"),
        ({"method": "importance", "budget": 0.5}, "--budget must be at least 1"),
        ({"method": "importance", "proposal": "prompt:/none"}, "cannot be read"),
        ({"method": "guess"}, "--method must be one of"),
    ],
)
def test_bad_input_is_refused_before_anything_is_loaded(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        tailbound.bound(
            default_prompts(60), out=tmp_path / "run", judge="keywords:/no/file", progress=None,
            **options,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_the_command_line_refuses_what_was_given_and_no_default(cli: Any, tmp_path: Path) -> None:
    """`marginal` is the default without weights: typed, it asks for what weights cannot give."""
    prompts = tmp_path / "p.txt"
    prompts.write_text("\n".join(prompt.text for prompt in default_prompts(60)))
    words = ("bound", prompts, "--method", "importance", "--judge", "keywords:/no/file")
    words += ("--out", tmp_path / "run")
    for given, message in (
        (("--guarantee", "marginal"), "guarantee plug-in, not marginal"),
        (("--guarantee", "marginal", "--dry-run"), "guarantee plug-in, not marginal"),
        (("--design", "balanced"), "--design does not go with"),
        ((), "/no/file"),  # none of the defaults is refused
    ):
        code, out, err = cli(*words, *given)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    config = tmp_path / "c.yaml"
    config.write_text("method: importance\nguarantee: marginal\n")
    code, _, err = cli("bound", prompts, "--out", tmp_path / "run", "--config", config)
    assert (code, "guarantee plug-in, not marginal" in err) == (2, True)
    assert not (tmp_path / "run").exists()


def test_the_run_yaml_of_a_weighted_bound_is_a_configuration() -> None:
    """Every option is read back, without those that do not go with the method."""
    given = {"draws": 7, "cross_check": 0.3, "longest": 900, "alpha": (0.05, 0.2), "seed": 4}
    given |= {"proposal": ("heat",), "explore": False, "method": "importance"}
    for more in ({}, {"test_draws": 20}):
        method, proposed, settings = method_of({**given, **more})
        options = {**settings.to_dict(), **method.to_dict()}
        options |= {"proposal": list(proposed.specs), "explore": proposed.explore}
        document = {
            "command": "bound", "target": "demo", "judge": "demo", "engine": {}, "options": options,
            "contract": {"template": None},
        }  # fmt: skip
        asked = options_of_run(document)
        asked["alpha"] = tuple(asked.pop("alphas"))
        asked["split"] = tuple(asked.pop("shares"))
        asked["proposal"] = tuple(asked["proposal"])
        assert method_of(asked) == (method, proposed, settings)


@pytest.mark.slow
def test_other_numbers_or_methods_need_another_folder(demo: Path) -> None:
    prompts = default_prompts(60)
    with pytest.raises(ContractMismatchError, match="other --draws"):
        tailbound.bound(prompts, out=demo, **{**SMALL, "draws": 7, "longest": 15_000})
    with pytest.raises(ContractMismatchError, match="method 'importance', not 'direct'"):
        tailbound.bound(prompts, out=demo, budget=5, progress=None)
    with pytest.raises(ContractMismatchError, match="other prompts"):
        tailbound.bound(default_prompts(61), out=demo, **SMALL)
