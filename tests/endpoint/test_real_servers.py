"""Real servers with tiny models, in processes of their own: `transformers serve` and llama.cpp."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import polars
import pytest

from endpoint import real_models
from endpoint.test_endpoint import requests
from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.judges.registry import load_judge
from tailbound.targets.endpoint import EndpointTarget, load
from tailbound.workflows.risk import RiskSettings, make_proposal, run_risk
from targets.tiny_models import Queue

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["transformers", "llama.cpp"])
def served(request, tmp_path_factory) -> Iterator[tuple[str, str, str]]:
    """The kind of server, its URL, and its model's name."""
    folder = tmp_path_factory.mktemp("served")
    start = transformers_serve if request.param == "transformers" else llama_cpp
    process, url, model = start(folder)
    try:
        yield request.param, f"{url}/v1", model
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()
        if process.stdin is not None:
            process.stdin.close()


def transformers_serve(folder: Path) -> tuple[subprocess.Popen[str], str, str]:
    real_models.write(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(sys.executable).parent / "transformers"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(script), "serve", str(folder / "model"), "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://localhost:{port}/health", timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.5)
    return process, f"http://localhost:{port}", str(folder / "model")


def llama_cpp(
    folder: Path, template: str = real_models.TEMPLATE
) -> tuple[subprocess.Popen[str], str, str]:
    real_models.write_gguf(folder / "tiny.gguf", template)
    process = subprocess.Popen(
        [sys.executable, str(Path(real_models.__file__)), str(folder / "tiny.gguf")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("READY"):
            return process, line.split()[1], "tiny"
    raise AssertionError("the llama.cpp server did not start")


def open_target(served: tuple[str, str, str]) -> EndpointTarget:
    _, url, model = served
    options = SamplingOptions(max_new_tokens=12)
    return load(model, options, base_url=url, timeout=60, concurrency=4)


def test_what_it_ignores_in_silence_is_found(served):
    found = open_target(served).capabilities
    assert found.random
    assert found.temperature
    assert found.max_tokens
    print(served[0], found)
    if served[0] == "llama.cpp":
        for name in ("seed", "stop", "log_probs", "top_k", "min_p"):
            assert getattr(found, name), name
        assert not found.usage_of_all  # it counts one of several responses, so n is not used
        assert not found.n
    else:  # one generator for all requests: seeds hold for one at a time only
        for name in ("n", "seed", "stop", "log_probs", "top_k", "min_p"):
            assert not getattr(found, name), name


def test_llama_cpp_puts_a_thought_that_the_template_opens_into_a_field(tmp_path):
    """The tiny model never closes it, so there is no reply: missing, never an empty one."""
    process, url, model = llama_cpp(tmp_path, real_models.THINKING_TEMPLATE)
    try:
        options = SamplingOptions(max_new_tokens=12)
        made = load(model, options, base_url=f"{url}/v1", timeout=60, concurrency=4)
        assert made.capabilities.thinking == "field"
        draws = list(made.sample(Queue(requests(3)), seed=0))
        assert {draw.finish_reason for draw in draws} == {"incomplete"}
        assert {draw.text for draw in draws} == {""}
        judged = SamplingOptions(max_new_tokens=12, thinking="judge")
        made = load(model, judged, base_url=f"{url}/v1", timeout=60, concurrency=4)
        shown = list(made.sample(Queue(requests(3)), seed=0))
        assert all(draw.text.startswith("<think>\n") for draw in shown)
        assert {draw.missing for draw in shown} == {None}
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()
        process.stdin.close()


@pytest.mark.parametrize("served", ["llama.cpp"], indirect=True)  # the other takes no top_k
def test_defaults_that_cut_the_tail_are_switched_off(served):
    _, url, model = served
    made = load(model, SamplingOptions(max_new_tokens=1), base_url=url, timeout=60, concurrency=4)
    prompt = [Prompt(id="a", messages=(("user", "say something"),))]

    def first_tokens() -> int:
        found = made.sample(Queue(requests(1500, prompt)), seed=0)
        return len({d.text for d in found if d.text.isascii()})

    assert first_tokens() > 40
    made._phrasing.dialect.extras.clear()  # what the server does unless asked otherwise
    assert first_tokens() <= 40


def test_draws_and_risks(served, tmp_path):
    made = open_target(served)
    draws = list(made.sample(Queue(requests(3)), seed=0))
    assert len({(d.prompt_id, d.index) for d in draws}) == len(draws) == 15
    assert len({d.text for d in draws}) > 10
    judge = load_judge("regex:[aeiou]{2}")
    prompts = [Prompt(id="a", messages=(("user", "say something"),))]
    proposal = make_proposal(["none"], made, judge, prompts, folder=tmp_path)
    result = run_risk(
        prompts, proposal=proposal, judge=judge, settings=RiskSettings(draws=40), folder=tmp_path
    )
    (risk,) = result.risks
    assert risk.estimate.draws == 40
    assert 0 <= risk.estimate.certified_lower <= risk.estimate.risk


def test_bound_from_the_command_line(served, tmp_path):
    """Training, calibration, test and prediction through a real server, nothing but options."""
    _, url, model = served
    prompts = tmp_path / "prompts.jsonl"
    words = ("river", "stone", "boat", "water", "bridge", "fish", "rain", "hill")
    prompts.write_text(
        "".join(json.dumps({"prompt": f"tell {w} {v}"}) + "\n" for w in words for v in words)
    )
    command = [
        *(sys.executable, "-m", "tailbound", "bound", str(prompts), "--json"),
        *("--target", f"openai:{model}", "--base-url", url, "--concurrency", "4"),
        *("--judge", "regex:[aeiou]{2}", "--max-new-tokens", "6", "--train-draws", "8"),
        *("--budget", "4", "--test-draws", "6", "--alpha", "0.3", "--out", str(tmp_path / "run")),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["bound"]["level"] > 0
    assert found["endpoint"]["requests"] > found["spend"]["calibration"]["generated"] > 0
    draws = polars.read_parquet(tmp_path / "run" / "draws")
    assert draws["score"].null_count() == 0
    assert draws["tokens"].is_between(1, 6).all()
    assert draws["text"].n_unique() > draws.height / 2
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert json.loads(again.stdout)["bound"] == found["bound"]
    assert polars.read_parquet(tmp_path / "run" / "draws").height == draws.height
    (tmp_path / "new.jsonl").write_text('{"prompt": "tell river moon"}\n')
    new = subprocess.run(
        [*command[:3], "predict", str(tmp_path / "run"), str(tmp_path / "new.jsonl")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert json.loads(new.stdout)["lower_bound"] >= 1, new.stderr
