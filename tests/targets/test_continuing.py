"""Given beginnings of responses, continued by a model in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from reference_models.tiny_lm import LENGTH, STOP, TinyLanguage, prompts
from tailbound.core.contract import Beginning, Draw, DrawRequest
from tailbound.core.prompt import Prompt
from tailbound.targets.capabilities import Continuing


class Given:
    """A source of requests that are given out once."""

    def __init__(self, requests: Sequence[DrawRequest]) -> None:
        self._left = list(requests)

    def take(self, limit: int, *, wait: bool) -> list[DrawRequest]:
        found, self._left = self._left[:limit], self._left[limit:]
        return found


@pytest.fixture(scope="module")
def bed() -> TinyLanguage:
    return TinyLanguage(3, strength=1.0)


def begin(*ids: int) -> Beginning:
    return Beginning(size=len(ids), token_ids=ids, text="", counted=len(ids))


def draw(
    bed: TinyLanguage, prompt: Prompt, beginnings: Sequence[Beginning | None], seed: int = 0
) -> dict[int, Draw]:
    requests = [
        DrawRequest(prompt=prompt, stream="splitting", index=index, beginning=beginning)
        for index, beginning in enumerate(beginnings, start=1)
    ]
    return {one.index: one for one in bed.target.sample(Given(requests), seed=seed)}


def test_a_continued_draw_has_the_law_of_the_target_given_its_beginning(bed: TinyLanguage) -> None:
    (prompt,) = prompts(1)
    given = (4, 2)
    found = draw(bed, prompt, [begin(*given)] * 6_000)
    assert all(one.token_ids[:2] == given for one in found.values())
    log_p = bed.tokens(prompt, 0.0)
    begun = (bed.replies[:, :2] == given).all(axis=1)
    law = np.exp(log_p[begun, 2:].sum(axis=1))
    assert law.sum() == pytest.approx(1, abs=1e-5)
    counts = Counter(one.token_ids for one in found.values())
    replies = [tuple(t for t in row if t >= 0) for row in bed.replies[begun].tolist()]
    often = law * len(found) >= 8
    seen = np.array([counts[reply] for reply in replies])
    chi = ((seen - law * len(found)) ** 2 / (law * len(found)))[often].sum()
    freedom = int(often.sum())
    assert freedom > 50
    assert abs(chi - freedom) < 5 * np.sqrt(2 * freedom)


def test_the_same_name_gives_the_same_tokens_whatever_shares_the_batch(bed: TinyLanguage) -> None:
    (prompt,) = prompts(1)
    mixed: list[Beginning | None] = [None, begin(1), begin(4, 5, 6, 1, 2), None, begin(3, 3)]
    together = draw(bed, prompt, mixed)
    for index, beginning in enumerate(mixed, start=1):
        request = DrawRequest(prompt=prompt, stream="splitting", index=index, beginning=beginning)
        (alone,) = bed.target.sample(Given([request]), seed=0)
        assert alone.token_ids == together[index].token_ids
        assert np.isnan(alone.log_prob) == (beginning is not None)


def test_a_reply_is_cut_between_its_tokens_and_reads_as_it_does(bed: TinyLanguage) -> None:
    assert isinstance(bed.target, Continuing)
    bed.target.check_continuing()
    (prompt,) = prompts(1)
    whole = next(iter(draw(bed, prompt, [begin(4, 1, 2, 3)]).values()))
    cuts = bed.target.beginnings(prompt, whole, every=2)
    assert [one.size for one in cuts] == [2, 4]
    assert [one.text for one in cuts] == ["w4 w1", "w4 w1 w2 w3"]
    assert cuts[1].token_ids == whole.token_ids[:4]
    assert len(whole.token_ids) == LENGTH or whole.token_ids[-1] == STOP
