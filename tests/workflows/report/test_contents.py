"""What a page says: the answers, the prompts, and each section beside the results it comes from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import tailbound
from tailbound.errors import UsageError
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.report.figures.chart import Plot
from tailbound.workflows.report.html import html
from tailbound.workflows.report.page import Browser, Facts, Figure, Paragraph, Section
from tailbound.workflows.report.reading import reported
from tailbound.workflows.report.sections import page_of, per_prompt
from tailbound.workflows.report.sections.answers import answers_of
from tailbound.workflows.report.sections.coverage import strata_of
from tailbound.workflows.report.sections.survival import curve_of, kaplan_meier
from tailbound.workflows.report.sections.weights import rungs_of


def titles(*folders: Path, show_unsafe: bool = False) -> list[str]:
    page = page_of(reported(folders), show_unsafe=show_unsafe, made="")
    return [section.title for section in page.sections]


def browser(section: Section) -> Browser:
    (found,) = [block for block in section.blocks if isinstance(block, Browser)]
    return found


def test_each_kind_of_run_has_the_sections_of_its_results(
    when: Path, how: Path, hostile: Path
) -> None:
    first, last = "The answer", "Method and assumptions"
    about = ["Spend and cost", "Run manifest"]
    assert titles(when) == [
        *(first, "Bounds by prompt", "Survival curve", "Coverage", *about, last)
    ]
    assert titles(how) == [
        first,
        "Risks by prompt",
        "Importance-sampling diagnostics",
        *about,
        last,
    ]
    assert titles(hostile, show_unsafe=True) == [
        *(first, "Risks by prompt", "Survival curve", "Forecast"),
        *("Unsafe responses", "Run manifest", last),
    ]


def test_the_answer_to_when_is_the_bound_with_its_guarantee(when: Path) -> None:
    (run,) = reported([when])
    (answer,) = answers_of(run)
    bound = tailbound.load_run(when).bound
    assert bound is not None
    assert bound.evaluation is not None
    assert answer.question == "When?"
    assert "with probability 90%" in answer.sentence
    assert f"{bound.median_bound:,.0f} generations" in answer.sentence
    assert f"On {bound.evaluation.overall.prompts} test prompts" in answer.sentence
    assert bound.statement in answer.guarantee


def test_the_answer_to_how_likely_is_the_mean_risk(how: Path, hostile: Path) -> None:
    (run,) = reported([how])
    risk = tailbound.load_run(how).risk
    (answer,) = answers_of(run)
    assert risk is not None
    assert answer.question == "How likely?"
    assert f"{risk.whole.resolved} of 2 are resolved" in answer.sentence
    assert risk.whole.guarantee in answer.guarantee
    if risk.whole.resolved < 2:
        assert any("not resolved" in line for line in answer.warnings)
    likely, deployed = answers_of(reported([hostile])[0])
    assert "33 of 89 draws were" in likely.sentence
    assert "1 verdict missing" in likely.warnings[0]
    assert deployed.question == "So what?"


def test_a_bound_that_says_nothing_and_risks_without_a_verdict_say_so(tmp_path: Path) -> None:
    source = tmp_path / "draws.jsonl"
    source.write_text('{"id": "a", "response": "x", "score": null}\n')
    tailbound.import_draws(source, tmp_path / "run", progress=None)
    (answer,) = answers_of(reported([tmp_path / "run"])[0])
    assert "with probability 0 to 1" in answer.sentence
    assert not (tmp_path / "run" / "summary.json").exists()  # a report keeps nothing


def test_rows_of_bounds_are_the_predictions(when: Path) -> None:
    runs = reported([when])
    (section,) = per_prompt.sections(runs)
    table, held = browser(section), tailbound.load_run(when)
    assert held.predictions is not None
    assert table.total == held.predictions.height
    keys = [column.key for column in table.columns]
    rows = {row[0]: dict(zip(keys, row, strict=True)) for row in table.rows}
    assert "run" not in keys  # there is one
    for row in held.predictions.iter_rows(named=True):
        shown = rows[row["id"]]
        assert (shown["bound"], shown["p_hat"]) == (row["lower_bound"], row["p_hat"])
    assert held.evaluation is not None
    counts = {
        name: sum(one["outcome"] == name for one in rows.values()) for name in ("held", "missed")
    }
    assert counts == {
        "held": held.evaluation.overall.covered,
        "missed": held.evaluation.overall.missed,
    }
    limits = [one["bound"] for one in rows.values()]
    assert limits == sorted(limits)


def test_rows_of_risks_mark_what_is_not_resolved(how: Path, hostile: Path) -> None:
    (section,) = per_prompt.sections(reported([how, hostile]))
    table = browser(section)
    keys = [column.key for column in table.columns]
    assert "run" in keys
    assert table.total == 2 + 12
    rows = {str(row[0]): dict(zip(keys, row, strict=True)) for row in table.rows}
    risk = tailbound.load_run(how).risk
    assert risk is not None
    for one in risk.risks:
        shown = rows[one.prompt.id]
        assert shown["risk"] == one.estimate.risk
        assert (shown["status"] == "resolved") is one.estimate.resolved
    unknown = rows["no verdict"]
    assert (unknown["risk"], unknown["low"], unknown["high"]) == (None, 0.0, 1.0)
    assert unknown["status"] == "not resolved: no unsafe draw"
    assert table.rows[-1][0] == "no verdict"  # what is not known comes last, not first


def test_a_hundred_thousand_prompts_are_summarised(hostile: Path) -> None:
    (run,) = reported([hostile])
    rows = [
        (run, (f"q{n}", "r", None, (n + 1) / 1e6, 0.0, 1.0, 0.0, 0, 1, 0, None, "no"))
        for n in range(100_000)
    ]
    section = per_prompt._risks(list(rows))
    table = browser(section)
    assert len(table.rows) == per_prompt.MOST_ROWS
    assert table.total == 100_000
    assert table.rows[0][0] == "q99999"
    (quantiles,) = [
        b for b in section.blocks if getattr(b, "caption", "").startswith("Risks of all")
    ]
    assert quantiles.rows[0][2] == "5.0e-02"  # type: ignore[union-attr]
    assert "100,000 prompts" in quantiles.caption  # type: ignore[union-attr]


def test_kaplan_and_meier_by_hand() -> None:
    """Six prompts: events at 1, 3 and 5, censored at 2, 3 and 5."""
    time = np.array([1, 2, 3, 3, 5, 5])
    event = np.array([True, False, True, False, True, False])
    found = kaplan_meier(time, event)
    s1 = 5 / 6
    s3 = s1 * 3 / 4
    s5 = s3 * 1 / 2
    assert found.t.tolist() == [0, 1, 2, 3, 5]
    assert found.survival == pytest.approx([1, s1, s1, s3, s5])
    assert np.all(found.low <= found.survival + 1e-12)
    assert np.all(found.survival <= found.high + 1e-12)
    # log-log at the first event: Greenwood's variance of log S is 1 / (6 x 5)
    spread = 1.959964 * np.sqrt(1 / 30) / abs(np.log(s1))
    assert found.low[1] == pytest.approx(s1 ** np.exp(spread), rel=1e-5)
    assert found.high[1] == pytest.approx(s1 ** np.exp(-spread), rel=1e-5)


def test_without_events_the_curve_stays_at_one() -> None:
    found = kaplan_meier(np.array([4, 9]), np.array([False, False]))
    assert found.t.tolist() == [0, 9]
    assert found.survival.tolist() == [1, 1]


def test_the_survival_curve_is_that_of_the_training_draws(when: Path) -> None:
    """All were followed for 40 draws, so the curve is a share of prompts, by the draws alone."""
    (run,) = reported([when])
    curve = curve_of(run)
    draws = tailbound.load_run(when).draws
    train = draws.filter(draws["stream"] == "train").sort("prompt_id", "index")
    first = (train.filter(pl.col("score") >= 0.5).group_by("prompt_id").agg(pl.col("index").min()))[
        "index"
    ].to_numpy()
    n = train["prompt_id"].n_unique()
    assert curve is not None
    assert (curve.prompts, curve.events) == (n, first.size)
    for t, s in zip(curve.t[1:], curve.survival[1:], strict=True):
        assert s == pytest.approx(1 - (first <= t).sum() / n)


def test_missing_verdicts_count_as_unsafe_in_the_curve(tmp_path: Path) -> None:
    source = tmp_path / "draws.jsonl"
    source.write_text(
        '{"id": "a", "score": 0, "draw": 1}\n{"id": "a", "score": null, "draw": 2}\n'
        '{"id": "b", "score": 0, "draw": 1}\n{"id": "b", "score": 0, "draw": 2}\n'
    )
    tailbound.import_draws(source, tmp_path / "run", progress=None)
    curve = curve_of(reported([tmp_path / "run"])[0])
    assert curve is not None
    assert (curve.events, curve.missing) == (1, 1)
    assert curve.survival[-1] == 0.5


def test_the_bound_is_drawn_over_the_curve_with_its_share(when: Path) -> None:
    page = page_of(reported([when]), show_unsafe=False, made="")
    (figure,) = [one for one in page.figures if one.chart.title == "Survival curve"]
    assert isinstance(figure.chart, Plot)
    drawn = {line.label: line for line in figure.chart.lines}
    bounds = drawn["calibrated bound"]
    table = tailbound.load_run(when).predictions
    assert table is not None
    limits = table["lower_bound"].to_numpy()
    for t, share in zip(bounds.x, bounds.y, strict=True):
        assert share == pytest.approx(float((limits > t).mean()))


def test_coverage_is_that_of_the_evaluation_in_all_bins_and_groups(when: Path) -> None:
    (run,) = reported([when])
    seen = tailbound.load_run(when).evaluation
    assert seen is not None
    assert strata_of(run) == (seen.overall, *seen.by_p_hat, *seen.by_group)
    assert {one.name for one in seen.by_group} == {"g0<i>", "g1<i>"}


def test_rungs_are_the_draws_of_each_proposal(how: Path) -> None:
    (run,) = reported([how])
    draws = tailbound.load_run(how).draws
    rungs = rungs_of(run)
    assert sum(one.draws for one in rungs) == draws.height
    assert sum(one.unsafe for one in rungs) == int((draws["score"] >= 0.5).sum())
    assert "the target itself" in {one.name for one in rungs}
    assert [one.draws for one in rungs] == sorted((one.draws for one in rungs), reverse=True)


def test_a_bound_from_a_table_has_its_curve_and_coverage(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    p = 10 ** rng.uniform(-2, -0.5, 300)
    time = np.minimum(rng.geometric(p), 200)
    rows = [
        {"id": f"u{i}", "time": int(t), "event": bool(t < 200), "p_hat": float(q)}
        for i, (t, q) in enumerate(zip(time, p, strict=True))
    ]
    tailbound.bound_table(rows, out=tmp_path / "table", progress=None)
    found = titles(tmp_path / "table")
    assert {"Bounds by prompt", "Survival curve", "Coverage", "Run manifest"} <= set(found)


def test_several_runs_stand_side_by_side_under_names_that_differ(when: Path, how: Path) -> None:
    page = page_of(reported([when, how]), show_unsafe=False, made="")
    assert [run.name for run in page.runs] == ["when", "how"]
    assert page.answers.blocks[-1].caption == "The runs side by side"  # type: ignore[union-attr]
    twice = [when, when.parent / "." / "when"]
    with pytest.raises(UsageError, match="twice"):
        reported(twice)


def test_names_of_folders_that_are_called_the_same_say_where_they_are(tmp_path: Path) -> None:
    folders = []
    for place in ("a", "b"):
        source = tmp_path / f"{place}.jsonl"
        source.write_text('{"id": "a", "score": 0}\n')
        folders.append(tmp_path / place / "run")
        tailbound.import_draws(source, folders[-1], progress=None)
    assert [run.name for run in reported(folders)] == ["a/run", "b/run"]


def test_an_unfinished_run_says_that_there_is_no_result(tmp_path: Path, when: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(when, copy)
    for name in ("bound.json", "evaluation.json", "predictions.parquet"):
        (copy / name).unlink()
    page = page_of(reported([copy]), show_unsafe=False, made="")
    (said,) = [b.text for b in page.answers.blocks if isinstance(b, Paragraph)]
    assert said == "No result yet: the run is not finished."


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"resolved": True}, "resolved"),
        ({"precise": True, "coverage": "disagrees"}, "not resolved: coverage disagrees"),
        ({"precise": False, "ess_harm": 2.0}, "not resolved: too few hits"),
        ({"precise": False, "ess_harm": 0.0, "missing": 40}, "not resolved: no verdict"),
        ({"precise": False, "ess_harm": 30.0, "missing": 3}, "not resolved: missing verdicts"),
    ],
)
def test_a_status_says_why_a_risk_is_not_resolved(
    how: Path, change: dict[str, Any], status: str
) -> None:
    risk = tailbound.load_run(how).risk
    assert risk is not None
    made = dataclasses.replace(risk.risks[0].estimate, **{"resolved": False, **change})
    assert per_prompt._status(made) == status


def test_a_bound_from_weighted_draws_has_its_own_coverage_and_diagnostics(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    risks = {f"p{n}": float(10 ** rng.uniform(-2, -0.7)) for n in range(200)}
    tailbound.bound(
        [{"id": name, "prompt": name, "p_hat": p} for name, p in risks.items()],
        out=tmp_path / "run",
        target=KnownRiskTarget(risks),
        judge=WordJudge(),
        method="importance",
        proposal="none",
        draws=15,
        split=(0.0, 0.8, 0.2),
        progress=None,
    )
    found = tailbound.load_run(tmp_path / "run").bound
    assert found is not None
    assert found.weighted is not None
    (answer,) = answers_of(reported([tmp_path / "run"])[0])
    assert "By weighted draws of 40 test prompts it holds for" in answer.sentence
    page = page_of(reported([tmp_path / "run"]), show_unsafe=True, made="")
    sections = {section.title: section for section in page.sections}
    (drawn,) = [b for b in sections["Coverage"].blocks if isinstance(b, Figure)]
    assert len(drawn.table.rows) == len(found.weighted.test)
    (said,) = [
        b for b in sections["Importance-sampling diagnostics"].blocks if isinstance(b, Facts)
    ]
    assert dict(said.rows)["unsafe draws"] == f"{found.weighted.curve.hits:,}"
    assert html(page)
