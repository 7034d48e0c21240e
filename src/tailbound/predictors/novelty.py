"""Do new prompts look like those that the bound was calibrated on?

The guarantee is for prompts from where the calibration prompts came. Feature space shows the
plain violations: a prompt is unlike them where it lies further from its neighbours than all but a
small share of calibration prompts do.

Half of the calibration prompts span the space (principal components, whitened, and the distance
from their span as one more coordinate) and are the neighbours; the distances of the other half
say what is usual. So p-values are conformal: for prompts like the calibration prompts,
P(p-value <= u) <= u. A prompt that looks alike can still be unlike in ways features do not show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.predictors.arrays import load_arrays, save_arrays
from tailbound.predictors.head import check_features
from tailbound.predictors.likelihood import Array
from tailbound.predictors.ridge import principal_directions, standardisation
from tailbound.storage.documents import understood

SCHEMA_VERSION = 1

COMPONENTS = 16
NEIGHBOURS = 5
MAX_PROMPTS = 4000
"""Calibration prompts that are kept at most; more add nothing to the answer."""

LEVEL = 0.01


@dataclass(frozen=True, eq=False, kw_only=True)
class NoveltyDetector:
    """The neighbourhood of the calibration prompts in feature space.

    Features are mapped to `(x - mean) @ rotation`, each coordinate of variance 1 over the
    neighbours, and to the length of what is left of `(x - mean) * inverse_scale` beside the span
    of `directions`, divided by `residual_scale`. `mean` and `inverse_scale` have shape
    (dimension,), `directions` (dimension, components), `spread` (components,), `neighbours`
    (m, components + 1), `usual` (m',): the sorted distances of the other half.
    """

    mean: Array
    inverse_scale: Array
    directions: Array
    spread: Array
    residual_scale: float
    neighbours: Array
    usual: Array

    @classmethod
    def fit(cls, features: ArrayLike) -> NoveltyDetector:
        """Learn from the calibration prompts, features of shape (prompts, dimension).

        Raises `UsageError` for fewer than four prompts.
        """
        x = check_features(features)
        if len(x) < 4:
            raise UsageError(f"novelty needs at least 4 calibration prompts, not {len(x)}")
        if len(x) > MAX_PROMPTS:
            x = x[np.linspace(0, len(x) - 1, MAX_PROMPTS).astype(np.int64)]
        half, other = x[::2], x[1::2]
        mean, inverse_scale = standardisation(half)
        standard = (half - mean) * inverse_scale
        directions = principal_directions(standard, COMPONENTS)
        spread = np.sqrt(np.maximum(np.square(standard @ directions).mean(axis=0), 1e-24))
        rest = _rest(standard, directions)
        bare = cls(
            mean=mean,
            inverse_scale=inverse_scale,
            directions=directions,
            spread=spread,
            residual_scale=max(math.sqrt(float(np.square(rest).mean())), 1e-12),
            neighbours=np.empty((0, directions.shape[1] + 1)),
            usual=np.empty(0),
        )
        spanned = replace(bare, neighbours=bare._coordinates(half))
        return replace(spanned, usual=np.sort(spanned._distances(other)))

    def p_values(self, features: ArrayLike) -> Array:
        """Share of calibration prompts that lie as far out, shape (prompts,), in (0, 1].

        Raises `UsageError` where the dimension differs or a feature is not finite.
        """
        x = check_features(features)
        if x.shape[1] != len(self.mean):
            raise UsageError(
                f"the calibration prompts have {len(self.mean)} features, and these have "
                f"{x.shape[1]}: use the target of the run"
            )
        as_far = len(self.usual) - np.searchsorted(self.usual, self._distances(x), side="left")
        return np.asarray((1.0 + as_far) / (1.0 + len(self.usual)), dtype=np.float64)

    def unlike(self, features: ArrayLike, *, level: float = LEVEL) -> NDArray[np.bool_]:
        """Which prompts look unlike the calibration prompts, shape (prompts,).

        At most a share `level` of prompts like them does (with fewer than 2 / level calibration
        prompts: 2 / prompts, the smallest p-value there is).
        """
        smallest = 1.0 / (1.0 + len(self.usual))
        return self.p_values(features) <= max(level, smallest)

    def save(self, path: str | PathLike[str]) -> None:
        """Write an `.npz` file (arrays and JSON, nothing pickled), atomically."""
        arrays = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "residual_scale"
        }
        document = {"schema": SCHEMA_VERSION, "residual_scale": self.residual_scale}
        save_arrays(Path(path), document, **arrays)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> NoveltyDetector:
        """Read what `save` wrote.

        Raises as `load_arrays` does, and `LedgerError` where shapes or numbers cannot be its own.
        """
        document, arrays = load_arrays(Path(path), SCHEMA_VERSION, "a novelty file")
        with understood(Path(path)):
            found = cls(residual_scale=float(document["residual_scale"]), **arrays)
            found._check()
        return found

    def _check(self) -> None:
        """Raise `ValueError` where arrays are of other shapes than `fit` gives, or not finite."""
        dimension, components = self.directions.shape
        for name, shape in (
            ("mean", (dimension,)),
            ("inverse_scale", (dimension,)),
            ("directions", (dimension, components)),
            ("spread", (components,)),
            ("neighbours", (len(self.neighbours), components + 1)),
            ("usual", (len(self.usual),)),
        ):
            values = getattr(self, name)
            if values.shape != shape or values.dtype != np.float64 or not np.isfinite(values).all():
                raise ValueError(f"{name} is not an array of finite numbers of shape {shape}")
        if not (0 < self.residual_scale < math.inf and len(self.neighbours) and len(self.usual)):
            raise ValueError("a scale or a number of neighbours out of range")

    def _coordinates(self, x: Array) -> Array:
        standard = (x - self.mean) * self.inverse_scale
        rest = _rest(standard, self.directions) / self.residual_scale
        return np.column_stack([standard @ self.directions / self.spread, rest])

    def _distances(self, x: Array) -> Array:
        """Distance to the `NEIGHBOURS`-th neighbour, shape (prompts,)."""
        from scipy.spatial import cKDTree

        nearest = min(NEIGHBOURS, len(self.neighbours))
        distances, _ = cKDTree(self.neighbours).query(self._coordinates(x), k=[nearest])
        return np.asarray(distances[:, 0], dtype=np.float64)


def _rest(standard: Array, directions: Array) -> Array:
    """Length of the part outside of the span of `directions`, shape (prompts,)."""
    outside = standard - (standard @ directions) @ directions.T
    length: Array = np.sqrt(np.square(outside).sum(axis=1))
    return length
