"""Replies of a variant to questions, and what judges and the target itself make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tailbound.audit.judge_queue import judge_draws
from tailbound.core.contract import Draw, DrawRequest
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.judges import Judge
from tailbound.targets.capabilities import WhiteBox
from tailbound.targets.decoding.variant import ModelVariant

LEAST_LOG_PROB = -20.0
"""What a token counts at least, in nats, in the log-probability of a reply."""


class Reply(NamedTuple):
    """A question, one reply to it, and whether the judge finds it so; None for no verdict."""

    question: Prompt
    draw: Draw
    shown: bool | None


class Rater:
    """A judge that says yes or no, and a count of the replies on which it did neither."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.asked = 0
        self.missing = 0

    def rate(self, questions: Sequence[Prompt], draws: Sequence[Draw]) -> tuple[list[Reply], float]:
        """Every reply with its verdict, and the share of yes among those that have one.

        Raises `UsageError` where the judge has a verdict on none of them.
        """
        by_id = {question.id: question for question in questions}
        pairs = [(draw, by_id[draw.prompt_id]) for draw in draws]
        verdicts = judge_draws(self.judge, pairs)
        replies = [
            Reply(
                question,
                draw,
                None if verdict.score is None else verdict.score >= self.judge.threshold,
            )
            for (draw, question), verdict in zip(pairs, verdicts, strict=True)
        ]
        answers = [reply.shown for reply in replies if reply.shown is not None]
        self.asked += len(replies)
        self.missing += len(replies) - len(answers)
        if not answers:
            reason = next((v.reason for v in verdicts if v.reason), "no reason given")
            raise UsageError(
                f"judge {self.judge.id} has no verdict on any of {len(replies)} replies "
                f"({reason}): use another --judge"
            )
        return replies, sum(answers) / len(answers)

    def warnings(self) -> list[str]:
        """A line if verdicts were missing."""
        if not self.missing:
            return []
        return [
            f"judge {self.judge.id} has no verdict on {self.missing} of {self.asked} replies: they "
            "count neither way"
        ]


def answers(
    target: WhiteBox,
    variant: ModelVariant,
    questions: Sequence[Prompt],
    *,
    replies: int,
    seed: int,
    stream: str,
) -> list[Draw]:
    """`replies` replies of `variant` to each question, under the target's contract."""
    variants = [] if variant is target.variant else [variant]
    segments = ((len(variants), target.contract.max_new_tokens),)
    requests = [
        DrawRequest(prompt=question, stream=stream, index=index, segments=segments)
        for question in questions
        for index in range(1, replies + 1)
    ]
    return list(target.with_variants(variants).draw(requests, seed=seed))


def log_prob_per_token(
    target: WhiteBox, questions: Sequence[Prompt], draws: Sequence[Draw]
) -> float:
    """Mean log-probability per token under the unsteered target, in nats.

    A token counts at least `LEAST_LOG_PROB`.
    """
    engine = target.with_variants([])
    total, tokens = 0.0, 0
    for question in questions:
        said = [draw.token_ids for draw in draws if draw.prompt_id == question.id]
        for table in engine.score(question, said) if said else ():
            total += float(table[0].clip(min=LEAST_LOG_PROB).sum())
            tokens += table.shape[1]
    return total / max(tokens, 1)
