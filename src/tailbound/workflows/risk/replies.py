"""What the bound by distinct replies needs to know of the draws, and where it holds.

Verdicts must be a function of the reply, and log-probabilities those of the target: of weighted
draws they are scored in this process, of the target's own they came with the draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tailbound.judges import Deterministic, Judge
from tailbound.runs import read
from tailbound.workflows.risk.proposal_mixture import FloatArray

if TYPE_CHECKING:
    import polars as pl

EXACT = ("float32", "float64", "exact")
"""Precisions whose log-probabilities are off by less than the bound by distinct replies allows."""
REMOTE, REMOTE_NOISE = "remote", 0.05
"""The precision of a server, which is not known, and what is taken off its log-probabilities.

In half precision a log-probability changes with what else is in the batch. Assumed, not measured:
by .02 a token (standard deviation), independently. Of a reply of n tokens .05 sqrt(n) nats are
taken off.
"""
REPORTED = ", by the log-probabilities that the server reports"


@dataclass(frozen=True, kw_only=True)
class KnownReplies:
    """By prompt id, in the order of the draws: what tells replies apart, and log p of each.

    `log_probs` (n,) in nats, NaN where it is not known, are those that came with plain draws; empty
    where draws are weighted.
    """

    keys: Mapping[str, Sequence[bytes]]
    log_probs: Mapping[str, FloatArray]


def known_replies(
    folder: Path, stream: str, judge: Judge, *, precision: str, plain: bool
) -> KnownReplies | None:
    """Those of the run in `folder`; None where the bound by distinct replies does not hold.

    `precision` is that of the target's contract, and `plain` says that all draws are its own.
    """
    if not (isinstance(judge, Deterministic) and judge.deterministic):
        return None
    if precision not in EXACT and not (plain and precision == REMOTE):
        return None
    frame = read(folder, stream=stream).sort("prompt_id", "index")
    parts = {
        str(key[0]): part for key, part in frame.partition_by("prompt_id", as_dict=True).items()
    }
    return KnownReplies(
        keys={
            name: [
                _key(ids, text or "") for ids, text in part.select("token_ids", "text").iter_rows()
            ]
            for name, part in parts.items()
        },
        log_probs={name: _log_probs(part, precision) for name, part in parts.items()}
        if plain
        else {},
    )


def _key(token_ids: Sequence[int], text: str) -> bytes:
    """Tells replies apart in a few bytes: by their tokens, else by their text."""
    said = np.array(token_ids, dtype=np.int64).tobytes() if token_ids else text.encode()
    return hashlib.blake2b(said, digest_size=16).digest()


def _log_probs(draws: pl.DataFrame, precision: str) -> FloatArray:
    """log p of each of the target's own draws, at most, NaN where it is not known."""
    found = draws["log_prob"].fill_null(math.nan).to_numpy().astype(np.float64)
    if precision != REMOTE:
        return found
    tokens = draws["tokens"].fill_null(draws["text"].str.len_bytes() + 1)
    return np.asarray(found - REMOTE_NOISE * np.sqrt(tokens.to_numpy()), dtype=np.float64)
