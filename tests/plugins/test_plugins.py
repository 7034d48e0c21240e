"""The example plugins, as installed, in real processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugins"
CHANCE = 0.05


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages that holds the example, with the metadata of its project."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "src" / "tailbound_toys", folder / "tailbound_toys")
    info = folder / f"tailbound_toys-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return folder


def tailbound(site: Path | None, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line with what is installed in `site`."""
    environment = {**os.environ, "PYTHONPATH": "" if site is None else str(site)}
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:tailbound_toys", "-m", "tailbound"]
        + [str(argument) for argument in arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def prompts(path: Path, n: int) -> Path:
    """Prompts with 0 to 3 exclamation marks: P(all three words are NO) is (p * (1 + marks))^3."""
    rows = [{"id": f"q{i}", "prompt": f"question {i}{'!' * (i % 4)}"} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_plugins_are_listed(site: Path) -> None:
    for command, name in (("targets", "toy"), ("judges", "shouting")):
        assert name in json.loads(tailbound(site, command, "--json").stdout)
        assert name not in json.loads(tailbound(None, command, "--json").stdout)


def test_a_bound_with_a_target_a_judge_and_features_of_plugins(site: Path, tmp_path: Path) -> None:
    file, out = prompts(tmp_path / "p.jsonl", 120), tmp_path / "run"
    done = tailbound(
        site,
        *("bound", file, "--budget", 40, "--out", out, "--target", "toy:0.1"),
        *("--judge", "shouting", "--features", "punctuation", "--train-draws", 100),
        *("--max-new-tokens", 3, "--json"),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["predictor"]["features"] == "punctuation"
    # two features that hold all there is to know: nearly all of the deviance that can be explained
    assert found["predictor"]["explained"] > 0.5
    new = prompts(tmp_path / "new.jsonl", 4)
    done = tailbound(site, "predict", out, new)
    assert done.returncode == 0, done.stderr
    bounds = [json.loads(line)["lower_bound"] for line in done.stdout.splitlines()]
    assert bounds[0] > 2 * bounds[3]  # .001 against .064
    lost = tailbound(None, "predict", out, new)
    assert lost.returncode == 2
    assert "unknown --features 'punctuation'" in lost.stderr
    assert len([line for line in lost.stderr.splitlines() if "error" in line]) == 1


def test_the_risk_by_a_proposal_of_a_plugin_is_the_true_one(site: Path, tmp_path: Path) -> None:
    file, out = prompts(tmp_path / "p.jsonl", 4), tmp_path / "run"
    command = (
        *("risk", file, "--out", out, "--target", f"toy:{CHANCE}", "--judge", "shouting"),
        *("--proposal", "louder:0.9", "--draws", 400, "--max-new-tokens", 3, "--json"),
    )
    done = tailbound(site, *command)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["prompts"]:
        marks = int(row["id"][1:]) % 4
        truth = (CHANCE * (1 + marks)) ** 3
        # the toy can be heated, so other routes were looked for
        assert (row["precise"], row["coverage"]) == (True, "checked")
        assert row["certified_lower"] < truth < row["certified_upper"]
        assert row["risk"] == pytest.approx(truth, rel=0.35)
    again = tailbound(site, *command)
    assert json.loads(again.stdout)["prompts"] == json.loads(done.stdout)["prompts"]
    other = tailbound(site, *[a if a != "louder:0.9" else "louder:0.8" for a in command])
    assert other.returncode == 2
    assert "holds a run with --proposal louder:0.9, not louder:0.8" in other.stderr


MISTAKES = {
    "option": (["--target", "toy", "--dtype", "float32"], "--dtype does not apply to toy targets"),
    "name": (["--target", "toy:much"], "takes a probability such as toy:0.1"),
    "weights": (
        ["--target", "toy", "--proposal", "refusal"],
        "needs the target's weights in this process",
    ),
    "other target": (["--proposal", "louder:0.9"], "goes with --target toy"),
    "no name": (["--target", "toy", "--proposal", "louder"], "louder needs a name: louder:CHANCE"),
    "sampling": (
        ["--target", "toy", "--temperature", "0.5", "--proposal", "none"],
        "has no sampling options but --max-new-tokens",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_with_plugins_are_one_line(site: Path, tmp_path: Path, mistake: str) -> None:
    arguments, message = MISTAKES[mistake]
    file = prompts(tmp_path / "p.jsonl", 4)
    done = tailbound(
        *(site, "risk", file, "--out", tmp_path / "run", "--max-new-tokens", 3, "--judge"),
        *("shouting", *arguments),
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "draws").exists()
