r"""What unsafe replies have in common: tokens that they say more often than chance.

With draws y_i, weights w_i and harm h_i of complete batches, the unsafe replies of the target
itself are those draws weighted by w_i h_i. A reply is read up to its *turning point*, the token
that the target was least likely to say there: what follows, the target says by itself once it has
turned, and the same tokens said there would hide how rare they were at the turn. Over the places
that are read let o_v be the weighted number of times that token v was said, and e_v how often the
target would have said it there. The variant

    q(v | y_<t)  proportional to  p(v | y_<t) (1 + o_v / e_v)

says, beside what the target says, the tokens of unsafe replies about as often as they do: half the
target, half a step of the cross-entropy method whose model is one factor per token. The same from
the first tokens alone is an *opening*: many routes part at the first token, which is one place
among many in the sums above. Both depend on earlier batches alone, so weights, unbiasedness and
bounds of the next batch are untouched; what they were learned from decides only how noisy that
batch is.

Source: Rubinstein and Kroese (2004), The Cross-Entropy Method, chapter 2 (fitting a proposal by
weighted likelihood); the factor per token, the turning point and the mixture with the target are
ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tailbound.importance_sampling.weights import FloatArray, check_log_weights

#: Unsafe replies of one prompt that are learned from: those with the largest w h.
MOST_REPLIES = 64
#: What an adapter is trained on: the power of w h that counts, and the largest share, in means.
TEMPERING, LARGEST_SHARE = 0.5, 4.0
_LEAST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """The unsafe replies of one prompt that are learned from.

    `places` (m,) are positions among the draws, `weights` (m,) sum to the effective number of hits
    among them.
    """

    places: tuple[int, ...]
    weights: FloatArray


def choose_replies(
    log_weights: ArrayLike, harm: ArrayLike, *, most: int = MOST_REPLIES
) -> Lesson | None:
    """The draws to learn from, None without an unsafe one that the target can say.

    `log_weights` and `harm` (n,), NaN counted as 0: the `most` draws of the largest w h.

    >>> lesson = choose_replies([0.0, 0.0, 0.0], [1, 0, 1])
    >>> lesson.places, lesson.weights.tolist()
    ((0, 2), [1.0, 1.0])
    """
    log_w = check_log_weights(log_weights)
    h = np.nan_to_num(np.asarray(harm, dtype=np.float64), nan=0.0)
    with np.errstate(divide="ignore"):
        terms = log_w + np.log(h)
    order = np.argsort(-terms, kind="stable")[:most]
    order = order[terms[order] > -np.inf]
    if not order.size:
        return None
    shares = np.exp(terms[order] - terms[order].max())
    effective = shares.sum() ** 2 / (shares**2).sum()
    return Lesson(
        places=tuple(order.tolist()),
        weights=np.asarray(shares / shares.sum() * effective, dtype=np.float64),
    )


def until_turn(
    responses: Sequence[Sequence[int]], log_probs: Sequence[ArrayLike]
) -> list[tuple[int, ...]]:
    """Each response up to its least likely token, the first of several, that token included.

    `log_probs` hold the target's log-probability of every token of each, in nats.

    >>> until_turn([(7, 3, 5), (3,)], [[-0.1, -9.0, -2.0], [-1.0]])
    [(7, 3), (3,)]
    """
    return [
        tuple(response[: int(np.argmin(np.asarray(given, dtype=np.float64))) + 1])
        for response, given in zip(responses, log_probs, strict=True)
    ]


def count_tokens(
    responses: Sequence[Sequence[int]], weights: Sequence[float]
) -> tuple[list[int], FloatArray]:
    """The distinct tokens of `responses`, ascending, and the weighted number of each, (m,).

    >>> ids, counts = count_tokens([(7, 3), (3,)], [1.0, 0.5])
    >>> ids, counts.tolist()
    ([3, 7], [1.5, 1.0])
    """
    totals: dict[int, float] = {}
    for response, weight in zip(responses, weights, strict=True):
        for token in response:
            totals[token] = totals.get(token, 0.0) + float(weight)
    ids = sorted(totals)
    return ids, np.array([totals[token] for token in ids], dtype=np.float64)


def added_logits(observed: ArrayLike, expected: ArrayLike) -> FloatArray:
    """log(1 + o_v / e_v) of tokens with observed and expected numbers (m,), >= 0.

    >>> added_logits([1.0, 0.0], [0.5, 2.0]).round(3).tolist()
    [1.099, 0.0]
    """
    o = np.asarray(observed, dtype=np.float64)
    e = np.maximum(np.asarray(expected, dtype=np.float64), _LEAST)
    return np.asarray(np.log1p(o / e), dtype=np.float64)


def training_shares(log_terms: ArrayLike) -> FloatArray:
    r"""How much each distinct unsafe reply of one prompt counts in training, (m,), summing to 1.

    `log_terms` (m,) are logs of its summed w h. What the cross-entropy method asks for is w h
    itself; its square root, cut at 4 times the mean, keeps a few draws of large weight from being
    all that is learned. An adapter that leans to the more frequent replies is a proposal like any
    other: weights by its exact density are right whatever it was trained on.

    Source: Ionides (2008), Truncated Importance Sampling, for the cut; the power is ours.

    >>> training_shares([0.0, 0.0]).tolist()
    [0.5, 0.5]
    >>> training_shares([0.0] + [-12.0] * 9).round(3).tolist()[:2]
    [0.948, 0.006]
    """
    terms = np.asarray(log_terms, dtype=np.float64)
    shares = np.exp(TEMPERING * (terms - terms.max()))
    shares = np.minimum(shares / shares.sum(), LARGEST_SHARE / shares.size)
    return np.asarray(shares / shares.sum(), dtype=np.float64)
