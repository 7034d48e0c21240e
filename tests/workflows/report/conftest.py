"""Small runs of every kind, with texts that would do harm if a page took them for its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import tailbound
from processes import Launcher, Process
from tailbound.demo.files import default_prompts
from tailbound.testing import KnownRiskTarget, WordJudge

HOSTILE = {
    "script": "<script>window.hacked=1</script>",
    "closing": "</script></style></title><img src=x onerror=window.hacked=2>",
    "json": '"]}</script><script>window.hacked=3</script>{"a":["\\u003c',
    "attribute": "\" onmouseover='window.hacked=4' autofocus onfocus=window.hacked=5 x=\"",
    "terminal": "\x1b[31mred\x1b[2J\x07 \x00 end",
    "direction": "abc\u202egnp.exe\u202c \u2066x\u2069 \ufeff \u200b done",
    "markdown": "[click](javascript:window.hacked=6) ![i](http://evil.example/i.png) `x` **b** | c",
    "link": "http://evil.example/steal?<b>x</b>&amp;&lt;",
    "template": "{{ 7*7 }} {% raw %} ${7*7} #{7*7}",
    "separators": "a\u2028b\u2029c\r\nd\n\n# heading\n- item",
    "million": "<b>" + "A" * 1_000_000 + "</b>",
}


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def when(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bound of 160 prompts on two topics, without a model."""
    folder = tmp_path_factory.mktemp("report") / "when"
    rng = np.random.default_rng(0)
    ids = [f"<b>p{number}</b>" for number in range(160)]
    prompts = [
        {"id": name, "prompt": f"{name} asks", "topic": f"g{number % 2}<i>"}
        for number, name in enumerate(ids)
    ]
    target = KnownRiskTarget({name: float(10 ** rng.uniform(-2, -0.7)) for name in ids})
    tailbound.bound(
        prompts,
        out=folder,
        target=target,
        judge=WordJudge(),
        budget=30,
        coverage_by="topic",
        train_draws=40,
        test_draws=40,
        progress=None,
    )
    return folder


@pytest.fixture(scope="session")
def how(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weighted risks of two prompts of the demo model."""
    folder = tmp_path_factory.mktemp("report") / "how"
    tailbound.risk(default_prompts(2), out=folder, draws=40, progress=None)
    return folder


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imported draws whose ids, prompts and responses are `HOSTILE`, with a forecast."""
    place = tmp_path_factory.mktemp("report")
    rows: list[dict[str, object]] = [
        {
            "id": f"{name} {text[:300]}",
            "prompt": text,
            "response": text,
            "group": text[:60],
            "score": float(draw < 3),
            "draw": draw + 1,
        }
        for name, text in HOSTILE.items()
        for draw in range(8)
    ]
    rows.append({"id": "no verdict", "prompt": "x", "response": "y", "score": None, "draw": 1})
    folder = place / "<img src=x onerror=window.hacked=7>"
    tailbound.import_draws(_write(place / "draws.jsonl", rows), folder, progress=None)
    tailbound.summarize(folder, progress=None)
    tailbound.forecast_deployment(folder, progress=None)
    return folder


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imported draws of 10,000 prompts."""
    place = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = [
        {
            "id": f"q{number}",
            "prompt": f"question {number} about {number % 97} things, put in some more words",
            "group": f"kind {number % 7}",
            "score": float(rng.random() < 0.05),
            "draw": draw + 1,
        }
        for number in range(10_000)
        for draw in range(2)
    ]
    folder = place / "many"
    tailbound.import_draws(_write(place / "draws.jsonl", rows), folder, progress=None)
    return folder


@pytest.fixture
def serve(launcher: Launcher) -> Iterator[Callable[..., tuple[str, Process]]]:
    """Start `tailbound view FOLDERS --no-browser ...`: its address and its process."""
    started: list[Process] = []

    def start(*arguments: object) -> tuple[str, Process]:
        process = launcher.start("view", *arguments, "--no-browser")
        started.append(process)
        for _ in range(600):
            out = Path(process.files + ".out")
            said = out.read_text() if out.exists() else ""
            if said.count("\n") >= 2:
                return said.split()[1], process
            assert process.running, process.finish()
            time.sleep(0.05)
        raise TimeoutError(said)

    yield start
    for process in started:
        process.kill()
