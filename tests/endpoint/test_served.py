"""A server that comes back with another model in the middle of a run."""

from __future__ import annotations

import polars
import pytest

from endpoint.stub import Faults, Stub
from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import TargetError
from tailbound.targets.endpoint import load
from targets.tiny_models import Queue

PROMPT = Prompt(id="p", messages=(("user", "question"),))
HOSTED = ("fp_44709d6fcb", "fp_50cad350e4")


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def load_stub(stub):
    return load("m", SamplingOptions(max_new_tokens=30), base_url=stub.url, concurrency=1)


def requests(draws):
    return Queue([DrawRequest(prompt=PROMPT, stream="s", index=i) for i in range(1, draws + 1)])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            Faults(model="m-0613"),
            Faults(model="m-1106"),
            "the server's model was 'm-0613' and is now 'm-1106'",
        ),
        (
            Faults(model="m", fingerprint="b4567-abcdef"),
            Faults(model="m", fingerprint="b4568-123456"),
            "the server's system_fingerprint was 'b4567-abcdef' and is now 'b4568-123456'",
        ),
    ],
)
def test_another_model_stops_the_run_with_what_is_finished(before, after, said):
    with Stub(before) as stub:
        made = load_stub(stub)
        assert made.contract.revision == (before.fingerprint or before.model)
        drawn = made.sample(requests(50), seed=0)
        kept = [next(drawn).index for _ in range(7)]
        stub.faults = after
        with pytest.raises(TargetError, match=said):
            kept.extend(draw.index for draw in drawn)
        # one request was open when the other model came
        assert kept in (list(range(1, 8)), list(range(1, 9)))
        # and a new process does not take the draws of the two for one: the contract differs
        assert load_stub(stub).contract.digest != made.contract.digest


def test_builds_of_a_hosted_service_rotate_and_are_reported():
    with Stub(Faults(model="m-0613", fingerprint=HOSTED[0])) as stub:
        made = load_stub(stub)
        assert made.contract.revision == "m-0613"
        assert made.late_notices == ()
        stub.faults.fingerprint = HOSTED[1]
        assert len(list(made.sample(requests(20), seed=0))) == 20
        (line,) = made.late_notices
        assert f"changed in the run ({HOSTED[0]}, {HOSTED[1]})" in line
        assert load_stub(stub).contract.digest == made.contract.digest


def test_a_run_says_so_and_its_ledger_holds_one_model(tmp_path, cli):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "q", "prompt": "question"}\n')
    with Stub(Faults(model="one", delay=0.002)) as stub:
        answer = stub._document

        def change(payload, *, chat):
            """The probe asks for a story; the run has forty answers of the first model."""
            if "question" in str(payload):
                stub.seen["run"] += 1
            stub.faults.model = "one" if stub.seen["run"] <= 40 else "two"
            return answer(payload, chat=chat)

        stub._document = change
        command = ["risk", path, "--target", "openai:m", "--base-url", stub.url, "--judge"]
        command += ["regex:boat", "--proposal", "none", "--draws", 200, "--out", tmp_path / "run"]
        code, _, err = cli(*command, "--concurrency", 2)
        assert code == 1
        assert err.count("the server's model was 'one' and is now 'two'") == 1
        assert "Traceback" not in err
        assert polars.read_parquet(tmp_path / "run" / "draws").height == 40
