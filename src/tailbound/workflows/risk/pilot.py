"""The setting of `mix-switch`, chosen as published from draws of prompts that are then left out.

A tenth of the prompts, drawn at random, give draws whose settings are random over the grid; the
cross-entropy method chooses from those that were unsafe (`choose` in
`tailbound.importance_sampling`). The draws stand in the ledger as stream "pilot", the choice in
DIR/choice.json.

Source: Angell et al., arXiv 2604.22167 (choice of the proposal).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailbound.audit import Audit
from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.importance_sampling import (
    Choice,
    Grid,
    MixSwitch,
    choose,
    published_grid,
)
from tailbound.runs import read
from tailbound.runs.layout import CHOICE
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.targets.capabilities import ProposalEngine
from tailbound.workflows.risk.proposal_mixture import Segments, mixture_segments
from tailbound.workflows.risk.scores import table_of

SHARE = 0.1
STREAM = "pilot"


def tuning_prompts(prompts: Sequence[Prompt], folder: Path, *, seed: int) -> tuple[str, ...]:
    """Ids of a random tenth of the prompts, at least one; those of the choice on record, if any.

    What tuned the setting stays out of the evaluation, also when later calls bring more prompts.
    """
    held = recorded_choice(folder)
    if held is not None:
        return tuple(held["prompts"])
    rng = np.random.default_rng([seed, 0x74756E65])
    count = max(1, round(SHARE * len(prompts)))
    chosen = sorted(rng.permutation(len(prompts))[:count].tolist())
    return tuple(prompts[number].id for number in chosen)


def recorded_choice(folder: Path) -> dict[str, Any] | None:
    """The choice that is on record in the run folder."""
    path = folder / CHOICE
    if not path.is_file():
        return None
    document = read_json(path)
    with understood(path):
        MixSwitch(**document["setting"]), document["prompts"]
    return document


def grid_for(max_new_tokens: int, *, steerable: bool) -> Grid:
    """The published grid; one intensity where the proposal has no others."""
    grid = published_grid(max_new_tokens)
    if steerable:
        return grid
    return Grid(intensities=(1.0,), mixing=grid.mixing, switches=grid.switches)


@dataclass(frozen=True, eq=False)
class _RandomSettings:
    """A `Script`: every draw under a setting of its own, a function of its name alone."""

    grid: Grid
    variants: dict[float, int]
    seed: int

    def setting(self, prompt_id: str, index: int) -> tuple[MixSwitch, np.random.Generator]:
        name = json.dumps([self.seed, prompt_id, index, "pilot"]).encode()
        rng = np.random.default_rng(list(name))
        return self.grid.draw(1, rng=rng)[0], rng

    def segments(self, prompt_id: str, index: int) -> Segments:
        main, coins = self.setting(prompt_id, index)
        number = self.variants[main.intensity]
        return mixture_segments(number, main.mixing, 0, main.switch, coins)

    def proposal(self, prompt_id: str, index: int) -> str | None:
        main, _ = self.setting(prompt_id, index)
        return f"mix-switch {main.intensity:g} a={main.mixing:g} t<{main.switch}"


def choose_setting(
    audit: Audit,
    engine: ProposalEngine,
    variants: dict[float, int],
    prompts: Sequence[Prompt],
    grid: Grid,
    *,
    draws: int,
    threshold: float,
    folder: Path,
    seed: int,
) -> tuple[MixSwitch, dict[str, Any]]:
    """The setting for all other prompts, and how it was found; read back where it is on record."""
    held = recorded_choice(folder)
    if held is not None:
        return MixSwitch(**held["setting"]), held
    script = _RandomSettings(grid, variants, seed)
    audit.sample_proposals(prompts, np.full(len(prompts), draws), script, stream=STREAM)
    with step("scoring pilot draws", stage="pilot scoring"):
        choice = _choice(engine, variants, script, prompts, grid, threshold, folder)
    document = {
        "schema": 1,
        "setting": asdict(choice.proposal),
        "reason": choice.reason,
        "fell_back": choice.fell_back,
        "loss": None if np.isnan(choice.loss) else choice.loss,
        "prompts": [prompt.id for prompt in prompts],
    }
    write_json(folder / CHOICE, document)
    return choice.proposal, document


def _choice(
    engine: ProposalEngine,
    variants: dict[float, int],
    script: _RandomSettings,
    prompts: Sequence[Prompt],
    grid: Grid,
    threshold: float,
    folder: Path,
) -> Choice:
    frame = read(folder, stream=STREAM).select("prompt_id", "index", "token_ids", "score")
    weights: list[float] = []
    harm: list[float] = []
    tables: list[np.ndarray[Any, Any]] = []
    for prompt in prompts:
        rows = frame.filter(frame["prompt_id"] == prompt.id).sort("index").rows()
        for row, tokens in zip(rows, engine.score(prompt, [r[2] for r in rows]), strict=True):
            setting, _ = script.setting(prompt.id, row[1])
            hot = tokens[variants[setting.intensity]][None]
            log_q = setting.log_density(tokens[:1], hot)[0]
            weights.append(float(tokens[0].sum() - log_q))
            harm.append(0.0 if row[3] is None else float(row[3] >= threshold))
            tables.append(tokens)
    table, lengths = table_of(tables)
    fallback = MixSwitch(max(grid.intensities), 0.5, max(grid.switches))
    return choose(
        grid,
        weights,
        harm,
        table[0],
        [table[variants[intensity]] for intensity in grid.intensities],
        lengths=lengths,
        fallback=fallback,
    )
