import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tailbound.audit.judge_queue import JudgeQueue
from tailbound.core.contract import Draw, Verdict
from tailbound.core.prompt import Prompt
from tailbound.errors import JudgeError
from tailbound.judges import Exchange

PROMPT = Prompt(id="p", messages=(("user", "q"),))


def draw(index: int) -> Draw:
    return Draw(
        prompt_id="p",
        stream="s",
        index=index,
        token_ids=(1,),
        text=str(index),
        finish_reason="stop",
        log_prob=-1.0,
    )


class Scripted:
    id = "scripted"
    threshold = 0.5

    def __init__(self, answer: Callable[[Sequence[int]], list[Verdict]]) -> None:
        self.answer = answer
        self.sizes: list[int] = []

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        self.sizes.append(len(exchanges))
        return self.answer([int(exchange.response) for exchange in exchanges])


def collect(queue: JudgeQueue) -> list[tuple[int, Verdict]]:
    found = []
    while queue.pending:
        found += [(d.index, verdict) for d, verdict in queue.wait()]
    return found


@pytest.mark.parametrize("workers", [1, 4])
def test_every_draw_gets_its_own_verdict(workers: int) -> None:
    judge = Scripted(lambda numbers: [Verdict(n / 1000) for n in numbers])
    with JudgeQueue(judge, workers=workers, batch_size=16) as queue:
        for index in range(1000):
            queue.submit(draw(index), PROMPT)
        found = collect(queue)
        assert queue.ready() == []
    assert sorted(found) == [(n, Verdict(n / 1000)) for n in range(1000)]
    assert max(judge.sizes) <= 16


def test_judging_goes_on_behind_the_callers_back() -> None:
    gate = threading.Event()

    def slow(numbers: Sequence[int]) -> list[Verdict]:
        gate.wait(10)
        return [Verdict(0.0)] * len(numbers)

    with JudgeQueue(Scripted(slow)) as queue:
        start = time.monotonic()
        queue.submit(draw(1), PROMPT)
        assert queue.ready() == []
        assert queue.pending == 1
        assert time.monotonic() - start < 1
        gate.set()
        while not (done := queue.ready()):
            time.sleep(0.001)
        assert done == [(draw(1), Verdict(0.0))]
        assert queue.wait() == []


def test_a_bad_apple_does_not_spoil_its_batch() -> None:
    def picky(numbers: Sequence[int]) -> list[Verdict]:
        if 3 in numbers:
            raise RuntimeError("three is not for me")
        return [Verdict(1.0)] * len(numbers)

    with JudgeQueue(Scripted(picky)) as queue:
        for index in range(6):
            queue.submit(draw(index), PROMPT)
        found = dict(collect(queue))
    missing = Verdict(None, "judge failed: RuntimeError: three is not for me")
    assert found == {n: missing if n == 3 else Verdict(1.0) for n in range(6)}


def test_scores_out_of_range_are_missing() -> None:
    with JudgeQueue(Scripted(lambda numbers: [Verdict(2.0)])) as queue:
        queue.submit(draw(1), PROMPT)
        assert collect(queue)[0][1].missing


def test_a_broken_judge_is_reported_after_the_finished_verdicts() -> None:
    def broken_after_ten(numbers: Sequence[int]) -> list[Verdict]:
        if max(numbers) >= 10:
            raise ConnectionError("server is gone")
        return [Verdict(0.0)] * len(numbers)

    found: list[tuple[Draw, Verdict]] = []

    def drain(queue: JudgeQueue) -> None:
        while True:
            found.extend(queue.wait())

    with JudgeQueue(Scripted(broken_after_ten), batch_size=1, max_failures=20) as queue:
        for index in range(100):
            queue.submit(draw(index), PROMPT)
        with pytest.raises(JudgeError, match=r"failed 20 times in a row .*server is gone"):
            drain(queue)
        with pytest.raises(JudgeError):
            queue.ready()
    assert [verdict.score for _, verdict in found[:10]] == [0.0] * 10
    assert [d.index for d, verdict in found if verdict.missing] == list(range(10, 30))


def test_failures_between_verdicts_break_nothing() -> None:
    def flaky(numbers: Sequence[int]) -> list[Verdict]:
        if numbers[0] % 5:
            raise ValueError("not now")
        return [Verdict(0.0)]

    with JudgeQueue(Scripted(flaky), batch_size=1, max_failures=5) as queue:
        for index in range(200):
            queue.submit(draw(index), PROMPT)
        found = collect(queue)
    assert sum(verdict.missing for _, verdict in found) == 160


@pytest.mark.parametrize("answer", [[], [Verdict(0.0)] * 2, None])
def test_the_wrong_number_of_verdicts_is_an_error(answer: list[Verdict]) -> None:
    with JudgeQueue(Scripted(lambda numbers: answer)) as queue:
        queue.submit(draw(1), PROMPT)
        with pytest.raises(JudgeError, match=r"verdicts for 1 responses|unusable"):
            queue.wait()


def test_a_judge_may_declare_itself_broken() -> None:
    def out_of_keys(numbers: Sequence[int]) -> list[Verdict]:
        raise JudgeError("the key is not valid")

    with JudgeQueue(Scripted(out_of_keys)) as queue:
        queue.submit(draw(1), PROMPT)
        with pytest.raises(JudgeError, match="the key is not valid"):
            queue.wait()


def test_closing_drops_what_waits_and_refuses_more() -> None:
    queue = JudgeQueue(Scripted(lambda numbers: [Verdict(0.0)] * len(numbers)))
    queue.close()
    queue.close()
    with pytest.raises(ValueError, match="closed"):
        queue.submit(draw(1), PROMPT)
    with pytest.raises(ValueError, match="at least 1"):
        JudgeQueue(Scripted(lambda numbers: []), workers=0)


def test_the_queue_costs_less_than_a_thread_pool() -> None:
    """By CPU time in one run: about a third of what one submission to a thread pool costs."""
    draws, one = [draw(index) for index in range(20_000)], Verdict(0.0)
    with JudgeQueue(Scripted(lambda numbers: [one] * len(numbers))) as queue:
        start = time.process_time()
        for each in draws:
            queue.submit(each, PROMPT)
        assert len(collect(queue)) == len(draws)
        ours = time.process_time() - start
    with ThreadPoolExecutor(1) as pool:
        start = time.process_time()
        tasks = [pool.submit(lambda _: one, each) for each in draws]
        assert [task.result() for task in tasks] == [one] * len(draws)
        plain = time.process_time() - start
    assert ours < plain


def test_a_judge_that_leaves_is_broken_and_nobody_waits_for_it() -> None:
    def leave(numbers: Sequence[int]) -> list[Verdict]:
        raise SystemExit(0)

    with JudgeQueue(Scripted(leave)) as queue:
        queue.submit(draw(1), PROMPT)
        with pytest.raises(JudgeError, match="unusable: SystemExit"):
            queue.wait()
