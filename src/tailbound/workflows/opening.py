"""How `bound` and `risk` begin: from names and options to a judge, a target and a run folder.

Whatever can be checked without a model is checked before one is loaded or a server is asked:
`Opening` resolves the options, `check_folder` compares with the run that is there, `load_judge` and
`load_target` load, and `write_manifest` writes `run.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

from tailbound.core.contract import SamplingContract, SamplingOptions
from tailbound.core.interrupts import keeping
from tailbound.core.options import make, options_of
from tailbound.core.outside import shown
from tailbound.core.steps import notice, step
from tailbound.core.values import typed
from tailbound.errors import UsageError
from tailbound.executors import ExecutorOptions
from tailbound.executors.messages import Loading
from tailbound.executors.working import check_executor, working
from tailbound.judges import Judge
from tailbound.judges.registry import load_judge
from tailbound.prompts import PromptSet, PromptSource, prompt_set
from tailbound.runs import manifest, reply_notices
from tailbound.runs.history import check_history
from tailbound.targets import Target
from tailbound.targets.capabilities import capabilities_of, late_notices_of, notices_of
from tailbound.targets.options import EndpointOptions, EngineOptions
from tailbound.targets.registry import accepted_options, check_target, load_target, provider
from tailbound.workflows.costs import Costs, spent_before
from tailbound.workflows.settings import PromptOptions

JudgeSource = str | Judge | Callable[..., object]
"""The name of a judge, a judge, or a function of (prompt, response) or (response)."""
TargetSource = str | Target


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a drawing command is asked for; `given` are its declared options by name."""

    prompts: PromptSource
    out: Path
    target: TargetSource = "demo"
    judge: JudgeSource = "demo"
    given: Mapping[str, Any] = dataclass_field(default_factory=dict)

    def __post_init__(self) -> None:
        check_target_source(self.target)
        check_judge_source(self.judge)

    def read_prompts(self) -> PromptSet:
        """The prompts; raises `UsageError` as `prompt_set` does."""
        asked = make(PromptOptions, self.given)
        return prompt_set(self.prompts, field=asked.field, limit=asked.limit)

    def which_prompts(self, source: str) -> dict[str, Any]:
        """What `run.yaml` says of the prompts: where they are from, the column, how many."""
        return {"prompts": source, **asdict(make(PromptOptions, self.given))}


class Opening:
    """What a drawing command was asked for, resolved.

    `target` is the target as it was asked for, `sampling` what is known of its contract; `engine`
    goes to its loader and to `run.yaml`. Raises `UsageError` for options that do not go with it.
    """

    def __init__(
        self,
        command: str,
        request: Request,
        *,
        threshold: float | None,
        options: Mapping[str, Any],
    ) -> None:
        target, given = request.target, request.given
        self.command, self.out, self.options = command, request.out, options
        self.target, self._judge, self._threshold = target, request.judge, threshold
        self.sampling: SamplingOptions | SamplingContract
        self.engine: dict[str, Any]
        if isinstance(target, str):
            self.target_name = target
            self.sampling = sampling_options(target, given)
            self.engine = engine_options(target, given)
        else:
            _refuse_options(given)
            self.target_name = target.contract.target
            self.sampling, self.engine = target.contract, {}
        self.batch_size = int(make(EngineOptions, given).batch_size)
        self.judge_name = name_of_judge(request.judge)
        self._workers = make(ExecutorOptions, given)

    @property
    def served(self) -> bool:
        """Whether the target is behind a server."""
        return provider(self.target).served

    def check_target(self) -> None:
        """Find what is wrong with the target's name and options; nothing is loaded."""
        check_executor(self._workers, self.target)
        if isinstance(self.target, str):
            check_target(self.target, **self.engine)

    def check_folder(self, prompts: PromptSet | None = None, judge: Judge | None = None) -> None:
        """Find out whether the run may begin or continue in `out`, by what is known so far."""
        known = manifest.partial_manifest(self.command, self.sampling, self.options)
        if judge is not None:
            known |= {"judge_id": judge.id, "threshold": judge.threshold}
        manifest.check_manifest(self.out, known, prompts or ())
        check_history(self.out)

    def load_judge(self) -> Judge:
        """The judge, with the threshold that was asked for."""
        return judge_of(self._judge, threshold=self._threshold)

    def load_target(self, prompts: PromptSet) -> Target:
        """The target; raises `UsageError` for prompts that do not fit."""
        if isinstance(self.target, str):
            assert isinstance(self.sampling, SamplingOptions)
            earlier = spent_before(self.target, self.out)
            target = load_target(self.target, self.sampling, **self.engine, **earlier)
        else:
            target = self.target
        with step("encoding the prompts"):
            target.prompt_tokens(prompts.prompts)
        return target

    def write_manifest(
        self,
        target: Target,
        judge: Judge,
        *,
        options: Mapping[str, Any],
        notices: tuple[str, ...],
    ) -> None:
        """Write `run.yaml`, or continue where one asks for the same."""
        document = manifest.full_manifest(
            command=self.command,
            contract=target.contract,
            target=self.target_name,
            engine=self.engine,
            judge=self.judge_name,
            judge_id=judge.id,
            threshold=float(judge.threshold),
            options={**options, "reproducible": target.reproducible},
            notices=notices,
            capabilities=capabilities_of(target),
        )
        manifest.write_manifest(self.out, document)

    @contextmanager
    def executors(self, target: Target) -> Iterator[None]:
        """Let the workers that were asked for do the work meanwhile."""
        if not isinstance(self.target, str):
            yield
            return
        assert isinstance(self.sampling, SamplingOptions)
        loading = Loading(
            target=self.target,
            options=self.sampling,
            engine=self.engine,
            judge=self._judge if isinstance(self._judge, str) else None,
            threshold=self._threshold,
        )
        with working(self._workers, loading, contract=target.contract.digest, rows=self.batch_size):
            yield

    @contextmanager
    def running(self, target: Target, judge: Judge) -> Iterator[Costs]:
        """Keep the accounts of the run, and report at its end what was noticed."""
        costs = Costs(target, judge)
        with keeping(self.out), costs.kept(self.out), self.executors(target):
            yield costs
        report(*late_notices_of(target), *notices_of(judge), *reply_notices(self.out))


def report(*lines: str) -> None:
    """Give notices, in order."""
    for line in lines:
        notice(line)


def check_target_source(target: object) -> None:
    """Raise `UsageError` for what is neither the name of a target nor a target."""
    if isinstance(target, str):
        return
    contract = getattr(target, "contract", None)
    if isinstance(target, type) or not isinstance(contract, SamplingContract):
        raise UsageError(
            "target must be a name such as 'demo', or a target from load_target, not "
            f"{shown(target)}"
        )


def check_judge_source(judge: object) -> None:
    """Raise `UsageError` for what is neither a name, nor a judge, nor a function."""
    if isinstance(judge, str):
        return
    if isinstance(judge, type) or not (isinstance(judge, Judge) or callable(judge)):
        raise UsageError(f"judge must be a name, a judge or a function, not {shown(judge)}")
    if isinstance(judge, Judge):
        if not isinstance(judge.id, str) or not judge.id:
            raise UsageError(f"the id of a judge must be a text, not {shown(judge.id)}")
        threshold = typed(float, judge.threshold, name=f"the threshold of the judge {judge.id}")
        if not 0 < threshold <= 1:
            raise UsageError(
                f"the threshold of the judge {judge.id} must lie in (0, 1], not {threshold:g}"
            )


def judge_of(judge: JudgeSource, *, threshold: float | None = None) -> Judge:
    """The judge that a name, a judge or a function means."""
    check_judge_source(judge)
    if isinstance(judge, str):
        return load_judge(judge, threshold=threshold)
    if isinstance(judge, Judge):
        if threshold is None or threshold == judge.threshold:
            return judge
        raise UsageError(
            f"the judge {judge.id} has its own threshold {judge.threshold:g}: give it another one "
            "where it is made, and leave threshold out"
        )
    from tailbound.judges.function import of_function

    return of_function(judge, threshold=0.5 if threshold is None else threshold)


def name_of_judge(judge: JudgeSource) -> str:
    """What `run.yaml` calls the judge."""
    if isinstance(judge, str):
        return judge
    if isinstance(judge, Judge):
        return judge.id
    from tailbound.judges.function import name_of

    return f"function:{name_of(judge)}"


def _refuse_options(given: Mapping[str, Any]) -> None:
    """Options of the loader mean nothing where the target is loaded already."""
    for group in (SamplingOptions, EngineOptions, EndpointOptions):
        for one in options_of(group):
            if one.name in given and one.name != "batch_size" and given[one.name] != one.default:
                raise UsageError(
                    f"{one.name} does not apply to a target that is loaded already: give it to "
                    "load_target"
                )


def longest_response(target: str, asked: int | None) -> int:
    """`--max-new-tokens`, by default what the target's provider declares."""
    return provider(target).default_max_new_tokens if asked is None else asked


def engine_options(target: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What goes to the target's loader besides the sampling options."""
    engine = asdict(make(EngineOptions, given))
    return engine | accepted_options(target, **make(EndpointOptions, given).given())


def sampling_options(target: str, given: Mapping[str, Any]) -> SamplingOptions:
    """What is asked of the sampler; a system prompt that names a file is read from it."""
    asked = dict(given)
    if asked.get("extra_body") is not None:
        from tailbound.targets.endpoint.extra_body import canonical

        accepted_options(target, extra_body=asked["extra_body"])
        asked["extra_body"] = canonical(asked["extra_body"])
    asked["max_new_tokens"] = longest_response(target, asked.get("max_new_tokens"))
    asked["system"] = _text_or_file(typed(str | None, asked.get("system"), name="--system"))
    if isinstance(asked.get("stop"), str):
        asked["stop"] = (asked["stop"],)
    return make(SamplingOptions, asked)


def options_of_run(document: Mapping[str, Any]) -> SamplingOptions:
    """The sampling options that a run in `run.yaml` was made with."""
    contract = SamplingContract.from_dict(document["contract"])
    known = {field.name for field in fields(SamplingContract)}
    same = {
        one.field: getattr(contract, one.field)
        for one in options_of(SamplingOptions)
        if one.field in known
    }
    return SamplingOptions(**same, completion=contract.template is None)


def target_of_run(document: Mapping[str, Any]) -> Target:
    """The target of a run, loaded as `run.yaml` says."""
    check_target(document["target"], **document["engine"])
    return load_target(document["target"], options_of_run(document), **document["engine"])


def _text_or_file(value: str | None) -> str | None:
    if value is None or len(value) > 255 or "\n" in value:
        return value
    try:
        path = Path(value)
        return path.read_text(encoding="utf-8").strip() if path.is_file() else value
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the system prompt {value} cannot be read: {error}") from error
