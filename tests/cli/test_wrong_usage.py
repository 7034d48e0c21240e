"""Wrong usage of every command: one line, exit code 2, no folder, no torch, next to no time."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tailbound.demo.files import default_prompts
from tailbound.runs import manifest
from tailbound.testing import KnownRiskTarget

BOUND = ["bound", "p.jsonl", "--budget", "5", "--out", "run"]
SERVER = [
    *BOUND,
    "--target",
    "openai:x",
    "--base-url",
    "http://127.0.0.1:9/v1",
    "--judge",
    "regex:a",
]
RISK = ["risk", "p.jsonl", "--out", "run"]
SPLITTING = [*RISK, "--proposal", "splitting", "--judge", "demo:graded"]
REFUSAL = ["steer", "refusal", "--out", "run"]
PERSONA = ["steer", "persona", "bold", "--out", "run"]
PAIR = ["--harmless", "good.jsonl"]

#: arguments, part of the message, modules that are not installed
WRONG: dict[str, tuple[list[str], str, list[str]]] = {
    "bound: tfidf missing": ([*BOUND, "--features", "tfidf"], "tailbound[tfidf]", ["sklearn"]),
    "risk: splitting by a judge of 0 and 1": (
        [*RISK, "--proposal", "splitting"],
        "every score of demo:unsafe@1 is 0 or 1: use a rubric",
        [],
    ),
    "risk: splitting and another": (
        [*RISK, "--proposal", "splitting", "--proposal", "none"],
        "stands alone",
        [],
    ),
    "risk: splitting with one repeat": (
        [*SPLITTING, "--draws", "60"],
        "makes fewer than two repeats of 50 particles",
        [],
    ),
    "risk: splitting until resolved": (
        [*SPLITTING, "--until-resolved", "--max-draws", "900"],
        "a larger --draws, which adds repeats",
        [],
    ),
    "risk: splitting judged again": (
        [*SPLITTING, "--rejudge"],
        "make a new run with the other judge",
        [],
    ),
    "risk: splitting of files for a direction": (
        [*SPLITTING, "--harmful", "p.jsonl"],
        "go with --proposal refusal, not splitting",
        [],
    ),
    "bound: tfidf by default": (SERVER, "tailbound[tfidf]", ["sklearn"]),
    "bound: embeddings missing": (
        [*BOUND, "--features", "embeddings"],
        "tailbound[embeddings]",
        ["sentence_transformers"],
    ),
    "bound: embeddings folder": (
        [*BOUND, "--features", "embeddings:./nowhere"],
        "no such folder: ./nowhere",
        [],
    ),
    "bound: encoder folder": ([*BOUND, "--features", "finetune:./junk"], "no config.json", []),
    "bound: transformers missing": (
        [*BOUND, "--target", "hf:a/b"],
        "tailbound[hf]",
        ["transformers"],
    ),
    "bound: target after judge": (
        [*BOUND, "--target", "nope:x", "--judge", "classifier:a/b?label=c"],
        "unknown target provider",
        [],
    ),
    "bound: dtype": ([*BOUND, "--dtype", "float3"], "unknown dtype 'float3'", []),
    "bound: device": ([*BOUND, "--device", "banana"], "unknown device 'banana'", []),
    "bound: device of hf": (
        [*BOUND, "--target", "hf:a/b", "--device", "cuda:x"],
        "unknown device",
        [],
    ),
    "bound: revision": (
        [*BOUND, "--revision", "x"],
        "does not apply to demo targets",
        [],
    ),
    "bound: folder below a file": ([*BOUND[:-1], "p.jsonl/run"], "p.jsonl is a file", []),
    "bound: folder is a file": ([*BOUND[:-1], "p.jsonl"], "p.jsonl is a file", []),
    "bound: folder of others": ([*BOUND[:-1], "junk"], "junk holds other files", []),
    "bound: price": ([*SERVER, "--features", "tfidf", "--price-in", "-1"], "--price-in", []),
    "bound: guarantee": ([*BOUND, "--guarantee", "sure"], "--guarantee must be one of", []),
    "bound: no number": (["bound", "p.jsonl", "--budget", "x", "--out", "run"], "budget", []),
    "risk: no such direction": ([*RISK, "--proposal", "refusal:nowhere"], "no direction", []),
    "risk: empty direction": ([*RISK, "--proposal", "refusal:junk"], "no direction", []),
    "risk: harmful alone": ([*RISK, "--harmful", "bad.jsonl"], "--harmless FILE", []),
    "risk: harmful missing": ([*RISK, "--harmful", "no.jsonl", *PAIR], "no.jsonl", []),
    "risk: one harmful": ([*RISK, "--harmful", "one.jsonl", *PAIR], "at least 2 harmful", []),
    "risk: both the same": ([*RISK, "--harmful", "good.jsonl", *PAIR], "are the same", []),
    "risk: direction and files": (
        [*RISK, "--proposal", "refusal:junk", "--harmful", "bad.jsonl", *PAIR],
        "go with --proposal refusal, not refusal:junk",
        [],
    ),
    "risk: no such trait": ([*RISK, "--proposal", "persona:nowhere"], "no trait 'nowhere'", []),
    "risk: half a trait": ([*RISK, "--proposal", "persona:trait.yaml"], "'negative'", []),
    "risk: no adapter": ([*RISK, "--proposal", "lora:junk"], "holds no adapter", []),
    "risk: peft missing": ([*RISK, "--proposal", "lora:lora"], "tailbound[lora]", ["peft"]),
    "risk: learned without peft": (
        [*RISK, "--proposal", "learned"],
        "tailbound[lora]",
        ["peft"],
    ),
    "risk: learned from one batch": (
        [*RISK, "--proposal", "learned", "--draws", "60"],
        "give 100 or more",
        [],
    ),
    "risk: learned without explorers": (
        [*RISK, "--proposal", "learned", "--no-explore"],
        "--no-explore leaves them out",
        [],
    ),
    "risk: learned by mix-switch": (
        [*RISK, "--proposal", "learned", "--proposal-family", "mix-switch"],
        "not with --proposal-family mix-switch",
        [],
    ),
    "risk: no prompt file": ([*RISK, "--proposal", "prompt:no.txt"], "no.txt", []),
    "risk: empty prompt file": ([*RISK, "--proposal", "prompt:empty.txt"], "is empty", []),
    "risk: no model": ([*RISK, "--proposal", "model:./nowhere"], "no such folder", []),
    "risk: family without proposal": (
        [*RISK, "--proposal", "none", "--proposal-family", "mix-switch"],
        "takes one proposal, and there are 0",
        [],
    ),
    "risk: mix-switch of one": (
        ["risk", "one.jsonl", "--out", "run", "--proposal-family", "mix-switch"],
        "at least 2 prompts",
        [],
    ),
    "risk: draws": ([*RISK, "--draws", "1"], "--draws must be at least 2", []),
    "risk: intensities": ([*RISK, "--intensities", "0"], "--intensities must be positive", []),
    "steer: unknown target": ([*REFUSAL, "--target", "nope:x"], "unknown target provider", []),
    "steer: server": ([*REFUSAL, "--target", "openai:x"], "needs the model's weights", []),
    "steer: device": ([*REFUSAL, "--device", "banana"], "unknown device", []),
    "steer: both the same": ([*REFUSAL, "--harmful", "good.jsonl", *PAIR], "are the same", []),
    "steer: folder below a file": (
        ["steer", "refusal", "--out", "p.jsonl/x"],
        "p.jsonl is a file",
        [],
    ),
    "steer: checkpoint below a file": ([*REFUSAL, "--save-model", "p.jsonl/x"], "is a file", []),
    "persona: trait": (["steer", "persona", "nowhere", "--out", "run"], "no trait", []),
    "persona: second judge": ([*PERSONA, "--coherence", "nope:x"], "unknown judge", []),
    "persona: length": ([*PERSONA, "--max-new-tokens", "0"], "max-new-tokens", []),
    "persona: rows": ([*PERSONA, "--batch-size", "0"], "--batch-size", []),
    "persona: seed": ([*PERSONA, "--seed", "-1"], "--seed", []),
    "predict: no run": (["predict", "junk", "p.jsonl"], "is not a run folder", []),
    "predict: no bound": (["predict", "begun", "p.jsonl"], "no finished bound", []),
    "summarize: k": (["summarize", "junk", "--k", "x"], "--k takes whole numbers", []),
    "rejudge: no run": (["rejudge", "junk", "--judge", "regex:a"], "junk", []),
    "import: below a file": (["import", "p.jsonl", "--out", "p.jsonl/x"], "is a file", []),
    "import: format": (["import", "p.jsonl", "--out", "run", "--format", "x"], "format", []),
    "unknown option": (["bound", "p.jsonl", "--bugdet", "5"], "--bugdet", []),
    "unknown command": (["bond"], "bond", []),
}

MOST_IMPORTS = 4.5
"""How often numpy and scipy.special could be imported in the CPU time of a wrong command: 2 seconds
where that takes .44, and as much on a processor that is slow or shared."""

_SCRIPT = """
import contextlib, io, json, sys, time
from tailbound.cli import main
for number, (arguments, _, missing) in enumerate(json.load(open("cases.json"))):
    held = {name: sys.modules.get(name) for name in missing}
    sys.modules.update(dict.fromkeys(missing))
    sys.argv = ["tailbound", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    started = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code
    for name, module in held.items():
        sys.modules.pop(name)
        if module is not None:
            sys.modules[name] = module
    seconds = time.process_time() - started
    torch = "torch" in sys.modules
    print(json.dumps([code, out.getvalue(), err.getvalue(), seconds, torch]), flush=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("wrong")
    for name, n in (("p", 120), ("one", 1), ("good", 4)):
        lines = [json.dumps({"id": p.id, "prompt": p.text}) for p in default_prompts(n)]
        (root / f"{name}.jsonl").write_text("\n".join(lines))
    lines = [json.dumps({"prompt": p.text}) for p in default_prompts(9)[5:]]
    (root / "bad.jsonl").write_text("\n".join(lines))
    (root / "empty.txt").write_text("")
    (root / "trait.yaml").write_text("name: t\npositive: [a]\n")
    for name in ("junk", "lora"):
        (root / name).mkdir()
    (root / "junk" / "x").write_text("x")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (root / "lora" / name).write_text("{}")
    begun = manifest.full_manifest(
        command="bound",
        contract=KnownRiskTarget({"a": 0.1}).contract,
        target="demo",
        engine={},
        judge="demo",
        judge_id="demo",
        threshold=0.5,
        options={},
    )
    manifest.write_manifest(root / "begun", begun)
    return root


@pytest.fixture(scope="module")
def outcomes(place) -> dict[str, tuple[int, str, str, float, bool]]:
    """(exit code, stdout, stderr, CPU seconds, whether torch was imported) of every case."""
    (place / "cases.json").write_text(json.dumps(list(WRONG.values())))
    before = sorted(place.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], cwd=place, capture_output=True, text=True, check=True
    )
    assert sorted(place.rglob("*")) == before
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(WRONG, rows, strict=True))


@pytest.fixture(scope="module")
def imports(outcomes) -> float:
    """CPU seconds of a process that imports numpy and scipy.special, beside the cases."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(2):
        subprocess.run([sys.executable, "-c", "import numpy, scipy.special"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / 2


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line_before_anything_is_loaded(outcomes, imports, case):
    code, out, err, seconds, torch = outcomes[case]
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("tailbound: error: ")
    assert WRONG[case][1] in err
    assert seconds < MOST_IMPORTS * imports
    assert not torch
