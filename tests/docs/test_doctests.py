"""The examples in docstrings run, wherever a module can be imported without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "tailbound"

#: Packages that may need torch or another optional part when they are imported.
MAY_BE_HEAVY = (
    "tailbound.targets.decoding",
    "tailbound.steering",
    "tailbound.demo",
    "tailbound.cli.render",
)

#: Packages whose every public function has an example.
STATISTICS = (
    "tailbound.survival",
    "tailbound.importance_sampling",
    "tailbound.intervals",
    "tailbound.summaries",
    "tailbound.deployment",
    "tailbound.studies",
)

#: Modules whose examples sample the demo model: they run with torch, on their own.
WITH_A_MODEL = ("tailbound.api", "tailbound.workflows.load")

_BARRED = ("torch", "transformers", "tokenizers", "safetensors", "peft", "aiohttp")

_RUN = r"""
import doctest, importlib, io, json, sys
from contextlib import redirect_stdout

for name in sys.argv[1].split():
    sys.modules[name] = None  # importing one of them is an ImportError

found = {}
for name in sys.argv[2:]:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        found[name] = {"heavy": str(error)}
        continue
    said = io.StringIO()
    with redirect_stdout(said):
        result = doctest.testmod(module)
    found[name] = {"ran": result.attempted, "failed": result.failed, "said": said.getvalue()}
print(json.dumps(found))
"""


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(SOURCE.rglob("*.py")) if path.stem != "__main__"}


def _examples(modules: Iterable[str], barred: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """What the examples of `modules` came to, in a process without the modules `barred`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUN, " ".join(barred), *modules],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """What the examples came to that need no model."""
    return _examples((name for name in MODULES if name not in WITH_A_MODEL), _BARRED)


def test_examples_that_sample_the_demo_model_give_what_they_say() -> None:
    found = _examples(WITH_A_MODEL)
    assert [result["said"] for result in found.values() if result["failed"]] == []
    assert found["tailbound.api"]["ran"] > 0


def test_all_examples_give_what_they_say(results: dict[str, dict[str, Any]]) -> None:
    failed = [result["said"] for result in results.values() if result.get("failed")]
    assert not failed, "\n".join(failed)


def test_more_than_forty_examples_run(results: dict[str, dict[str, Any]]) -> None:
    assert sum(result.get("ran", 0) for result in results.values()) > 40


def test_no_example_is_out_of_reach(results: dict[str, dict[str, Any]]) -> None:
    heavy = [name for name, result in results.items() if "heavy" in result]
    assert [name for name in heavy if not name.startswith(MAY_BE_HEAVY)] == []
    assert [name for name in heavy if ">>>" in MODULES[name].read_text()] == []


def test_statistics_have_an_example_each() -> None:
    import importlib
    import inspect

    bare = []
    for package in STATISTICS:
        module = importlib.import_module(package)
        names = getattr(module, "__all__", None) or [n for n in vars(module) if n[0] != "_"]
        for name in names:
            value = getattr(module, name)
            if not inspect.isfunction(value) or value.__module__.split(".")[1] == "workflows":
                continue
            if value.__module__.startswith(STATISTICS) and ">>>" not in (value.__doc__ or ""):
                bare.append(f"{package}.{name}")
    assert bare == []
