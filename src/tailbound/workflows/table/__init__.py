"""A bound from a table of times that were observed elsewhere: no model, no judge.

Names are looked up when they are asked for: the options of the command line are declared here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.table.command import table_command
    from tailbound.workflows.table.prediction import predict_table
    from tailbound.workflows.table.reading import TableSource, TimeTable, table_of

_HOMES = {
    "TableSource": "reading",
    "TimeTable": "reading",
    "predict_table": "prediction",
    "table_command": "command",
    "table_of": "reading",
}

__all__ = ["TableSource", "TimeTable", "predict_table", "table_command", "table_of"]

__getattr__ = lazy(__name__, _HOMES)
