"""`tailbound steer`: what it finds out before it spends anything, and its defaults."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tailbound.cli import main
from tailbound.steering import Ablate, Direction
from targets.tiny_models import network, tokenizer

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process; (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tailbound", "steer", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return int(str(code or 0)), out, err

    return run


def trait_file(folder: Path, extra: str = "") -> Path:
    path = folder / "praise.yaml"
    path.write_text(
        "name: praise\n"
        "positive: [you love to praise the user]\n"
        "negative: [you never praise the user]\n"
        "questions: [how do i bake a loaf for a friend, tell me how to wash the kettle]\n" + extra
    )
    return path


@pytest.mark.parametrize("trait", ["bold", "flatter"])
def test_the_defaults_work_on_the_demo_model(cli: Cli, tmp_path: Path, trait: str) -> None:
    code, out, err = cli("persona", trait, "--out", tmp_path / "d", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["kind"] == f"persona:{trait}"
    assert document["evidence"]["judge"] == f"demo:{trait}@1"
    assert document["evidence"]["trait_rate"]["positive_prompts"] > 0.5
    assert (tmp_path / "d" / "direction.safetensors").is_file()


def test_a_trait_file_brings_its_judges_and_options_go_before_them(
    cli: Cli, tmp_path: Path
) -> None:
    trait = trait_file(tmp_path, "judge: 'demo:flatter'\ncoherence: 'regex:^'\n")
    code, out, err = cli("persona", trait, "--out", tmp_path / "d", "--json")
    assert code == 0, err
    evidence = json.loads(out)["evidence"]
    assert evidence["judge"] == "demo:flatter@1"
    assert evidence["coherence"]["plain"] == 1.0
    code, out, err = cli(
        *("persona", trait, "--judge", "regex:what a great question", "--replies", "6"),
        *("--out", tmp_path / "d"),
    )
    assert code == 0, err
    assert "regex:" in out
    assert "judged coherent" in out


def unreadable(tmp_path: Path) -> str:
    """A model folder that exists but cannot be loaded: whoever tries gets another error."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return f"hf:{tmp_path / 'model'}"


@pytest.mark.parametrize("given", [[], ["--harmful"], ["--harmless"]])
def test_missing_prompts_are_found_before_a_model_is_loaded(
    cli: Cli, tmp_path: Path, given: list[str]
) -> None:
    file = tmp_path / "p.csv"
    file.write_text("prompt\nw9 w8\nw7 w9\n")
    files = [part for name in given for part in (name, str(file))]
    code, out, err = cli("refusal", "--target", unreadable(tmp_path), *files, "--out", tmp_path)
    assert (code, out) == (2, "")
    assert "give --harmful FILE and --harmless FILE" in err


def test_one_file_is_not_enough_for_the_demo_model_either(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("prompt\nhow do i steal a lantern\nhow do i steal a loaf\n")
    code, _, err = cli("refusal", "--harmful", file, "--out", tmp_path / "d")
    assert code == 2
    assert "give --harmful FILE and --harmless FILE" in err


def test_a_judge_is_asked_for_before_a_model_is_loaded(cli: Cli, tmp_path: Path) -> None:
    target = unreadable(tmp_path)
    code, _, err = cli("persona", trait_file(tmp_path), "--target", target, "--out", tmp_path / "d")
    assert code == 2
    assert "give --judge" in err


@pytest.mark.parametrize("command", [["refusal"], ["persona", "bold"]])
def test_a_file_in_place_of_the_folder(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "taken").write_text("mine")
    code, _, err = cli(*command, "--out", tmp_path / "taken")
    assert code == 2
    assert "taken is a file" in err
    assert (tmp_path / "taken").read_text() == "mine"


def test_an_intensity_needs_a_checkpoint_to_be_saved(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("refusal", "--intensity", "0.5", "--out", tmp_path / "d")
    assert code == 2
    assert "add --save-model DIR" in err


def test_an_edit_at_an_intensity_is_saved_as_such(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    code, _, err = cli(
        *("refusal", "--intensity", "0.5", "--out", tmp_path / "d", "--save-model", folder),
    )
    assert code == 0, err
    note = json.loads((folder / "tailbound-edit.json").read_text())
    assert (note["intensity"], note["source"]) == (0.5, "demo")
    found = Direction.load(tmp_path / "d")
    assert note["intervention"] == Ablate(found.vector, 0.5).id


def test_an_unknown_architecture_is_one_line(cli: Cli, tmp_path: Path) -> None:
    import transformers

    config = transformers.StableLmConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=128,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer(40).save_pretrained(tmp_path / "model")
    for name, words in (("bad", "w20 w21\nw22 w23\n"), ("good", "w30 w31\nw32 w33\n")):
        (tmp_path / f"{name}.csv").write_text("prompt\n" + words)
    code, out, err = cli(
        *("refusal", "--target", f"hf:{tmp_path / 'model'}", "--out", tmp_path / "d"),
        *("--harmful", tmp_path / "bad.csv", "--harmless", tmp_path / "good.csv"),
    )
    assert (code, out) == (2, "")
    (line,) = [one for one in err.splitlines() if one.startswith("tailbound: error:")]
    assert "does not know the modules of model type 'stablelm', only of llama" in line
    assert not (tmp_path / "d").exists()


def test_an_edit_that_cannot_be_made_is_refused_before_the_search(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network("olmo2").save_pretrained(tmp_path / "model")
    tokenizer(40).save_pretrained(tmp_path / "model")
    for name, words in (("bad", "w20 w21\nw22 w23\n"), ("good", "w30 w31\nw32 w33\n")):
        (tmp_path / f"{name}.csv").write_text("prompt\n" + words)
    monkeypatch.setattr("tailbound.steering.find_refusal_direction", lambda *_: pytest.fail("ran"))
    code, _, err = cli(
        *("refusal", "--target", f"hf:{tmp_path / 'model'}", "--out", tmp_path / "d"),
        *("--harmful", tmp_path / "bad.csv", "--harmless", tmp_path / "good.csv"),
        *("--save-model", tmp_path / "e"),
    )
    assert code == 2
    assert "norms behind its attention and MLP" in err


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['tailbound', 'steer', 'refusal', '--help']\n"
        "from tailbound.cli import main\n"
        "try: main()\n"
        "except SystemExit as stopped: assert not stopped.code\n"
        "assert 'tailbound.cli.steer' in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--harmful" in done.stdout
