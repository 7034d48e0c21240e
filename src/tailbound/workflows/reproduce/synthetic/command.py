"""The synthetic study from its options to its folder: cells, `study.json`, README.md, figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tailbound.core.extras import require
from tailbound.core.interrupts import keeping
from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.errors import LedgerError
from tailbound.runs.manifest import versions
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_atomically, write_json
from tailbound.storage.plain import from_plain
from tailbound.workflows.reproduce.folder import (
    CELLS,
    PLAN,
    README,
    STUDY,
    check_plan,
    check_study_folder,
)
from tailbound.workflows.reproduce.synthetic.network import check_network
from tailbound.workflows.reproduce.synthetic.results import (
    STUDY_NAME,
    SyntheticCell,
    SyntheticResult,
)
from tailbound.workflows.reproduce.synthetic.settings import Cell, SyntheticStudy
from tailbound.workflows.reproduce.synthetic.trial import TRAIN_DRAWS, Trial

SCHEMA = 1
_CURE = "remove it, and run the same command again to make it again"


def run_synthetic(out: Path, given: Mapping[str, Any]) -> SyntheticResult:
    """Everything that `tailbound reproduce synthetic` does; `given` are its options by name.

    Cells that are complete are read back, so the same command continues an interrupted study, and
    more budgets, repeats or designs extend one. Raises `UsageError` before anything is computed,
    and `ContractMismatchError` where the folder holds another study.
    """
    require("a study, which draws figures,", "plot")
    settings = make(SyntheticStudy, given)
    check_network()
    check_study_folder(out)
    plan = _plan(settings)
    check_plan(out, plan)
    make_folder(out / CELLS)
    with keeping(out):
        write_json(out / PLAN, plan)
        held: list[SyntheticCell] = []
        with step("repeats of the study", total=settings.rounds, unit="repeats") as now:
            for repeat in range(1, settings.rounds + 1):
                held += _repeat(out, settings, repeat)
                now.advance()
        found = {(one.design, one.guarantee, one.budget, one.repeat): one for one in held}
        result = SyntheticResult.of(
            (
                found[method.design, method.guarantee, budget, repeat]
                for method in settings.methods
                for budget in settings.budgets
                for repeat in range(1, settings.rounds + 1)
            ),
            options=_options(settings),
            versions=versions("matplotlib"),
        )
        _write(out, result)
    return result


def _repeat(out: Path, settings: SyntheticStudy, repeat: int) -> list[SyntheticCell]:
    """The cells of one repeat, made where they are not on record.

    Its population and predictor are made again from its seed only where a cell is missing.
    """
    trial: Trial | None = None
    cells = []
    for cell in settings.cells(repeat):
        path = out / CELLS / f"{cell.name}.json"
        found = _read(path, cell)
        if found is None:
            if trial is None:
                trial = Trial.make(settings.size, seed=settings.seed, repeat=repeat)
            found = trial.calibrate(cell, alpha=settings.alpha, seed=settings.seed)
            write_json(path, {"schema": SCHEMA, **asdict(found)})
        cells.append(found)
    return cells


def _read(path: Path, cell: Cell) -> SyntheticCell | None:
    """The cell on record; None where there is none, `LedgerError` where it is damaged."""
    try:
        document = read_json(path, cure=_CURE)
    except FileNotFoundError:
        return None
    with understood(path, cure=_CURE):
        if document.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        found: SyntheticCell = from_plain(SyntheticCell, document)
    due = (cell.method.design, cell.method.guarantee, cell.budget, cell.repeat)
    if (found.design, found.guarantee, found.budget, found.repeat) != due:
        raise LedgerError(f"{path} holds another cell than its name says: {_CURE}")
    return found


def _plan(settings: SyntheticStudy) -> dict[str, Any]:
    """What may not change between two calls in the same folder."""
    return {
        "schema": SCHEMA,
        "study": STUDY_NAME,
        "seed": settings.seed,
        "alpha": settings.alpha,
        "prompts_count": settings.size,
        "train_draws": TRAIN_DRAWS,
    }


def _options(settings: SyntheticStudy) -> dict[str, Any]:
    """The options of the study, resolved, as plain values."""
    return {
        "budgets": list(settings.budgets),
        "repeats": settings.rounds,
        "prompts_count": settings.size,
        "train_draws": TRAIN_DRAWS,
        "alpha": settings.alpha,
        "designs": list(dict.fromkeys(method.design for method in settings.methods)),
        "seed": settings.seed,
    }


def _write(out: Path, result: SyntheticResult) -> None:
    from tailbound.workflows.reproduce.synthetic.figures import figures_of
    from tailbound.workflows.reproduce.synthetic.readme import readme

    with step("drawing the figures"):
        write_json(out / STUDY, result.to_dict())
        for name, figure in figures_of(result).items():
            write_atomically(out / name, figure)
        write_atomically(out / README, readme(result))
