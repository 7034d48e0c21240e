"""Figures show the numbers of the results, and ids as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import tailbound
from tailbound import load_run, plots
from tailbound.core import extras
from tailbound.demo.files import default_prompts
from tailbound.errors import MissingExtraError, UsageError
from tailbound.workflows.load import Run


@pytest.fixture(scope="module")
def when(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("plots") / "when"
    tailbound.bound(
        default_prompts(120), out=folder, target="demo", budget=10, train_draws=10, progress=None
    )
    return load_run(folder)


@pytest.fixture(scope="module")
def how(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("plots") / "how"
    prompts = [{"id": "$x_1^2$ \x1b[31m", "prompt": "how do i loot the crown of the king"}]
    prompts += [{"id": one.id, "prompt": one.text} for one in default_prompts(5)]
    tailbound.risk(
        prompts,
        out=folder,
        draws=60,
        proposal="none",
        judge="regex:cannot",
        max_new_tokens=4,
        progress=None,
    )
    return load_run(folder)


def drawn(axes: Axes) -> Axes:
    """The figure can be drawn: nothing in it is read as mathematics."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    return axes


def test_the_survival_curve_is_that_of_the_bound(when: Run) -> None:
    axes = drawn(plots.survival_curve(when))
    assert when.bound is not None
    assert when.bound.curve is not None
    first = axes.lines[0]
    known = when.bound.curve.rates.survival
    assert list(first.get_xdata()) == [one.draws for one in known]
    bounds = axes.lines[1]
    assert when.predictions is not None
    beyond = np.mean(when.predictions["lower_bound"].to_numpy() > 5)
    x, y = np.asarray(bounds.get_xdata()), np.asarray(bounds.get_ydata())
    assert y[np.flatnonzero(x <= 5)[-1]] == pytest.approx(beyond)


def test_every_test_prompt_is_a_point(when: Run) -> None:
    axes = drawn(plots.bounds_against_p_hat(when))
    assert when.predictions is not None
    assert sum(len(line.get_xdata()) for line in axes.lines) == when.predictions.height


def test_coverage_has_its_intervals_and_target(when: Run) -> None:
    axes = drawn(plots.coverage_by_bin(when))
    assert when.evaluation is not None
    assert tuple(axes.lines[0].get_xdata()) == when.evaluation.overall.interval
    assert axes.get_yticklabels()[0].get_text() == "all"
    assert any(list(line.get_xdata()) == [0.9, 0.9] for line in axes.lines)


def test_risks_are_in_order_and_ids_are_no_markup(how: Run) -> None:
    axes = drawn(plots.risk_forest(how))
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert how.risk is not None
    usable = [one for one in how.risk.risks if one.estimate.risk > 0]
    assert len(names) == len(usable) > 1
    assert names[0].startswith(max(usable, key=lambda one: one.estimate.risk).prompt.id[:4])
    assert not any("\x1b" in name for name in names)
    assert drawn(plots.risk_forest(how, most=1)).get_ylim()[0] < 1


def test_a_forecast_is_drawn_on_the_axes_that_are_given() -> None:
    p = np.geomspace(1e-6, 0.05, 60)
    rows = [{"p": one, "low": one, "high": one} for one in p]
    found = tailbound.forecast_deployment(rows, queries=(600, 6_000), progress=None)
    ax = Figure().add_subplot()
    assert plots.forecast(found, ax) is ax
    drawn(ax)
    assert found.worst is not None
    medians = {one.median for one in found.worst.forecasts}
    shown = {y for line in ax.lines for y in np.asarray(line.get_ydata()).tolist()}
    assert medians <= shown


def test_what_is_not_there_is_said(when: Run, how: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for draw, run in (
        (plots.survival_curve, how),
        (plots.bounds_against_p_hat, how),
        (plots.coverage_by_bin, how),
        (plots.risk_forest, when),
        (plots.forecast, when),
    ):
        with pytest.raises(UsageError, match="run tailbound"):
            draw(run)
    monkeypatch.setitem(extras.MODULES, "plot", ("no_such_module",))
    with pytest.raises(MissingExtraError):
        plots.risk_forest(how)


def test_the_folder_named_plots_is_not_written(when: Run) -> None:
    before = sorted(path.name for path in Path(when.folder).iterdir())
    plots.survival_curve(when)
    assert sorted(path.name for path in Path(when.folder).iterdir()) == before
