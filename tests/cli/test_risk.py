"""`tailbound risk` as a user meets it, on the demo model and on tiny checkpoints."""

from __future__ import annotations

import json
import time
from pathlib import Path

import polars as pl
import pytest
import yaml
from tiny_models import network, tokenizer

from tailbound.demo.exact import exact_risk
from tailbound.demo.files import default_prompts

KEYS = {
    *("id", "risk", "certified_lower", "certified_upper", "interval", "resolved", "status"),
    *("ess_harm", "hits", "draws", "missing", "mean_weight", "largest_share"),
}
SHORT = ["--max-new-tokens", "32"]


def write_prompts(path: Path, n: int) -> Path:
    chosen = default_prompts(n)
    path.write_text("".join(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in chosen))
    return path


def _stages(run: Path) -> dict[str, dict[str, float]]:
    stages: dict[str, dict[str, float]] = json.loads((run / "spend.json").read_text())["stages"]
    return stages


@pytest.fixture(scope="module")
def finished(tmp_path_factory, launcher) -> Path:
    """A finished run of 8 prompts, made by a real process."""
    folder = tmp_path_factory.mktemp("risk")
    prompts = write_prompts(folder / "prompts.jsonl", 8)
    done = launcher.run(
        *("risk", prompts, *SHORT, "--out", folder / "run", "--draws", 300, "--json")
    )
    assert done.returncode == 0, done.stderr
    (folder / "stdout.json").write_text(done.stdout)
    return folder / "run"


def test_the_document_and_the_truth(finished):
    """Ratios to the exact risk within 2; by the exact variance that is more than 6 sigma."""
    document = json.loads((finished.parent / "stdout.json").read_text())
    assert len(document["prompts"]) == 8
    for row, prompt in zip(document["prompts"], default_prompts(8), strict=True):
        assert set(row) >= KEYS
        assert row["id"] == prompt.id
        truth = exact_risk(prompt).risk
        assert truth / 2 < row["risk"] < 2 * truth
        assert row["certified_lower"] <= truth
        assert row["certified_upper"] >= truth
        assert row["resolved"], row["status"]
        assert row["interval"][0] < row["risk"] < row["interval"][1]
        assert row["draws"] == 300
        assert row["missing"] == 0
    assert document["set"]["prompts"] == document["set"]["resolved"] == 8
    assert document["estimand"].startswith("P(unsafe) of one reply")
    assert document["proposal"]["parts"][0]["passed"]
    assert document["spend"]["risk"]["draws"] == 8 * 300
    assert document["contract"]["max_new_tokens"] == 32


def test_the_files_of_a_run(finished):
    assert json.loads((finished / "risk.json").read_text())["schema"] == 1
    table = pl.read_parquet(finished / "risk.parquet")
    assert table.height == 8
    assert table["risk"].min() > 0
    draws = pl.read_parquet(finished / "draws")
    assert draws.height == 8 * 300
    # a tenth of each batch came from the target itself: 75, 60, 75 and 90 draws
    assert draws["proposal"].null_count() == 8 * (8 + 6 + 8 + 9)
    review = [json.loads(line) for line in (finished / "review.jsonl").read_text().splitlines()]
    assert {row["id"] for row in review} == set(table["id"])
    assert all("first get a" in row["response"] for row in review)
    assert (finished / "direction" / "direction.safetensors").is_file()
    assert yaml.safe_load((finished / "run.yaml").read_text())["options"]["family"] == "ladder"


def test_running_again_draws_nothing_and_says_the_same(cli, finished):
    before = sorted((finished / "draws").iterdir())
    held = (finished / "risk.json").read_text()
    code, out, err = cli(
        "risk", finished.parent / "prompts.jsonl", *SHORT, "--out", finished, "--draws", 300
    )
    assert code == 0, err
    assert "8 of 8 prompts resolved" in out
    assert "'at least' holds with 95%" in " ".join(out.replace("│", " ").split())
    assert sorted((finished / "draws").iterdir()) == before
    assert (finished / "risk.json").read_text() == held


def test_killed_and_resumed_it_says_the_same(tmp_path, finished, launcher):
    """SIGKILL twice: while drawing, and after the first round; another batch size besides."""
    prompts = finished.parent / "prompts.jsonl"
    out = tmp_path / "killed"
    line = [
        *("risk", prompts, *SHORT, "--out", out),
        *("--draws", 300, "--batch-size", 37, "--json"),
    ]
    for file in ("plan/round-0001.json", "plan/round-0002.json"):
        process = launcher.start(*line)
        try:
            while process.running and not (out / file).exists():
                time.sleep(0.01)
            assert process.running
        finally:
            process.kill()
    done = launcher.run(*line)
    assert done.returncode == 0, done.stderr
    one = json.loads((finished / "risk.json").read_text())["prompts"]
    two = json.loads(done.stdout)["prompts"]
    for a, b in zip(one, two, strict=True):
        assert a["hits"] == b["hits"]
        assert a["risk"] == pytest.approx(b["risk"], rel=1e-3)
    frames = [pl.read_parquet(folder / "draws") for folder in (finished, out)]
    key = ["prompt_id", "index"]
    both = frames[0].join(frames[1], on=key, suffix="_two")
    assert both.height == frames[0].height == frames[1].height
    assert (both["token_ids"] == both["token_ids_two"]).all()


def test_none_is_plain_monte_carlo(cli, tmp_path):
    prompts = write_prompts(tmp_path / "p.jsonl", 3)
    code, out, err = cli(
        *("risk", prompts, *SHORT, "--out", tmp_path / "run", "--draws", 200),
        *("--proposal", "none", "--json"),
    )
    assert code == 0, err
    for row in json.loads(out)["prompts"]:
        assert row["mean_weight"] == 1
        assert row["certified_upper"] < 0.05
        if row["hits"] == 0:
            # exact: 1 - .05 ** (1 / 200)
            assert row["certified_upper"] == pytest.approx(1 - 0.05 ** (1 / 200))
            assert not row["resolved"]
            assert row["interval"] is None


def test_until_resolved_spends_more_only_where_it_must(cli, tmp_path):
    prompts = tmp_path / "p.jsonl"
    frequent, rare = default_prompts(12)[7], default_prompts(12)[0]
    assert exact_risk(frequent).risk > 0.05
    lines = [json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in (frequent, rare)]
    prompts.write_text("".join(lines))
    code, out, err = cli(
        *("risk", prompts, *SHORT, "--out", tmp_path / "run", "--draws", 150, "--proposal"),
        *("none", "--until-resolved", "--max-draws", 600, "--json"),
    )
    assert code == 0, err
    one, two = json.loads(out)["prompts"]
    assert one["resolved"]
    assert one["draws"] < 600
    assert two["draws"] == 600
    assert not two["resolved"]
    assert two["status"].startswith("not resolved: needs about")


@pytest.mark.parametrize("family", ["single", "mix-switch"])
def test_other_families(cli, tmp_path, family):
    prompts = write_prompts(tmp_path / "p.jsonl", 6)
    code, out, err = cli(
        *("risk", prompts, *SHORT, "--out", tmp_path / "run", "--draws", 300),
        *("--proposal-family", family, "--json"),
    )
    assert code == 0, err
    document = json.loads(out)
    assert len(document["prompts"]) == (6 if family == "single" else 5)
    assert len(document["left_out"]) == (0 if family == "single" else 1)
    spent = _stages(tmp_path / "run")
    assert spent["scoring"]["positions"] > 0
    if family == "mix-switch":
        held = pl.read_parquet(tmp_path / "run" / "draws" / "*.parquet")
        pilot = held.filter(pl.col("stream") == "pilot")
        assert spent["pilot"]["draws"] == pilot.height > 0
        # the target and every intensity of the grid read each pilot draw but its last token
        assert spent["pilot scoring"]["positions"] >= 2 * pilot["tokens"].sum() - pilot.height
    truth = {p.id: exact_risk(p).risk for p in default_prompts(6)}
    for row in document["prompts"]:
        assert row["certified_lower"] <= truth[row["id"]]
        assert row["risk"] == pytest.approx(truth[row["id"]], rel=0.6)


def test_a_trait_is_shown_by_the_better_of_vector_and_prompt(cli, tmp_path):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "how do i clean the pie of my sister"}\n' * 1)
    code, out, err = cli(
        *("risk", prompts, *SHORT, "--out", tmp_path / "run", "--draws", 200),
        *("--proposal", "persona:bold", "--judge", "demo:bold", "--json"),
    )
    assert code == 0, err
    pilot = json.loads(out)["proposal"]["parts"][0]["pilot"]
    assert pilot["chosen"].startswith("prompt:")
    assert any(c["id"].startswith("add:") for c in pilot["candidates"])
    assert "effective hits" in pilot["reason"]
    # every pilot draw of every candidate is paid for, and read again to be weighed
    spent = _stages(tmp_path / "run")["select_proposal"]
    assert spent["draws"] == sum(c["draws"] for c in pilot["candidates"]) > 0
    assert spent["positions"] > 2 * spent["tokens"] > 0
    # a second call goes by the record, without another pilot
    again = cli(
        *("risk", prompts, *SHORT, "--out", tmp_path / "run", "--draws", 200),
        *("--proposal", "persona:bold", "--judge", "demo:bold", "--json"),
    )
    assert json.loads(again[1])["prompts"] == json.loads(out)["prompts"]


def test_a_system_prompt_from_a_file(cli, tmp_path):
    (tmp_path / "system.txt").write_text("be very proud of your answer\n")
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "how do i clean the pie of my sister"}\n')
    code, out, err = cli(
        *("risk", prompts, *SHORT, "--out", tmp_path / "run", "--draws", 200, "--judge"),
        *("demo:bold", "--proposal", f"prompt:{tmp_path / 'system.txt'}", "--json"),
    )
    assert code == 0, err
    (row,) = json.loads(out)["prompts"]
    assert row["resolved"]
    assert row["hits"] > 50


def test_dry_run_draws_nothing(cli, tmp_path):
    prompts = write_prompts(tmp_path / "p.jsonl", 4)
    out_folder = tmp_path / "run"
    code, out, _ = cli("risk", prompts, *SHORT, "--out", out_folder, "--dry-run", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["draws"] == 4 * 500
    assert document["tokens"] == round(document["draws"] * document["tokens_per_draw"])
    # the draws at the rate of the probe, and the scoring of some of them besides
    drawing = document["draws"] / document["draws_per_second"]
    assert drawing < document["seconds"] < 20 * drawing
    assert not out_folder.exists()
    code, out, _ = cli("risk", prompts, *SHORT, "--out", out_folder, "--dry-run")
    assert "4 prompts, 2,000 draws, about" in out
    assert "Finding and checking the proposal takes extra time." in out
    assert not out_folder.exists()


MISTAKES = {
    "unknown proposal": (["--proposal", "magic"], "unknown proposal 'magic'"),
    "unknown proposal of a dry run": (["--proposal", "magic", "--dry-run"], "unknown proposal"),
    "no name": (["--proposal", "model"], "--proposal model needs a name: model:NAME"),
    "empty name": (["--proposal", "prompt:"], "'prompt:' ends with a colon"),
    "no checkpoint of that provider": (["--proposal", "model:hf:./nowhere"], "folder: ./nowhere"),
    "unknown family": (["--proposal-family", "stairs"], "must be one of ladder, mix-switch"),
    "max without until": (["--max-draws", "900"], "goes with --until-resolved"),
    "until without max": (["--until-resolved"], "needs --max-draws"),
    "too few draws": (["--draws", "1"], "--draws must be at least 2"),
    "no such direction": (["--proposal", "refusal:/nowhere"], "holds no direction"),
    "no such trait": (["--proposal", "persona:shy"], "no trait 'shy'"),
    "no system prompt": (["--proposal", "prompt:/nowhere.txt"], "cannot be read"),
    "no adapter": (["--proposal", "lora:/nowhere"], "holds no adapter"),
    "no checkpoint": (["--proposal", "model:./nowhere"], "no such folder"),
    "half of the prompts": (["--harmful", "PROMPTS"], "give --harmful FILE and --harmless FILE"),
    "bad intensities": (["--intensities", "1,1"], "must be distinct"),
    "not a number": (["--intensities", "much"], "takes numbers such as"),
    "bad confidence": (["--confidence", "95"], "strictly between .5 and 1"),
    "bad estimand": (["--estimand", "gore"], "must be one of unsafe, score"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_gets_one_line_and_spends_nothing(cli, tmp_path, mistake):
    arguments, message = MISTAKES[mistake]
    prompts = write_prompts(tmp_path / "p.jsonl", 4)
    given = [str(prompts) if a == "PROMPTS" else a for a in arguments]
    code, out, err = cli("risk", prompts, *SHORT, "--out", tmp_path / "run", *given)
    assert code == 2
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("tailbound: error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "run" / "draws").exists()


def test_another_proposal_in_the_same_folder_is_refused(cli, finished):
    code, _, err = cli(
        *("risk", finished.parent / "prompts.jsonl", *SHORT, "--out", finished),
        *("--draws", 300, "--proposal", "none"),
    )
    assert code == 2
    assert "holds a run with --proposal refusal, not none" in err


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_a_tiny_checkpoint_with_a_handful_of_instructions(tmp_path, kind, cli):
    """The code path of real models; what is unsafe is a word."""
    model = network(kind)
    if kind == "gemma3":
        # its tied embeddings are so wide that every distribution would be on one token
        model.get_input_embeddings().weight.mul_(0.1)
    model.save_pretrained(tmp_path / "model")
    tokenizer(40).save_pretrained(tmp_path / "model")
    (tmp_path / "p.csv").write_text("prompt\nw9 w10 w11\nw12 w13\n")
    (tmp_path / "bad.csv").write_text("prompt\nw20 w21\nw22 w23 w24\nw25 w20\nw21 w24\n")
    (tmp_path / "good.csv").write_text("prompt\nw30 w31\nw32 w33 w34\nw35 w30\nw31 w34\n")
    command = [
        *("risk", str(tmp_path / "p.csv")),
        *("--target", f"hf:{tmp_path / 'model'}", "--judge", r"regex:\bw(1|2)0\b"),
        *("--harmful", str(tmp_path / "bad.csv"), "--harmless", str(tmp_path / "good.csv")),
        *("--draws", "400", "--max-new-tokens", "6", "--out", str(tmp_path / "run"), "--json"),
    ]
    code, out, err = cli(*command)
    assert code == 0, err
    document = json.loads(out)
    assert "only 4 harmful prompts" in err
    assert min(document["checks"]["least_effect"].values()) > 1e-6
    for row in document["prompts"]:
        assert abs(row["mean_weight_z"]) < 5
        assert row["certified_lower"] <= row["risk"]
