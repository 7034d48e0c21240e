"""The audit loop: ask for draws until each prompt's stopping rule holds, and keep every one."""

from tailbound.audit.audit import Audit, FixedCounts, Followed, Following
from tailbound.audit.progress import Progress, Reporter, silent
from tailbound.audit.schedule import Schedule, Script

__all__ = [
    "Audit",
    "FixedCounts",
    "Followed",
    "Following",
    "Progress",
    "Reporter",
    "Schedule",
    "Script",
    "silent",
]
