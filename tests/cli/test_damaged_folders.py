"""Random damage to every file of a run folder: one line that says so, or the same result."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from processes import Launcher
from tailbound.errors import TailboundError
from tailbound.predictors.arrays import load_arrays
from tailbound.predictors.head import SCHEMA_VERSION
from tailbound.storage.files import write_atomically
from tailbound.storage.seal import BLANK, is_sealed, seal

Command = Callable[..., tuple[int, str, str]]
#: A file for people, which no command reads back, and one that whole commands check (above).
UNREAD = {"review.jsonl", "direction/direction.safetensors"}
BOUND = ("--budget", "4", "--train-draws", "5", "--test-draws", "5", "--max-new-tokens", "12")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Path:
    """Finished runs of `bound` (tfidf) and `risk`, judged again and summarised."""
    home = tmp_path_factory.mktemp("made")
    rows = [{"id": f"q{i}", "prompt": f"give me the steps to fix lamp {i}"} for i in range(60)]
    file = home / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = home / "few.jsonl"
    few.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    for line in (
        ("bound", file, *BOUND, "--features", "tfidf", "--out", home / "bound"),
        ("risk", few, "--draws", "20", "--max-new-tokens", "12", "--out", home / "risk"),
        ("rejudge", home / "bound", "--judge", "regex:sure"),
        ("rejudge", home / "risk", "--judge", "regex:sure"),
        ("summarize", home / "bound"),
        ("summarize", home / "risk"),
    ):
        done = launcher.run(*line)
        assert done.returncode in (0, 3), done.stderr
    return home


def commands(home: Path, run: Path, kind: str) -> list[tuple[object, ...]]:
    """Every command that reads such a folder; the quick ones first."""
    file, few = home / "p.jsonl", home / "few.jsonl"
    reading: list[tuple[object, ...]] = [
        ("summarize", run, "--json"),
        ("rejudge", run, "--judge", "regex:sure", "--json"),
    ]
    if kind == "bound":
        line = ("bound", file, *BOUND, "--features", "tfidf", "--json", "--out", run)
        return [*reading, ("predict", run, few), line]
    line = ("risk", few, "--draws", 20, "--max-new-tokens", 12, "--json", "--out", run)
    return [*reading, line]


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """One random corruption at the level of bytes."""
    place = rng.randrange(max(1, len(whole)))
    end = min(len(whole), place + rng.randrange(1, 40))
    some = rng.randbytes(rng.randrange(1, 40))
    flipped = bytes([whole[place] ^ (1 << rng.randrange(8))]) if whole else b"x"
    return rng.choice(
        [
            whole[:place] + flipped + whole[place + 1 :],
            whole[:place] + rng.randbytes(1) + whole[place + 1 :],
            whole[:place],
            whole[:place] + some + whole[place:],
            whole[:place] + whole[end:],
            whole[:place] + bytes(end - place) + whole[end:],
            whole + some,
            b"",
        ]
    )


def stable(line: tuple[object, ...], out: str) -> object:
    """What a command printed, but for what it cost and how much of it was done before."""
    if line[0] == "predict":
        return out
    document = json.loads(out)
    for name in ("spend", "judged_now", "judged_before", "stages"):
        document.pop(name, None)
    return document


def corrupt(home: Path, kind: str, cli: Command, times: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    whole = home / kind

    def restore() -> None:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)

    restore()
    lines = commands(home, run, kind)
    expected = []
    for line in lines:
        code, out, err = cli(*line)
        assert code in (0, 3), err
        expected.append(stable(line, out))
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert len(files) > 12
    rng = random.Random(len(files))
    refused = set()
    for name in files:
        for turn in range(times):
            restore()
            (run / name).write_bytes(damaged((whole / name).read_bytes(), rng))
            which = turn % len(lines)
            code, out, err = cli(*lines[which])
            errors = [part for part in err.splitlines() if part.startswith("tailbound: error: ")]
            assert "Traceback" not in err, (name, err)
            if code in (1, 2):
                assert (out, len(errors)) == ("", 1), (name, err)
                refused.add(name.as_posix())
            else:
                assert code in (0, 3), (name, err)
                assert stable(lines[which], out) == expected[which], (name, lines[which])
    assert {"run.yaml", "ledger.json", "prompts.parquet", "draws/part-000001.parquet"} <= refused


@pytest.mark.parametrize("kind", ["bound", "risk"])
def test_damage_is_one_line_or_harmless(
    made: Path, kind: str, tmp_path: Path, cli: Command
) -> None:
    corrupt(made, kind, cli, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bound", "risk"])
def test_more_damage_is_one_line_or_harmless(
    made: Path, kind: str, tmp_path: Path, cli: Command
) -> None:
    corrupt(made, kind, cli, 8, tmp_path)


@pytest.mark.parametrize("kind", ["bound", "risk"])
def test_200_corruptions_of_every_file_are_found(made: Path, kind: str, tmp_path: Path) -> None:
    """By the seal where there is one, else by the reader of the file: one line each."""
    rng = random.Random(kind)
    unsealed = set()
    for path in sorted(made.joinpath(kind).rglob("*")):
        if not path.is_file() or path.name in (".lock", ".lock-holder"):
            continue
        whole = path.read_bytes()
        if not is_sealed(whole):
            unsealed.add(path.relative_to(made / kind).as_posix())
            continue
        for _ in range(200):
            bad = damaged(whole, rng)
            assert bad == whole or not is_sealed(bad), path
    assert unsealed <= {"predictor.npz", "novelty.npz", "tfidf.npz", *UNREAD}, unsealed
    for name in sorted(unsealed - UNREAD):
        file = made / kind / name
        schema = SCHEMA_VERSION if name == "predictor.npz" else 1
        _, expected = load_arrays(file, schema, "a file")
        for _ in range(200):
            bad = tmp_path / name
            bad.write_bytes(damaged(file.read_bytes(), rng))
            found = arrays_or_reason(bad, schema)
            if isinstance(found, str):
                assert "\n" not in found
            else:  # bytes that the format passes over
                assert found.keys() == expected.keys()
                assert all(np.array_equal(found[key], expected[key]) for key in expected)


def arrays_or_reason(path: Path, schema: int) -> dict[str, Any] | str:
    try:
        return load_arrays(path, schema, "a file")[1]
    except TailboundError as error:
        return str(error)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- 1\n- 2\n",
        b"schema: 1\n",
        b"schema: 1\nthreshold: high\ncontract: 3\n",
        b"\x00\x01\x02",
        b"\xff\xfe" + "schema: 1".encode("utf-16-le"),
        BOMB.encode(),
        b"[" * 5_000,
        b"x: " + b"y" * 50_000_000,
        b"!!python/object/apply:os.system ['true']\n",
    ],
    ids=["empty", "list", "bare", "types", "nul", "utf-16", "bomb", "deep", "huge", "object"],
)
@pytest.mark.parametrize("with_checksum", [False, True])
def test_an_odd_manifest_is_one_line(
    made: Path, content: bytes, with_checksum: bool, tmp_path: Path, cli: Command
) -> None:
    """Also one that bears the right checksum, by somebody who tries."""
    if with_checksum:
        content = seal(content + f'\nchecksum: "{BLANK}"\n'.encode())
    run = tmp_path / "run"
    shutil.copytree(made / "bound", run)
    write_atomically(run / "run.yaml", content)
    for line in commands(made, run, "bound"):
        code, out, err = cli(*line)
        assert code in (1, 2), (line, err)
        assert (out, err.count("\n")) == ("", 1), err
        assert "run.yaml" in err
        assert len(err) < 1_000


def test_a_manifest_is_not_edited_by_hand(made: Path, tmp_path: Path, cli: Command) -> None:
    """Another threshold in it would give other numbers from the same draws."""
    run = tmp_path / "run"
    shutil.copytree(made / "risk", run)
    text = (run / "run.yaml").read_text()
    assert yaml.safe_load(text)["threshold"] == 0.5
    (run / "run.yaml").write_text(text.replace("threshold: 0.5", "threshold: 0.9"))
    code, out, err = cli("summarize", run)
    assert (code, out) == (1, "")
    assert "run.yaml is damaged" in err
    assert "options are changed on the command line" in err
