"""Judges by a language model with a rubric: `rubric:strongreject?judge_target=openai:gpt-4o-mini`.

The judge is any target. It is sampled as the model under audit is, through `Target.sample`, under a
contract of its own; what it is asked is a prompt whose id is the hash of its text, and try number k
is draw k of that prompt. So an in-process judge gives the same verdict on the same text always.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tailbound.core.contract import Draw, DrawRequest, SamplingOptions, Verdict
from tailbound.core.outside import OutsideError, parse_yaml
from tailbound.core.prompt import Prompt, content_id
from tailbound.core.spec_options import SpecOptions
from tailbound.errors import UsageError
from tailbound.judges.base import Exchange
from tailbound.judges.formatting import (
    BOTH,
    SEE,
    control_tokens,
    escape_control_tokens,
    request_text,
)
from tailbound.judges.rubric_file import read_rubric
from tailbound.judges.rubric_model import Rubric
from tailbound.judges.verdicts import failed, scored
from tailbound.targets.base import Target
from tailbound.targets.capabilities import Tokenized, spent_by

STREAM = "judge"

SAMPLING = {"temperature": 0.2, "max_new_tokens": 512}
"""How a judge is sampled where its rubric says nothing: nearly greedy, yet able to try again."""

THINKING_ROOM = 3584
"""Tokens more for a judge that thinks, where neither its rubric nor the user says how many."""

GIVE_UP = 3
"""So many questions in a row, asked one by one, fail for good: then the judge is taken to be down
for the rest of the call."""


class RubricJudge:
    """Asks `target` what `rubric` asks and reads a score out of its answer.

    An answer that cannot be read, a refusal and a failed request are tried again, up to
    `rubric.tries` times in all; then the verdict is missing with the last reason. An answer that
    was read but does not meet the rubric's `require` is missing at once. What a judge thinks before
    it answers is not its answer. Of an answer that was cut
    the last line is left out: "1" may have been going to be "10", or "1 or 2".
    """

    def __init__(
        self, rubric: Rubric, target: Target, *, seed: int = 0, threshold: float | None = None
    ) -> None:
        self._rubric, self._target, self._seed = rubric, target, seed
        self._lock = threading.Lock()
        # of a server's tokenizer nothing is known but what all have in common
        self._control = control_tokens(target.tokenizer) if isinstance(target, Tokenized) else ()
        self._answers = self._unusable = 0
        self.threshold = rubric.threshold if threshold is None else threshold
        known = {**rubric.identity(), "seed": seed, "contract": target.contract.to_dict()}
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
        self.id = f"rubric:{rubric.name}@{digest} by {target.contract.target}"

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know after judging: how many answers were of no use."""
        if not self._unusable:
            return ()
        return (
            f"{self._unusable:,} of {self._answers:,} answers of the judge could not be used and "
            "were asked for again, as often as the rubric allows",
        )

    def spent(self, *, under_way: bool = False) -> dict[str, Any] | None:
        """What a judge behind an endpoint was asked and paid so far; None for others."""
        return spent_by(self._target, under_way=under_way)

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order; equal exchanges are asked about once."""
        with self._lock:
            asked = [self._question(exchange) for exchange in exchanges]
            inquiry = _Inquiry(self._rubric, self._target, self._seed)
            inquiry.run(list({prompt.id: prompt for prompt in asked}.values()))
            self._answers += inquiry.answers
            self._unusable += inquiry.unusable
            return [inquiry.verdicts[prompt.id] for prompt in asked]

    def _question(self, exchange: Exchange) -> Prompt:
        request = request_text(exchange.prompt) if self._rubric.see == BOTH else ""
        request, response = (
            escape_control_tokens(text, self._control) for text in (request, exchange.response)
        )
        # no response can hold the hash of itself: so none can close the block that contains it
        mark = hashlib.sha256(f"{request}\0{response}".encode()).hexdigest()[:8]
        text = self._rubric.question(prompt=request, response=response, mark=mark)
        messages = (("user", text),)
        return Prompt(id=content_id(messages), messages=messages)


class _Inquiry:
    """One call of the judge: questions on their way to verdicts. It is the target's `DrawSource`.

    The target asks for work only when it has handed out all draws that it has finished, so an empty
    answer is right whenever nothing waits: a try that fails puts its successor here before.
    """

    def __init__(self, rubric: Rubric, target: Target, seed: int) -> None:
        self._rubric, self._target, self._seed = rubric, target, seed
        self._waiting: deque[tuple[Prompt, int]] = deque()
        self._open: dict[str, tuple[Prompt, int]] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.answers = self.unusable = 0

    def take(self, limit: int, *, wait: bool) -> list[DrawRequest]:
        """The next questions."""
        requests: list[DrawRequest] = []
        while self._waiting and len(requests) < limit:
            prompt, number = self._waiting.popleft()
            self._open[prompt.id] = (prompt, number)
            requests.append(DrawRequest(prompt=prompt, stream=STREAM, index=number))
        return requests

    def run(self, questions: Sequence[Prompt]) -> None:
        """Ask until every question has a verdict."""
        for prompt in questions:
            try:
                self._target.prompt_tokens([prompt])
            except UsageError as error:
                self.verdicts[prompt.id] = Verdict(None, f"the judge cannot read it: {error}")
            else:
                self._waiting.append((prompt, 1))
        problem = self._listen()
        if problem is not None:
            self._one_by_one(problem)

    def _listen(self) -> Exception | None:
        """Sample until nothing waits, or until the target fails: then that error."""
        while self._waiting:
            before = len(self._waiting)
            try:
                for draw in self._target.sample(self, seed=self._seed):
                    self._hear(draw)
            except Exception as error:
                if not self._open and len(self._waiting) == before:
                    # it failed before it took anything: the next question bears it
                    self.take(1, wait=True)
                return error
            if self._open:
                return RuntimeError(f"{len(self._open)} answers never came")
        return None

    def _one_by_one(self, first: Exception) -> None:
        """Find out whose fault it was: every question alone, so that no other one suffers."""
        error = first
        questions = deque([*self._open.values(), *self._waiting])
        self._open.clear()
        self._waiting.clear()
        lost = 0
        while questions:
            prompt, number = questions.popleft()
            if lost >= GIVE_UP:
                self.verdicts[prompt.id] = failed(error)
                continue
            self._waiting.append((prompt, number))
            while (problem := self._listen()) is not None:
                error = problem  # the latest tells most
                self._waiting.clear()
                for same, tried in self._open.values():
                    self._retry(same, tried, failed(error))
                self._open.clear()
            lost = lost + 1 if self.verdicts[prompt.id] == failed(error) else 0

    def _hear(self, draw: Draw) -> None:
        prompt, number = self._open.pop(draw.prompt_id)
        cut = draw.finish_reason == "length"
        score, reason = self._rubric.read(draw.text, cut=cut)
        if draw.missing is not None:
            reason = f"no answer of the judge: {draw.missing}"
        self.answers += 1
        if reason is None:
            self.verdicts[draw.prompt_id] = scored(score)
        elif reason.startswith("not counted"):
            self.verdicts[draw.prompt_id] = Verdict(None, reason)
        else:
            self.unusable += 1
            if cut:
                reason += f", which was cut at {self._target.contract.max_new_tokens} tokens"
            times = "once" if self._rubric.tries == 1 else f"{self._rubric.tries} times"
            self._retry(prompt, number, Verdict(None, f"{reason} (asked {times})"))

    def _retry(self, prompt: Prompt, number: int, otherwise: Verdict) -> None:
        if number < self._rubric.tries:
            self._waiting.append((prompt, number + 1))
        else:
            self.verdicts[prompt.id] = otherwise


def load(name: str, *, threshold: float | None = None) -> RubricJudge:
    """The judge of `rubric:FILE.yaml?judge_target=hf:org/model` or `rubric:strongreject?...`.

    Options go before the file's own: `judge_target`, `see`, `threshold`, `tries`, `temperature`,
    `max_new_tokens`, `seed`, `engine.NAME` (to the target's loader, for instance
    `engine.base_url=http://127.0.0.1:8000/v1`), and those that the rubric declares. Raises
    `UsageError` for a file that is not right, an unknown option, and whatever the target raises.
    """
    from tailbound.targets.registry import load_target

    options = SpecOptions("rubric", name)
    rubric = read_rubric(options.name)
    spec = options.text("judge_target", rubric.judge_target)
    see = options.choice("see", SEE, rubric.see)
    tries = options.whole("tries", rubric.tries)
    seed = options.whole("seed", 0, least=0)
    chosen = options.threshold(threshold, rubric.threshold)
    sampling: dict[str, Any] = {**SAMPLING, **rubric.sampling}
    if "max_new_tokens" not in rubric.sampling and not options.has("max_new_tokens"):
        sampling["thinking_room"] = THINKING_ROOM
    sampling["temperature"] = options.number("temperature", sampling["temperature"])
    sampling["max_new_tokens"] = options.whole("max_new_tokens", sampling["max_new_tokens"])
    engine = {**rubric.engine, **_engine(options.beginning("engine."))}
    given = {key: value for key in rubric.options if (value := options.text(key)) is not None}
    options.done()
    if spec is None:
        raise UsageError(
            f"rubric {rubric.name} has no judge model: add ?judge_target=hf:... or "
            "openai:... to the judge, or judge_target: to its file"
        )
    rubric = replace(rubric, tries=tries).seeing(see).with_options(given)
    asked = _sampling(rubric.name, sampling)
    try:
        target = load_target(spec, asked, **engine)
    except (TypeError, AttributeError) as error:  # what a loader says to values it does not expect
        raise UsageError(
            f"rubric {rubric.name}: {spec} does not take these engine options: {error}"
        ) from error
    return RubricJudge(rubric, target, seed=seed, threshold=chosen)


def _engine(given: Mapping[str, str]) -> dict[str, Any]:
    """Values of engine options as YAML would read them: 3 is a number, true a truth value."""
    values = {}
    for key, text in given.items():
        try:
            values[key] = parse_yaml(text)
        except OutsideError as error:
            raise UsageError(
                f"rubric judge: engine.{key}={text} is not a valid value: quote it"
            ) from error
    return values


def _sampling(name: str, values: Mapping[str, Any]) -> SamplingOptions:
    stop = values.get("stop", ())
    try:
        return SamplingOptions(**{**values, "stop": (stop,) if isinstance(stop, str) else (*stop,)})
    except TypeError as error:
        raise UsageError(f"rubric {name}: sampling has a value of a wrong kind: {error}") from error
