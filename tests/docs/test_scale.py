"""The figures of docs/scale.md are those that its inputs give."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from typing import Any

import pytest

from docs.pages import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def _benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = module
    spec.loader.exec_module(module)
    return module


scale = _benchmark()
GIVEN = scale.Inputs()


def test_the_table_is_what_the_script_prints() -> None:
    for row in scale.rows(GIVEN):
        assert row in PAGE


def test_the_inputs_are_those_of_the_page() -> None:
    for said in (
        f"{GIVEN.prompt_tokens:g}, {GIVEN.response_tokens:g} tokens",
        f"| {GIVEN.tokens_per_gpu:,.0f} |",
        f"| {GIVEN.gpus:g}, {GIVEN.gpu_hour:.2f} |",
        f"| {GIVEN.price_in:g}, {GIVEN.price_out:g} |",
        f"| {GIVEN.hosted_tokens:,} |",
        f"| {GIVEN.coordinator * 1e6:.0f} us |",
        f"| {GIVEN.schedule * 1e6:.0f} us |",
        f"| {GIVEN.bytes_text:g} bytes, {GIVEN.row_write * 1e6:.0f} us of CPU |",
        f"| {GIVEN.bytes_bare:g} bytes |",
        f"| {GIVEN.index_bytes:g} bytes of memory a draw |",
    ):
        assert said in PAGE, said


def test_the_words_are_those_of_the_plan() -> None:
    """Each figure in the text, from the inputs by hand."""
    draws = GIVEN.prompts * GIVEN.draws
    per_draw = GIVEN.coordinator + GIVEN.row_write
    rate = GIVEN.gpus * GIVEN.tokens_per_gpu / (GIVEN.response_tokens + GIVEN.judge_tokens)
    found = scale.plan(GIVEN)
    assert found["draws"] == draws == 1e9
    assert found["draws a second"] == pytest.approx(rate)
    assert f"{per_draw * 1e6:.0f} us as planned" in PAGE
    assert f"uses {rate * per_draw:.1f} of a core" in PAGE
    assert f"could feed {1 / (per_draw * rate / GIVEN.gpus):.0f} GPUs" in PAGE
    assert f"{rate * GIVEN.bytes_text / 1e6:.1f} MB a\nsecond" in PAGE
    assert f"({draws * GIVEN.bytes_text / GIVEN.hash_rate / 60:.0f} minutes" in PAGE
    assert f"an index of {draws * GIVEN.index_bytes / 1e9:.0f} GB" in PAGE
    more = scale.plan(replace(GIVEN, prompts=GIVEN.prompts * 10))
    schedule = GIVEN.schedule * 10
    whole = per_draw + 9 * GIVEN.schedule
    assert f"{schedule * 1e6:.0f} us of {whole * 1e6:.0f} us a draw" in PAGE
    assert f"{more['driver cores in use']:.1f} cores" in PAGE
    assert more["driver cores in use"] > 1 > found["driver cores in use"]
    assert more["bytes of memory for the index on resume"] == pytest.approx(2e11)
    assert f"{GIVEN.hosted_tokens / GIVEN.response_tokens:.0f} requests a second" in PAGE
    assert 14 < found["hosted: hours"] / 24 < 15.5


def test_other_inputs_give_other_figures() -> None:
    twice = scale.plan(replace(GIVEN, gpus=GIVEN.gpus * 2))
    assert twice["hours on the GPUs"] == pytest.approx(scale.plan(GIVEN)["hours on the GPUs"] / 2)
    assert not all(row in PAGE for row in scale.rows(replace(GIVEN, gpu_hour=3.0)))
    assert re.search(r"not a quotation", PAGE)
