"""The tour that `tailbound demo` gives: a bound and risks of the demo model beside the truth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tailbound import run_folder
from tailbound.audit import Reporter, silent
from tailbound.bounding import BoundResult, BoundSettings, divide, run_bound
from tailbound.contract import SamplingOptions
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.files import write_atomically, write_json
from tailbound.importance import RiskEstimate
from tailbound.judges import Judge
from tailbound.judges.demo import load as load_judge
from tailbound.prompts import Prompt, PromptSet
from tailbound.risking import RiskSettings, make_proposal, run_risk
from tailbound.survival import quantile
from tailbound.targets.demo import load as load_target

if TYPE_CHECKING:
    from tailbound.targets.decoding.model import LocalModel

PROMPTS = 1100
SHOWN = 10
RISKS = 12
RISK_DRAWS = 500
BATCH_SIZE = 256
OPTIONS = SamplingOptions(max_new_tokens=32)
CONTRACT_WORDS = "temperature 1, at most 32 tokens"


def settings(seed: int) -> BoundSettings:
    """About 300 training prompts x 200 draws, 600 calibration prompts x 120, 200 test prompts."""
    return BoundSettings(
        budget=120,
        train_draws=200,
        test_draws=2000,
        shares=(0.275, 0.545, 0.18),
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True)
class TruthRow:
    """One test prompt: its bound, its exact risk, and how likely the bound is to hold for it.

    `oracle_bound` is the bound that the true risk itself would give: its quantile at alpha.
    """

    id: str
    prompt: str
    lower_bound: int
    p_hat: float
    exact_risk: float
    holds: float
    oracle_bound: int


@dataclass(frozen=True, kw_only=True)
class RiskRow:
    """One prompt: its estimated risk, and its exact one."""

    id: str
    prompt: str
    estimate: RiskEstimate
    exact_risk: float


@dataclass(frozen=True, kw_only=True)
class TourResult:
    """The bound and some risks, and the truth about them.

    `true_coverage` is the mean of P(T >= L) = (1 - p)^(L - 1) over all test prompts, computed from
    their exact risks p; `rows` are test prompts evenly spread over the bounds, `risks` test prompts
    evenly spread over the exact risks, from `RISK_DRAWS` draws each.
    """

    bound: BoundResult
    true_coverage: float
    rows: tuple[TruthRow, ...]
    risks: tuple[RiskRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            **self.bound.to_dict(),
            "true_coverage": self.true_coverage,
            "truth": [asdict(row) for row in self.rows],
            "risks": [
                {"id": row.id, "exact_risk": row.exact_risk, **row.estimate.to_dict()}
                for row in self.risks
            ],
        }


def tour(folder: Path, *, seed: int = 0, report: Reporter = silent) -> TourResult:
    """Run the tour in `folder` (resumes what is there); writes `truth.json` besides."""
    import polars as pl

    prompts = PromptSet(
        prompts=tuple(default_prompts(PROMPTS)), field="prompt", source="the demo prompts"
    )
    chosen = settings(seed)
    parts = divide(prompts, chosen)
    target = load_target("", OPTIONS, batch_size=BATCH_SIZE)
    judge = load_judge()
    document = run_folder.describe(
        command="bound",
        contract=target.contract,
        target="demo",
        engine={"batch_size": BATCH_SIZE},
        judge="demo",
        judge_id=judge.id,
        threshold=judge.threshold,
        options={**chosen.to_dict(), "prompts": prompts.source},
    )
    run_folder.begin(folder, document)
    result = run_bound(
        parts,
        target=target,
        judge=judge,
        settings=chosen,
        folder=folder,
        report=report,
        width=BATCH_SIZE,
    )
    unseen = default_prompts(PROMPTS + 50)[PROMPTS:]
    lines = [json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in unseen]
    write_atomically(folder / "new-prompts.jsonl", "".join(lines))

    table = pl.read_parquet(folder / "predictions.parquet")
    bounds = table["lower_bound"].to_numpy()
    p_hat = table["p_hat"].to_numpy()
    risk = np.array([exact.risk for exact in exact_risks(parts.test)])
    holds = np.exp((bounds - 1) * np.log1p(-risk))
    oracle = quantile(risk, chosen.alpha)
    order = np.argsort(bounds, kind="stable")
    shown = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(np.int64)]
    found = TourResult(
        bound=result,
        true_coverage=float(holds.mean()),
        rows=tuple(
            TruthRow(
                id=parts.test[i].id,
                prompt=parts.test[i].text,
                lower_bound=int(bounds[i]),
                p_hat=float(p_hat[i]),
                exact_risk=float(risk[i]),
                holds=float(holds[i]),
                oracle_bound=int(oracle[i]),
            )
            for i in shown.tolist()
        ),
        risks=_risks(parts.test, risk, target, judge, folder / "risk", seed, report),
    )
    write_json(
        folder / "truth.json",
        {"true_coverage": found.true_coverage, "rows": [asdict(row) for row in found.rows]},
    )
    return found


def _risks(
    prompts: tuple[Prompt, ...],
    risk: NDArray[np.float64],
    target: LocalModel,
    judge: Judge,
    folder: Path,
    seed: int,
    report: Reporter,
) -> tuple[RiskRow, ...]:
    """Estimates for a few prompts, evenly spread over the exact risks, rarest first."""
    order = np.argsort(risk, kind="stable")
    places = np.linspace(0, len(order) - 1, min(RISKS, len(order))).astype(np.int64)
    chosen = [int(i) for i in order[places]]
    some = [prompts[i] for i in chosen]
    proposal = make_proposal("refusal", target, judge, some, folder=folder, seed=seed)
    result = run_risk(
        some,
        proposal=proposal,
        judge=judge,
        settings=RiskSettings(draws=RISK_DRAWS, seed=seed),
        folder=folder,
        report=report,
    )
    return tuple(
        RiskRow(
            id=found.prompt.id,
            prompt=found.prompt.text,
            estimate=found.estimate,
            exact_risk=float(risk[i]),
        )
        for found, i in zip(result.risks, chosen, strict=True)
    )
