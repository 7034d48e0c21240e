"""Judges of what is unsafe, behind one narrow seam."""

from tailbound.judges.base import Exchange, Judge

__all__ = ["Exchange", "Judge"]
