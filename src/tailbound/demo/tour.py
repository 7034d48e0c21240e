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
from tailbound.core.options import make
from tailbound.core.prompt import Prompt
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.importance_sampling import RiskEstimate
from tailbound.prompts import PromptSet
from tailbound.runs.layout import NEW_PROMPTS, PREDICTIONS, TRUTH
from tailbound.storage.files import write_atomically, write_json
from tailbound.survival import quantile
from tailbound.workflows.bound import BoundResult, BoundSettings, divide
from tailbound.workflows.bound.command import run_command as bound_command
from tailbound.workflows.opening import Request
from tailbound.workflows.risk.command import run_command as risk_command

SHOWN = 10
WHEN, HOW_LIKELY = "when", "how-likely"
"""The folders of both runs."""
SAMPLING = {"max_new_tokens": 32}
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

    def options(self, seed: int) -> dict[str, Any]:
        """The options of the bound."""
        return {
            "budget": self.budget,
            "train_draws": self.train_draws,
            "test_draws": self.test_draws,
            "split": self.shares,
            "seed": seed,
        }

    def settings(self, seed: int) -> BoundSettings:
        """The same, resolved."""
        return make(BoundSettings, self.options(seed))


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
    """The two questions, asked of the demo model; runs that are there are resumed.

    DIR/when/ and DIR/how-likely/ are run folders like any others.

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
        self._test = divide(self._prompts, self._settings).test
        self._exact = np.array([exact.risk for exact in exact_risks(self._test)])

    def risks(self) -> tuple[RiskRow, ...]:
        """How likely: estimates for a few test prompts beside the truth, rarest first."""
        order = np.argsort(self._exact, kind="stable")
        chosen = [int(i) for i in order[_spread(len(order), self.size.risks)]]
        request = Request(
            prompts=[self._test[i] for i in chosen],
            out=self.folder / HOW_LIKELY,
            given={"draws": self.size.risk_draws, "seed": self.seed, **SAMPLING},
        )
        result = risk_command(request, progress=self.report).result
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

        request = Request(
            prompts=self._prompts,
            out=self.folder / WHEN,
            given={**self.size.options(self.seed), **SAMPLING},
        )
        result = bound_command(request, progress=self.report).result
        unseen = default_prompts(FULL.prompts + 50)[FULL.prompts :]
        write_atomically(self.folder / NEW_PROMPTS, prompt_lines(unseen))
        table = pl.read_parquet(self.folder / WHEN / PREDICTIONS, glob=False)
        bounds, p_hat = table["lower_bound"].to_numpy(), table["p_hat"].to_numpy()
        holds = np.exp((bounds - 1) * np.log1p(-self._exact))
        oracle = quantile(self._exact, self._settings.alpha)
        order = np.argsort(bounds, kind="stable")
        found = BoundTruth(
            result=result,
            true_coverage=float(holds.mean()),
            rows=tuple(
                TruthRow(
                    id=self._test[i].id,
                    prompt=self._test[i].text,
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
            self.folder / WHEN / TRUTH,
            {"true_coverage": found.true_coverage, "rows": [asdict(row) for row in found.rows]},
        )
        return found


def prompt_lines(prompts: Iterable[Prompt]) -> str:
    """A JSONL prompt file: one object with `id` and `prompt` a line."""
    return "".join(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in prompts)


def _spread(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the places 0 ... n - 1, evenly spread."""
    return np.linspace(0, n - 1, min(most, n)).astype(np.int64)
