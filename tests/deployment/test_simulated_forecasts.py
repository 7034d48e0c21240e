"""Forecasts of the worst of 10 and 100 times as many queries, against queries whose p is known.

The truth is the largest p that occurs among the new queries, which varies by itself. Bars: median
absolute error of log10 at most .3 (10 times) and .5 (100 times), and intervals at 95% that cover in
at least 90% of the repeats.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.sizes import size

from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.deployment import Queries, Worst, forecast_worst, queries_of

Population = Callable[[np.random.Generator, int], NDArray[np.float64]]
EVALUATED = 1_000
REPEATS = size(60, 200)


def log_normal(spread: float, center: float) -> Population:
    def draw(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return np.minimum(np.exp(rng.normal(center, spread, n)), 1.0)

    return draw


def beta(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return rng.beta(0.3, 30, n)


def two_modes(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    high = rng.random(n) < 0.1
    logs = np.where(high, rng.normal(-7, 1.2, n), rng.normal(-13, 1.5, n))
    return np.minimum(np.exp(logs), 1.0)


POPULATIONS: dict[str, Population] = {
    "log-normal": log_normal(2, -13.8),
    "beta": beta,
    "two modes": two_modes,
}


def known(p: NDArray[np.float64], rng: np.random.Generator) -> Queries:
    return queries_of(p)


def weighted(p: NDArray[np.float64], rng: np.random.Generator) -> Queries:
    """Estimates with log-normal errors of 15% to 35%, as after 8 to 44 effective hits."""
    errors = rng.uniform(0.15, 0.35, p.size)
    found = np.minimum(p * np.exp(errors * rng.standard_normal(p.size) - errors**2 / 2), 1.0)
    ends = [np.minimum(found * np.exp(sign * 1.96 * errors), 1.0) for sign in (-1, 1)]
    return queries_of(found, *ends)


def measure(
    draw: Population,
    observe: Callable[[NDArray[np.float64], np.random.Generator], Queries],
    *,
    evaluated: int = EVALUATED,
) -> dict[int, tuple[float, float]]:
    """Median absolute error of log10 and coverage, by the multiple of the evaluated queries."""
    found: dict[int, list[tuple[float, bool]]] = {10: [], 100: []}
    for repeat in range(REPEATS):
        rng = np.random.default_rng([120, repeat])
        queries = observe(draw(rng, evaluated), rng)
        ns = [factor * evaluated for factor in found]
        forecast = forecast_worst(queries, ns, seed=repeat, replicates=500)
        for one in forecast.forecasts:
            if one.method == "gumbel":
                truth = float(draw(rng, one.queries).max())
                found[one.queries // evaluated].append(judged(one, truth))
    return {factor: summary(rows) for factor, rows in found.items()}


def judged(one: Worst, truth: float) -> tuple[float, bool]:
    return float(np.log10(one.median / truth)), one.interval[0] <= truth <= one.interval[1]


def summary(rows: list[tuple[float, bool]]) -> tuple[float, float]:
    errors, covered = np.array(rows).T
    return float(np.median(np.abs(errors))), float(covered.mean())


@pytest.mark.slow
@pytest.mark.parametrize("observe", [known, weighted])
@pytest.mark.parametrize("name", POPULATIONS)
def test_worst_queries_are_forecast_within_the_bars(
    name: str, observe: Callable[[NDArray[np.float64], np.random.Generator], Queries]
) -> None:
    """At a coverage of .95, 60 repeats fall below .9 with probability .03, 200 with .002."""
    found = measure(POPULATIONS[name], observe)
    print(
        name, observe.__name__, {factor: np.round(one, 3).tolist() for factor, one in found.items()}
    )
    for factor, most in ((10, 0.3), (100, 0.5)):
        error, coverage = found[factor]
        assert error <= most
        assert coverage >= 0.9


@pytest.mark.slow
def test_a_mode_that_was_not_evaluated_is_missed() -> None:
    """The claim fails where it must: 1 in 20,000 queries is of a kind that 1,000 do not show."""

    def draw(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        usual = log_normal(0.5, -12)(rng, n)
        return np.where(rng.random(n) < 1 / 20_000, 0.5, usual)

    assert measure(draw, known)[100][1] < 0.3


@pytest.mark.slow
def test_the_worst_of_the_demo_world_is_forecast() -> None:
    """90 of 900 prompts with exact risks forecast the other 810; splits share their prompts."""
    risks = np.array([one.risk for one in exact_risks(default_prompts(900))])
    rows = []
    for repeat in range(REPEATS):
        rng = np.random.default_rng([121, repeat])
        mixed = rng.permutation(risks)
        queries = weighted(mixed[:90], rng)
        forecast = forecast_worst(queries, [810], seed=repeat, replicates=500)
        rows.append(judged(forecast.forecasts[0], float(mixed[90:].max())))
    error, coverage = summary(rows)
    print("demo", round(error, 3), coverage)
    assert error <= 0.3
    assert coverage >= 0.9
