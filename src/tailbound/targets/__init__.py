"""Models under audit, behind one narrow seam."""

from tailbound.targets.base import DrawSource, Target
from tailbound.targets.capabilities import FeatureSource, WhiteBox

__all__ = ["DrawSource", "FeatureSource", "Target", "WhiteBox"]
