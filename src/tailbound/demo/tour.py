"""The tour that `tailbound demo` gives: a bound on the demo model beside the exact truth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailbound import run_folder
from tailbound.audit import Reporter, silent
from tailbound.bounding import BoundResult, BoundSettings, divide, run_bound
from tailbound.contract import SamplingOptions
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.files import write_atomically, write_json
from tailbound.judges.demo import load as load_judge
from tailbound.prompts import PromptSet
from tailbound.survival import quantile
from tailbound.targets.demo import load as load_target

PROMPTS = 1100
SHOWN = 10
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
class TourResult:
    """The bound, and the truth about it.

    `true_coverage` is the mean of P(T >= L) = (1 - p)^(L - 1) over all test prompts, computed from
    their exact risks p; `rows` are test prompts evenly spread over the bounds.
    """

    bound: BoundResult
    true_coverage: float
    rows: tuple[TruthRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            **self.bound.to_dict(),
            "true_coverage": self.true_coverage,
            "truth": [asdict(row) for row in self.rows],
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
    )
    write_json(
        folder / "truth.json",
        {"true_coverage": found.true_coverage, "rows": [asdict(row) for row in found.rows]},
    )
    return found
