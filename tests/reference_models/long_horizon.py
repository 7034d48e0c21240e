r"""A finite-state language model with replies of 80 tokens, exact by summing over paths.

A reply refuses until, at one of a few decision points (the first token, and starts of sentences),
it gives in; it must then continue for `fragile` tokens, at each of which it may fall back into a
refusal for good; after these it is unsafe. Besides, every token carries one of two wordings, hot or
cold, which do not matter, except that steering changes their odds: noise in the weights of long
windows.

An unsafe path is a decision point j and a wording of every token. p / q depends on the wordings by
the number of hot ones in each of the segments between the ends of windows, so the sum over all
paths is a sum over j and these numbers: exact, for any mixture of windows and intensities. For a
mixture at every token the second moment is a product over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binom

from tailbound.importance_sampling import Ladder
from tailbound.importance_sampling.cross_entropy import Grid


@dataclass(frozen=True)
class LongHorizonModel:
    """One prompt: decision points, odds of giving in and of continuing, and what steering does.

    At intensity c, steering adds c `flip_lift[j]` to the logit of giving in at decision point j,
    c `hold_lift` to that of continuing, c `wording_lift` to that of a hot wording (target: 1/2).
    """

    length: int
    points: np.ndarray
    flip: np.ndarray
    hold: float
    fragile: int
    flip_lift: np.ndarray
    hold_lift: float
    wording_lift: float

    @property
    def path_probabilities(self) -> np.ndarray:
        """P(gives in first at point j, and continues) under the target, shape (J,)."""
        before = np.concatenate([[1.0], np.cumprod(1 - self.flip)[:-1]])
        return np.asarray(before * self.flip * self.hold**self.fragile)

    @property
    def risk(self) -> float:
        return float(self.path_probabilities.sum())

    def path_ratios(self, intensity: float) -> np.ndarray:
        """s / p of every decision on each unsafe path, wordings aside, shape (J, length)."""
        steered = expit(logit(self.flip) + intensity * self.flip_lift)
        on = expit(logit(self.hold) + intensity * self.hold_lift) / self.hold
        ratios = np.ones((self.points.size, self.length))
        for j, point in enumerate(self.points):
            ratios[j, self.points[:j]] = ((1 - steered) / (1 - self.flip))[:j]
            ratios[j, point] = steered[j] / self.flip[j]
            ratios[j, point + 1 : point + 1 + self.fragile] = on
        return ratios

    def wording_ratios(self, intensity: float) -> np.ndarray:
        """s / p of a cold and of a hot wording, shape (2,)."""
        hot = expit(intensity * self.wording_lift)
        return np.array([2 * (1 - hot), 2 * hot])

    def unsafe_replies(
        self, intensities: tuple[float, ...], draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-probs of the tokens of unsafe replies of the target: (n, length), (I, n, length)."""
        p = self.path_probabilities
        j = rng.choice(p.size, p=p / p.sum(), size=draws)
        hot = rng.random((draws, self.length)) < 0.5
        decisions = np.ones((p.size, self.length))
        for path, point in enumerate(self.points):
            decisions[path, self.points[:path]] = 1 - self.flip[:path]
            decisions[path, point] = self.flip[path]
            decisions[path, point + 1 : point + 1 + self.fragile] = self.hold
        unsteered = np.log(decisions / 2)[j]
        steered = [
            unsteered
            + np.log(self.path_ratios(intensity))[j]
            + np.log(self.wording_ratios(intensity))[hot.astype(int)]
            for intensity in intensities
        ]
        return unsteered, np.stack(steered)

    def ladder_variance(self, ladder: Ladder, shares: np.ndarray) -> float:
        """n times the variance of the ladder's estimate, counts being `shares` (K,) of n draws."""
        edges = np.array(sorted({0, *(e for r in ladder.rungs for e in (r.start, r.stop))}))
        edges = np.append(edges, self.length) if edges[-1] < self.length else edges
        sizes = np.diff(edges)
        axes = len(sizes)

        def along(values: np.ndarray, axis: int) -> np.ndarray:
            return values.reshape([-1 if a == axis else 1 for a in range(axes)])

        wordings: np.ndarray = np.ones([1] * axes)
        for axis, size in enumerate(sizes):
            wordings = wordings * along(binom.pmf(np.arange(size + 1), size, 0.5), axis)
        second, means = 0.0, np.zeros(len(ladder))
        paths = self.path_probabilities
        for j in range(self.points.size):
            ratios = [np.ones([1] * axes)]
            for rung in ladder.rungs[1:]:
                cold, hot = self.wording_ratios(float(rung.variant))
                decisions = self.path_ratios(float(rung.variant))[j]
                ratio: np.ndarray = np.ones([1] * axes)
                for axis, size in enumerate(sizes):
                    if rung.start <= edges[axis] and edges[axis + 1] <= rung.stop:
                        k = np.arange(size + 1)
                        fixed = decisions[edges[axis] : edges[axis + 1]].prod()
                        ratio = ratio * along(fixed * hot**k * cold ** (size - k), axis)
                ratios.append(ratio)
            mixture = sum(share * ratio for share, ratio in zip(shares, ratios, strict=True))
            mass = paths[j] * wordings / mixture
            second += float(mass.sum())
            means += [_total(mass, ratio) for ratio in ratios]
        return second - float(shares @ means**2)

    def mixture_terms(self, intensity: float, mixing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log(q / p) and p / q of each token, averaged over its wording, shape (A, J, length)."""
        a = mixing[:, None, None, None]
        ratios = self.path_ratios(intensity)[None, :, :, None] * self.wording_ratios(intensity)
        q = 1 - a + a * ratios
        return np.log(q).mean(axis=-1), (1 / q).mean(axis=-1)

    def mixture_tables(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Over the grid: E[h log(q / p)] (what cross-entropy maximises) and n Var, (I, A, S)."""
        gain, variance = [], []
        p, ends = self.path_probabilities, np.array(grid.switches)
        for intensity in grid.intensities:
            with np.errstate(divide="ignore"):
                logs, inverse = self.mixture_terms(intensity, np.array(grid.mixing))
            sums = np.pad(np.cumsum(logs, axis=-1), ((0, 0), (0, 0), (1, 0)))[..., ends]
            products = np.cumprod(inverse, axis=-1)
            products = np.pad(products, ((0, 0), (0, 0), (1, 0)), constant_values=1)[..., ends]
            gain.append(np.einsum("j,ajs->as", p, sums))
            variance.append(np.einsum("j,ajs->as", p, products) - self.risk**2)
        return np.stack(gain), np.stack(variance)


def _total(mass: np.ndarray, ratio: np.ndarray) -> float:
    """Sum of mass * ratio, ratio having axes of length 1 where it is constant."""
    flat = tuple(axis for axis, size in enumerate(ratio.shape) if size == 1)
    return float((mass.sum(axis=flat, keepdims=True) * ratio).sum())


def random_prompts(
    count: int, seed: int, *, fragile: bool = True, length: int = 80
) -> list[LongHorizonModel]:
    """Prompts with risks spread over 1e-6 .. 1e-2, of which 10% to 80% by giving in late.

    `fragile`: late chances at 30 to 40 tokens, and a target that, having given in, falls back with
    a probability of .8 to .95 at each of the next 4 to 8 tokens. Otherwise chances at 8 tokens
    only, and one that falls back half of the time, at 3 or 4 tokens. Wordings differ by about .01
    to .03 nats a token between the target and full steering.
    """
    rng = np.random.default_rng(seed)
    prompts = []
    for log_risk in np.linspace(-6, -2, count):
        chances = int(rng.integers(30, 41)) if fragile else 8
        late = np.sort(rng.choice(np.arange(1, 72), size=chances, replace=False))
        share = rng.uniform(0.1, 0.8)
        routes = np.concatenate([[1 - share], share * rng.dirichlet(np.full(late.size, 2.0))])
        hold = rng.uniform(0.05, 0.2) if fragile else rng.uniform(0.5, 0.7)
        tokens = int(rng.integers(4, 9)) if fragile else int(rng.integers(3, 5))
        # A risk of 1e-2 is out of reach where nearly all who give in fall back.
        tokens = min(tokens, int((log_risk + 0.5) / np.log10(hold)))
        mass = 10**log_risk * routes / hold**tokens
        flip = mass / (1 - np.concatenate([[0.0], np.cumsum(mass)[:-1]]))
        gives_in = np.concatenate([[0.9], rng.uniform(0.1, 0.3 if fragile else 0.9, late.size)])
        prompts.append(
            LongHorizonModel(
                length=length,
                points=np.concatenate([[0], late]),
                flip=flip,
                hold=hold,
                fragile=tokens,
                flip_lift=logit(gives_in) - logit(flip),
                hold_lift=logit(rng.uniform(0.9, 0.95)) - logit(hold),
                wording_lift=rng.uniform(0.3, 0.5),
            )
        )
    return prompts
