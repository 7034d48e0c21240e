"""The tour that `tailbound demo` gives: a bound and risks of the demo model beside the truth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import Reporter, silent
from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.demo.judge import load as load_judge
from tailbound.demo.target import load as load_target
from tailbound.importance_sampling import RiskEstimate
from tailbound.prompts import PromptSet
from tailbound.runs import manifest
from tailbound.storage.files import write_atomically, write_json
from tailbound.survival import quantile
from tailbound.workflows.bound import BoundResult, BoundSettings, divide, run_bound
from tailbound.workflows.risk import RiskSettings, make_proposal, run_risk

SHOWN = 10
BATCH_SIZE = 256
OPTIONS = SamplingOptions(max_new_tokens=32)
CONTRACT_WORDS = "temperature 1, at most 32 tokens"


@dataclass(frozen=True, kw_only=True)
class TourSize:
    """How much the tour draws.

    `prompts` are split by `shares` into training (`train_draws` each), calibration (`budget` each,
    on average) and test; `risks` of the test prompts get `risk_draws` weighted draws each.
    """

    prompts: int
    train_draws: int
    budget: float
    test_draws: int
    shares: tuple[float, float, float]
    risks: int
    risk_draws: int

    def settings(self, seed: int) -> BoundSettings:
        """The settings of the bound."""
        return BoundSettings(
            budget=self.budget,
            train_draws=self.train_draws,
            test_draws=self.test_draws,
            shares=self.shares,
            seed=seed,
        )


FULL = TourSize(
    prompts=1100,
    train_draws=200,
    budget=120,
    test_draws=2000,
    shares=(0.275, 0.545, 0.18),
    risks=12,
    risk_draws=500,
)
"""About 300 training prompts x 200 draws, 600 calibration prompts x 120, 200 test prompts."""

QUICK = TourSize(
    prompts=400,
    train_draws=60,
    budget=30,
    test_draws=200,
    shares=(0.3, 0.57, 0.13),
    risks=5,
    risk_draws=200,
)
"""About 120 training prompts x 60 draws, 230 calibration prompts x 30, 50 test prompts."""


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
class BoundTruth:
    """The bound and the truth about it.

    `true_coverage` is the mean of P(T >= L) = (1 - p)^(L - 1) over all test prompts, computed from
    their exact risks p; `rows` are test prompts evenly spread over the bounds.
    """

    result: BoundResult
    true_coverage: float
    rows: tuple[TruthRow, ...]


def tour_document(bound: BoundTruth, risks: Sequence[RiskRow]) -> dict[str, Any]:
    """Both answers as plain values, ready for JSON."""
    return {
        **bound.result.to_dict(),
        "true_coverage": bound.true_coverage,
        "truth": [asdict(row) for row in bound.rows],
        "risks": [
            {"id": row.id, "exact_risk": row.exact_risk, **row.estimate.to_dict()} for row in risks
        ],
    }


class Tour:
    """The two questions, asked of the demo model in `folder`; a run that is there is resumed.

    `seed` is that of the split and of all draws; `report` hears of progress. `risks` and `bound`
    may be asked in any order, and give the same whichever comes first.
    """

    def __init__(
        self, folder: Path, *, size: TourSize = FULL, seed: int = 0, report: Reporter = silent
    ) -> None:
        self.folder, self.size, self.seed, self.report = folder, size, seed, report
        self._prompts = PromptSet(
            prompts=tuple(default_prompts(size.prompts)), field="prompt", source="the demo prompts"
        )
        self._settings = size.settings(seed)
        self._parts = divide(self._prompts, self._settings)
        self._target = load_target("", OPTIONS, batch_size=BATCH_SIZE)
        self._judge = load_judge()
        self._exact = np.array([exact.risk for exact in exact_risks(self._parts.test)])
        self._begin()

    def _begin(self) -> None:
        document = manifest.full_manifest(
            command="bound",
            contract=self._target.contract,
            target="demo",
            engine={"batch_size": BATCH_SIZE},
            judge="demo",
            judge_id=self._judge.id,
            threshold=self._judge.threshold,
            options={**self._settings.to_dict(), "prompts": self._prompts.source},
        )
        manifest.write_manifest(self.folder, document)

    def risks(self) -> tuple[RiskRow, ...]:
        """How likely: estimates for a few test prompts beside the truth, rarest first."""
        order = np.argsort(self._exact, kind="stable")
        chosen = [int(i) for i in order[_spread(len(order), self.size.risks)]]
        prompts = [self._parts.test[i] for i in chosen]
        folder = self.folder / "risk"
        proposal = make_proposal(
            "refusal", self._target, self._judge, prompts, folder=folder, seed=self.seed
        )
        result = run_risk(
            prompts,
            proposal=proposal,
            judge=self._judge,
            settings=RiskSettings(draws=self.size.risk_draws, seed=self.seed),
            folder=folder,
            report=self.report,
        )
        return tuple(
            RiskRow(
                id=found.prompt.id,
                prompt=found.prompt.text,
                estimate=found.estimate,
                exact_risk=float(self._exact[i]),
            )
            for found, i in zip(result.risks, chosen, strict=True)
        )

    def bound(self) -> BoundTruth:
        """When: the bound, and test prompts evenly spread over it beside the truth.

        Writes `truth.json` and, for `tailbound predict`, `new-prompts.jsonl`.
        """
        import polars as pl

        result = run_bound(
            self._parts,
            target=self._target,
            judge=self._judge,
            settings=self._settings,
            folder=self.folder,
            report=self.report,
            width=BATCH_SIZE,
        )
        unseen = default_prompts(FULL.prompts + 50)[FULL.prompts :]
        write_atomically(self.folder / "new-prompts.jsonl", prompt_lines(unseen))
        table = pl.read_parquet(self.folder / "predictions.parquet", glob=False)
        bounds, p_hat = table["lower_bound"].to_numpy(), table["p_hat"].to_numpy()
        holds = np.exp((bounds - 1) * np.log1p(-self._exact))
        oracle = quantile(self._exact, self._settings.alpha)
        order = np.argsort(bounds, kind="stable")
        found = BoundTruth(
            result=result,
            true_coverage=float(holds.mean()),
            rows=tuple(
                TruthRow(
                    id=self._parts.test[i].id,
                    prompt=self._parts.test[i].text,
                    lower_bound=int(bounds[i]),
                    p_hat=float(p_hat[i]),
                    exact_risk=float(self._exact[i]),
                    holds=float(holds[i]),
                    oracle_bound=int(oracle[i]),
                )
                for i in order[_spread(len(order), SHOWN)].tolist()
            ),
        )
        write_json(
            self.folder / "truth.json",
            {"true_coverage": found.true_coverage, "rows": [asdict(row) for row in found.rows]},
        )
        return found


def prompt_lines(prompts: Iterable[Prompt]) -> str:
    """A JSONL prompt file: one object with `id` and `prompt` a line."""
    return "".join(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in prompts)


def _spread(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the places 0 ... n - 1, evenly spread."""
    return np.linspace(0, n - 1, min(most, n)).astype(np.int64)
