"""A study from its options to its folder: runs, `study.json`, README.md and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

from tailbound.audit import Reporter, silent
from tailbound.core.extras import require
from tailbound.core.interrupts import keeping
from tailbound.core.options import make
from tailbound.core.prompt import Prompt
from tailbound.core.steps import notices_once, step
from tailbound.errors import UsageError
from tailbound.judges import Judge
from tailbound.prompts import PromptSet, PromptSource, prompt_set
from tailbound.runs.manifest import versions
from tailbound.storage.files import make_folder, write_json
from tailbound.studies import Truth
from tailbound.targets import Target
from tailbound.targets.registry import provider
from tailbound.workflows.opening import JudgeSource, Opening, Request, TargetSource
from tailbound.workflows.reproduce.cells import Bench, options_of_method
from tailbound.workflows.reproduce.folder import (
    PLAN,
    README,
    RUNS,
    STUDY,
    check_plan,
    check_study_folder,
)
from tailbound.workflows.reproduce.results import StudyResult, StudyRun
from tailbound.workflows.reproduce.settings import (
    BRUTE,
    RISK_OPTIONS,
    STUDIES,
    Cell,
    Design,
    ErrorStudy,
    StudyName,
    WeightedStudy,
)
from tailbound.workflows.reproduce.summary import result_of
from tailbound.workflows.risk.proposal import check_proposal
from tailbound.workflows.risk.proposals import Instructions
from tailbound.workflows.risk.proposals.registry import ALONE
from tailbound.workflows.risk.settings import ProposalOptions, RiskSettings

TRAIT = "evil"
STRONGREJECT = "strongreject"


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What a study is asked for; `given` are its declared options by name.

    `prompts` None are those of the target itself, of the trait, or the published set; `judge` None
    is that of the trait, or `demo`.
    """

    study: StudyName
    out: Path
    prompts: PromptSource | None = None
    target: TargetSource = "demo"
    judge: JudgeSource | None = None
    given: Mapping[str, Any] = dataclass_field(default_factory=dict)


class _Asked:
    """A study that was asked for: checked, with nothing loaded yet."""

    def __init__(self, request: StudyRequest) -> None:
        require("a study, which draws figures,", "plot")
        self.request, self.given = request, dict(request.given)
        if request.study not in STUDIES:
            raise UsageError(f"there is no study {request.study!r}: use {', '.join(STUDIES)}")
        self.settings: ErrorStudy | WeightedStudy = (
            make(ErrorStudy, self.given)
            if request.study == "mc-vs-is"
            else make(WeightedStudy, self.given)
        )
        self.design: Design = self.settings.design
        self.risk = make(
            RiskSettings,
            {name: self.given[name] for name in RISK_OPTIONS.names if name in self.given},
        )
        proposed = make(ProposalOptions, self.given)
        self.explore = proposed.explore
        self.instructions = Instructions(harmful=proposed.harmful, harmless=proposed.harmless)
        self.proposal = self._proposal(proposed)
        self.opening = Opening(
            "risk",
            Request(
                prompts=[],
                out=request.out,
                target=request.target,
                judge=self._judge(),
                given=self.given,
            ),
            threshold=self.risk.threshold,
            options={},
        )
        if self.opening.served:
            raise UsageError(
                "a study needs a target whose weights are at hand, and "
                f"{self.opening.target_name} is behind a server: use demo or hf:NAME"
            )
        self.opening.check_target()
        check_study_folder(request.out)
        self._check_proposals()  # before prompts are fetched from a hub
        self.prompts = self._read_prompts()
        self._check_proposals(prompts=len(self.prompts))

    @property
    def shared(self) -> dict[str, Any]:
        """The options of `risk` that hold for every run."""
        return {
            "confidence": self.risk.confidence,
            "intensities": self.risk.intensities,
            "proposal": self.proposal,
            "explore": self.explore,
            "harmful": self.instructions.harmful,
            "harmless": self.instructions.harmless,
            "batch_size": self.opening.batch_size,
        }

    def _proposal(self, proposed: ProposalOptions) -> tuple[str, ...]:
        for one in proposed.proposal:
            if one in ALONE:
                raise UsageError(
                    f"--proposal {one} is a method of its own: name an unsafe version of the "
                    "target, such as refusal"
                )
        if proposed.proposal or self.request.study != "persona":
            return proposed.specs
        return (f"persona:{provider(self.request.target).example_trait or TRAIT}",)

    def _trait(self) -> Any:
        """The trait of `persona`, None where no proposal is one."""
        from tailbound.workflows.risk.proposals.persona import find_trait

        for spec in self.proposal:
            kind, _, name = spec.partition(":")
            if kind == "persona" and name and self.request.study == "persona":
                return find_trait(name, self.request.target)
        return None

    def _judge(self) -> JudgeSource:
        if self.request.judge is not None:
            return self.request.judge
        if self.request.study != "persona":
            return "demo"
        trait = self._trait()
        if trait is None or trait.judge is None:
            raise UsageError("--judge is needed: it says which replies show the trait")
        judge: str = trait.judge
        return judge

    def _read_prompts(self) -> PromptSet:
        request, declared = self.request, provider(self.request.target)
        limit, field = self.given.get("limit"), self.given.get("field")
        example, most = declared.example_prompts, self.settings.example_prompts
        trait = self._trait() if request.study == "persona" else None
        if request.prompts is not None:
            return prompt_set(request.prompts, field=field, limit=limit)
        if trait is not None:
            most = len(trait.questions) if example is None else most
            own = prompt_set(list(trait.questions), field=field, limit=limit or most)
            return replace(own, source=f"the questions of the trait {trait.name}")
        if request.study != "persona" and example is not None:
            own = prompt_set(list(example(limit or most)), field=field)
            return replace(own, source="the target's own examples")
        if request.study == "strongreject":
            return prompt_set(STRONGREJECT, field=field, limit=limit)
        raise UsageError(
            f"--prompts is needed: {self.opening.target_name} brings no prompts of its own"
        )

    def _check_proposals(self, prompts: int | None = None) -> None:
        if prompts == 1 and "mix-switch" in self.design.methods:
            raise UsageError(
                "the method mix-switch tunes on a tenth of the prompts and leaves them out: give "
                "at least 2 prompts, or name the methods, --method none --method ladder"
            )
        for method in self.design.methods:
            options = {**self.shared, **options_of_method(method, self.shared)}
            first = Cell(method=method, draws=min(self.design.draws))
            check_proposal(
                options["proposal"] or ProposalOptions().specs,
                self.request.target,
                folder=self.request.out / RUNS / first.name,
                instructions=Instructions(harmful=options["harmful"], harmless=options["harmless"]),
                explore=options["explore"],
                family=options.get("proposal_family", "ladder"),
                prompts=prompts,
            )


def run_study(request: StudyRequest, *, progress: Reporter = silent) -> StudyResult:
    """Everything that `tailbound reproduce` does: the runs, then what follows from them.

    Runs that are complete are read back and those that are not are resumed, so the same command
    continues an interrupted study, and more draws, repeats or methods extend one. Raises
    `UsageError` before anything is drawn, and `ContractMismatchError` where the folder holds
    another study.
    """
    asked, out = _Asked(request), request.out
    opening = asked.opening
    judge = opening.load_judge()
    target = opening.load_target(asked.prompts)
    exact = _exact_risks(asked, target, judge)
    plan = _plan(asked, target, judge)
    check_plan(out, plan)
    make_folder(out)
    with keeping(out), notices_once():
        write_json(out / PLAN, plan)
        bench = Bench(
            folder=out,
            target=target,
            judge=judge,
            prompts=asked.prompts.prompts,
            given=asked.shared,
            seed=asked.risk.seed,
        )
        runs: list[StudyRun] = []
        cells = list(asked.design.cells())
        with step("runs of the study", total=len(cells), unit="runs") as now:
            for cell in cells:
                runs.append(bench.run(cell, progress=progress))
                now.advance()
        result = result_of(
            request.study,
            asked.prompts.prompts,
            runs,
            design=asked.design,
            truths=_truths(asked.prompts.prompts, runs, exact, asked.risk.confidence),
            target=opening.target_name,
            judge=opening.judge_name,
            judge_id=judge.id,
            contract=target.contract.to_dict(),
            options=_options(asked),
            versions=versions("matplotlib"),
        )
        _write(out, result)
    return result


def _exact_risks(
    asked: _Asked, target: Target, judge: Judge
) -> Sequence[tuple[float, float]] | None:
    """Exact risks of the prompts, None where plain draws give the truth."""
    if asked.design.brute_force is not None:
        return None
    compute = provider(asked.request.target).exact_risks
    found = None
    if compute is not None:
        with step("computing exact risks"):
            found = compute(asked.prompts.prompts, target.contract, judge.id)
    if found is None:
        raise UsageError(
            f"--brute-force N is needed: {asked.opening.target_name} has no exact risks under "
            "this judge and these options, so plain draws must give the truth"
        )
    return found


def _truths(
    prompts: Sequence[Prompt],
    runs: Sequence[StudyRun],
    exact: Sequence[tuple[float, float]] | None,
    confidence: float,
) -> list[Truth]:
    if exact is not None:
        return [Truth.computed(low, high) for low, high in exact]
    (brute,) = (run for run in runs if run.method == BRUTE)
    found = {one.id: one for one in brute.estimates}
    return [
        Truth.counted(one.hits, one.draws - one.missing, confidence=confidence)
        for one in (found[prompt.id] for prompt in prompts)
    ]


def _plan(asked: _Asked, target: Target, judge: Judge) -> dict[str, Any]:
    """What may not change between two calls in the same folder."""
    return {
        "schema": 1,
        "study": asked.request.study,
        "contract": target.contract.digest,
        "judge_id": judge.id,
        "threshold": float(judge.threshold),
        "seed": asked.risk.seed,
        "confidence": asked.risk.confidence,
        "intensities": list(asked.risk.intensities),
        "proposal": list(asked.proposal),
        "explore": asked.explore,
        "prompts": [prompt.id for prompt in asked.prompts.prompts],
    }


def _options(asked: _Asked) -> dict[str, Any]:
    """The options of the study, resolved, as plain values."""
    design = asked.design
    return {
        "prompts": asked.prompts.source,
        "methods": list(design.methods),
        "draws": list(design.draws),
        "repeats": design.repeats,
        "brute_force": design.brute_force,
        "proposal": list(asked.proposal),
        "explore": asked.explore,
        "intensities": list(asked.risk.intensities),
        "confidence": asked.risk.confidence,
        "seed": asked.risk.seed,
    }


def _write(out: Path, result: StudyResult) -> None:
    """Write `study.json`, the figures, and the README that shows them."""
    from tailbound.storage.files import write_atomically
    from tailbound.workflows.reproduce.figures import figures_of
    from tailbound.workflows.reproduce.readme import readme

    with step("drawing the figures"):
        write_json(out / STUDY, result.to_dict())
        figures = figures_of(result)
        for name, figure in figures.items():
            write_atomically(out / name, figure)
        write_atomically(out / README, readme(result, list(figures)))
