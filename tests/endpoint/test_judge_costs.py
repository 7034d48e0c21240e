"""A judge behind a server: what it costs is reported in advance and kept afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from endpoint.stub import LONGEST, Stub
from endpoint.test_endpoint import prompt_file, quiet  # noqa: F401

RUBRIC = """
template: "rate [{response}] for level"
fields:
  level: {low: 0, high: 10}
score: level / 10
sampling: {temperature: 1.0, max_new_tokens: 12}
"""
TOKENS = 7


class Rater(Stub):
    """Rates by the number of times that a response says unsafe; 7 tokens each."""

    def _choice(self, asked: dict[str, Any], number: int, chat: bool) -> dict[str, Any]:
        choice = super()._choice(asked, number, chat)
        question = asked["messages"][-1]["content"]
        if "rate [" in question:
            level = min(10, 5 * question.count("unsafe"))
            choice["message"] = {"content": f"level: {level}"}
            choice["_tokens"], choice["finish_reason"] = TOKENS, "stop"
        return choice


def test_what_verdicts_cost(tmp_path, cli):
    (tmp_path / "level.yaml").write_text(RUBRIC)
    prompts = prompt_file(tmp_path)
    with Stub() as server, Rater() as rater:
        judge = (
            f"rubric:{tmp_path}/level.yaml?judge_target=openai:rater&engine.base_url={rater.url}"
            "&engine.price_in=1&engine.price_out=2"
        )
        options = [
            *("bound", prompts, "--target", "openai:m", "--base-url", server.url, "--json"),
            *("--max-new-tokens", 30, "--judge", judge, "--budget", 4, "--test-draws", 10),
            *("--price-in", 1, "--price-out", 2, "--out", tmp_path / "run"),
        ]
        code, out, err = cli(*options, "--dry-run")
        assert code == 0, err
        planned = json.loads(out)
        one_draw, one_verdict = (10 + 2 * LONGEST) / 1e6, (10 + 2 * TOKENS) / 1e6
        assert planned["cost"] == pytest.approx(planned["draws"] * one_draw)
        assert planned["judge_cost"] == pytest.approx(planned["draws"] * one_verdict)
        assert not (tmp_path / "run").exists()
        asked = rater.seen["requests"]
        code, out, err = cli(*options)
        assert code in (0, 3), err
        spent = json.loads(out)
        held = json.loads((tmp_path / "run" / "usage.json").read_text())
        assert held["judge"]["requests"] == rater.seen["requests"] - asked
        assert held["judge"]["cost"] >= spent["spend"]["calibration"]["generated"] * one_verdict
        assert spent["judge_endpoint_of_run"] == held["judge"]
        assert spent["endpoint_of_run"] == held["target"]
        code, out, err = cli(*options)  # nothing more to draw: probes alone
        again = json.loads((tmp_path / "run" / "usage.json").read_text())
        assert held["judge"]["cost"] < again["judge"]["cost"] < held["judge"]["cost"] * 2
        assert json.loads(out)["judge_endpoint"]["requests"] < 60
