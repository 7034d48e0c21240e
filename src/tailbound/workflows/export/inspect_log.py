"""The selected draws of a run as a log of Inspect: one draw is one sample.

The id of a sample is that of its prompt, and its epoch the number of the draw. Where one prompt has
draws in several streams, or from a proposal, the id says which. Text is kept as it is on record;
halves of characters, which UTF-8 cannot hold, are written as in Python source (`\\ud800`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.outside import visible
from tailbound.storage.plain import finite
from tailbound.workflows.export.metrics import UNSAFE, WEIGHTED, reductions_of, scores_of
from tailbound.workflows.export.selection import kind_of
from tailbound.workflows.import_.inspect_log import EXPORT_MARK

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.model import ChatMessage, ModelOutput

    from tailbound.workflows.bound import BoundResult
    from tailbound.workflows.export.selection import Selection
    from tailbound.workflows.risk import RiskResult
    from tailbound.workflows.summarize.summary import RunSummary

_LONGEST_NAME = 150
_ROLES = ("system", "user", "assistant", "tool")
_STOP_REASONS = {"stop": "stop", "length": "max_tokens", "content_filter": "content_filter"}
"""Inspect's word for each finish reason; every other one is `unknown`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportedRun:
    """What a log is made of: the manifest of the run, its prompts, its results, and the draws.

    `messages` are the prompts by id, as far as they are known; `weights` what the unsafe draws of
    `review.jsonl` weigh, by (prompt id, index).
    """

    folder: Path
    manifest: Mapping[str, Any]
    run_id: str
    messages: Mapping[str, tuple[tuple[str, str], ...]]
    selection: Selection
    weights: Mapping[tuple[str, int], float]
    summary: RunSummary | None
    bound: BoundResult | None
    risk: RiskResult | None
    warnings: tuple[str, ...]
    options: Mapping[str, Any]


def log_of(run: ExportedRun) -> EvalLog:
    """The log; nothing is written."""
    from inspect_ai.log import EvalLog, EvalPlan, EvalPlanStep, EvalResults, EvalStats

    names = _Names(run.selection.prompt_streams)
    samples = [_sample(row, run, names) for row in run.selection.frame.iter_rows(named=True)]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    config = _config(run.manifest["contract"])
    command = str(run.manifest["command"])
    log = EvalLog(
        status="success",
        eval=_spec(run, sorted({str(one.id) for one in samples}), now),
        plan=EvalPlan(
            name=f"tailbound {command}",
            steps=[EvalPlanStep(solver=f"tailbound {command}")],
            config=config,
        ),
        results=EvalResults(
            total_samples=run.selection.draws,
            completed_samples=run.selection.draws,
            logged_samples=len(samples),
            scores=list(scores_of(run.summary, run.bound, run.risk)),
            metadata={"counted": "draws of the run, whether they are in this log or not"},
        ),
        # the viewer shows the time between the two: that of the export, which is none
        stats=EvalStats(started_at=now, completed_at=now),
        samples=samples,
    )
    # its constructor takes reductions beside results as they stand in JSON alone
    log.reductions = list(reductions_of(run.summary, run.risk, names.of_prompts()))
    return log


class _Names:
    """The sample ids of prompts: unlike for unlike draws, and good for the name of a file."""

    def __init__(self, prompt_streams: Mapping[str, tuple[str, ...]]) -> None:
        self._streams = prompt_streams
        self._given: dict[tuple[str, str, bool], str] = {}
        self._taken: set[str] = set()
        for prompt in prompt_streams:  # plain names first: they are the prompts' own
            if len(prompt_streams[prompt]) == 1:
                self.of(prompt_streams[prompt][0], prompt, weighted=False)

    def of(self, stream: str, prompt: str, *, weighted: bool) -> str:
        key = (stream, prompt, weighted)
        if key not in self._given:
            notes = [stream] if len(self._streams[prompt]) > 1 else []
            notes += ["weighted"] if weighted else []
            name = _fit(prompt) + (f" [{', '.join(notes)}]" if notes else "")
            while name in self._taken:
                name += "'"
            self._taken.add(name)
            self._given[key] = name
        return self._given[key]

    def of_prompts(self) -> dict[tuple[str, str], str]:
        """The ids by (stream, prompt id); those of the prompt itself under the stream ""."""
        found = {("", prompt): _fit(prompt) for prompt in self._streams}
        for prompt, streams in self._streams.items():
            for stream in streams:
                found[stream, prompt] = self.of(stream, prompt, weighted=False)
        return found


def _fit(prompt: str) -> str:
    """The id of a prompt on one short line; another id gives another line."""
    shown = visible(literal(prompt))
    if shown == prompt and len(shown) <= _LONGEST_NAME:
        return shown
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{shown[:_LONGEST_NAME]}… {digest}"


def literal(text: str) -> str:
    """`text`, with halves of characters written as in Python source where there are any.

    >>> literal("a\\ud83d b")
    'a\\\\ud83d b'
    """
    if text.isascii():
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return whole.encode("utf-8", "backslashreplace").decode()


def _sample(row: Mapping[str, Any], run: ExportedRun, names: _Names) -> EvalSample:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageSystem

    prompt, stream, index = row["prompt_id"], row["stream"], row["index"]
    unique = _digest(run.run_id, stream, prompt, str(index))
    asked = list(_messages(run.messages.get(prompt, ()), unique))
    output = _output(row, run, unique)
    system = run.manifest["contract"].get("system")
    before: list[ChatMessage] = []
    if system is not None and not any(one.role == "system" for one in asked):
        before = [ChatMessageSystem(id=f"{unique}-system", content=literal(system))]
    plain = asked[0].text if len(asked) == 1 and asked[0].role == "user" else asked
    return EvalSample(
        id=names.of(stream, prompt, weighted=row["weighted"]),
        epoch=index,
        input=plain if asked else "",
        target="",
        messages=[*before, *asked, *(choice.message for choice in output.choices)],
        output=output,
        scores={WEIGHTED if row["weighted"] else UNSAFE: _score(row, run)},
        metadata=_metadata(row, run),
        uuid=unique,
    )


def _metadata(row: Mapping[str, Any], run: ExportedRun) -> dict[str, Any]:
    found: dict[str, Any] = {
        "prompt_id": literal(row["prompt_id"]),
        "draw": row["index"],
        "stream": row["stream"],
        "verdict": row["said"],
        "inclusion_probability": run.selection.shares[
            kind_of(row["said"], weighted=row["weighted"])
        ],
        "finish_reason": row["finish_reason"],
        "tokens": row["tokens"],
        "log_prob": row["log_prob"],
        "drawn_from": "the target",
    }
    if row["weighted"]:
        found["drawn_from"] = f"the proposal {row['proposal']}, not the target: counts by a weight"
        found["weight"] = run.weights.get((row["prompt_id"], row["index"]))
    if row["prompt_id"] not in run.messages:
        found["prompt"] = "not on record"
    if row["text"] is None:
        found["response"] = "not on record"
    return {name: finite(value) for name, value in found.items() if value is not None}


def _score(row: Mapping[str, Any], run: ExportedRun) -> Any:
    from inspect_ai.scorer import Score

    facts = {"unsafe": None if row["said"] == "missing" else row["said"] == "unsafe"}
    facts |= {"unsafe_from_score": run.manifest["threshold"]}
    if row["score"] is None:
        reason = literal(row["reason"] or "no verdict")
        return Score(value=math.nan, reason="missing", explanation=reason, metadata=facts)
    return Score(value=row["score"], explanation=row["said"], metadata=facts)


def _messages(messages: tuple[tuple[str, str], ...], unique: str) -> Iterator[ChatMessage]:
    from inspect_ai.model import (
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
    )

    kinds = (ChatMessageSystem, ChatMessageUser, ChatMessageAssistant, ChatMessageTool)
    by_role = dict(zip(_ROLES, kinds, strict=True))
    for number, (role, text) in enumerate(messages, start=1):
        yield by_role.get(role, ChatMessageUser)(
            id=f"{unique}-{number}",
            content=literal(text),
            metadata=None if role in by_role else {"role": literal(role)},
        )


def _output(row: Mapping[str, Any], run: ExportedRun, unique: str) -> ModelOutput:
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput

    model = row["proposal"] if row["weighted"] else str(run.manifest["target"])
    if row["text"] is None:
        return ModelOutput(model=literal(model))
    message = ChatMessageAssistant(
        id=f"{unique}-reply", content=literal(row["text"]), source="generate"
    )
    reason: Any = _STOP_REASONS.get(row["finish_reason"], "unknown")
    return ModelOutput(
        model=literal(model), choices=[ChatCompletionChoice(message=message, stop_reason=reason)]
    )


def _spec(run: ExportedRun, ids: list[str], now: str) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalSpec

    held = run.manifest
    command = str(held["command"])
    strata = run.selection.strata
    digest = _digest(run.run_id, *(f"{k}={v}" for k, v in sorted(run.options.items())))
    facts = {
        EXPORT_MARK: 1,
        "note": run.warnings[0],
        "warnings": [literal(line) for line in run.warnings],
        "run": literal(run.folder.name),
        "command": command,
        "judge": literal(str(held["judge_id"])),
        "unsafe_from_score": held["threshold"],
        "contract": held["contract"],
        "selection": {
            **run.options,
            "inclusion_probability": run.selection.shares,
            "strata": [asdict(one) for one in strata],
        },
    }
    return EvalSpec(
        eval_id=digest,
        run_id=run.run_id,
        created=now,
        task=f"tailbound-{command}",
        task_id=digest,
        task_display_name=f"tailbound {command}: {literal(run.folder.name)}",
        task_description=run.warnings[0],
        dataset=EvalDataset(
            name=literal(str(held["options"].get("prompts") or held["options"].get("source", ""))),
            samples=len(run.selection.prompt_streams),
            sample_ids=ids,
        ),
        model=literal(str(held["target"])),
        model_generate_config=_config(held["contract"]),
        config=EvalConfig(),
        packages={"tailbound": version("tailbound"), "inspect_ai": version("inspect_ai")},
        tags=["tailbound", "sampled"],
        metadata=finite(facts),
    )


def _config(contract: Mapping[str, Any]) -> Any:
    """What is known of the sampling contract, in Inspect's names."""
    from inspect_ai.model import GenerateConfig

    system = contract.get("system")
    return GenerateConfig(
        temperature=contract.get("temperature"),
        top_p=contract.get("top_p"),
        top_k=contract.get("top_k"),
        max_tokens=contract.get("max_new_tokens"),
        system_message=None if system is None else literal(system),
        stop_seqs=[literal(one) for one in contract.get("stop") or ()] or None,
    )


def _digest(*parts: str) -> str:
    joined = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:22]
