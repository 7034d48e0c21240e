"""What the threat model says of the code itself: nothing is unpickled, evaluated or trusted."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tailbound"
PICKLES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "_pickle"}
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
UNSAFE_YAML = {"load", "load_all", "full_load", "unsafe_load", "full_load_all", "unsafe_load_all"}


def violations(source: str) -> Iterator[str]:
    """Everything in a module that could run code found in data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [one.name for one in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                if name.partition(".")[0] in PICKLES:
                    yield f"line {node.lineno} imports {name}"
        elif isinstance(node, ast.Call):
            yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[str]:
    given = {one.arg: one.value for one in node.keywords}
    match node.func:
        case ast.Name(id=name) if name in RUNS_CODE:
            yield f"line {node.lineno} calls {name}"
        case ast.Attribute(value=ast.Name(id="yaml"), attr=name) if name in UNSAFE_YAML:
            yield f"line {node.lineno} calls yaml.{name}"
        case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
            if not _is(given.get("weights_only"), True):
                yield f"line {node.lineno} calls torch.load without weights_only=True"
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="load"):
            if not _is(given.get("allow_pickle"), False):
                yield f"line {node.lineno} calls np.load without allow_pickle=False"
        case ast.Attribute(value=ast.Name(id="os"), attr="system" | "popen"):
            yield f"line {node.lineno} calls a shell"
    if "shell" in given and not _is(given["shell"], False):
        yield f"line {node.lineno} passes shell="
    if "trust_remote_code" in given and not _is(given["trust_remote_code"], False):
        yield f"line {node.lineno} trusts code of checkpoints"


def _is(value: ast.expr | None, wanted: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is wanted


BETWEEN_OURSELVES = {"executors/process.py", "executors/processes.py"}
"""The two ends of the socket between a run and its workers, which nobody else holds."""


def test_nothing_runs_code_found_in_data() -> None:
    found = {
        str(path.relative_to(SOURCE)): problem
        for path in sorted(SOURCE.rglob("*.py"))
        for problem in violations(path.read_text(encoding="utf-8"))
    }
    assert set(found) == BETWEEN_OURSELVES
    assert all(problem.endswith("imports pickle") for problem in found.values())


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "import joblib.numpy_pickle",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "yaml.load(f, Loader=yaml.Loader)",
        "yaml.unsafe_load(f)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_the_check_finds_each_of_them(source: str) -> None:
    assert list(violations(source))


def test_what_is_allowed_is_not_found() -> None:
    allowed = "torch.load(f, weights_only=True)\nnp.load(f, allow_pickle=False)\nmodel.eval()\n"
    assert list(violations(allowed + "yaml.safe_load(f)\nre.compile(x)\n")) == []


# --- the audit of dependencies ----------------------------------------------------------------


def audit(tmp_path: Path, answers: dict[str, list[str]], *, online: bool) -> tuple[int, str]:
    """scripts/audit-dependencies with a pip-audit that knows `answers`."""
    tool = tmp_path / "pip-audit"
    tool.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "pinned = [line.strip().split('==') for line in open(sys.argv[-1])]\n"
        f"answers, online = {json.dumps(answers)!r}, {online}\n"
        "answers = json.loads(answers)\n"
        "row = lambda n, v: {'name': n, 'version': v, 'vulns': [\n"
        "    {'id': i, 'fix_versions': ['9']}\n"
        "    for i in answers.get(n, answers.get(n + '==' + v, []))]}\n"
        "gone = lambda n, v: {'name': n, 'skip_reason': 'not found'}\n"
        "print(json.dumps({'dependencies': [(row if online else gone)(*p) for p in pinned]}))\n"
    )
    tool.chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "audit-dependencies")],
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_AUDIT": str(tool), "PYTHON": sys.executable},
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_an_audit_without_a_database_says_so(tmp_path: Path) -> None:
    code, said = audit(tmp_path, {}, online=False)
    assert code == 3
    assert said.startswith("scripts/audit-dependencies: the database of advisories cannot be")
    assert said.count("\n") == 1


def test_an_audit_that_finds_nothing_where_something_is_known_is_none(tmp_path: Path) -> None:
    assert audit(tmp_path, {}, online=True)[0] == 3


def test_an_audit_with_and_without_findings(tmp_path: Path) -> None:
    known = {"jinja2==3.1.2": ["CVE-1"]}
    code, said = audit(tmp_path, known, online=True)
    assert code == 0
    assert "audited, 0 with known advisories" in said
    code, said = audit(tmp_path, {**known, "numpy": ["CVE-2"]}, online=True)
    assert code == 1
    assert "CVE-2 (fixed in 9)" in said
    assert "with known advisories" in said
