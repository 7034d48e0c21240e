"""`tailbound ledger`: every kind of damage has its line, and what is set aside is drawn again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import tailbound
from tailbound.runs import read
from tailbound.runs.identity import read_identity
from tailbound.storage.parquet import write_sealed
from tailbound.workflows.ledger import LedgerReport

Cli = Callable[..., tuple[int, str, str]]
PROMPTS = ["how do i clean the pie", "how do i bake the stove"]


def draw(folder: Path, draws: int = 40) -> None:
    tailbound.risk(
        *(PROMPTS,),
        out=folder,
        draws=draws,
        proposal="none",
        target="demo",
        judge="regex:the",
        progress=None,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger") / "run"
    for draws in (10, 20, 30, 40):
        draw(folder, draws)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "draws").glob("*.parquet"))


def verify(folder: Path) -> LedgerReport:
    return tailbound.ledger(folder, "verify", progress=None)


def test_what_it_holds(cli: Cli, run: Path) -> None:
    table = read(run)
    code, out, _ = cli("ledger", run, "stats", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["rows"], found["shards"]) == (80, len(shards(run)))
    assert found["bytes"] == sum(path.stat().st_size for path in shards(run))
    assert found["bytes_per_row"] == pytest.approx(found["bytes"] / 80)
    assert found["unsafe"] == int((table["score"] >= 0.5).sum())
    assert (found["missing"], found["prompts"]) == (0, 2)
    assert found["streams"][0]["draws"] == 80
    sizes = [pl.read_parquet(path).height for path in shards(run)]
    assert (found["smallest_shard"], found["largest_shard"]) == (min(sizes), max(sizes))
    assert LedgerReport.from_dict(found).to_dict() == found
    code, out, _ = cli("ledger", run, "stats")
    assert code == 0
    assert "rows            80" in out


def test_a_sound_ledger_has_one_line_for_each_shard(cli: Cli, run: Path) -> None:
    code, out, _ = cli("ledger", run, "verify")
    assert code == 0
    assert sum(line.startswith("sound") for line in out.splitlines()) == len(shards(run))
    assert "shards are sound, with 80 draws" in out


def torn(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:100])


def empty(shard: Path) -> None:
    shard.write_bytes(b"")


def foreign(shard: Path) -> None:
    write_sealed(shard, pl.read_parquet(shard), of="0" * 32)


def newer(shard: Path) -> None:
    of = read_identity(shard.parents[1]).digest
    write_sealed(shard, pl.read_parquet(shard).with_columns(mood=pl.lit("good")), of=of)


def newer_by_number(shard: Path) -> None:
    of = read_identity(shard.parents[1]).digest
    frame = pl.read_parquet(shard)
    write_sealed(shard, frame.with_columns(schema=pl.lit(2, dtype=pl.Int16)), of=of)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (torn, "is damaged, or was not written by this tailbound"),
        (empty, "is damaged, or was not written by this tailbound"),
        (foreign, "belongs to another run, contract, judge or seed"),
        (newer, "has the columns of another version of tailbound"),
        (newer_by_number, "has the columns of another version of tailbound"),
    ],
)
def test_damage_is_named_set_aside_and_drawn_again(
    cli: Cli, run: Path, damage: Callable[[Path], None], said: str
) -> None:
    whole = read(run)
    bad = shards(run)[1]
    damage(bad)
    code, out, _ = cli("ledger", run, "verify")
    assert code == 1
    assert [said in line for line in out.splitlines() if line.startswith("damaged")] == [True]
    for action in ("stats", "compact"):
        code, out, err = cli("ledger", run, action)
        assert (code, out) == (1, "")
        assert bad.name in err
        assert len(err.strip().splitlines()) == 1
    assert len(shards(run)) == 4  # nothing was moved without being asked
    code, out, _ = cli("ledger", run, "verify", "--set-aside")
    assert code == 1
    assert f"set aside {bad.name}" in out
    assert (run / "damaged" / bad.name).is_file()
    assert verify(run).sound
    draw(run)
    key = ["stream", "prompt_id", "index"]
    assert read(run).select(*key, "score").sort(key).equals(whole.select(*key, "score").sort(key))
    assert tailbound.verify(run, progress=None).matches


def test_names_copies_and_unknown_prompts_are_found(cli: Cli, run: Path) -> None:
    first = shards(run)[0]
    shutil.copy(first, first.with_name("copy.parquet"))
    shutil.copy(first, first.with_name("part-000009.parquet"))
    found = verify(run)
    assert [one.file for one in found.shards if one.outcome == "damaged"] == ["copy.parquet"]
    assert found.problems[0].endswith("is recorded 2 times")
    assert found.problems[-1] == "and 15 more draws are recorded several times"
    first.with_name("part-000009.parquet").unlink()
    code, out, _ = cli("ledger", run, "verify", "--set-aside")
    assert code == 1
    assert "set aside copy.parquet" in out
    table = pl.read_parquet(run / "prompts.parquet")
    write_sealed(run / "prompts.parquet", table[:1])
    assert verify(run).problems == (
        f"prompt {table['id'][1]!r} has draws and is not in prompts.parquet",
    )


def test_compacted_by_the_command(cli: Cli, run: Path) -> None:
    before = read(run)
    code, out, _ = cli("ledger", run, "compact", "--rows", 40, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["shards_before"], found["shards"]) == (4, 2)
    assert read(run).equals(before)
    assert tailbound.verify(run, progress=None).matches


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mend",), "'mend' is not one of verify, compact, stats"),
        (("compact", "--rows", 0), "--rows must be a whole number of at least 1, not 0"),
        (("stats", "--set-aside"), "--set-aside is for verify"),
    ],
)
def test_bad_input_is_one_line(
    cli: Cli, run: Path, arguments: tuple[object, ...], said: str
) -> None:
    code, out, err = cli("ledger", run, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    code, _, err = cli("ledger", run / "draws", "stats")
    assert code == 2
    assert "holds no ledger.json" in err
