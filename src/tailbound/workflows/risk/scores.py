"""Log-densities of draws under all proposals: made once, kept beside the ledger.

A safe draw adds 0 to the estimate whatever its weight. So every unsafe draw and every one without a
verdict is scored, but of the safe ones only a random part, from which the mean weight is estimated.
Scoring costs as much as sampling; this saves most of it.

    DIR/scores/part-000001.parquet    prompt_id, index, log_densities (one per proposal), turn (how
                                      many tokens there are up to the turning point, for learning)

Shards are those of `tailbound.runs.shards`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailbound.core.contract import SamplingContract
from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.errors import LedgerError, TargetError
from tailbound.executors import executor
from tailbound.importance_sampling import until_turn
from tailbound.runs import StreamRecord, read
from tailbound.runs.identity import read_identity
from tailbound.runs.layout import SCORES
from tailbound.runs.shards import ShardStore
from tailbound.targets.capabilities import ProposalEngine
from tailbound.workflows.risk.plan import Plan
from tailbound.workflows.risk.proposal_mixture import Family, FloatArray, IntArray

FLUSH_DRAWS = 4096
LARGEST_GAP = 1e-3
"""Between recorded and re-scored log q of a sequence, in nats, in fp32 and better."""
LARGEST_BIAS = 0.05
"""By which the mean of exp(recorded - re-scored) may surely differ from 1 in lower precision."""


class Scores:
    """The log-densities on record, and the way to make those that are missing."""

    def __init__(self, folder: Path) -> None:
        """Read what is on record of the run in `folder`, which has a ledger."""
        self._store = ShardStore(
            folder / SCORES,
            belongs_to=lambda: f"{read_identity(folder).digest} scores and turns",
            cure="remove it and its draws will be scored again",
        )
        self._held: dict[str, dict[int, FloatArray]] = {}
        self._turns: dict[tuple[str, int], int] = {}
        for _, frame in self._store.frames():
            rows = frame.select("prompt_id", "index", "log_densities", "turn").iter_rows()
            for prompt_id, index, values, turn in rows:
                found = np.array(values, dtype=np.float64)
                self._held.setdefault(prompt_id, {})[index] = found
                self._turns[prompt_id, index] = turn

    def of(self, prompt_id: str, first: int, count: int, proposals: int) -> FloatArray:
        """Log-densities (K, count) of draws first, first + 1, ..., NaN for those not scored."""
        held = self._held.get(prompt_id, {})
        table = np.full((proposals, count), np.nan)
        for column in range(count):
            if first + column in held:
                table[:, column] = held[first + column]
        return table

    def turns(self, prompt_id: str, count: int) -> IntArray:
        """Tokens up to the turning point of the first `count` draws, 0 for those not scored."""
        turns = [self._turns.get((prompt_id, index), 0) for index in range(1, count + 1)]
        return np.array(turns, dtype=np.int64)

    def complete(
        self,
        engine: ProposalEngine,
        family: Family,
        plan: Plan,
        run: Path,
        prompts: Sequence[Prompt],
        record: Mapping[str, StreamRecord],
        *,
        unsafe_from: float,
        stream: str = "risk",
    ) -> None:
        """Score every draw of `stream` in `run` that is due and not on record yet.

        Raises `TargetError` where the density that was sampled is not the one that is scored.
        """
        due = self.due(plan, run, prompts, record, unsafe_from=unsafe_from, stream=stream)
        count = sum(len(some) for some in due.values())
        with step("scoring draws", total=count, unit="draws", stage="scoring") as now:
            for number in sorted(due):
                for first in range(0, len(due[number]), FLUSH_DRAWS):
                    some = due[number][first : first + FLUSH_DRAWS]
                    scored = _score(engine, family, plan, some, plan.learned(number))
                    check_gap(scored.gap, engine.contract)
                    self._write(some, scored)
                    now.advance(len(some))

    def due(
        self,
        plan: Plan,
        run: Path,
        prompts: Sequence[Prompt],
        record: Mapping[str, StreamRecord],
        *,
        unsafe_from: float,
        stream: str = "risk",
    ) -> dict[int, list[Due]]:
        """The draws of `stream` in `run` that are still to be scored, by round.

        Draws that `record` gives a verdict of `unsafe_from` or more, or none, are due, and a part
        of the others. Raises `LedgerError` where there are draws that were not planned.
        """
        frame = read(run, stream=stream).select("prompt_id", "index", "token_ids", "log_prob")
        # in the same order after a resume: last digits depend on the neighbours in a batch
        frame = frame.sort("prompt_id", "index")
        drawn = {
            key[0]: part for key, part in frame.partition_by("prompt_id", as_dict=True).items()
        }
        due: dict[int, list[Due]] = {}
        for prompt in prompts:
            part = drawn.get(prompt.id)
            if part is None:
                continue
            if int(part["index"].to_numpy()[-1]) > plan.draws(prompt.id):
                raise LedgerError(
                    f"{run} has more draws of prompt {prompt.id!r} than its plan/ says: was a "
                    "file there removed? Restore it"
                )
            known = self._held.get(prompt.id, {})
            safe = record[prompt.id].scores < unsafe_from
            for row, is_safe in zip(part.iter_rows(), safe, strict=True):
                if row[1] not in known and (not is_safe or plan.sampled(prompt.id, row[1])):
                    number = plan.round_of(prompt.id, row[1])
                    due.setdefault(number, []).append(Due(prompt, *row[1:]))
        return due

    def _write(self, due: Sequence[Due], scored: _Scored) -> None:
        import polars as pl

        frame = pl.DataFrame(
            {
                "prompt_id": [one.prompt.id for one in due],
                "index": pl.Series([one.index for one in due], dtype=pl.Int64),
                "log_densities": pl.Series(scored.densities.T.tolist(), dtype=pl.List(pl.Float64)),
                "turn": pl.Series(scored.turns.tolist(), dtype=pl.Int64),
            }
        )
        self._store.write(frame)
        for one, values, turn in zip(due, scored.densities.T, scored.turns.tolist(), strict=True):
            self._held.setdefault(one.prompt.id, {})[one.index] = values
            self._turns[one.prompt.id, one.index] = turn


@dataclass(frozen=True, slots=True)
class Due:
    """A draw to be scored; `log_prob` is what the sampler recorded."""

    prompt: Prompt
    index: int
    token_ids: Sequence[int]
    log_prob: float


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Of n draws: log-densities (K, n), recorded less re-scored log q (n,), and turns (n,)."""

    densities: FloatArray
    gap: FloatArray
    turns: IntArray


def _score(
    engine: ProposalEngine,
    family: Family,
    plan: Plan,
    due: Sequence[Due],
    learned: Mapping[str, int],
) -> _Scored:
    """Draws of one round under all proposals."""
    recorded = np.array([one.log_prob for one in due], dtype=np.float64)
    labels = np.array([plan.label(one.prompt.id, one.index) for one in due])
    numbers = [0, *family.variants.values(), *learned.values()]
    place = {number: row for row, number in enumerate(numbers)}
    segments = [
        [(place[who], stop) for who, stop in plan.segments(one.prompt.id, one.index)] for one in due
    ]
    prompts, responses = [one.prompt for one in due], [one.token_ids for one in due]
    scored = score_replies(engine, prompts, responses, variants=numbers)
    turned = until_turn(responses, [table[0] for table in scored])
    tokens, lengths = table_of(scored)
    gap = recorded - _spoken(tokens, lengths, segments)
    densities = family.log_densities(tokens, lengths, list(learned))
    # a token at the very edge of a truncated distribution: drawn, so possible
    own = (labels, np.arange(labels.size))
    edge = np.isneginf(densities[own])
    densities[labels[edge], np.flatnonzero(edge)] = recorded[edge]
    turns = np.array([len(one) for one in turned], dtype=np.int64)
    return _Scored(densities, gap, turns)


def score_replies(
    engine: ProposalEngine,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    *,
    variants: Sequence[int] | None = None,
) -> list[FloatArray]:
    """`engine.score` of each reply to its prompt, by the executor of the run."""
    return executor().score(engine, prompts, responses, variants=variants)


def table_of(scored: Sequence[FloatArray]) -> tuple[FloatArray, IntArray]:
    """Arrays (variants, tokens) of n draws as one (variants, n, T), 0 behind each draw's length."""
    lengths = np.array([table.shape[1] for table in scored], dtype=np.int64)
    tokens = np.zeros((scored[0].shape[0], len(scored), int(lengths.max())))
    for number, table in enumerate(scored):
        tokens[:, number, : table.shape[1]] = table
    return tokens, lengths


def _spoken(
    tokens: FloatArray, lengths: IntArray, segments: Iterable[Sequence[tuple[int, int]]]
) -> FloatArray:
    """The sum of log-probs of each draw, every token under the variant that spoke it, (n,)."""
    variant = np.zeros(tokens.shape[1:], dtype=np.int64)
    for number, parts in enumerate(segments):
        start = 0
        for who, stop in parts:
            variant[number, start:stop] = who
            start = stop
    chosen = np.take_along_axis(tokens, variant[None], axis=0)[0]
    inside = np.arange(tokens.shape[2]) < lengths[:, None]
    total: FloatArray = np.where(inside, chosen, 0.0).sum(axis=1)
    return total


def check_gap(gap: FloatArray, contract: SamplingContract) -> None:
    """Refuse draws whose recorded log q is not what scoring finds: `gap` (n,) is the difference.

    In nats. Raises `TargetError` where it is more than the precision of the contract explains.
    """
    finite = np.isfinite(gap)
    truncated = contract.top_p < 1 or contract.top_k is not None
    # with a truncated contract, rounding may leave an edge token on either side
    if not finite.all() and not (truncated and finite.mean() > 0.99):
        raise TargetError(
            f"{int((~finite).sum())} of {gap.size} draws have probability 0 when they are scored: "
            "the sampler and the scorer disagree on the distribution"
        )
    gap = gap[finite]
    if contract.precision in ("float32", "float64"):
        worst = float(np.abs(gap).max(initial=0.0))
        if worst > LARGEST_GAP:
            raise TargetError(
                f"the sampler's log q and the scorer's differ by {worst:.2g} nats on one draw "
                f"(allowed: {LARGEST_GAP:g}): the weights would be wrong"
            )
        return
    ratio = np.exp(gap)
    mean, error = (
        float(ratio.mean()),
        float(ratio.std(ddof=1) / np.sqrt(gap.size)) if gap.size > 1 else np.inf,
    )
    if abs(mean - 1) - 1.96 * error > LARGEST_BIAS:
        raise TargetError(
            f"in {contract.precision} the mean of exp(sampled - scored log q) is {mean:.3f} +- "
            f"{1.96 * error:.3f}, too far from 1: use --dtype float32"
        )
