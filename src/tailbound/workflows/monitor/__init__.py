"""Outcomes of production against what a run audited.

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.monitor.command import monitor_command
    from tailbound.workflows.monitor.state import MonitorResult

__all__ = ["MonitorResult", "monitor_command"]

__getattr__ = lazy(__name__, {"MonitorResult": "state", "monitor_command": "command"})
