"""The target `inspect-model:PROVIDER/NAME`: a model through Inspect's providers.

asking      one response of a model, as the parts that a draw is made of
probe       what the model honours, found out before it is trusted
target      the `Target`
"""

from tailbound.targets.inspect_model.target import InspectModelTarget, load, provider

__all__ = ["InspectModelTarget", "load", "provider"]
