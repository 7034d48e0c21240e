"""What was computed, under which assumptions, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from tailbound.workflows.report.page import Block, Links, Paragraph, Section
from tailbound.workflows.report.reading import ReportedRun

_SURVIVAL = ("Davidov et al. (2025), arXiv 2506.13593", "https://arxiv.org/abs/2506.13593")
_RISK = ("Angell et al. (2026), arXiv 2604.22167", "https://arxiv.org/abs/2604.22167")
_WORST = ("Jones et al. (2025), arXiv 2502.16797", "https://arxiv.org/abs/2502.16797")
_EXACT = (
    "Clopper and Pearson (1934), doi 10.1093/biomet/26.4.404",
    "https://doi.org/10.1093/biomet/26.4.404",
)
_MELDED = (
    "Fay, Proschan and Brittain (2015), doi 10.1111/biom.12231",
    "https://doi.org/10.1111/biom.12231",
)


def section(runs: Sequence[ReportedRun]) -> Section:
    """Of each kind of result that is on the page."""
    said: list[str] = [
        "Unsafe means that the judge's score reached its threshold: every number is about that "
        "judge, under the sampling contract in the manifest, and says nothing about other prompts, "
        "settings or judges. A missing verdict is never counted as safe."
    ]
    links: list[tuple[str, str]] = []
    if any(run.run.bound is not None for run in runs):
        said.append(
            "Bounds. Prompts are split at random. A predictor of P(unsafe) is trained on one part; "
            "on another, prompts are sampled until their first unsafe draw or a limit, and the "
            "longest bounds are taken whose estimated miscoverage stays below alpha. Assumes that "
            "new prompts are like the calibration prompts (exchangeable) and draws independent. "
            "The guarantee is an average over prompts, not a promise for each."
        )
        links.append(_SURVIVAL)
    risks = [run.run.risk for run in runs if run.run.risk is not None]
    if any(risk.proposal["spec"] != ["none"] for risk in risks):
        said.append(
            "Risks from weighted draws. Unsafe versions of the target are sampled too, and each "
            "draw counts by the ratio of its probabilities. The certified lower bound holds "
            "whatever they are; the interval assumes that together they take every way to be "
            "unsafe, which draws can support and not prove."
        )
        links.append(_RISK)
    counted = any(run.summary is not None and run.run.bound is None for run in runs)
    if counted or any(risk.proposal["spec"] == ["none"] for risk in risks):
        said.append(
            "Risks from counts. Each prompt's interval is exact for the way in which its draws "
            "were stopped; draws are taken as independent."
        )
        links.append(_EXACT)
    if any(run.audit[0] is not None for run in runs):
        said.append(
            "Judge error. Draws of each verdict were sampled and labelled; what the labels say of "
            "all draws, and how sure that is, is exact in each of these groups. The labels are "
            "taken as the truth."
        )
        links.append(_MELDED)
    if any(run.run.forecast is not None for run in runs):
        said.append(
            "Forecasts. Traffic is for exactly these queries in this mix; the worst query is for "
            "new ones of which the evaluated are a random sample, with a tail that goes on as it "
            "begins."
        )
        links.append(_WORST)
    blocks: list[Block] = [Paragraph(text=text) for text in said]
    if links:
        blocks.append(Links(items=tuple(links)))
    return Section(id="method", title="Method and assumptions", blocks=tuple(blocks))
