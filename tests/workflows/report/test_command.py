"""`tailbound report` and `tailbound.report`: where the page goes, and wrong usage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import tailbound
from tailbound.errors import LedgerError, UsageError

Cli = Callable[..., tuple[int, str, str]]


def test_one_run_has_its_report_in_its_folder(hostile: Path, cli: Cli) -> None:
    before = {path: path.read_bytes() for path in hostile.rglob("*") if path.is_file()}
    code, out, err = cli("report", hostile)
    assert code == 0, err
    assert "How likely? A reply to a prompt like these 12 is unsafe" in " ".join(out.split())
    page = hostile / "report.html"
    assert out.rstrip().endswith("report.html")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    after = {path: path.read_bytes() for path in hostile.rglob("*") if path.is_file()}
    assert {path for path in after if path not in before} == {page}
    assert all(after[path] == content for path, content in before.items())
    assert cli("report", hostile)[0] == 0  # again: an earlier report is replaced
    assert tailbound.verify(hostile, progress=None).matches
    page.unlink()


def test_several_runs_have_theirs_in_the_working_directory(
    hostile: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("report", hostile, many, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["files"] == ["report.html"]
    assert document["prompts"] == 12 + 10_000
    assert [one["question"] for one in document["answers"]] == [
        *("How likely?", "So what?"),
        "How likely?",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_markdown_has_its_figures_beside_it(hostile: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "page.md"
    found = tailbound.report(hostile, out=out, format="md", progress=None)
    assert found.path == str(out)
    figures = sorted((tmp_path / "new folder" / "page-figures").iterdir())
    assert sorted(found.files[1:]) == [str(path) for path in figures]
    assert len(figures) == 3
    for path in figures:
        assert f"(<page-figures/{path.name}>)" in out.read_text(encoding="utf-8")
    assert tailbound.report(hostile, out=out, format="md", progress=None) == found


def test_a_file_of_somebody_elses_is_not_replaced(hostile: Path, tmp_path: Path, cli: Cli) -> None:
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    code, out, err = cli("report", hostile, "--out", notes)
    assert (code, out) == (2, "")
    assert "exists and is not an earlier report of that format: name another file" in err
    assert notes.read_text() == "mine"
    for words in ("#!/bin/sh\ntailbound report runs/when\n", "<!-- tailbound report -->\n"):
        notes.write_text(words)  # speaks of the command, or is a report of the other format
        code, _, err = cli("report", hostile, "--out", notes)
        assert (code, notes.read_text()) == (2, words)
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        (["RUN", "RUN"], "named twice"),
        (["RUN", "--out", "FOLDER"], "is a folder: name a file"),
        (["RUN", "--format", "pdf"], "pdf"),
        ([], "FOLDER"),
    ],
)
def test_wrong_usage_is_one_line_before_any_work(
    hostile: Path, tmp_path: Path, cli: Cli, arguments: list[str], said: str
) -> None:
    places = {"RUN": str(hostile), "FOLDER": str(tmp_path)}
    code, out, err = cli("report", *(places.get(one, one) for one in arguments))
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_reported_from_a_damaged_file(when: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(when, copy)
    path = copy / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-9] + b"damaged!!")
    with pytest.raises(LedgerError, match=r"predictions\.parquet"):
        tailbound.report(copy, progress=None)
    assert not (copy / "report.html").exists()


def test_no_run_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="name at least one run folder"):
        tailbound.report(progress=None)


def test_the_result_says_what_the_page_does(hostile: Path, tmp_path: Path) -> None:
    found = tailbound.report(hostile, out=tmp_path / "page.html", progress=None)
    assert found.frame().height == len(found.answers) == 2
    assert found.facts()["file"] == str(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for one in found.answers:
        assert one.answer.replace("&", "&amp;").replace(">", "&gt;") in text


@pytest.mark.parametrize("command", ["show", "compare", "gate", "report"])
def test_a_name_that_is_too_long_is_one_line(command: str, hostile: Path, cli: Cli) -> None:
    more = {"compare": [hostile], "gate": ["--require", "risk<=1"]}.get(command, [])
    code, out, err = cli(command, "x" * 5000, *more)
    assert (code in (1, 2), out) == (True, "")
    assert err.startswith("tailbound: error: ")
    assert err.count("\n") == 1
