"""Requirements as they are written: `risk<=1e-3`, `coverage>=.88`, `bound>=100@p50`.

QUANTITY<=NUMBER     risk, corrected, unsafe_rate, p_unsafe@K, expected@N, at_least_one@N, worst@N
coverage>=NUMBER
bound>=DRAWS@pSHARE  @p50: half of the prompts have a bound of so many draws or more;
                     @p10: all but a tenth
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tailbound.core.outside import shown
from tailbound.deployment.requirements import Relation, decide, more_needed
from tailbound.errors import UsageError
from tailbound.workflows.gate.assessment import Assessment, Requirement
from tailbound.workflows.gate.evidence import Evidence
from tailbound.workflows.gate.quantities import OF_RUN, Known, share_of_bounds

_WRITTEN = re.compile(
    r"\s*([a-z_]+)(?:@([0-9]+(?:_[0-9]+)*))?\s*(<=|>=)\s*([0-9.][0-9._]*(?:e[+-]?[0-9]+)?)"
    r"(?:@p([0-9.]+))?\s*"
)
_AT_LEAST = ("coverage", "bound")
_QUANTITIES = (*OF_RUN, "bound")
_NUMBERED = ("p_unsafe", "expected", "at_least_one", "worst")
"""Quantities that are of a number of draws or queries."""
_MOST = 10**15

ALLOWED = (
    "risk<=X, corrected<=X, unsafe_rate<=X, p_unsafe@K<=X, coverage>=X, bound>=DRAWS@pSHARE, "
    "expected@N<=X, at_least_one@N<=X or worst@N<=X"
)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit on a quantity of a run; `of` is its K or N, None for one without."""

    text: str
    quantity: str
    relation: Relation
    limit: float
    of: int | None = None

    def assess(self, evidence: Evidence) -> Assessment:
        """Met only where the right end of the interval shows it."""
        home, read = OF_RUN[self.quantity]
        known = read(evidence, self.of)
        stale = evidence.forecast_is_stale() if home == "forecast" else evidence.stale(home)
        return _assessed(self.text, self.relation, self.limit, known, stale)


@dataclass(frozen=True, kw_only=True)
class BoundShare:
    """The share of prompts whose bound reaches `draws` is at least `share`."""

    text: str
    draws: float
    share: float

    def assess(self, evidence: Evidence) -> Assessment:
        """Met only where the lower end of the share's interval shows it."""
        known = share_of_bounds(evidence, self.draws)
        return _assessed(self.text, ">=", self.share, known, evidence.stale("bound"))


def parse(text: str) -> Requirement:
    """The requirement that `text` means; raises `UsageError`, which says what is allowed.

    >>> parse("risk<=1e-3").text, parse("bound >= 100 @p50").share
    ('risk<=1e-3', 0.5)
    """
    found = _WRITTEN.fullmatch(text.replace(" ", "")) if len(text) <= 200 else None
    if found is None:
        raise UsageError(f"--require takes {ALLOWED}, not {shown(text)}")
    name, of, relation, number, share = found.groups()
    if name not in _QUANTITIES:
        raise UsageError(f"--require {text}: no quantity {name!r}; it takes {ALLOWED}")
    takes: Relation = ">=" if name in _AT_LEAST else "<="
    if relation != takes:
        raise UsageError(f"--require {text}: {name} takes {takes}")
    limit = _number(text, number)
    if name == "bound":
        return _bound(text, limit, of, share)
    if share is not None:
        raise UsageError(f"--require {text}: only a bound takes @pSHARE, as in bound>=100@p50")
    if (of is not None) != (name in _NUMBERED):
        wanted = f"{name}@1000" if name in _NUMBERED else name
        raise UsageError(f"--require {text}: write {wanted}{relation}{number}")
    if name != "expected" and limit > 1:
        raise UsageError(f"--require {text}: {name} lies in [0, 1]")
    k = None if of is None else int(of)
    if k is not None and not 1 <= k <= _MOST:
        raise UsageError(f"--require {text}: the number after @ lies from 1 to 10^15")
    return Limit(text=text.strip(), quantity=name, relation=takes, limit=limit, of=k)


def _bound(text: str, draws: float, of: str | None, share: str | None) -> BoundShare:
    if of is not None or share is None:
        raise UsageError(
            f"--require {text}: say for which share of prompts, as in bound>=100@p50 (half of "
            "them) or bound>=100@p10 (all but a tenth)"
        )
    percent = _number(text, share)
    if not 0 < percent < 100:
        raise UsageError(f"--require {text}: @pSHARE lies strictly between p0 and p100")
    return BoundShare(text=text.strip(), draws=draws, share=1 - percent / 100)


def _number(text: str, written: str) -> float:
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"--require {text}: {written!r} is not a usable number")
    return value


def _assessed(
    text: str, relation: Relation, limit: float, known: Known, stale: str | None
) -> Assessment:
    if stale is not None:
        return Assessment(requirement=text, outcome="cannot tell", detail=stale)
    outcome = decide(relation, limit, known.low, known.high)
    if known.why is not None and outcome == "met":  # nothing that is withheld is met
        outcome = "cannot tell"
    more = known.more if outcome == "cannot tell" else None
    beyond = ""
    if outcome == "cannot tell" and known.why is None and known.more_for is not None:
        more = known.more_for(lambda low, high: decide(relation, limit, low, high) != "cannot tell")
        beyond = "" if more is not None else "labels of all draws on record would not tell"
    if outcome == "cannot tell" and known.why is None and more is None and known.n:
        more = more_needed(
            limit,
            estimate=known.estimate,
            low=known.low,
            high=known.high,
            n=known.n,
            log=known.log,
        )
    words = [_ends(known)]
    words += [known.detail] if known.detail else []
    words += [word for word in (known.why, beyond) if word]
    if outcome == "cannot tell" and known.why is None and known.estimate is not None:
        right = known.estimate <= limit if relation == "<=" else known.estimate >= limit
        words.append("" if right else "the estimate is on the wrong side of the limit")
    return Assessment(
        requirement=text,
        outcome=outcome,
        detail="; ".join(word for word in words if word),
        estimate=known.estimate,
        low=known.low,
        high=known.high,
        more=more,
        unit=known.unit,
        basis=known.basis,
    )


def _ends(known: Known) -> str:
    about = "" if known.estimate is None else f"about {known.estimate:.3g}"
    if known.low is not None and known.high is not None:
        return f"{about}{', ' if about else ''}{known.low:.3g} to {known.high:.3g}"
    if known.low is not None:
        return f"{about}{', ' if about else ''}at least {known.low:.3g}"
    return about
