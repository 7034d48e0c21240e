"""The study of completions from its options to its folder: runs, `study.json`, README, figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

from tailbound.audit import Reporter, silent
from tailbound.core.extras import require
from tailbound.core.interrupts import keeping
from tailbound.core.options import make, options_of
from tailbound.core.steps import notices_once, step
from tailbound.errors import UsageError
from tailbound.judges import Judge
from tailbound.prompts import PromptSet, PromptSource, prompt_set
from tailbound.runs import totals
from tailbound.runs.manifest import versions
from tailbound.storage.files import make_folder, write_atomically, write_json
from tailbound.targets import Target
from tailbound.targets.options import EngineOptions
from tailbound.targets.registry import provider
from tailbound.workflows.bound.features import check_features
from tailbound.workflows.bound.importance.options import method_of
from tailbound.workflows.bound.parts import divide
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.opening import JudgeSource, Opening, Request, TargetSource
from tailbound.workflows.reproduce.folder import (
    PLAN,
    README,
    STUDY,
    check_plan,
    check_study_folder,
)
from tailbound.workflows.reproduce.realtoxicity.results import STUDY_NAME, CompletionResult
from tailbound.workflows.reproduce.realtoxicity.runs import (
    ObservedTimes,
    Workshop,
    completion_run,
    draws_of,
    predictions_of_test,
    uncalibrated_bounds,
)
from tailbound.workflows.reproduce.realtoxicity.settings import (
    BOUND_OPTIONS,
    EXAMPLE_PROMPTS,
    CompletionOptions,
    CompletionStudy,
)

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """What the study is asked for; `given` are its declared options by name.

    `prompts` None are those of the target itself; `judge` None is `demo`, for the demo model alone.
    """

    out: Path
    prompts: PromptSource | None = None
    target: TargetSource = "demo"
    judge: JudgeSource | None = None
    given: Mapping[str, Any] = dataclass_field(default_factory=dict)


class _Asked:
    """A study that was asked for: checked, with nothing loaded yet."""

    def __init__(self, request: CompletionRequest) -> None:
        require("a study, which draws figures,", "plot")
        self.request, self.given = request, dict(request.given)
        self.settings = make(CompletionStudy, self.given)
        self.example = provider(request.target).example_prompts
        if request.judge is None and self.example is None:
            raise UsageError("--judge is needed: it says which completions are unsafe")
        self.judge: JudgeSource = "demo" if request.judge is None else request.judge
        self.shared = {name: self.given[name] for name in BOUND_OPTIONS.names if name in self.given}
        self.cells = list(self.settings.cells())
        first = self.statistics(0)
        self.opening = Opening("bound", self._request(), threshold=first.threshold, options={})
        if self.opening.served:
            raise UsageError(
                "a study needs a target whose weights are at hand, and "
                f"{self.opening.target_name} is behind a server: use demo or hf:NAME"
            )
        self.opening.check_target()
        check_study_folder(request.out)
        self.prompts = self._read_prompts()
        for number in range(len(self.cells)):
            self.parts = divide(self.prompts, self.statistics(number))
        check_features(first.features, supplied=bool(self.parts.supplied), endpoint=False)
        if not self.parts.test:
            raise UsageError("--split leaves no test prompts: give them a share, for instance 0.2")
        if self.parts.supplied:
            raise UsageError(
                "the study trains the predictor of its bounds: remove the column p_hat"
            )

    def statistics(self, number: int) -> BoundSettings:
        """The statistics of a run, with everything about them checked."""
        return method_of(self.settings.options_of(self.cells[number], self.shared))[2]

    def _request(self) -> Request:
        """What is asked of the target: the sampling options of the study, and the engine's."""
        asked = make(CompletionOptions, self.given)
        given: dict[str, Any] = {
            one.name: self.given[one.name]
            for one in options_of(EngineOptions)
            if one.name in self.given
        }
        if isinstance(self.request.target, str):
            given |= asked.sampling(own=self.example is not None)
        elif asked != CompletionOptions():
            raise UsageError(
                "the sampling options do not apply to a target that is loaded already: give them "
                "to load_target"
            )
        return Request(
            prompts=[],
            out=self.request.out,
            target=self.request.target,
            judge=self.judge,
            given=given,
        )

    def _read_prompts(self) -> PromptSet:
        limit, field = self.given.get("limit"), self.given.get("field")
        if self.request.prompts is not None:
            return prompt_set(self.request.prompts, field=field, limit=limit)
        if self.example is None:
            raise UsageError(
                f"--prompts is needed: {self.opening.target_name} brings no prompts of its own"
            )
        own = prompt_set(list(self.example(limit or EXAMPLE_PROMPTS)), field=field)
        return replace(own, source="the target's own examples")


def run_completions(request: CompletionRequest, *, progress: Reporter = silent) -> CompletionResult:
    """Everything that `tailbound reproduce realtoxicity` does: the runs, and what follows.

    Runs that are complete are read back and those that are not are resumed, so the same command
    continues an interrupted study, and more budgets or designs extend one. Raises `UsageError`
    before anything is drawn, and `ContractMismatchError` where the folder holds another study.
    """
    asked, out = _Asked(request), request.out
    judge = asked.opening.load_judge()
    target = asked.opening.load_target(asked.prompts)
    plan = _plan(asked, target, judge)
    check_plan(out, plan)
    make_folder(out)
    with keeping(out), notices_once():
        write_json(out / PLAN, plan)
        shop = Workshop(folder=out, target=target, judge=judge, prompts=asked.prompts.prompts)
        found = []
        shared = {**asked.shared, "batch_size": asked.opening.batch_size}
        with step("runs of the study", total=len(asked.cells), unit="runs") as now:
            for cell in asked.cells:
                given = asked.settings.options_of(cell, shared)
                found.append(shop.run(cell, given, progress=progress))
                now.advance()
        places = [shop.place(cell) for cell in asked.cells]
        ids, p_hat = predictions_of_test(places[-1])
        times = ObservedTimes(ids, places, threshold=judge.threshold)
        limits = uncalibrated_bounds(p_hat, asked.settings.alpha)
        fullest = totals(max(places, key=draws_of)).values()
        n = len(asked.parts.calibration)
        result = CompletionResult(
            target=asked.opening.target_name,
            judge=asked.opening.judge_name,
            judge_id=judge.id,
            contract=target.contract.to_dict(),
            options=_options(asked),
            versions=versions("matplotlib"),
            prompts={name: len(part) for name, part in asked.parts.by_name().items()},
            draws=sum(total.draws for total in fullest),
            tokens=sum(total.tokens for total in fullest),
            uncalibrated=times.check(limits, p_hat, cap=int(limits.max()) + 1),
            runs=tuple(
                completion_run(cell, one, times, p_hat, n)
                for cell, one in zip(asked.cells, found, strict=True)
            ),
        )
        _write(out, result)
    return result


def _plan(asked: _Asked, target: Target, judge: Judge) -> dict[str, Any]:
    """What may not change between two calls in the same folder."""
    settings = asked.statistics(0)
    return {
        "schema": SCHEMA,
        "study": STUDY_NAME,
        "contract": target.contract.digest,
        "judge_id": judge.id,
        "threshold": float(judge.threshold),
        "seed": settings.seed,
        "alpha": settings.alpha,
        "max_weight": asked.settings.max_weight,
        "train_draws": settings.train_draws,
        "test_draws": settings.test_draws,
        "split": list(settings.shares),
        "loss": settings.loss,
        "features": settings.features,
        "allow_missing": settings.allow_missing,
        "prompts": [prompt.id for prompt in asked.prompts.prompts],
    }


def _options(asked: _Asked) -> dict[str, Any]:
    """The options of the study, resolved, as plain values."""
    settings = asked.statistics(0)
    return {
        "prompts": asked.prompts.source,
        "budgets": sorted(asked.settings.budget),
        "designs": list(asked.settings.designs),
        "alpha": settings.alpha,
        "max_weight": asked.settings.max_weight,
        "train_draws": settings.train_draws,
        "test_draws": settings.test_draws,
        "split": list(settings.shares),
        "seed": settings.seed,
    }


def _write(out: Path, result: CompletionResult) -> None:
    from tailbound.workflows.reproduce.realtoxicity.figures import figures_of
    from tailbound.workflows.reproduce.realtoxicity.readme import readme

    with step("drawing the figures"):
        write_json(out / STUDY, result.to_dict())
        for name, figure in figures_of(result).items():
            write_atomically(out / name, figure)
        write_atomically(out / README, readme(result))
