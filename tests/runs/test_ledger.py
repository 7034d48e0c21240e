import dataclasses
import json
import math
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.writer import CONTRACT, make_draw, make_verdict, open_ledger
from tailbound.core.contract import Draw, Verdict
from tailbound.errors import ContractMismatchError, LedgerError, RunLockedError, UsageError
from tailbound.runs import Ledger, index, read, scan, totals
from tailbound.runs.identity import read_identity
from tailbound.runs.layout import part_name
from tailbound.runs.schema import columns
from tailbound.storage.files import write_json
from tailbound.storage.parquet import write_sealed


def fill(folder: Path, *, prompts: int = 3, draws: int = 10, stream: str = "s") -> None:
    with open_ledger(folder) as ledger:
        for number in range(1, draws + 1):
            for prompt in range(prompts):
                ledger.append(
                    make_draw(prompt, number, stream), make_verdict(prompt, number), "fixed"
                )


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "draws").glob("*.parquet"))


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    fill(tmp_path)
    table = read(tmp_path)
    assert table.schema == columns()
    assert len(table) == 30
    row = table.row(4, named=True)
    assert row == {
        "schema": 1,
        "run": "test",
        "stream": "s",
        "stopping": "fixed",
        "prompt_id": "p1",
        "index": 2,
        "contract": CONTRACT.digest,
        "proposal": None,
        "text": "1 2",
        "token_ids": [1, 2, 0],
        "tokens": 3,
        "finish_reason": "stop",
        "log_prob": -2.0,
        "score": 1.0,
        "verdict": "scored",
        "reason": None,
        "judge": "judge@1",
        "seed": 7,
    }
    missing = table.filter(pl.col("verdict") == "missing")
    assert missing["score"].null_count() == len(missing) == 6
    assert set(missing["reason"]) == {"no idea"}


def test_other_tools_read_the_shards_without_tailbound(tmp_path: Path) -> None:
    fill(tmp_path)
    assert pl.read_parquet(tmp_path / "draws" / "*.parquet").height == 30
    held = json.loads((tmp_path / "ledger.json").read_text())
    assert held["contract"]["temperature"] == 1.0
    assert held["contract_digest"] == CONTRACT.digest


def test_the_index_is_what_resuming_needs(tmp_path: Path) -> None:
    fill(tmp_path, draws=4)
    fill(tmp_path, draws=2, stream="other")
    with open_ledger(tmp_path) as ledger:
        record = ledger.index("s")
        assert ledger.index("none") == {}
    assert sorted(record) == ["p0", "p1", "p2"]
    for prompt in range(3):
        found = record[f"p{prompt}"]
        expected = [make_verdict(prompt, number).score for number in range(1, 5)]
        np.testing.assert_array_equal(found.indices, [1, 2, 3, 4])
        np.testing.assert_array_equal(
            found.scores, [math.nan if score is None else score for score in expected]
        )
        np.testing.assert_array_equal(found.tokens, 3)
        assert found.indices.dtype == np.int64


def test_totals_are_the_spend(tmp_path: Path) -> None:
    assert totals(tmp_path) == {}
    fill(tmp_path, draws=5)
    fill(tmp_path, draws=1, stream="other")
    found = totals(tmp_path)
    assert list(found) == ["other", "s"]
    assert (found["s"].prompts, found["s"].draws, found["s"].tokens) == (3, 15, 45)
    assert (found["s"].missing, found["other"].missing) == (3, 0)


def test_buffered_rows_count_in_the_index_and_can_be_topped_up(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        for number in (1, 2):
            ledger.append(make_draw(0, number), Verdict(0.5), "fixed")
            assert ledger.index("s")["p0"].indices.tolist() == list(range(1, number + 1))
            assert ledger.totals()["s"].draws == number
    with open_ledger(tmp_path) as ledger:
        ledger.append(make_draw(0, 3), Verdict(0.5), "fixed")
    assert index(tmp_path, "s")["p0"].indices.tolist() == [1, 2, 3]
    assert [path.name[:11] for path in shards(tmp_path)] == [
        "part-000001",
        "part-000002",
        "part-000003",
    ]


def test_rows_are_flushed_by_count_and_by_age(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "count", flush_rows=4) as ledger:
        for number in range(1, 10):
            ledger.append(make_draw(0, number), Verdict(0.0), "fixed")
        assert len(read(tmp_path / "count")) == 8
    with Ledger.open(
        tmp_path / "age", run="r", contract=CONTRACT, judge_id="j", seed=0, flush_seconds=0.05
    ) as ledger:
        ledger.append(make_draw(0, 1), Verdict(0.0), "fixed")
        ledger.flush_if_due()
        assert len(read(tmp_path / "age")) == 0
        time.sleep(0.06)
        ledger.flush_if_due()
        assert len(read(tmp_path / "age")) == 1


def test_an_error_in_the_run_keeps_finished_draws(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_ledger(tmp_path) as ledger:
            ledger.append(make_draw(0, 1), Verdict(0.0), "fixed")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read(tmp_path)) == 1
    open_ledger(tmp_path).close()


def test_responses_may_be_left_out(tmp_path: Path) -> None:
    with Ledger.open(
        tmp_path, run="r", contract=CONTRACT, judge_id="j", seed=0, store_text=False
    ) as ledger:
        ledger.append(make_draw(0, 1), Verdict(0.0), "fixed", proposal="q")
    row = read(tmp_path).row(0, named=True)
    assert (row["text"], row["token_ids"], row["tokens"], row["proposal"]) == (None, None, 3, "q")


def test_a_second_writer_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with open_ledger(tmp_path), pytest.raises(RunLockedError, match="in use by another process"):
        open_ledger(tmp_path)
    open_ledger(tmp_path).close()


def test_draws_of_something_else_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    cooler = dataclasses.replace(CONTRACT, temperature=0.7)
    with pytest.raises(ContractMismatchError) as caught:
        Ledger.open(tmp_path, run="test", contract=cooler, judge_id="judge@2", seed=8)
    for part in (
        "temperature was 1.0 and is now 0.7",
        "judge was 'judge@1' and is now 'judge@2'",
        "seed was 7 and is now 8",
    ):
        assert part in str(caught.value)
    assert "top_p" not in str(caught.value)
    fill(tmp_path, stream="the lock was let go")


def test_leftovers_of_a_killed_writer_are_ignored_and_cleared(tmp_path: Path) -> None:
    fill(tmp_path)
    left = tmp_path / "draws" / ".part-000002.parquet-aaaaaaaa-bbbbbbbb.tmp"
    left.write_bytes(b"half a sha")
    assert len(read(tmp_path)) == 30
    assert left.exists()
    open_ledger(tmp_path).close()
    assert not left.exists()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    shard = shards(tmp_path)[0]
    shard.write_bytes(shard.read_bytes()[:-20])
    for reading in (read, totals, lambda folder: index(folder, "s")):
        with pytest.raises(LedgerError, match=rf"{shard.name} is damaged.*restore it") as caught:
            reading(tmp_path)
        assert "\n" not in str(caught.value)


def test_unknown_versions_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    held = json.loads((tmp_path / "ledger.json").read_text())
    write_json(tmp_path / "ledger.json", held | {"schema": 2})
    for reading in (read, open_ledger):
        with pytest.raises(LedgerError, match=r"ledger\.json has schema version 2"):
            reading(tmp_path)


def test_foreign_and_copied_shards_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "draws" / "part-000009.parquet").write_bytes(shards(tmp_path)[0].read_bytes())
    with pytest.raises(LedgerError, match=r"draw 1 of prompt 'p0' in stream 's' twice"):
        index(tmp_path, "s")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "draws" / "part-000009.parquet")
    with pytest.raises(LedgerError, match="was not written by this tailbound"):
        read(tmp_path)


def test_a_ledger_without_its_description_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "ledger.json").write_text("{}")
    with pytest.raises(LedgerError, match="is damaged"):
        open_ledger(tmp_path)
    (tmp_path / "ledger.json").unlink()
    with pytest.raises(LedgerError, match=r"has draws but no ledger\.json"):
        open_ledger(tmp_path)


def test_folders_and_seeds_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"file/draws cannot be written \(Not a directory\)"):
        open_ledger(tmp_path / "file")
    with pytest.raises(UsageError, match="seed must lie in"):
        Ledger.open(tmp_path, run="r", contract=CONTRACT, judge_id="j", seed=-1)


def test_a_full_disk_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger(tmp_path)
    ledger.append(make_draw(0, 1), Verdict(0.0), "fixed")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tailbound.storage.files._flush_to_disk", full)
        with pytest.raises(LedgerError, match=r"cannot be written \(No space left on device\)"):
            ledger.flush()
    ledger.close()
    assert len(read(tmp_path)) == 1


def test_thousands_of_shards_read_quickly(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.append(make_draw(0, 1), Verdict(0.0), "fixed")
    frame = pl.read_parquet(shards(tmp_path)[0])
    belongs_to = read_identity(tmp_path).digest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tailbound.storage.files._flush_to_disk", lambda path: None)
        for number in range(2, 2001):
            one = frame.with_columns(pl.lit(number, pl.Int64).alias("index"))
            write_sealed(tmp_path / "draws" / part_name(number), one, of=belongs_to)
    start = time.process_time()
    for path in shards(tmp_path):
        pl.read_parquet(path)
    plain = time.process_time() - start
    start = time.process_time()
    assert len(index(tmp_path, "s")["p0"].indices) == 2000
    ours = time.process_time() - start
    assert ours < plain, "checking and counting take longer than reading shard by shard"
    assert scan(tmp_path).select("index").collect().height == 2000


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.lists(
        st.tuples(
            texts,
            texts,
            st.lists(st.integers(0, 2**31 - 1)),
            st.none() | st.floats(0, 1),
            st.floats(max_value=0) | st.just(math.nan),
        )
    )
)
def test_any_draw_survives(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, list[int], float | None, float]],
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    with open_ledger(folder, flush_rows=3) as ledger:
        for number, (prompt, text, tokens, score, log_prob) in enumerate(rows):
            draw = Draw(
                prompt_id=prompt,
                stream="s",
                index=number,
                token_ids=tuple(tokens),
                text=text,
                finish_reason="length",
                log_prob=log_prob,
            )
            ledger.append(draw, Verdict(score, None if score is not None else "?"), "fixed")
    table = read(folder)
    assert table["prompt_id"].to_list() == [row[0] for row in rows]
    assert table["text"].to_list() == [row[1] for row in rows]
    assert table["token_ids"].to_list() == [row[2] for row in rows]
    assert table["score"].to_list() == [row[3] for row in rows]
    assert table["log_prob"].fill_null(math.nan).to_list() == pytest.approx(
        [row[4] for row in rows], nan_ok=True
    )
    assert sum(len(record.indices) for record in index(folder, "s").values()) == len(rows)


def test_rows_that_the_disk_refused_take_the_number_of_the_failed_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tailbound.runs import shards as store

    plain, failed = store.write_sealed, []

    def refuse_once(path: Path, frame: pl.DataFrame, *, of: str) -> None:
        if not failed:
            failed.append(path.name)
            raise LedgerError("the disk is full")
        plain(path, frame, of=of)

    monkeypatch.setattr(store, "write_sealed", refuse_once)
    with open_ledger(tmp_path) as ledger:
        ledger.append(make_draw(0, 1), Verdict(0.5), "fixed")
        with pytest.raises(LedgerError, match="full"):
            ledger.flush()
        ledger.append(make_draw(0, 2), Verdict(0.5), "fixed")
    assert failed == ["part-000001.parquet"]
    assert [path.name for path in shards(tmp_path)] == failed
    assert read(tmp_path)["index"].to_list() == [1, 2]
