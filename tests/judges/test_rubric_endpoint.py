"""A rubric asked of a server, faults and refusals included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from endpoint.stub import Faults, Stub
from tailbound.core.prompt import Prompt
from tailbound.judges import Exchange, is_failure, load_judge

RUBRIC = """
template: "rate [{response}] for level"
fields:
  level: {low: 0, high: 10}
score: level / 10
sampling: {temperature: 1.0, max_new_tokens: 12}
"""


class Rater(Stub):
    """Answers a rubric's question with what is in brackets; refuses every other first time."""

    def _choice(self, asked: dict[str, Any], number: int, chat: bool) -> dict[str, Any]:
        choice = super()._choice(asked, number, chat)
        text = asked["messages"][-1]["content"] if chat else ""
        if "rate [" in text:
            self.seen[text] += 1
            inside = text.split("[")[1].split("]")[0]
            refuses = self.seen[text] == 1 and float(inside) % 2 == 0
            said = "I'm sorry, I can't." if refuses else f"level: {inside}"
            choice["message"] = {"content": said}
            choice["finish_reason"] = "stop"
        return choice


def exchanges(n: int) -> list[Exchange]:
    prompt = Prompt(id="p", messages=(("user", "q"),))
    return [Exchange(prompt, str(number)) for number in range(n)]


@pytest.mark.parametrize("failing", [0.0, 0.2])
def test_every_verdict_comes_through(tmp_path: Path, failing: float) -> None:
    path = tmp_path / "level.yaml"
    path.write_text(RUBRIC)
    with Rater() as server:
        judge: Any = load_judge(
            f"rubric:{path}?judge_target=openai:m&engine.base_url={server.url}"
            "&engine.first_wait=0.01&engine.concurrency=8"
        )
        server.faults = Faults(failing=failing)
        found = judge.judge(exchanges(11))
        assert [verdict.score for verdict in found] == pytest.approx([n / 10 for n in range(11)])
        assert (server.seen["failing"] > 0) == (failing > 0)
    assert judge.notices[0].startswith("6 of 17 answers of the judge could not be used")
    assert judge.id.endswith(" by openai:m")


def test_a_server_that_says_no_leaves_failures_not_scores(tmp_path: Path) -> None:
    path = tmp_path / "level.yaml"
    path.write_text(RUBRIC)
    with Rater() as server:
        judge = load_judge(
            f"rubric:{path}?judge_target=openai:m&engine.base_url={server.url}"
            "&engine.first_wait=0.01&engine.retry_timeout=1&tries=2"
        )
        server.faults = Faults(status=403)
        found = judge.judge(exchanges(6))
    assert all(is_failure(verdict) for verdict in found)
    assert "403" in str(found[0].reason)
