"""The forecast of a run, made again from its risks or its summary."""

from __future__ import annotations

from dataclasses import asdict, replace

from tailbound.runs.layout import FORECAST, RISK, SUMMARY
from tailbound.workflows.forecast.command import forecast_of
from tailbound.workflows.forecast.reading import estimates_of, weights_of
from tailbound.workflows.forecast.result import read_forecast
from tailbound.workflows.forecast.settings import ForecastOptions
from tailbound.workflows.verify.compare import differences
from tailbound.workflows.verify.findings import Findings


def check_forecast(findings: Findings) -> None:
    """`forecast.json`, where there is one, under the options that it states."""
    folder = findings.folder
    if not (folder / FORECAST).is_file():
        return
    with findings.recomputing(folder, FORECAST):
        held = read_forecast(folder)
        assert held is not None
        if held.weights.startswith("file "):
            findings.not_recomputed(FORECAST, "its weights are in a file that is not kept")
            return
        table = estimates_of(folder, confidence=None)
        if table.stale is not None and table.stale.known:  # since the forecast was made
            table = replace(table, stale=None)
        asked = ForecastOptions(**asdict(held.made_with))
        found = forecast_of(table, weights_of(table, asked.weights), asked)
        against = RISK if (folder / RISK).is_file() else SUMMARY
        recorded, again = held.to_dict(), found.to_dict()
        again["source"] = recorded["source"]  # the name of the folder may be another by now
        unequal = differences(recorded, again, tolerance=findings.tolerance, place="")
        findings.compare(FORECAST, list(unequal), against=against)
