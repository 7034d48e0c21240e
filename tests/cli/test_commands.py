"""The commands as a user meets them: outputs, exit codes, one clear line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from tailbound.demo.files import default_prompts


def write_prompts(path: Path, n: int, *, start: int = 0) -> Path:
    prompts = default_prompts(start + n)[start:]
    path.write_text("".join(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in prompts))
    return path


SMALL = ["--budget", 8, "--train-draws", 20, "--test-draws", 20, "--max-new-tokens", 32]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, launcher) -> Path:
    """A small finished run on the demo model, made by a real process."""
    folder = tmp_path_factory.mktemp("run")
    prompts = write_prompts(folder / "prompts.jsonl", 120)
    done = launcher.run("bound", prompts, "--out", folder / "run", "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["bound"]["n_calibration"] > 40
    assert "train" in done.stderr
    return folder / "run"


def test_help_needs_none_of_the_heavy_libraries():
    code = (
        "import sys; import tailbound.cli.app; "
        "heavy = {'torch', 'transformers', 'polars', 'scipy', 'rich.progress'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lists(cli):
    code, out, _ = cli("targets")
    assert code == 0
    assert "demo" in out
    assert "hf" in out
    code, out, _ = cli("judges", "--json")
    assert {"demo", "regex", "keywords", "python"} <= set(json.loads(out))


def test_version(cli):
    code, out, _ = cli("--version")
    assert code == 0
    assert out.startswith("tailbound 0.")


def test_files_of_a_run(finished):
    document = yaml.safe_load((finished / "run.yaml").read_text())
    assert document["judge_id"].startswith("demo:unsafe")
    assert document["contract"]["temperature"] == 1.0
    assert document["versions"]["tailbound"]
    table = pl.read_parquet(finished / "predictions.parquet")
    assert {"id", "p_hat", "lower_bound"} <= set(table.columns)
    draws = pl.read_parquet(finished / "draws")
    assert set(draws["stream"]) == {"train", "calibration", "test"}
    assert json.loads((finished / "evaluation.json").read_text())["evaluation"]["overall"]
    assert json.loads((finished / "spend.json").read_text())["streams"]["train"]["tokens"] > 0


def test_running_again_prints_the_same_and_draws_nothing(cli, finished):
    before = sorted((finished / "draws").iterdir())
    held = (finished / "bound.json").read_text()
    code, out, _ = cli("bound", finished.parent / "prompts.jsonl", "--out", finished, *SMALL)
    assert code == 0
    assert "Lower bound on the time to unsafe sampling" in out
    assert "In expectation over calibrations" in out
    assert sorted((finished / "draws").iterdir()) == before
    assert (finished / "bound.json").read_text() == held


def test_predict_gives_one_line_for_each_prompt(cli, finished, tmp_path):
    new = write_prompts(tmp_path / "new.jsonl", 5, start=1500)
    code, out, _ = cli("predict", finished, new)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(rows) == 5
    for row in rows:
        extra = {"unfamiliar", "upper_bound", "two_sided"}
        assert {"id", "lower_bound", "p_hat"} <= set(row) <= {"id", "lower_bound", "p_hat"} | extra
        assert row["lower_bound"] >= 1
        assert 0 < row["p_hat"] < 1
    code, out, _ = cli("predict", finished, new, "--json")
    assert json.loads(out)["predictions"] == rows


def test_dry_run_counts_and_writes_nothing(cli, tmp_path):
    prompts = write_prompts(tmp_path / "p.jsonl", 120)
    code, out, _ = cli("bound", prompts, "--out", tmp_path / "run", "--dry-run", "--json", *SMALL)
    document = json.loads(out)
    assert code == 0
    assert {row["part"] for row in document["streams"]} == {"train", "calibration", "test"}
    assert document["draws"] == sum(row["draws"] for row in document["streams"])
    assert document["tokens_per_draw"] > 1
    assert not (tmp_path / "run").exists()
    code, out, _ = cli("bound", prompts, "--out", tmp_path / "run", "--dry-run", *SMALL)
    assert "calibration (planned)" in out


MISTAKES = {
    "no file": (["nowhere.jsonl", "--budget", 5], "nowhere.jsonl"),
    "no budget": (["{prompts}", "--budget", 0], "--budget must be positive and finite, not 0"),
    "guarantee": (
        ["{prompts}", "--budget", 5, "--guarantee", "sure"],
        "--guarantee must be one of",
    ),
    "judge": (["{prompts}", "--budget", 5, "--judge", "oracle"], "oracle"),
    "pattern": (["{prompts}", "--budget", 5, "--judge", "regex:("], "regex"),
    "target": (["{prompts}", "--budget", 5, "--target", "gpt-5"], "unknown target provider"),
    "model": (["{prompts}", "--budget", 5, "--target", "hf:./nowhere"], "no such folder"),
    "split": (["{prompts}", "--budget", 5, "--split", "1,2"], "--split takes 3 numbers"),
    "shares": (["{prompts}", "--budget", 5, "--split", "1,2,3"], "add up to 1"),
    "temperature": (
        ["{prompts}", "--budget", 5, "--temperature", 0],
        "temperature must be positive",
    ),
    "threshold": (["{prompts}", "--budget", 5, "--threshold", 2], "threshold"),
    "batch": (["{prompts}", "--budget", 5, "--batch-size", 0], "--batch-size must be at least 1"),
    "field": (["{prompts}", "--budget", 5, "--field", "text"], "text"),
    "empty": (["{empty}", "--budget", 5], "empty.jsonl"),
    "length": (["{prompts}", "--budget", 5, "--max-new-tokens", 256], "the model's context"),
    "folder": (["{prompts}", "--budget", 5, "--out", "/proc/x", "--max-new-tokens", 9], "/proc/x"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_gets_one_line_and_spends_nothing(cli, tmp_path, mistake):
    prompts = write_prompts(tmp_path / "p.jsonl", 120)
    (tmp_path / "empty.jsonl").write_text("")
    arguments, message = MISTAKES[mistake]
    filled = [str(a).format(prompts=prompts, empty=tmp_path / "empty.jsonl") for a in arguments]
    code, out, err = cli("bound", "--out", tmp_path / "run", *filled)
    # what the system refuses to write is no mistake of usage
    assert code == (1 if mistake == "folder" else 2)
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1
    assert lines[0].startswith("tailbound: error: ")
    assert message in lines[0]
    assert not (tmp_path / "run" / "draws").exists()


def test_a_guarantee_out_of_reach_is_exit_code_3(cli, tmp_path):
    prompts = write_prompts(tmp_path / "p.jsonl", 120)
    code, _, err = cli(
        "bound", prompts, "--out", tmp_path / "run", "--guarantee", "pac", "--alpha", 0.01, *SMALL
    )
    assert code == 3
    assert "calibration prompts" in err
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_contract_is_refused(cli, finished):
    prompts = finished.parent / "prompts.jsonl"
    held = (finished / "run.yaml").read_text()
    code, _, err = cli("bound", prompts, "--out", finished, "--temperature", 0.7, *SMALL)
    assert code == 2
    assert "temperature" in err
    code, _, err = cli("bound", prompts, "--out", finished, "--judge", "regex:unsafe", *SMALL)
    assert code == 2
    assert "judge" in err
    assert (finished / "run.yaml").read_text() == held


def test_predict_without_a_run(cli, tmp_path):
    prompts = write_prompts(tmp_path / "p.jsonl", 5)
    code, _, err = cli("predict", tmp_path, prompts)
    assert code == 2
    assert "is not a run folder" in err
