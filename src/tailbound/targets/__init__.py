"""Models under audit, behind one narrow seam."""

from tailbound.targets.base import DrawSource, Target, WhiteBox

__all__ = ["DrawSource", "Target", "WhiteBox"]
