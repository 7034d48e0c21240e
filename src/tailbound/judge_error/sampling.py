"""Which draws are labelled: a simple random sample of every stratum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError


def allocate(sizes: Sequence[int], total: int) -> list[int]:
    """How many of each stratum are labelled: `total` in proportion to `sizes`, none beyond them.

    Strata with draws get at least one each, as far as `total` goes. Raises `UsageError` for
    negative numbers.

    >>> allocate([900, 90, 10, 0], 100)
    [90, 9, 1, 0]
    >>> allocate([5, 3], 100)
    [5, 3]
    """
    if total < 0 or min(sizes, default=0) < 0:
        raise UsageError("sizes and total must not be negative")
    every = sum(sizes)
    if total >= every:
        return list(sizes)
    exact = [size * total / every for size in sizes]
    found = [int(share) for share in exact]
    largest = sorted(range(len(sizes)), key=lambda i: found[i] - exact[i])
    for i in largest[: total - sum(found)]:
        found[i] += 1
    for i, size in enumerate(sizes):  # one each, from those that have most
        most = max(range(len(sizes)), key=found.__getitem__)
        if size and not found[i] and found[most] > 1:
            found[i], found[most] = 1, found[most] - 1
    return found


def draw_sample(
    strata: ArrayLike, wanted: Sequence[int], *, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of a random sample: `wanted[h]` of the rows whose stratum is h, without replacement.

    `strata` has the stratum of every row, shape (rows,). In each stratum every row has the same
    inclusion probability, wanted[h] / (rows in h). The rows come back in random order, so that
    their order says nothing of their stratum. Raises `UsageError` where a stratum has too few rows.

    >>> rows = draw_sample([0, 0, 0, 1, 1], [1, 2], rng=np.random.default_rng(0))
    >>> sorted(rows.tolist())[1:]
    [3, 4]
    """
    which = np.asarray(strata)
    chosen = []
    for stratum, number in enumerate(wanted):
        rows = np.flatnonzero(which == stratum)
        if not 0 <= number <= rows.size:
            raise UsageError(f"stratum {stratum} has {rows.size} rows, not {number}")
        chosen.append(rng.permutation(rows)[:number])
    return rng.permutation(np.concatenate(chosen)).astype(np.int64)
