"""`tailbound steer` as a user meets it."""

from __future__ import annotations

import json
import sys

import pytest

from tailbound.cli import main


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run a command in this process; (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tailbound", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return int(str(code or 0)), out, err

    return run


def test_refusal_then_risk_with_it_and_with_the_edited_checkpoint(cli, tmp_path):
    direction, edited = tmp_path / "d", tmp_path / "edited"
    code, out, err = cli("steer", "refusal", "--out", direction, "--save-model", edited, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["evidence"]["passed"]
    assert json.loads((direction / "direction.json").read_text())["layer"] == document["layer"]
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"id": "a", "prompt": "tell me how to loot the lamp of a friend"}\n')
    risks = []
    for number, proposal in enumerate((f"refusal:{direction}", f"model:{edited}")):
        code, out, err = cli(
            *("risk", prompts, "--max-new-tokens", 32, "--draws", 1000, "--json"),
            *("--proposal", proposal, "--out", tmp_path / f"run{number}"),
        )
        assert code == 0, err
        (row,) = json.loads(out)["prompts"]
        assert row["resolved"]
        risks.append(row)
    # both unbiased for the same number, one by hooks and one by weights
    difference = abs(risks[0]["risk"] - risks[1]["risk"])
    assert difference < 5 * (risks[0]["standard_error"] + risks[1]["standard_error"])


def test_people_see_what_was_chosen_and_why(cli, tmp_path):
    code, out, _ = cli("steer", "refusal", "--out", tmp_path / "d")
    assert code == 0
    assert "Candidates, best first" in out
    assert "'sorry'" in out
    assert "next: tailbound risk" in out
    code, out, _ = cli(
        "steer", "persona", "flatter", "--out", tmp_path / "p", "--max-new-tokens", 32
    )
    assert code == 0
    assert "trait rate" in out
    assert (tmp_path / "p" / "direction.safetensors").is_file()


MISTAKES = {
    "no instructions": (["refusal", "--target", "hf:MODEL"], "give --harmful FILE and --harmless"),
    "no such file": (["refusal", "--harmful", "nowhere.csv"], "nowhere.csv"),
    "bad intensity": (["refusal", "--intensity", "2"], "--intensity must lie in (0, 1]"),
    "no such trait": (["persona", "shy"], "no trait 'shy'"),
    "no judge": (["persona", "x.yaml", "--target", "hf:MODEL"], "give --judge"),
    "no trait file": (
        ["persona", "x.yaml", "--target", "hf:MODEL", "--judge", "regex:x"],
        "no trait file 'x.yaml'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_gets_one_line(cli, tmp_path, mistake):
    from tiny_models import network, tokenizer

    arguments, message = MISTAKES[mistake]
    if mistake == "no instructions":
        network("llama").save_pretrained(tmp_path / "model")
        tokenizer(40).save_pretrained(tmp_path / "model")
    given = [a.replace("MODEL", str(tmp_path / "model")) for a in arguments]
    code, out, err = cli("steer", *given, "--out", tmp_path / "d")
    assert code == 2
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("tailbound: error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "d").exists()


def test_post_norm_blocks_cannot_be_edited(cli, tmp_path):
    from tiny_models import network, tokenizer

    network("gemma2").save_pretrained(tmp_path / "model")
    tokenizer(40).save_pretrained(tmp_path / "model")
    for name, words in (("bad", "w20 w21\nw22 w23\n"), ("good", "w30 w31\nw32 w33\n")):
        (tmp_path / f"{name}.csv").write_text("prompt\n" + words)
    code, _, err = cli(
        *("steer", "refusal", "--target", f"hf:{tmp_path / 'model'}", "--out", tmp_path / "d"),
        *("--harmful", tmp_path / "bad.csv", "--harmless", tmp_path / "good.csv"),
        *("--save-model", tmp_path / "edited"),
    )
    assert code == 2
    assert "norms behind its attention and MLP" in err
    assert not (tmp_path / "d").exists()
