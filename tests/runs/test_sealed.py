"""Shards that were damaged, or that belong to something else, are found and never pooled."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow.parquet
import pytest

from runs.writer import CONTRACT, make_draw, make_verdict
from tailbound.core.contract import SamplingContract, Verdict
from tailbound.errors import LedgerError
from tailbound.runs import Ledger, index, read, scan, totals
from tailbound.storage.parquet import DamagedParquetError, parse_parquet, read_sealed, write_sealed
from tailbound.storage.seal import BLANK, is_sealed, seal
from tailbound.workflows.rejudge import read_verdicts, verdicts_folder
from tailbound.workflows.rejudge.verdicts import VerdictWriter


def ledger(
    folder: Path,
    *,
    contract: SamplingContract = CONTRACT,
    judge: str = "judge@1",
    seed: int = 7,
    prompts: range = range(3),
) -> Path:
    with Ledger.open(folder, run="r", contract=contract, judge_id=judge, seed=seed) as open_one:
        for number in range(1, 11):
            for prompt in prompts:
                open_one.append(make_draw(prompt, number), make_verdict(prompt, number), "fixed")
    return next((folder / "draws").iterdir())


def flips(folder: Path, count: int) -> None:
    """Every one of `count` flipped bits of a shard is found, as one line that names the shard."""
    shard = ledger(folder)
    whole = shard.read_bytes()
    rng = random.Random(0)
    for bit in rng.sample(range(8 * len(whole)), count):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(damaged)
        with pytest.raises(LedgerError, match=rf"{shard.name} is damaged") as caught:
            read(folder)
        assert "\n" not in str(caught.value)
    shard.write_bytes(whole)
    assert len(read(folder)) == 30


def test_a_flipped_bit_of_a_shard_is_found(tmp_path: Path) -> None:
    flips(tmp_path, 300)


@pytest.mark.slow
def test_5000_flipped_bits_of_a_shard_are_found(tmp_path: Path) -> None:
    flips(tmp_path, 5000)


def test_every_bit_of_a_sealed_text_counts() -> None:
    whole = seal(f'{{"threshold": 0.5, "checksum": "{BLANK}"}}\n'.encode())
    assert is_sealed(whole)
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not is_sealed(bytes(damaged))
    assert not is_sealed(whole + b" ")
    assert not is_sealed(whole[:-1])
    assert not is_sealed(b"")
    with pytest.raises(ValueError, match="no blank checksum"):
        seal(whole)


@pytest.mark.parametrize(
    "other",
    [
        {"contract": dataclasses.replace(CONTRACT, temperature=0.7)},
        {"judge": "judge@2"},
        {"seed": 8},
        {"prompts": range(3, 6)},  # the same contract, judge and seed: another run
    ],
)
def test_shards_of_something_else_are_refused(tmp_path: Path, other: dict[str, object]) -> None:
    ledger(tmp_path / "mine")
    foreign = ledger(tmp_path / "other", **other)  # type: ignore[arg-type]
    shutil.copy(foreign, tmp_path / "mine" / "draws" / "part-000002.parquet")
    readings: list[Callable[[Path], object]] = [read, totals, scan, lambda f: index(f, "s")]
    for reading in readings:
        with pytest.raises(LedgerError, match=r"part-000002\.parquet belongs to another run"):
            reading(tmp_path / "mine")


def test_verdicts_of_another_judge_or_run_are_refused(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        ledger(tmp_path / name)
        for judge in ("a@1", "b@1"):
            home = verdicts_folder(tmp_path / name, judge)
            with VerdictWriter(home, judge="j", judge_id=judge) as writer:
                writer.append(("s", "p0", 1), Verdict(0.5))
    mine = verdicts_folder(tmp_path / "mine", "a@1")
    for run, judge in (("mine", "b@1"), ("other", "a@1")):
        foreign = verdicts_folder(tmp_path / run, judge) / "part-000001.parquet"
        shutil.copy(foreign, mine / "part-000002.parquet")
        with pytest.raises(LedgerError, match=r"part-000002\.parquet belongs to another run"):
            read_verdicts(mine)


def test_a_run_folder_may_be_copied_and_renamed(tmp_path: Path) -> None:
    ledger(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert read(tmp_path / "two").equals(read(tmp_path / "one"))


@pytest.mark.parametrize("name", ["part-abc.parquet", "part-000001-copy.parquet", "mine.parquet"])
def test_alien_names_are_refused(tmp_path: Path, name: str) -> None:
    shard = ledger(tmp_path)
    shutil.copy(shard, shard.with_name(name))
    (shard.parent / "notes.txt").write_text("not a shard, and not in the way")
    (shard.parent / ".hidden.parquet").write_text("likewise")
    with pytest.raises(LedgerError, match=f"{name} does not have the name of a file"):
        read(tmp_path)
    shard.with_name(name).unlink()
    assert len(read(tmp_path)) == 30


def test_other_tools_read_sealed_shards(tmp_path: Path) -> None:
    shard = ledger(tmp_path)
    table = pyarrow.parquet.read_table(shard)
    assert table.column("index").to_pylist() == read(tmp_path)["index"].to_list()
    assert pl.read_parquet(shard).equals(read(tmp_path))


def test_text_that_looks_like_a_checksum_is_no_trouble(tmp_path: Path) -> None:
    looks = ["checksum\x18 " + "0" * 32, 'checksum": "' + "0" * 32, "tailbound.checksum"]
    frame = pl.DataFrame({"a": looks})
    write_sealed(tmp_path / "f.parquet", frame)
    assert read_sealed(tmp_path / "f.parquet", cure="").equals(frame)


def damaged_prompt_files(folder: Path, count: int) -> None:
    """Polars panics on some of these; all end as an error of ours, or are read."""
    path = folder / "p.parquet"
    pl.DataFrame({"prompt": [f"prompt {n} " * 5 for n in range(50)]}).write_parquet(path)
    whole = path.read_bytes()
    rng = random.Random(1)
    said = []
    for _ in range(count):
        damaged = bytearray(whole)
        # the footer, where most panics come from
        place = rng.randrange(len(whole) // 2, len(whole))
        damaged[place] ^= 1 << rng.randrange(8)
        try:
            parse_parquet(bytes(damaged))
        except DamagedParquetError as error:
            said.append(str(error))
    assert len(said) > count // 20
    assert not any("\n" in line for line in said)


def test_damaged_prompt_files_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged_prompt_files(tmp_path, 200)
    assert capfd.readouterr().err == ""


def test_a_panic_of_polars_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def panics(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("index out of bounds\nsecond line")

    monkeypatch.setattr(pl, "read_parquet", panics)
    with pytest.raises(DamagedParquetError, match=r"^index out of bounds$"):
        parse_parquet(b"PAR1")
