"""The random numbers of a draw: so many uniforms per step, a pure function of the draw's name.

Draw (seed, prompt id, stream, index) owns the Philox-4x64-10 generator (Salmon et al. 2011) whose
128-bit key is the BLAKE2b digest of that name; step s takes its 64-bit words s n, ..., s n + n - 1,
where n, a multiple of 4, depends on the size of the vocabulary alone. Nothing depends on the batch,
the order or the worker.
"""

from __future__ import annotations

import hashlib
import json
import threading

import numpy as np
from numpy.typing import NDArray

WORDS_PER_COUNTER = 4
"""64-bit words that Philox makes from one value of its counter."""


def draw_key(seed: int, prompt_id: str, stream: str, index: int) -> int:
    """The 128-bit key of one draw: its random numbers depend on this name and on nothing else."""
    name = json.dumps([seed, prompt_id, stream, index]).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")


def uniforms(key: int, start: int, count: int) -> NDArray[np.float64]:
    """The random numbers start, ..., start + count - 1 of a draw, uniform on [0, 1).

    Shape (count,). `start` must be a multiple of 4, the words made from one counter.
    """
    if start % WORDS_PER_COUNTER:
        raise ValueError(f"start must be a multiple of {WORDS_PER_COUNTER}, not {start}")
    words = _generator(key, start // WORDS_PER_COUNTER).random_raw(count)
    # 53 bits, as many as a double holds: every value is exact and below 1
    return np.ldexp((words >> np.uint64(11)).astype(np.float64), -53)


def gumbels(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard Gumbel numbers, -log(-log u), from uniforms on [0, 1) with 53 bits.

    Of the same shape; all lie between -3.7 and 36.8, the smallest and largest that 53 bits give.
    """
    made = np.maximum(uniform, 2.0**-54)  # the middle of the first cell, in place of 0
    np.log(made, out=made)
    np.negative(made, out=made)
    np.log(made, out=made)
    return np.negative(made, out=made)


_local = threading.local()


def _generator(key: int, counter: int) -> np.random.Philox:
    """`np.random.Philox(key=key, counter=counter)`, four times as fast: one object, set anew."""
    if not hasattr(_local, "generator"):
        _local.generator = np.random.Philox(key=0)
        _local.state = _local.generator.state
    state = _local.state
    state["state"]["key"][:] = key & _WORD, key >> 64
    state["state"]["counter"][:] = counter, 0, 0, 0
    _local.generator.state = state
    found: np.random.Philox = _local.generator
    return found


_WORD = (1 << 64) - 1
