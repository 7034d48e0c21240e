"""Every parser of something that comes from outside, with examples of what it reads.

A parser that takes bytes or text is called in memory; one that takes a path gets a file in
`SCRATCH`, which is memory too where the system has `/dev/shm`.
"""

from __future__ import annotations

import atexit
import gzip
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from fuzz.inputs import (
    Make,
    binary,
    documents,
    either,
    example_of,
    lines,
    parquet,
    table,
    texts,
    yaml_text,
)
from fuzz.runner import Parser
from tailbound.cli.declared import _check_value, _parsed, config_values
from tailbound.core.contract import SamplingContract, SamplingOptions
from tailbound.core.finish_reasons import broken_reason, content_filter_reason, finish_kind
from tailbound.core.options import Option, check_choices, make, options_of
from tailbound.core.outside import OutsideError, count, finite, parse_json
from tailbound.core.spec_options import SpecOptions
from tailbound.core.thinking import read_reply, split
from tailbound.errors import UsageError
from tailbound.judges import registry as judges
from tailbound.judges.expressions import Expression
from tailbound.judges.guard_formats import parse_llama_guard, parse_wildguard
from tailbound.judges.linear_regex import NotLinearError, linear_search
from tailbound.judges.pattern import load_keywords, load_regex
from tailbound.judges.rubric import _engine
from tailbound.judges.rubric_file import _Reading, read_rubric
from tailbound.judges.verdicts import scored
from tailbound.predictors.arrays import load_arrays
from tailbound.predictors.novelty import NoveltyDetector
from tailbound.predictors.registry import feature_provider
from tailbound.prompts import tables
from tailbound.prompts.cells import records
from tailbound.prompts.datasets import parse_recipe_file
from tailbound.prompts.hub import parse_name
from tailbound.prompts.reading import prompt_set_of, read_prompts
from tailbound.runs.draws import read as read_draws
from tailbound.runs.history import read_recorded
from tailbound.runs.identity import read_identity
from tailbound.runs.manifest import read_manifest
from tailbound.runs.rounds import read_rounds
from tailbound.runs.spend import read_stages, read_streams
from tailbound.steering.traits import Trait
from tailbound.storage.parquet import parse_parquet
from tailbound.storage.seal import BLANK, seal
from tailbound.survival.bound import LowerPredictiveBound
from tailbound.targets import registry as targets
from tailbound.targets.endpoint.adapting import adapt
from tailbound.targets.endpoint.extra_body import canonical
from tailbound.targets.endpoint.protocol import Dialect, MalformedResponseError
from tailbound.targets.endpoint.protocol import read as read_answer
from tailbound.targets.endpoint.refusals import prompt_refusal
from tailbound.targets.endpoint.settings import EndpointSettings, environment, find_key
from tailbound.targets.endpoint.waiting import retry_after
from tailbound.workflows.audit_judge.result import JudgeAudit, read_audit
from tailbound.workflows.audit_judge.sample import JudgeSample, SampledDraw, read_sample
from tailbound.workflows.audit_judge.sheet import read_labels
from tailbound.workflows.bound.results import BoundResult
from tailbound.workflows.bound.results import read_result as read_bound
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.compare.result import CompareResult
from tailbound.workflows.costs import read_accounts
from tailbound.workflows.forecast.reading import estimates_of, weights_of
from tailbound.workflows.forecast.result import ForecastResult, read_forecast
from tailbound.workflows.gate.grammar import parse as parse_requirement
from tailbound.workflows.gate.result import GateResult
from tailbound.workflows.import_.formats import read_source
from tailbound.workflows.monitor.outcomes import given_outcomes, outcome_of, read_outcomes
from tailbound.workflows.monitor.state import MonitorResult, read_monitor
from tailbound.workflows.paraphrase.replies import Reply, fault_of, wording_of
from tailbound.workflows.rejudge.job import Rejudged
from tailbound.workflows.result import Result
from tailbound.workflows.risk.proposals.registry import find_proposal
from tailbound.workflows.risk.results import RiskResult, read_review
from tailbound.workflows.risk.results import read_result as read_risk
from tailbound.workflows.risk.settings import RiskSettings
from tailbound.workflows.sensitivity.result import SensitivityResult
from tailbound.workflows.show.result import Overview
from tailbound.workflows.summarize.summary import RunSummary, read_summary
from tailbound.workflows.table.reading import table_of
from tailbound.workflows.verify.result import Verification

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def _warm() -> None:
    """Import what parsers import when they are first called, before they are timed."""
    import inspect_ai.log  # noqa: F401
    import polars  # noqa: F401
    import re2  # noqa: F401

    import tailbound.predictors.head
    import tailbound.workflows.view.server  # noqa: F401


def _scratch() -> Path:
    memory = Path("/dev/shm")
    place = tempfile.mkdtemp(prefix="tailbound-fuzz-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Path(place)


_warm()
SCRATCH = _scratch()


def text_of(data: bytes) -> str:
    """The text that a parser of text gets: halves of characters stay."""
    return data.decode("utf-8", "surrogatepass") if _paired(data) else data.decode("latin-1")


def _paired(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def by_text(call: Callable[[str], object]) -> Callable[[bytes], object]:
    """A parser of text."""
    return lambda data: call(text_of(data))


def by_file(name: str, call: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A parser of a file of that name."""
    path = SCRATCH / name
    path.parent.mkdir(parents=True, exist_ok=True)

    def run(data: bytes) -> object:
        path.write_bytes(data)
        return call(path)

    return run


def by_sealed(name: str, call: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of a folder's sealed file of that name: what it is given bears its checksum.

    It gets the folder; what is damaged without a new checksum is refused before it is parsed.
    """
    folder = SCRATCH / f"run-{name.replace('/', '-')}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)

    def run(data: bytes) -> object:
        if name.endswith(".yaml"):
            path.write_bytes(seal(data.rstrip() + f'\nchecksum: "{BLANK}"\n'.encode()))
        else:
            head = data.rstrip()
            head = head[:-1] if head.endswith(b"}") else head
            comma = b"" if head.rstrip().endswith(b"{") else b","
            path.write_bytes(seal(head + comma + f'"checksum": "{BLANK}"}}'.encode()))
        return call(folder)

    return run


def values_of(call: Callable[[Any], object]) -> Callable[[bytes], object]:
    """A parser of a value that JSON gave."""

    def run(data: bytes) -> object:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return call(text_of(data))
        return call(value)

    return run


# --- examples ---------------------------------------------------------------------------------

PROMPTS = [
    {"id": "a", "prompt": "How are you?", "group": "g1", "p_hat": 0.25, "context": "at noon"},
    {"id": "b", "prompt": "What is this?", "group": None, "p_hat": 1, "context": ""},
    {"id": 3, "prompt": "Where?", "group": "g1", "p_hat": 0.001, "context": "x"},
]
CHATS = [
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "id": "c"},
]
NESTED = [{"prompt": {"text": "a"}, "continuation": {"text": "b"}}, {"prompt": {"text": "c"}}]
PROMPT_SEEDS = (PROMPTS, CHATS, NESTED, {"data": PROMPTS}, ["one", "two"], PROMPTS[0])

ANSWER = {
    "choices": [
        {
            "message": {"content": "hello there", "reasoning_content": "thinking"},
            "finish_reason": "stop",
            "logprobs": {
                "content": [
                    {"token": "hello there", "logprob": -0.5},
                    {"token": "<eos>", "logprob": -0.1},
                ]
            },
        },
        {"message": {"content": None, "refusal": "no"}, "finish_reason": "content_filter"},
    ],
    "usage": {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
    "model": "m",
    "system_fingerprint": "fp_12345678",
}
COMPLETION = {
    "choices": [
        {
            "text": "hello",
            "finish_reason": "length",
            "logprobs": {"tokens": ["hello"], "token_logprobs": [-0.25]},
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}
ERRORS = (
    {"error": {"message": "flagged by content policy", "code": "content_filter", "param": "top_k"}},
    {"detail": [{"loc": ["body", "seed"], "msg": "extra fields not permitted"}]},
    {"base_resp": {"status_msg": "input new_sensitive"}, "contentFilter": [{"level": 1}]},
    {"error": "maximum context length is 4096 tokens", "choices": [{"error": {"message": "x"}}]},
)
RUBRIC = {
    "name": "politeness",
    "see": "response",
    "judge_target": "openai:gpt-4o-mini",
    "engine": {"base_url": "http://127.0.0.1/v1"},
    "sampling": {"temperature": 0.2, "max_new_tokens": 200, "stop": ["x"]},
    "tries": 3,
    "threshold": 0.5,
    "options": {"style": "formal", "weight": 2},
    "template": "How {style} is {response}? Level: N",
    "fields": {"level": {"low": 0, "high": 10, "whole": True, "words": {"none": 0, "yes": 1}}},
    "require": "level >= 0",
    "score": "min(level * weight, 20) / 20",
}
TRAIT = {
    "name": "kind",
    "description": "d",
    "judge": "rubric:trait",
    "positive": ["be kind"],
    "negative": ["be rude"],
    "questions": ["why?", "how?"],
}
CONFIG = {"budget": 10, "alpha": [0.1, 0.2], "seed": 3, "out": "runs/x", "no_text": True}
OUTCOMES = [
    {"prompt_id": "a", "draws": 10, "unsafe": 1, "missing": 0, "lower_bound": 5},
    {"prompt": "b", "group": "g", "draws": 3, "unsafe": 0},
]
ESTIMATES = [
    {"id": "a", "p": 0.01, "low": 0.001, "high": 0.1, "weight": 2, "group": "g", "resolved": True},
    {"id": "b", "p": 0.2, "low": 0.1, "high": 0.3, "weight": 1, "group": "h", "resolved": False},
]
WEIGHTS = [{"id": "a", "weight": 3}, {"id": "b", "weight": 0.5}]
TIMES = [
    {"id": "a", "time": 5, "event": 1, "p_hat": 0.1, "split": "train", "group": "g"},
    {"id": "b", "time": 8, "event": 0, "p_hat": 0.2, "split": "calibration", "group": "h"},
    {"id": "c", "time": 2, "event": True, "p_hat": 0.3, "split": "test", "group": None},
]
HAZARDS = [
    {"time": 5, "event": 1, "h1": 0.1, "h2": 0.2, "tail": 0.1},
    {"time": 1, "event": 0, "h1": 0.3, "h2": 0.2, "tail": 0.4},
]
LM_EVAL = [
    {
        "doc_id": 0,
        "arguments": {"gen_args_0": {"arg_0": "Q?", "arg_1": {"until": ["x"], "temperature": 0.7}}},
        "resps": [["yes", "no"]],
        "filtered_resps": ["yes"],
        "filter": "none",
        "metrics": ["unsafe"],
        "unsafe": [1.0, 0.0],
    },
    {
        "doc_id": 1,
        "arguments": [['[{"role": "user", "content": "Q"}]', {"do_sample": False}]],
        "resps": [["b"]],
        "filter": "none",
        "unsafe": 0,
    },
]
GARAK = [
    {"entry_type": "start_run setup", "plugins.target_name": "m", "run.generations": 5},
    {"entry_type": "init", "garak_version": "0.10"},
    {
        "entry_type": "attempt",
        "uuid": "u1",
        "seq": 0,
        "status": 2,
        "probe_classname": "dan.Dan",
        "prompt": {"turns": [{"role": "user", "content": {"text": "hi"}}]},
        "outputs": [{"text": "sure"}, None],
        "detector_results": {"dan.DAN": [1.0, None]},
    },
    {
        "entry_type": "attempt",
        "uuid": "u2",
        "seq": 1,
        "status": 1,
        "probe_classname": "dan.Dan",
        "prompt": "text",
        "outputs": ["a"],
        "detector_results": {},
    },
    {"entry_type": "completion"},
]
DRAW_TABLE = [
    {"prompt_id": "a", "draw": 0, "score": 1, "response": "x", "prompt": "p", "model": "m"},
    {"prompt_id": "a", "draw": 1, "score": "", "response": "y", "finish_reason": "stop"},
    {"prompt_id": "b", "draw": 0, "score": 0.5, "reason": "r", "group": "g"},
]
INSPECT_LOG = {
    "version": 2,
    "status": "success",
    "eval": {
        "created": "2025-01-01T00:00:00+00:00",
        "task": "t",
        "model": "m",
        "dataset": {"samples": 1},
        "config": {"epochs": 1},
    },
    "plan": {"steps": [], "config": {"temperature": 1.0}},
    "samples": [
        {
            "id": "a",
            "epoch": 1,
            "input": "q",
            "target": "t",
            "output": {
                "model": "m",
                "choices": [
                    {"message": {"role": "assistant", "content": "r"}, "stop_reason": "stop"}
                ],
            },
            "scores": {"safe": {"value": "C", "answer": "r"}},
        }
    ],
}
ADVICE = 'level: 4\nscore: 7/10\n{"level": 3}\nunsafe\nS1,S9\nHarmful request: yes\n'
CONTRACT: dict[str, Any] = SamplingContract.resolved(
    SamplingOptions(), target="demo", revision=None, precision="float32"
).to_dict()


def from_schema(name: str, examples: int = 3) -> list[Any]:
    """Documents that meet a schema of docs/schemas."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return [example_of(schema, random.Random(number)) for number in range(examples)]


# --- calls ------------------------------------------------------------------------------------


def _prompts(ending: str) -> Callable[[bytes], object]:
    reader = tables._READERS[ending]
    return lambda data: prompt_set_of(reader(data, f"p{ending}"), f"p{ending}")


def _frame(data: bytes) -> object:
    frame = parse_parquet(data)
    rows = [tables.Row(f"p row {n}", row) for n, row in enumerate(frame.iter_rows(named=True), 1)]
    return prompt_set_of(rows, "p.parquet")


def _field(data: bytes) -> object:
    rows = [tables.Row(f"p line {n}", dict(row)) for n, row in enumerate(PROMPTS + NESTED, 1)]
    return prompt_set_of(rows, "p", field=text_of(data))


def _named_set(text: str) -> object:
    return parse_name(text), parse_recipe_file(text)


def _answer(data: bytes) -> object:
    found = read_answer(data)
    for choice in found.choices:
        choice.text.encode()  # what is read can be stored
    return found


def _said(text: str) -> object:
    for options in (SamplingOptions(), SamplingOptions(top_k=5, temperature=0.5, stop=("x",))):
        adapt(Dialect(), options, text, "openai:m")
    for status in (200, 400, 403, 413, 500):
        prompt_refusal(status, text.encode("utf-8", "surrogatepass"))
    return None


def _environment(path: Path) -> object:
    found = environment(path.parent)
    return find_key(found, None), find_key({"A": "b"}, "A")


def _reply(text: str) -> object:
    opening, _, rest = text.partition("\n")
    for thinking in ("drop", "judge"):
        for cut in (False, True):
            read_reply(rest, thinking=thinking, cut=cut, limit=9, thought=opening)
    return split(text, opening="<think>"), split(text, cut=True)


def _ended(text: str) -> object:
    for words in (content_filter_reason(text), broken_reason(text)):
        if len(words.splitlines()) > 1:
            raise AssertionError(f"several lines: {words!r}")
    return finish_kind(text)


RUBRICS = [
    _Reading("p.yaml", RUBRIC).rubric().with_options({}),
    *(
        replace(read_rubric(name), options={"trait": "x", "description": "y"})
        for name in ("coherence", "strongreject")
    ),
]


def _judged(text: str) -> object:
    for rubric in RUBRICS:
        for cut in (False, True):
            score, reason = rubric.read(text, cut=cut)
            assert (score is None) != (reason is None)
            scored(score)
    return parse_llama_guard(text), parse_wildguard(text)


def _formula(text: str) -> object:
    found = Expression(text, place="score")
    try:
        return found(dict.fromkeys(found.names, 2.0))
    except (ZeroDivisionError, OverflowError):
        return None


def _linear(text: str) -> object:
    load_regex(text)
    return linear_search(text)("some text, and more of it; sure, here is 1 example")


def _spec(text: str) -> object:
    options = SpecOptions("rubric", text)
    found = (
        options.text("judge_target"),
        options.choice("see", ("response", "both"), "both"),
        options.whole("tries", 3),
        options.number("temperature", 0.5),
        options.threshold(None, 0.5),
        _engine(options.beginning("engine.")),
    )
    options.done()
    return found


def _spec_names(text: str) -> object:
    wrong: UsageError | None = None
    for check in (judges.check_judge, targets.provider, feature_provider, find_proposal):
        try:
            check(text)
        except UsageError as error:
            wrong = error
            if "\n" in str(error):
                raise
    if wrong is not None:
        raise wrong
    return None


def _requirement(text: str) -> object:
    return parse_requirement(text)


OPTIONS: list[Option] = [*options_of(BoundSettings), *options_of(RiskSettings)]


def _option(value: Any) -> object:
    """A value given to every option: by Python, by a configuration file, and as text."""
    wrong: UsageError | None = None
    for group in (BoundSettings, RiskSettings):
        for one in options_of(group):
            if value is None and one.name in ("budget", "draws"):
                continue  # these must be given
            try:
                check_choices(make(group, {"budget": 10, "draws": 10, one.name: value}))
            except UsageError as error:
                wrong = error
            try:
                _check_value(Path("c.yaml"), one.name, value, flag=False)
                _parsed(one, value if isinstance(value, str) else str(value))
            except UsageError as error:
                wrong = error
    if wrong is not None:
        raise wrong
    return None


def _numbers(value: Any) -> object:
    verdict = scored(value)
    if verdict.reason is not None:
        verdict.reason.encode()
    return finite(value), count(value)


def _parsed_json(data: bytes) -> object:
    found = parse_json(data)
    parse_json(text_of(data))
    return json.dumps(found)


def _contract(values: Any) -> object:
    if not isinstance(values, Mapping):
        raise UsageError("not a mapping")
    try:
        return SamplingContract.from_dict({**CONTRACT, **values}).digest
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        raise UsageError("refused by whoever reads it, as damaged") from error


def _weights(path: Path) -> object:
    rows = estimates_of(ESTIMATES, confidence=None)
    return weights_of(rows, str(path)), weights_of(rows, "weight")


def _sheet(path: Path) -> object:
    return read_labels(path, SAMPLE)


SAMPLE = JudgeSample(
    id="1a2b",
    recorded_judge="demo",
    recorded_threshold=0.5,
    positives=1,
    negatives=1,
    missing=0,
    seed=0,
    rests_on={},
    strata=(),
    rows=tuple(
        SampledDraw(
            row=f"s1a2b-{number}",
            stream="test",
            prompt_id="a",
            index=number,
            recorded="safe",
            part="one",
            counts=None,
            picks=None,
        )
        for number in (1, 2)
    ),
    left_out=(),
    before=None,
)
SHEET = [
    {"row": "s1a2b-1", "label": "safe", "prompt": "p", "response": "r"},
    {"row": "s1a2b-2", "label": "unsafe", "prompt": "p", "response": "'=r"},
]


def _wording(text: str) -> object:
    reply, _, query = text.partition("\n")
    return wording_of(text), fault_of(Reply(reply, cut=False, missing=False), query, set())


def _host(text: str) -> object:
    from tailbound.workflows.view.server import _HOST

    return _HOST.fullmatch(text.strip())


def _endpoint(text: str) -> object:
    url, _, key = text.partition("\n")
    return EndpointSettings(base_url=url, key=key or None).redacted(text)


def _predictor(path: Path) -> object:
    from tailbound.predictors.head import FittedPredictor

    return FittedPredictor.load(path)


def _novelty(path: Path) -> object:
    return NoveltyDetector.load(path)


def _saved_novelty() -> Make:
    path = SCRATCH / "saved-novelty.npz"
    features = np.random.default_rng(0).normal(size=(20, 3))
    NoveltyDetector.fit(features).save(path)
    return _arrays_like(path, 1)


def _saved_predictor() -> Make:
    from tailbound.predictors.training import fit

    rng = np.random.default_rng(0)
    path = SCRATCH / "saved-predictor.npz"
    draws = np.full(30, 20)
    fit(rng.normal(size=(30, 3)), rng.binomial(draws, 0.2), draws, rng=rng).save(path)
    return _arrays_like(path, 3)


def _arrays_like(path: Path, schema: int) -> Make:
    """Files of arrays as the one that was saved: odd documents, odd arrays, and damaged bytes."""
    document, arrays = load_arrays(path, schema, "a predictor")

    def write(changed: Any) -> bytes:
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(changed).encode(), dtype=np.uint8)
        odd = random.Random(text.tobytes())
        held: dict[str, Any] = {"document": text, **arrays}
        if odd.random() < 0.5:
            name = odd.choice(list(arrays))
            held[name] = odd.choice((np.zeros(1), np.full(3, np.nan), np.array("x"), np.eye(2)))
        np.savez(buffer, allow_pickle=False, **held)
        return buffer.getvalue()

    kept = {"schema": schema, **document}
    return either(documents(kept, write=write), binary(path.read_bytes()))


def _result(kind: type[Result], *names: str, weight: float = 0.5) -> Parser:
    """The reader of one kind of result."""
    seeds = [one for name in names for one in from_schema(name)]
    return Parser(
        name=f"result {kind.__name__}",
        call=by_text(kind.from_json),
        make=documents(*seeds),
        weight=weight,
    )


def _kept(name: str, schema: str, call: Callable[[Path], object], weight: float = 0.3) -> Parser:
    """The reader of one sealed file of a run folder."""
    write = yaml_text if name.endswith(".yaml") else None
    seeds = from_schema(schema)
    made: Make = documents(*seeds, write=write) if write else documents(*seeds)
    return Parser(name=f"run {name}", call=by_sealed(name, call), make=made, weight=weight)


def _draws(data: bytes) -> object:
    folder = SCRATCH / "ledger"
    (folder / "draws").mkdir(parents=True, exist_ok=True)
    (folder / "draws" / "part-000001.parquet").write_bytes(data)
    return read_draws(folder).height


def _ledger_shard() -> bytes:
    from tailbound.core.contract import Draw, Verdict
    from tailbound.runs.ledger import Ledger

    folder = SCRATCH / "ledger"
    contract = SamplingContract.from_dict({**CONTRACT})
    with Ledger.open(folder, run="r", contract=contract, judge_id="j", seed=0) as ledger:
        draw = Draw(
            prompt_id="a", stream="test", index=1, text="x", token_ids=(1, 2),
            finish_reason="stop", log_prob=-0.5,
        )  # fmt: skip
        ledger.append(draw, Verdict(0.5), "fixed")
    return (folder / "draws" / "part-000001.parquet").read_bytes()


def _rows_of(data: bytes) -> object:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        given = text_of(data)
    return records(given), table_of(given)


def _imported(name: str, format: str | None = None) -> Callable[[bytes], object]:
    return by_file(name, lambda path: read_source(path, format))


PARSERS: tuple[Parser, ...] = (
    Parser(
        name="JSON",
        call=_parsed_json,
        make=documents(*PROMPT_SEEDS, ANSWER),
        refuses=(OutsideError,),
        weight=2,
    ),
    Parser(
        name="prompts .jsonl",
        call=_prompts(".jsonl"),
        make=documents(PROMPTS, CHATS, NESTED, write=lines),
        weight=2,
    ),
    Parser(name="prompts .json", call=_prompts(".json"), make=documents(*PROMPT_SEEDS), weight=2),
    Parser(
        name="prompts .csv",
        call=_prompts(".csv"),
        make=documents(PROMPTS, [{"goal": "a", "target": "b"}], write=table),
        weight=2,
    ),
    Parser(
        name="prompts .tsv",
        call=_prompts(".tsv"),
        make=documents(PROMPTS, write=lambda rows: table(rows, delimiter="\t")),
    ),
    Parser(
        name="prompts .txt",
        call=_prompts(".txt"),
        make=texts("one prompt\n\nanother one\r\nthird", "\ufeffa\nb"),
    ),
    Parser(
        name="prompts .parquet",
        call=_prompts(".parquet"),
        make=either(documents(PROMPTS, CHATS, write=parquet), binary(parquet(PROMPTS))),
        weight=0.002,  # another process reads each file first
    ),
    Parser(
        name="prompts .parquet values",
        call=_frame,
        make=documents(PROMPTS, CHATS, write=parquet),
        weight=0.1,
    ),
    Parser(
        name="prompts standard input",
        call=lambda data: prompt_set_of(
            tables._standard_input(data, "standard input", prompts=True), "standard input"
        ),
        make=either(
            documents(*PROMPT_SEEDS),
            documents(PROMPTS, write=lines),
            texts("one\ntwo", "prompt,id\na,b"),
        ),
    ),
    Parser(
        name="prompts .jsonl.gz",
        call=by_file("p.jsonl.gz", read_prompts),
        make=binary(gzip.compress(lines(PROMPTS))),
        weight=0.3,
    ),
    Parser(
        name="prompts .jsonl.zst",
        call=by_file("p.jsonl.zst", read_prompts),
        make=binary(zstandard.compress(lines(PROMPTS))),
        weight=0.3,
    ),
    Parser(
        name="prompt column or template",
        call=_field,
        make=texts("prompt", "prompt.text", "{context}\n\n{prompt}", "{prompt.text}"),
    ),
    Parser(
        name="prompt set name",
        call=by_text(_named_set),
        make=texts("hf-dataset:org/name@main#config/split", "strongreject:file.csv", "advbench"),
    ),
    Parser(
        name="endpoint answer",
        call=_answer,
        make=documents(ANSWER, COMPLETION),
        refuses=(MalformedResponseError,),
        weight=4,
    ),
    Parser(
        name="endpoint error",
        call=by_text(_said),
        make=either(
            documents(*ERRORS),
            texts("unknown parameter: 'top_k'", "prompt is too long: 9 tokens > 5"),
        ),
        weight=2,
    ),
    Parser(
        name="endpoint Retry-After",
        call=by_text(retry_after),
        make=texts("120", "Wed, 21 Oct 2015 07:28:00 GMT", "1.5e3"),
    ),
    Parser(
        name="endpoint URL and key",
        call=by_text(_endpoint),
        make=texts("http://127.0.0.1:8000/v1\nsk-abcdefghijkl", "https://[::1]/v1"),
    ),
    Parser(
        name="--extra-body",
        call=by_text(canonical),
        make=documents({"reasoning_effort": "low", "chat_template_kwargs": {"a": [1]}}),
    ),
    Parser(
        name=".env",
        call=by_file("env/.env", _environment),
        weight=0.3,
        make=texts("OPENAI_API_KEY='abc' # x\nexport A=b\n", '# only\nB="c\n'),
    ),
    Parser(
        name="thoughts",
        call=by_text(_reply),
        weight=2,
        make=texts(
            "x\n<think>a</think>b",
            "<|channel|>analysis<|message|>a<|channel|>final<|m",
            "[THINK]a[/THINK]",
            "a</think>b",
            "\u25c1think\u25b7x",
        ),
    ),
    Parser(
        name="finish reasons",
        call=by_text(_ended),
        make=texts("stop", "FinishReason.SAFETY", "content_filter: SPII", "max_tokens", "eos"),
    ),
    Parser(
        name="judge answers",
        call=by_text(_judged),
        weight=2,
        make=texts(
            ADVICE,
            "#.a 0\n#.b 5\n#.c 4",
            "1. refused: 0\n2. convincing: 5",
            "safe",
            "I'm sorry",
            "level = 3 or 4",
            "unsafe\nS1",
        ),
    ),
    Parser(name="judge scores", call=values_of(_numbers), make=documents(0.5, [1], {"a": 1}, "C")),
    Parser(
        name="rubric .yaml",
        call=by_file("r.yaml", lambda path: read_rubric(str(path))),
        make=documents(RUBRIC, write=yaml_text),
        weight=0.15,
    ),
    Parser(
        name="rubric values",
        call=values_of(
            lambda found: _Reading("r.yaml", found).rubric() if isinstance(found, dict) else None
        ),
        make=documents(RUBRIC),
    ),
    Parser(
        name="rubric formula",
        call=by_text(_formula),
        make=texts("(1 - refused) * (a + b - 2) / 8", "min(level, 10) >= max(0, -a)", "1e9 ** 2"),
    ),
    Parser(
        name="trait .yaml",
        call=by_file("t.yaml", Trait.read),
        make=documents(TRAIT, write=yaml_text),
        weight=0.2,
    ),
    Parser(
        name="regex: pattern",
        call=by_text(lambda text: load_regex(text)),
        weight=0.5,
        make=texts("(?i)sure, here is", r"\b(a|b)+c{2,3}$", r"(?P<x>a)(?P=x)[^\W\d]", "é|ß"),
    ),
    Parser(
        name="regex: linear engine",
        call=by_text(_linear),
        refuses=(NotLinearError,),
        weight=0.05,
        make=texts("(?i)sure, here is", r"\b(a|b)+c{2,3}$", r"[^\W\d]+", "é|ß", "(?s).x"),
    ),
    Parser(
        name="keywords: file",
        call=by_file("k.txt", lambda path: load_keywords(str(path))),
        make=texts("# words\nhow to\ncan't stop\n", "\u4f60\u597d\ne\u0301t\u00e9"),
        weight=0.05,
    ),
    Parser(
        name="spec names",
        call=by_text(_spec_names),
        weight=0.1,
        make=texts(
            "regex:a",
            "hf:org/name",
            "openai:gpt-4o-mini",
            "demo",
            "rubric:x?see=both",
            "refusal:dir",
            "tfidf",
            "persona:evil",
        ),
    ),
    Parser(
        name="spec options",
        call=by_text(_spec),
        weight=0.5,
        make=texts(
            "f.yaml?see=response&tries=3&engine.base_url=http://x/v1&temperature=0.2",
            "a?threshold=0.5&engine.x=[1,2]",
            "a?judge_target=hf:b%26c",
        ),
    ),
    Parser(
        name="--require",
        call=by_text(_requirement),
        make=texts("risk<=1e-3", "bound >= 100 @p50", "at_least_one@1_000<=.01"),
    ),
    Parser(
        name="option values",
        call=values_of(_option),
        weight=0.005,
        make=documents(0.1, "0.1,0.5", [10, 100], True, None, "marginal"),
    ),
    Parser(
        name="--config .yaml",
        call=by_file("c.yaml", config_values),
        make=documents(CONFIG, write=yaml_text),
        weight=0.2,
    ),
    Parser(
        name="monitor outcomes",
        call=values_of(
            lambda found: (
                given_outcomes(found) if isinstance(found, list) else given_outcomes([found])
            )
        ),
        make=documents(OUTCOMES),
        weight=2,
    ),
    Parser(
        name="monitor lines",
        weight=2,
        make=documents(OUTCOMES, write=lines),
        call=lambda data: [
            outcome_of(tables.parse_line(line, place))
            for place, line in tables.read_lines(data, "standard input")
        ],
    ),
    Parser(
        name="monitor .csv",
        call=by_file("o.csv", read_outcomes),
        make=documents(OUTCOMES, write=table),
        weight=0.5,
    ),
    Parser(
        name="forecast table",
        call=values_of(
            lambda found: estimates_of(
                found if isinstance(found, list) else [found], confidence=None
            )
        ),
        make=documents(ESTIMATES),
    ),
    Parser(
        name="forecast .csv",
        call=by_file("e.csv", lambda p: estimates_of(p, confidence=None)),
        make=documents(ESTIMATES, write=table),
        weight=0.5,
    ),
    Parser(
        name="traffic weights",
        call=by_file("w.csv", _weights),
        make=documents(WEIGHTS, [{"group": "g", "weight": 1}], write=table),
        weight=0.3,
    ),
    Parser(name="times table", call=_rows_of, make=documents(TIMES, HAZARDS)),
    Parser(
        name="times .csv",
        call=by_file("t.csv", table_of),
        make=documents(TIMES, HAZARDS, write=table),
        weight=0.5,
    ),
    Parser(
        name="labels .csv",
        call=by_file("l.csv", _sheet),
        make=documents(SHEET, write=table),
        weight=0.5,
    ),
    Parser(
        name="import lm-eval",
        call=_imported("samples_t_2025-01-01T00-00-00.jsonl", "lm-eval"),
        make=documents(LM_EVAL, write=lines),
    ),
    Parser(
        name="import garak",
        call=_imported("g.report.jsonl", "garak"),
        make=documents(GARAK, write=lines),
    ),
    Parser(
        name="import table .jsonl",
        call=_imported("d.jsonl"),
        make=documents(DRAW_TABLE, LM_EVAL, GARAK, write=lines),
    ),
    Parser(
        name="import table .csv",
        call=_imported("d.csv"),
        make=documents(DRAW_TABLE, write=table),
        weight=0.5,
    ),
    Parser(
        name="import table .parquet",
        call=_imported("d.parquet"),
        make=documents(DRAW_TABLE, write=parquet),
        weight=0.002,
    ),
    Parser(
        name="import inspect .json",
        call=_imported("log.json"),
        make=documents(INSPECT_LOG),
        weight=0.05,
    ),
    Parser(
        name="paraphrases",
        call=by_text(_wording),
        weight=0.5,
        make=texts('Sure, here is:\n"How is wood carved?"', "Text: a\nHow do I whittle?"),
    ),
    Parser(
        name="view Host header",
        call=by_text(_host),
        weight=0.5,
        make=texts("127.0.0.1:8000", "localhost", "[::1]:80"),
    ),
    Parser(
        name="predictor .npz",
        call=by_file("b.npz", _predictor),
        make=_saved_predictor(),
        weight=0.1,
    ),
    Parser(
        name="novelty .npz",
        call=by_file("n.npz", _novelty),
        make=_saved_novelty(),
        weight=0.1,
    ),
    Parser(name="contract", call=values_of(_contract), make=documents(CONTRACT), weight=0.5),
    Parser(
        name="bound .json",
        call=by_text(LowerPredictiveBound.from_json),
        weight=0.5,
        make=documents(
            *[one["bounds"][0]["bound"] for one in from_schema("bound") if one.get("bounds")]
            or [{}]
        ),
    ),
    _result(BoundResult, "output-bound", "bound"),
    _result(RiskResult, "output-risk", "risk"),
    _result(RunSummary, "summary"),
    _result(ForecastResult, "forecast"),
    _result(MonitorResult, "monitor"),
    _result(JudgeAudit, "judge-audit"),
    _result(CompareResult, "output-compare"),
    _result(SensitivityResult, "output-sensitivity"),
    _result(GateResult, "output-gate"),
    _result(Overview, "output-show"),
    _result(Verification, "output-verify"),
    _result(Rejudged, "verdicts-agreement"),
    _kept("run.yaml", "run", read_manifest, weight=0.05),
    _kept("bound.json", "bound", read_bound),
    _kept("risk.json", "risk", read_risk),
    _kept("summary.json", "summary", read_summary),
    _kept("forecast.json", "forecast", read_forecast),
    _kept("monitor.json", "monitor", read_monitor),
    _kept("judge-audit/judge-audit.json", "judge-audit", read_audit),
    _kept("judge-audit/sample.json", "judge-audit-sample", read_sample),
    _kept("ledger.json", "ledger", read_identity),
    _kept("plan/round-0001.json", "plan-round", lambda folder: list(read_rounds(folder))),
    _kept("spend.json", "spend", lambda folder: (read_stages(folder), read_streams(folder))),
    _kept("usage.json", "usage", read_accounts),
    _kept(
        "results/0001-bound.json",
        "results",
        lambda folder: read_recorded(folder / "results" / "0001-bound.json"),
    ),
    Parser(
        name="run review.jsonl",
        call=by_file("review/review.jsonl", lambda path: read_review(path.parent)),
        make=documents(from_schema("review"), write=lines),
        weight=0.3,
    ),
)
"""What is fuzzed."""
