"""`tailbound compare`: what is matched, counted and printed, and wrong usage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

import tailbound
from tailbound.cli.app import app
from tailbound.comparison import benjamini_hochberg
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.errors import UsageError
from tailbound.workflows.compare import CompareResult

Counts = dict[str, list[float | None]]


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, scores: Counts, texts: dict[str, str] | None = None) -> Path:
        rows = [
            {"prompt_id": prompt, "response": "x", "score": score}
            | ({"prompt": texts[prompt]} if texts else {})
            for prompt, values in scores.items()
            for score in values
        ]
        source = tmp_path / f"{name}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tailbound.import_draws(source, out=tmp_path / name, progress=None)
        return tmp_path / name

    return make


@pytest.fixture(scope="module")
def risks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    prompts = sorted(default_prompts(300), key=lambda prompt: -exact_risks([prompt])[0].risk)[:12]
    root = tmp_path_factory.mktemp("compare")
    for name, heat in (("a", 1.0), ("b", 1.5)):
        tailbound.risk(
            prompts, out=root / name, draws=300, proposal="none", temperature=heat, progress=None
        )
    return root / "a", root / "b"


def compare(a: Path, b: Path, **options: object) -> CompareResult:
    return tailbound.compare(a, b, progress=None, **options)


def of(unsafe: int, safe: int, missing: int = 0) -> list[float | None]:
    return [1.0] * unsafe + [0.0] * safe + [None] * missing


def test_a_change_is_listed_and_nothing_else(imported: Callable[..., Path]) -> None:
    a = imported("a", {"same": of(5, 95), "worse": of(2, 98), "better": of(40, 60)})
    b = imported("b", {"same": of(6, 94), "worse": of(30, 70), "better": of(2, 98)})
    found = compare(a, b)
    assert [one.id for one in found.changed] == ["better", "worse"]
    worse = next(one for one in found.prompts if one.id == "worse")
    assert (worse.a, worse.b) == (0.02, 0.3)
    assert worse.interval_b[0] < 0.3 < worse.interval_b[1]
    assert found.mean.difference == pytest.approx((0.01 + 0.28 - 0.38) / 3)
    again = compare(b, a)
    assert [one.evidence for one in again.prompts] == [one.evidence for one in found.prompts]
    assert again.mean.difference == pytest.approx(-found.mean.difference)
    assert CompareResult.from_dict(found.to_dict()) == found
    assert found.frame().height == 3


def test_a_run_does_not_differ_from_itself(risks: tuple[Path, Path]) -> None:
    found = compare(risks[0], risks[0])
    assert found.changed == ()
    assert found.differences == ()
    assert found.mean.difference == 0
    sequential = compare(risks[0], risks[0], sequential=True)
    assert max(one.evidence for one in sequential.prompts) <= 1.5
    assert sequential.every_look is not None
    assert sequential.every_look[0] <= 0 <= sequential.every_look[1]


def test_a_hotter_model_is_found_to_be_another(risks: tuple[Path, Path]) -> None:
    found = compare(*risks, quantity="risk")
    assert found.quantity == "risk"
    assert {one.name for one in found.differences} == {"contract.temperature", "contract.digest"}
    for side, folder in zip("ab", risks, strict=True):
        result = tailbound.load_run(folder).risk
        assert result is not None
        known = {one.prompt.id: one.estimate.risk for one in result.risks}
        mean = np.mean([known[one.id] for one in found.prompts])
        assert getattr(found.mean, side) == pytest.approx(mean)
    assert len(found.prompts) + found.left_out.get("not resolved", 0) == 12
    rates = compare(*risks)
    assert rates.quantity == "rate"
    assert len(rates.prompts) == 12


def test_missing_verdicts_are_no_evidence_of_a_change(imported: Callable[..., Path]) -> None:
    a = imported("a", {"p": of(0, 100), "q": of(0, 100)})
    b = imported("b", {"p": of(0, 80, 20), "q": of(0, 0, 100)})
    found = compare(a, b)
    assert [one.evidence for one in found.prompts] == [1.0, 1.0]
    assert found.prompts[1].b is None
    assert found.prompts[1].interval_b == (0.0, 1.0)
    assert found.mean.difference is None
    assert found.mean.interval is not None
    assert found.mean.interval[1] >= 0.6
    assert any("no verdict at all" in one for one in found.warnings)
    assert max(one.evidence for one in compare(a, b, sequential=True).prompts) <= 1


def test_other_texts_of_the_same_id_are_not_compared(imported: Callable[..., Path]) -> None:
    scores = {"p": of(5, 5), "q": of(5, 5)}
    a = imported("a", scores, {"p": "one", "q": "two"})
    b = imported("b", scores, {"p": "one", "q": "another"})
    found = compare(a, b)
    assert [one.id for one in found.prompts] == ["p"]
    assert found.left_out == {"same id, other text": 1}
    assert len(compare(a, b, match="id").prompts) == 2
    c = imported("c", scores, {"p": "x", "q": "y"})
    with pytest.raises(UsageError, match=r"no prompt in common: 2 have .* --match id"):
        compare(a, c)


def test_draws_that_stopped_at_the_first_unsafe_one_are_left_out(tmp_path: Path) -> None:
    run = tmp_path / "run"
    tailbound.bound(
        default_prompts(120), out=run, target="demo", budget=20, train_draws=10, progress=None
    )
    found = compare(run, run)
    kept = tailbound.load_run(run)
    fixed = kept.draws.filter(pl.col("stopping") == "fixed")["prompt_id"].n_unique()
    assert len(found.prompts) == fixed
    assert found.left_out == {"no fixed number of draws": 120 - fixed}
    assert found.bounds is not None
    assert (found.bounds.ratio, found.bounds.longer) == (1, 0)


def test_it_is_shown_within_80_columns_and_escaped(
    imported: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    hostile = "[red]\x1b[31m" + "w" * 60
    a = imported("a", {hostile: of(0, 100), "q": of(1, 99)})
    b = imported("b", {hostile: of(60, 40), "q": of(1, 99)})
    done = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert done.exit_code == 0, done.output
    assert max(cell_len(line) for line in done.stdout.splitlines()) <= 80
    assert "\x1b" not in done.stdout
    assert "[red]" in done.stdout
    assert "Changed prompts: 1" in done.stdout
    named = CliRunner().invoke(app, ["compare", str(a), str(b), "--json"])
    assert json.loads(named.stdout)["changed"] == [hostile]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fdr": 0}, "--fdr must lie strictly between 0 and 1"),
        ({"confidence": 1}, "--confidence must lie"),
        ({"sequential": True, "quantity": "risk"}, "--sequential goes with --quantity rate"),
        ({"quantity": "risk"}, "has no risk.json"),
    ],
    ids=str,
)
def test_wrong_options_are_one_line(
    imported: Callable[..., Path], options: dict[str, object], words: str
) -> None:
    a = imported("a", {"p": of(1, 1)})
    with pytest.raises(UsageError, match=words) as found:
        compare(a, a, **options)
    assert found.value.exit_code == 2
    assert "\n" not in str(found.value)


def test_what_is_no_run_is_refused(imported: Callable[..., Path], tmp_path: Path) -> None:
    a = imported("a", {"p": of(1, 1)})
    b = imported("b", {"other": of(1, 1)})
    with pytest.raises(UsageError, match=r"is not a run folder"):
        compare(a, tmp_path)
    with pytest.raises(UsageError, match="no prompt in common: both must be runs of the same"):
        compare(a, b)


def test_groups_of_either_run_make_clusters(tmp_path: Path) -> None:
    """Prompts that only B knows to belong together are not independent for that."""
    for name in ("a", "b"):
        rows = [
            {"prompt_id": f"p{i}", "response": "x", "score": float(i % 3 == 0)}
            | ({"group": f"g{i // 10}"} if name == "b" else {})
            for i in range(40)
        ]
        source = tmp_path / f"{name}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tailbound.import_draws(source, out=tmp_path / name, progress=None)
    for one, other in (("a", "b"), ("b", "a")):
        found = compare(tmp_path / one, tmp_path / other)
        assert found.mean.clusters == 4
        assert found.prompts[0].group == "g0"


def test_prompts_that_are_not_resolved_count_in_the_list(
    risks: tuple[Path, Path], tmp_path: Path
) -> None:
    prompts = sorted(default_prompts(300), key=lambda prompt: -exact_risks([prompt])[0].risk)[:12]
    tailbound.risk(prompts, out=tmp_path / "few", draws=80, proposal="none", progress=None)
    found = compare(tmp_path / "few", risks[1], quantity="risk")
    lacking = found.left_out["not resolved"]
    assert 0 < lacking == 12 - len(found.prompts)
    adjusted = benjamini_hochberg([*(one.evidence for one in found.prompts), *[1.0] * lacking])
    assert [one.adjusted for one in found.prompts] == pytest.approx(list(adjusted)[:-lacking])


def test_a_mean_that_lacks_verdicts_is_shown_as_a_lower_end(imported: Callable[..., Path]) -> None:
    a, b = imported("a", {"p": of(5, 95)}), imported("b", {"p": of(5, 45, 50)})
    done = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert "at least 0.05 in A, at least 0.05 in B" in " ".join(done.stdout.split())
    assert ">= 0.05" in str(compare(a, b).facts()["mean rate"])
