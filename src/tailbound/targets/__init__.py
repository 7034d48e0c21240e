"""Models under audit, behind one narrow seam."""

from tailbound.targets.base import DrawSource, FeatureSource, Target, WhiteBox

__all__ = ["DrawSource", "FeatureSource", "Target", "WhiteBox"]
