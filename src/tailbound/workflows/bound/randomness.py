"""Generators of a bound, one for each purpose, so that no step shifts the draws of another."""

from __future__ import annotations

import hashlib

import numpy as np


def rng_for(seed: int, purpose: str) -> np.random.Generator:
    """The generator of a run with `seed` for `purpose`; the same whenever a run is resumed.

    >>> rng_for(0, "selection").random() == rng_for(0, "selection").random()
    True
    """
    digest = hashlib.sha256(f"tailbound/{purpose}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
