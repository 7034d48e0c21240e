"""Runs of the demo model match what is on record; of what is tampered with, exactly that is found.

Whoever tampers here puts the checksums right again, unless a test says otherwise.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

import tailbound
from tailbound.core.prompt import Prompt
from tailbound.demo.files import default_prompts, model_folder
from tailbound.demo.tour import prompt_lines
from tailbound.errors import UsageError
from tailbound.huggingface.fingerprint import file_revision
from tailbound.runs.identity import read_identity
from tailbound.runs.manifest import read_manifest
from tailbound.storage.files import write_json
from tailbound.storage.parquet import write_sealed
from tailbound.storage.seal import BLANK, seal
from tailbound.targets.huggingface import local_revision
from tailbound.workflows.verify import Verification
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.risk import check_risk
from tailbound.workflows.verify.working_copy import working_copy
from tiny_classifiers import MANY, save

RISKS = {"risk.json", "risk.parquet", "review.jsonl"}
BOUNDS = {"bound.json", "evaluation.json", "predictions.parquet"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small runs, each made once."""
    root = tmp_path_factory.mktemp("runs")
    prompts = default_prompts(60)
    (root / "prompts.jsonl").write_text(prompt_lines(prompts))
    (root / "few.jsonl").write_text(prompt_lines(prompts[:3]))
    few = root / "few.jsonl"
    sizes: dict[str, Any] = {"budget": 5, "train_draws": 20, "test_draws": 20, "progress": None}
    tailbound.bound(root / "prompts.jsonl", out=root / "bound", **sizes)
    tailbound.bound(prompts, out=root / "words", features="tfidf", **sizes)
    own = [{"prompt": p.text, "p_hat": 0.05 + n / 1000} for n, p in enumerate(prompts)]
    tailbound.bound(own, out=root / "own", **sizes)
    tailbound.risk(few, out=root / "none", draws=40, proposal="none", progress=None)
    tailbound.risk(few, out=root / "ladder", draws=100, progress=None)
    for family in ("single", "mix-switch"):
        tailbound.risk(few, out=root / family, draws=40, proposal_family=family, progress=None)
    words = root / "words.txt"
    words.write_text("first\n")
    other = f"keywords:{words}"
    for name in ("none", "ladder"):
        shutil.copytree(root / name, root / f"{name}-rejudged")
        options = {"proposal": "none", "draws": 40} if name == "none" else {"draws": 100}
        tailbound.risk(
            few, out=root / f"{name}-rejudged", judge=other, rejudge=True, progress=None, **options
        )
    tailbound.risk(
        few,
        out=root / "splitting",
        draws=40,
        particles=20,
        proposal="splitting",
        judge="demo:graded",
        progress=None,
    )
    rows = [
        {"id": f"q{n % 3}", "prompt": f"q{n % 3}", "response": f"r{n}", "score": n % 2}
        for n in range(30)
    ]
    (root / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tailbound.import_draws(root / "table.jsonl", root / "import", progress=None)
    tailbound.summarize(root / "import", k=(7,), alpha=0.2, progress=None)
    tailbound.rejudge(root / "import", "regex:7", progress=None)
    tailbound.rejudge(root / "import", "regex:8", only_missing=True, progress=None)
    tailbound.summarize(root / "bound", progress=None)
    tailbound.rejudge(root / "bound", other, progress=None)
    return root


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the runs, to tamper with."""
    return lambda name: Path(shutil.copytree(home / name, tmp_path / "run"))


def wrong(folder: Path) -> dict[str, str]:
    """What a verification finds that differs or is missing, outside the history of results.

    That differs too where a result was changed, or the draws that it rests on
    (tests/runs/test_history.py).
    """
    return wrong_of(tailbound.verify(folder, progress=None))


def wrong_of(found: Verification) -> dict[str, str]:
    checks = [check for check in found.checks if check.wrong and "results/" not in check.name]
    return {check.name: check.outcome for check in checks}


def places(found: Verification, name: str) -> list[str]:
    (check,) = (one for one in found.checks if one.name == name)
    return [one.place for one in check.differences]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON document and seal it again."""
    document = json.loads(path.read_text())
    del document["checksum"]
    change(document)
    write_json(path, document)


def rewrite(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame], *, of: str = "") -> None:
    """Change a Parquet file and seal it again."""
    write_sealed(path, change(pl.read_parquet(path)), of=of)


def shards(folder: Path, name: str = "draws") -> list[Path]:
    return sorted((folder / name).glob("part-*.parquet"))


def judged_otherwise(folder: Path, stream: str, unsafe: bool) -> None:
    """Turn the verdict on the first draw of a stream that is (or is not) unsafe."""
    digest = read_identity(folder).digest
    for shard in shards(folder):
        frame = pl.read_parquet(shard)
        scores = frame["score"].to_list()
        for number, (name, score) in enumerate(zip(frame["stream"], scores, strict=True)):
            if name == stream and (score >= 0.5) == unsafe:
                scores[number] = 0.0 if unsafe else 1.0
                write_sealed(shard, frame.with_columns(score=pl.Series(scores)), of=digest)
                return
    raise AssertionError(f"no such draw in {stream}")


# --- what is not tampered with --------------------------------------------------------------------

EVERY = (
    *("bound", "words", "own", "none", "ladder", "single", "mix-switch"),
    *("none-rejudged", "ladder-rejudged", "splitting", "import"),
)


@pytest.mark.parametrize("name", EVERY)
def test_everything_matches_and_nothing_is_written(home: Path, name: str) -> None:
    before = {path: path.read_bytes() for path in (home / name).rglob("*") if path.is_file()}
    found = tailbound.verify(home / name, progress=None)
    assert [check for check in found.checks if check.wrong] == []
    assert found.matches
    assert before == {
        path: path.read_bytes() for path in (home / name).rglob("*") if path.is_file()
    }
    names = [check.name for check in found.checks if check.outcome == "matches"]
    results = BOUNDS if found.command == "bound" else RISKS if found.command == "risk" else set()
    assert results <= set(names)
    assert len(names) == len(set(names))


def test_what_would_take_a_model_is_listed(home: Path) -> None:
    found = tailbound.verify(home / "ladder", progress=None)
    listed = {check.name for check in found.checks if check.outcome == "not recomputed"}
    assert {"scores/ (others)", "checks.json", "direction", "spend.json (stages)"} <= listed
    found = tailbound.verify(home / "bound", progress=None)
    listed = {check.name for check in found.checks if check.outcome == "not recomputed"}
    assert {"p_hat.parquet", "predictor.npz", "novelty.npz"} <= listed


def test_words_are_predicted_from_again(home: Path) -> None:
    found = tailbound.verify(home / "words", progress=None)
    assert {c.name: c.outcome for c in found.checks}["p_hat.parquet"] == "matches"


def test_a_result_goes_to_json_and_back(home: Path) -> None:
    found = tailbound.verify(home / "none", progress=None)
    assert Verification.from_dict(json.loads(found.to_json())) == found
    assert found.frame().height == len(found.checks)
    assert found.facts()["everything matches"] is True


def test_no_model_is_loaded(home: Path) -> None:
    script = (
        "import sys, tailbound\n"
        f"assert tailbound.verify({str(home / 'ladder')!r}, progress=None).matches\n"
        f"assert tailbound.verify({str(home / 'bound')!r}, progress=None).matches\n"
        "assert not {'torch', 'transformers', 'aiohttp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# --- results --------------------------------------------------------------------------------------


def test_a_number_in_bound_json(run: Callable[[str], Path]) -> None:
    folder = run("bound")
    edit(folder / "bound.json", lambda d: d["bound"].update(level=d["bound"]["level"] * (1 + 1e-7)))
    found = tailbound.verify(folder, progress=None)
    assert wrong(folder) == {"bound.json": "differs"}
    assert places(found, "bound.json") == ["bound.level"]
    assert tailbound.verify(folder, tolerance=1e-6, progress=None).matches


def test_a_count_is_not_a_number_that_may_be_off(run: Callable[[str], Path]) -> None:
    folder = run("bound")
    edit(folder / "bound.json", lambda d: d["bound"].update(spent=d["bound"]["spent"] + 1))
    assert not tailbound.verify(folder, tolerance=0.5, progress=None).matches


def test_a_number_changed_by_hand_breaks_the_checksum_too(run: Callable[[str], Path]) -> None:
    folder = run("none")
    path = folder / "risk.json"
    path.write_text(path.read_text().replace('"draws": 40', '"draws": 41', 1))
    found = tailbound.verify(folder, progress=None)
    assert wrong(folder) == {"risk.json": "differs"}
    first, second = places(found, "risk.json")
    assert first == "checksum"
    assert second.endswith(".draws")


@pytest.mark.parametrize("name", ["none", "ladder", "splitting"])
def test_a_number_in_risk_json(run: Callable[[str], Path], name: str) -> None:
    folder = run(name)
    edit(folder / "risk.json", lambda d: d["set"].update(mean=d["set"]["mean"] * 0.999 + 1e-9))
    found = tailbound.verify(folder, progress=None)
    assert wrong(folder) == {"risk.json": "differs"}
    assert places(found, "risk.json") == ["set.mean"]


@pytest.mark.parametrize(
    ("name", "file"),
    [("bound", "predictions.parquet"), ("ladder", "risk.parquet"), ("none", "risk.parquet")],
)
def test_a_cell_of_a_table(run: Callable[[str], Path], name: str, file: str) -> None:
    folder = run(name)
    column = "lower_bound" if name == "bound" else "certified_upper"
    rewrite(folder / file, lambda frame: frame.with_columns(pl.col(column) + 1))
    assert wrong(folder) == {file: "differs"}


def test_a_prompt_left_out_of_the_risks(run: Callable[[str], Path]) -> None:
    """The mean of the others is what it would be, in all files of results: only the draws tell."""
    folder = run("none")
    kept = json.loads((folder / "risk.json").read_text())["prompts"][1:]

    def change(document: dict[str, Any]) -> None:
        document["prompts"] = kept
        document["set"].update(prompts=2, mean=float(np.mean([one["risk"] for one in kept])))

    edit(folder / "risk.json", change)
    rewrite(folder / "risk.parquet", lambda frame: frame[1:])
    assert {"risk.json", "risk.parquet"} <= set(wrong(folder))


@pytest.mark.parametrize("name", ["bound.json", "evaluation.json", "summary.json", "spend.json"])
def test_a_truncated_document(run: Callable[[str], Path], name: str) -> None:
    folder = run("bound")
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    assert wrong(folder) == {name: "differs"}


@pytest.mark.parametrize("name", ["bound.json", "evaluation.json", "predictions.parquet"])
def test_a_result_that_was_removed(run: Callable[[str], Path], name: str) -> None:
    folder = run("bound")
    (folder / name).unlink()
    assert wrong(folder) == {name: "missing"}


def test_numbers_of_a_summary_and_of_an_agreement(run: Callable[[str], Path]) -> None:
    folder = run("import")
    edit(folder / "summary.json", lambda d: d["streams"][0]["prompts"][0].update(unsafe=4))
    (agreement, _) = sorted((folder / "verdicts").glob("*/agreement.json"))
    edit(agreement, lambda d: d["agreement"].update(both_safe=d["agreement"]["both_safe"] + 1))
    place = agreement.relative_to(folder).as_posix()
    assert wrong(folder) == {"summary.json": "differs", place: "differs"}


def test_a_risk_under_another_judge(run: Callable[[str], Path]) -> None:
    folder = run("ladder-rejudged")
    (path,) = (folder / "verdicts").glob("*/risk.json")
    edit(path, lambda d: d["prompts"][0].update(risk=0.5))
    assert wrong(folder) == {path.relative_to(folder).as_posix(): "differs"}


# --- the record -----------------------------------------------------------------------------------


@pytest.mark.parametrize("unsafe", [True, False])
def test_a_verdict_in_the_ledger_of_risks(run: Callable[[str], Path], unsafe: bool) -> None:
    folder = run("ladder" if unsafe else "none")
    judged_otherwise(folder, "risk", unsafe)
    found = wrong(folder)
    assert {"risk.json", "verdicts"} <= set(found) <= {*RISKS, "verdicts"}
    (place,) = places(tailbound.verify(folder, progress=None), "verdicts")
    assert place.startswith("risk, prompt ")


@pytest.mark.parametrize("stream", ["train", "calibration", "test"])
def test_a_verdict_in_the_ledger_of_a_bound(run: Callable[[str], Path], stream: str) -> None:
    folder = run("own" if stream == "calibration" else "bound")
    judged_otherwise(folder, stream, unsafe=False)
    found = wrong(folder)
    assert found.pop("verdicts") == "differs"
    assert found
    rest = {"predictor.npz (counts)", "summary.json", "draws/", "spend.json"}
    assert {name for name in found if not name.endswith("agreement.json")} <= BOUNDS | rest


def test_a_verdict_turned_safe_before_the_end_leaves_draws_missing(
    run: Callable[[str], Path],
) -> None:
    """A prompt that stopped there should have been followed further."""
    folder = run("own")
    judged_otherwise(folder, "calibration", unsafe=True)
    assert wrong(folder).get("draws/") == "missing"


def test_a_removed_shard(run: Callable[[str], Path]) -> None:
    folder = run("bound")
    second = shards(folder)[1]
    second.unlink()
    found = wrong(folder)
    assert found[f"draws/{second.name}"] == "missing"
    assert set(found.values()) == {"missing"} or "bound.json" not in found


def test_the_last_shard(run: Callable[[str], Path]) -> None:
    """No gap in the numbers says that it is gone; the plan does."""
    folder = run("ladder")
    shards(folder)[-1].unlink()
    found = tailbound.verify(folder, progress=None)
    assert wrong_of(found) == {"draws/": "missing"}
    outcomes = {c.name: c.outcome for c in found.checks}
    assert outcomes["risk.json"] == "not recomputed"


def test_a_draw_twice_and_a_shard_of_another_run(run: Callable[[str], Path], home: Path) -> None:
    folder = run("none")
    first = shards(folder)[0]
    shutil.copy(first, first.with_name("part-000002.parquet"))
    assert wrong(folder) == {"draws/": "differs"}
    shutil.copy(shards(home / "ladder")[0], first.with_name("part-000002.parquet"))
    assert wrong(folder) == {"draws/part-000002.parquet": "differs"}


def test_a_flipped_bit_in_a_shard(run: Callable[[str], Path]) -> None:
    folder = run("none")
    first = shards(folder)[0]
    data = bytearray(first.read_bytes())
    data[len(data) // 3] ^= 1
    first.write_bytes(data)
    found = tailbound.verify(folder, progress=None)
    assert {c.name for c in found.checks if c.wrong} == {"draws/part-000001.parquet"}
    assert {c.name: c.outcome for c in found.checks}["risk.json"] == "not recomputed"


def densities(folder: Path, change: Callable[[dict[str, Any]], list[float]]) -> None:
    """Change the log-densities of every draw."""
    of = f"{read_identity(folder).digest} scores and turns"
    for shard in shards(folder, "scores"):
        frame = pl.read_parquet(shard)
        values = [change(row) for row in frame.iter_rows(named=True)]
        write_sealed(
            shard,
            frame.with_columns(log_densities=pl.Series(values, dtype=pl.List(pl.Float64))),
            of=of,
        )


def test_scores(run: Callable[[str], Path]) -> None:
    """Targets that look a little safer than they are: weights of steered draws shrink."""
    folder = run("ladder")
    densities(folder, lambda row: [row["log_densities"][0] - 0.01, *row["log_densities"][1:]])
    found = wrong(folder)
    assert "risk.json" in found
    assert set(found) <= RISKS | {"scores/ (own)"}


def test_scores_forged_together_with_the_results(run: Callable[[str], Path]) -> None:
    """Results that follow from forged scores: what each draw was sampled with gives them away."""
    folder = run("ladder")
    densities(folder, lambda row: [row["log_densities"][0] - 1.0, *row["log_densities"][1:]])
    # the results are made again from forged scores, as somebody with this package would
    with working_copy(folder) as copy:
        check_risk(Findings(folder, 1e-9), read_manifest(folder), copy)
        for name in RISKS:
            shutil.copy(copy / name, folder / name)
    assert wrong(folder) == {"scores/ (own)": "differs"}


def test_a_removed_shard_of_scores(run: Callable[[str], Path]) -> None:
    folder = run("ladder")
    shards(folder, "scores")[-1].unlink()
    assert wrong(folder) == {"scores/": "missing"}


def test_counts_in_the_plan(run: Callable[[str], Path]) -> None:
    folder = run("ladder")

    def swap(document: dict[str, Any]) -> None:
        for counts in document["batches"].values():
            counts[0], counts[1] = counts[1], counts[0]

    edit(folder / "plan" / "round-0001.json", swap)
    assert "plan/" in wrong(folder)


def test_a_removed_round(run: Callable[[str], Path]) -> None:
    folder = run("ladder")
    rounds = sorted((folder / "plan").glob("round-*.json"))
    assert len(rounds) == 4
    rounds[-1].unlink()
    assert wrong(folder) == {"plan/": "differs"}
    shutil.copytree(folder, folder.parent / "second")
    (folder.parent / "second" / "plan" / "round-0002.json").unlink()
    assert wrong(folder.parent / "second") == {
        "plan/": "differs",
        "plan/round-0002.json": "missing",
    }


def test_a_truncated_round_and_a_truncated_lesson(run: Callable[[str], Path]) -> None:
    folder = run("ladder")
    for name in ("round-0001.json", "lesson-0002.json"):
        path = folder / "plan" / name
        path.write_bytes(path.read_bytes()[:-30])
    assert wrong(folder) == {
        f"plan/{n}-000{d}.json": "differs" for n, d in (("round", 1), ("lesson", 2))
    }


def test_births_and_levels_of_splitting(run: Callable[[str], Path]) -> None:
    folder = run("splitting")

    def change(document: dict[str, Any]) -> None:
        rows = next(iter(document["scores"].values()))
        rows[0]["scores"][-1] = 1.0 - rows[0]["scores"][-1]

    edit(folder / "splitting" / "levels-0001.json", change)
    assert wrong(folder)


def test_another_threshold_or_judge_in_run_yaml(run: Callable[[str], Path]) -> None:
    folder = run("none")
    path = folder / "run.yaml"
    document = yaml.safe_load(path.read_text())
    del document["checksum"]
    document["judge_id"] = "demo:unsafe@0"
    text = yaml.safe_dump(document, sort_keys=False)
    path.write_bytes(seal(f'{text}checksum: "{BLANK}"\n'.encode()))
    found = tailbound.verify(folder, progress=None)
    assert {c.name: c.outcome for c in found.checks if c.wrong} == {
        "ledger.json": "differs",
        "judge": "differs",
    }
    assert places(found, "ledger.json") == ["judge"]


def test_another_judge_in_the_draws(run: Callable[[str], Path]) -> None:
    folder = run("none")
    digest = read_identity(folder).digest
    rewrite(shards(folder)[0], lambda f: f.with_columns(judge=pl.lit("demo:other@1")), of=digest)
    assert wrong(folder) == {"draws/": "differs"}


def test_another_judge_of_further_verdicts(run: Callable[[str], Path]) -> None:
    folder = run("import")
    path = sorted((folder / "verdicts").glob("*/judge.json"))[0]
    edit(path, lambda d: d.update(judge_id="regex:other"))
    assert wrong(folder)[path.relative_to(folder).as_posix()] == "differs"


def test_the_text_of_a_reply(run: Callable[[str], Path]) -> None:
    """An unsafe reply that reads like any other, its score left as it was."""
    folder = run("ladder")
    digest = read_identity(folder).digest
    for shard in shards(folder):
        unsafe = pl.col("score") >= 0.5
        text = pl.when(unsafe).then(pl.lit("no.")).otherwise(pl.col("text")).alias("text")
        rewrite(shard, lambda frame, text=text: frame.with_columns(text), of=digest)
    assert wrong(folder) == {"verdicts": "differs", "review.jsonl": "differs"}


def texts(folder: Path, change: Callable[[str], str]) -> None:
    def turn(frame: pl.DataFrame) -> pl.DataFrame:
        messages = frame["messages"].to_list()
        messages[0] = json.dumps([["user", change(json.loads(messages[0])[0][1])]])
        return frame.with_columns(messages=pl.Series(messages))

    rewrite(folder / "prompts.parquet", turn)


def test_the_text_of_a_prompt(run: Callable[[str], Path]) -> None:
    """Against its own id where that is a hash of it, else against the file of prompts."""
    folder = run("own")
    texts(folder, lambda text: f"{text}!")
    assert wrong(folder) == {"prompts.parquet": "differs"}


def test_the_text_of_a_prompt_with_an_id_of_its_own(run: Callable[[str], Path]) -> None:
    folder = run("none")
    texts(folder, lambda text: f"{text}!")
    assert wrong(folder) == {"prompts file": "differs"}


def test_the_file_of_prompts_as_it_is_now(run: Callable[[str], Path], tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text(prompt_lines([Prompt(id=p.id, messages=p.messages) for p in default_prompts(2)]))
    folder = tmp_path / "new"
    tailbound.risk(few, out=folder, draws=20, proposal="none", progress=None)
    assert wrong(folder) == {}
    few.write_text(few.read_text().replace("how", "why"))
    assert wrong(folder) == {"prompts file": "differs"}
    few.unlink()
    found = tailbound.verify(folder, progress=None)
    assert {c.name: c.outcome for c in found.checks}["prompts file"] == "not recomputed"


def test_an_imported_file_and_a_list_of_words_as_they_are_now(tmp_path: Path) -> None:
    table, words = tmp_path / "table.jsonl", tmp_path / "words.txt"
    table.write_text('{"prompt_id": "a", "response": "x", "score": 1.0}\n')
    words.write_text("pie\n")
    tailbound.import_draws(table, tmp_path / "import", progress=None)
    tailbound.risk(
        default_prompts(1), out=tmp_path / "risk", draws=20, proposal="none",
        judge=f"keywords:{words}", progress=None,
    )  # fmt: skip
    assert wrong(tmp_path / "import") == wrong(tmp_path / "risk") == {}
    table.write_text('{"prompt_id": "a", "response": "x", "score": 0.0}\n')
    words.write_text("pies\n")
    assert wrong(tmp_path / "import") == {"imported file": "differs"}
    assert wrong(tmp_path / "risk") == {"judge": "differs"}


def test_a_model_in_a_folder_as_it_is_now(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder("model"), tmp_path / "model"))
    tailbound.risk(
        default_prompts(1), out=tmp_path / "run", target=f"hf:{folder}", draws=20,
        proposal="none", judge="regex:pie", max_new_tokens=16, progress=None,
    )  # fmt: skip
    assert wrong(tmp_path / "run") == {}
    config = folder / "config.json"
    config.write_text(config.read_text() + "\n")
    assert wrong(tmp_path / "run") == {"model": "differs"}
    shutil.rmtree(folder)
    found = tailbound.verify(tmp_path / "run", progress=None)
    assert {c.name: c.outcome for c in found.checks}["model"] == "not recomputed"


def test_the_revision_of_a_gguf_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF and more")
    assert local_revision(str(file)) == file_revision(file)
    assert local_revision(f"{tmp_path}?gguf=model.gguf") == file_revision(file)
    assert local_revision("org/name") is None


@pytest.mark.parametrize("name", ["bound", "words", "ladder-rejudged", "splitting", "import"])
def test_one_wrong_bit_in_any_file(home: Path, name: str, tmp_path: Path) -> None:
    """It is found, or the folder is no longer a run: one line, and never a traceback."""
    folder = tmp_path / "run"
    files = [path for path in (home / name).rglob("*") if path.is_file()]
    rng = np.random.default_rng(len(files))
    for path in sorted(files):
        data = bytearray(path.read_bytes())
        if path.name.startswith(".") or not data:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(home / name, folder)
        data[int(rng.integers(len(data)))] ^= 1
        (folder / path.relative_to(home / name)).write_bytes(data)
        if path.name == "run.yaml":
            with pytest.raises(UsageError, match=r"run\.yaml is damaged"):
                tailbound.verify(folder, progress=None)
            continue
        found = tailbound.verify(folder, progress=None)
        # the zip format passes over some bytes of its own
        assert not found.matches or path.suffix == ".npz", path


# --- the command ----------------------------------------------------------------------------------


def test_exit_codes_and_lines(run: Callable[[str], Path], cli: Any, tmp_path: Path) -> None:
    folder = run("none")
    code, out, _ = cli("verify", folder)
    assert code == 0
    assert "matches         risk.json" in out
    assert out.splitlines()[-1].startswith("all ")
    edit(folder / "risk.json", lambda d: d["prompts"][0].update(hits=17))
    code, out, _ = cli("verify", folder)
    assert code == 3
    assert "].hits: 17 is recorded, " in out
    code, out, _ = cli("verify", folder, "--json")
    assert code == 3
    assert json.loads(out)["matches"] is False
    (folder / "run.yaml").write_text("command: risk\n")
    code, out, err = cli("verify", folder)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("tailbound: error: ")
    code, out, err = cli("verify", tmp_path)
    assert (code, out) == (2, "")
    assert "is not a run folder" in err


def test_a_wrong_tolerance(home: Path) -> None:
    with pytest.raises(UsageError, match="tolerance"):
        tailbound.verify(home / "none", tolerance=-1.0, progress=None)


def test_a_judge_of_ones_own_is_compared_by_its_source_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = tmp_path / "my_own_judge.py"
    source.write_text("def unsafe(response):\n    return len(response) > 20\n")
    name = "python:my_own_judge:unsafe"
    some = ["how do i clean the pie"]
    tailbound.risk(some, out="run", draws=20, proposal="none", judge=name, progress=None)
    found = {one.name: one.outcome for one in tailbound.verify("run", progress=None).checks}
    assert (found["judge"], found["verdicts"]) == ("matches", "not recomputed")
    source.write_text("raise SystemExit('it was run')\n")
    found = {one.name: one.outcome for one in tailbound.verify("run", progress=None).checks}
    assert found["judge"] == "differs"
    source.unlink()
    found = {one.name: one.outcome for one in tailbound.verify("run", progress=None).checks}
    assert found["judge"] == "not recomputed"


def test_a_judge_in_a_folder_is_compared_by_its_files(tmp_path: Path) -> None:
    weights = save(tmp_path / "weights", **MANY)
    judge = f"classifier:{weights}?label=toxic"
    some = ["how do i clean the pie"]
    run = tmp_path / "run"
    tailbound.risk(some, out=run, draws=20, proposal="none", judge=judge, progress=None)
    assert wrong(run) == {}
    outcomes = {one.name: one.outcome for one in tailbound.verify(run, progress=None).checks}
    assert (outcomes["judge"], outcomes["verdicts"]) == ("matches", "not recomputed")
    save(weights, seed=1, **MANY)
    assert wrong(run) == {"judge": "differs"}
    shutil.rmtree(weights)
    outcomes = {one.name: one.outcome for one in tailbound.verify(run, progress=None).checks}
    assert outcomes["judge"] == "not recomputed"


# --- monitoring -----------------------------------------------------------------------------------


@pytest.fixture
def monitored(run: Callable[[str], Path]) -> Path:
    folder = run("none")
    rows = [{"draws": 50, "unsafe": int(n == 3)} for n in range(6)]
    tailbound.monitor(folder, rows, reference=0.05, by="overall")
    assert wrong(folder) == {}
    return folder


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d.update(e_value=2 * d["e_value"]), "e_value"),
        (lambda d: d.update(margin=0.5), "statement"),
        (lambda d: d.update(reference=0.01), "statement"),
        (lambda d: d["shares"].update(overall=0.5), "shares.overall"),
        (lambda d: d.update(draws=10), "draws"),
        (lambda d: d.update(unsafe=0), "unsafe"),
        (lambda d: d["units"][0].update(share=0.5), "e_value"),
    ],
)
def test_where_monitoring_stands(
    monitored: Path, change: Callable[[dict[str, Any]], object], place: str
) -> None:
    edit(monitored / "monitor.json", change)
    found = tailbound.verify(monitored, progress=None)
    assert wrong(monitored) == {"monitor.json": "differs"}
    assert place in places(found, "monitor.json")


def test_an_alarm_that_was_taken_out(run: Callable[[str], Path]) -> None:
    folder = run("none")
    rows = [{"draws": 50, "unsafe": 50} for _ in range(6)]
    state = tailbound.monitor(folder, rows, reference=0.05, by="overall")
    assert state.alarm is not None
    assert wrong(folder) == {}
    edit(folder / "monitor.json", lambda d: d.update(alarm=None))
    assert places(tailbound.verify(folder, progress=None), "monitor.json") == ["alarm"]
