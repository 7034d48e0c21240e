"""The examples run, each in a process of its own, as a person would run it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT
from processes import Launcher

EXAMPLES = ROOT / "examples"

#: Script to what it must print.
SCRIPTS = {
    "bound_and_predict.py": r"(?s)coverage P.*(: safe for the first \d+ generations.*){5}",
    "how_likely.py": r"(?s)(\d\.\d\de-\d\d   ){3}resolved",
    "import_and_summarize.py": r"(?s)^\{.*\"interval\".*\}\s*$",
    "statistics_only.py": r"coverage on prompts never observed: 0\.(8[7-9]|9[0-2])\d",
}

#: The functions of `tailbound` itself may come after this test.
API = importlib.util.find_spec("tailbound.api") is not None


def _python(folder: Path, *arguments: str) -> str:
    """A process that begins anew: one that may not have torch."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:tailbound", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_script_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run(script: str, tmp_path: Path, launcher: Launcher) -> None:
    text = (EXAMPLES / script).read_text()
    if re.search(r"^import tailbound$", text, re.MULTILINE) and not API:
        compile(text, script, "exec")
        return
    arguments = [str(tmp_path / "runs")] if "sys.argv" in text else []
    done = launcher.run(*arguments, script=EXAMPLES / script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "DeprecationWarning" not in done.stderr
    assert re.search(SCRIPTS[script], done.stdout), done.stdout


def test_the_statistics_need_no_torch(tmp_path: Path) -> None:
    text = (EXAMPLES / "statistics_only.py").read_text()
    barred = (
        "import sys\nfor name in ('torch', 'transformers', 'polars'): sys.modules[name] = None\n"
    )
    (tmp_path / "alone.py").write_text(barred + text)
    assert "coverage" in _python(tmp_path, "alone.py")


def test_the_notebook_runs(tmp_path: Path, launcher: Launcher) -> None:
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text())
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    )
    text = "\n\n".join(code) + '\nprint("the end")\n'
    compile(text, "quickstart.ipynb", "exec")
    if API:
        (tmp_path / "quickstart.py").write_text(text)
        done = launcher.run(script=tmp_path / "quickstart.py", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "the end" in done.stdout
