"""The cache of keys and values by the name that the installed transformers uses.

transformers 5.24 renamed the argument and the output field `past_key_values` to `cache`; the old
name warns from then on and is gone in 5.40. Code of a checkpoint's own may still use the old one.
"""

from __future__ import annotations

import inspect
from typing import Any

NEW, OLD = "cache", "past_key_values"


def cache_argument(model: Any) -> str:
    """The name under which `model.forward` takes a cache.

    Where a forward names neither (a wrapper that takes any keywords), the model that a PEFT wrapper
    holds and the class are asked as well; where nothing says, it is the new name.
    """
    forwards = [model.forward, type(model).forward]
    unwrap = getattr(model, "get_base_model", None)
    if callable(unwrap):
        forwards.append(unwrap().forward)
    for forward in forwards:
        parameters = inspect.signature(forward).parameters
        for name in (NEW, OLD):
            if name in parameters:
                return name
    return NEW


def cache_of(output: Any) -> Any:
    """The cache that a model's `output` carries, or None."""
    for name in (NEW, OLD):
        if name in output:
            return output[name]
    return None
