"""Tables as they are read: whole in files, and never two rows that look alike on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tailbound.cli.render.bound import _between
from tailbound.terminal.safe import SafeTable, distinct, show_table

NAMES = [f"a-long-id-of-a-prompt-about-nothing-in-particular-{n:03d}-{'x' * 40}" for n in range(30)]


def shown(*, terminal: bool, names: list[str]) -> str:
    out = Console(file=io.StringIO(), force_terminal=terminal, width=80, no_color=True)
    table = SafeTable(expand=True)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1, min_width=10)
    for name in ("draws", "rate", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in names:
        table.add_row(name, "1/500", "2.0e-03", "5.1e-05 to 0.0112")
    show_table(out, table)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.file.getvalue())


def test_a_table_in_a_file_is_not_cut():
    text = shown(terminal=False, names=NAMES)
    assert all(name in text for name in NAMES)
    assert text.count("5.1e-05 to 0.0112") == len(NAMES)


def test_a_table_on_a_terminal_fits_and_no_two_rows_look_alike():
    lines = shown(terminal=True, names=NAMES).splitlines()
    rows = [line for line in lines if "1/500" in line]
    assert max(cell_len(line) for line in lines) <= 80
    assert len(set(rows)) == len(NAMES)


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z", "M"]))),
    st.integers(14, 40),
)
def test_different_names_stay_different_and_fit(names, width):
    found = distinct(names, width)
    assert len(set(found)) == len(set(names))
    assert all(cell_len(name) <= width for name in found)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.8149, 0.8151, "0.815"), (0.81, 0.82, "0.810 to 0.820"), (0.5, 0.5, "0.500")],
)
def test_a_range_whose_ends_look_the_same_is_one_number(low, high, text):
    assert _between(low, high) == text
