"""A direction on disk: it comes back as it was, and what is not one is refused in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tailbound.errors import LedgerError, UsageError
from tailbound.steering import Add, Direction
from tailbound.storage.files import write_json


def made(**changes: Any) -> Direction:
    values: dict[str, Any] = {
        "kind": "refusal",
        "vector": torch.arange(1.0, 9.0),
        "layer": 3,
        "position": -1,
        "coefficient": 1.0,
        "model": "hf:tiny",
        "revision": "abc",
        "contract": "0" * 16,
        "evidence": {"passed": True, "warnings": []},
    }
    return Direction(**{**values, **changes})


def test_a_direction_comes_back_as_it_was_saved(tmp_path: Path):
    direction = made()
    direction.save(tmp_path / "d")
    held = Direction.load(tmp_path / "d")
    assert torch.equal(held.vector, direction.vector)
    assert held.intervention().id == direction.intervention().id
    for name in ("kind", "layer", "position", "coefficient", "model", "revision", "evidence"):
        assert getattr(held, name) == getattr(direction, name)
    persona = made(kind="persona:bold", position=None, coefficient=4.0)
    add = persona.intervention()
    assert isinstance(add, Add)
    assert (add.layer, add.coefficient) == (2, 4.0)


def test_what_is_not_a_direction_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no direction"):
        Direction.load(tmp_path)
    made().save(tmp_path)
    (tmp_path / "direction.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read"):
        Direction.load(tmp_path)
    made().save(tmp_path)
    note = tmp_path / "direction.json"
    write_json(note, json.loads(note.read_text()) | {"schema": 99})
    with pytest.raises(UsageError, match="has schema 99"):
        Direction.load(tmp_path)


def test_another_revision_is_worth_a_line():
    assert made().notice_for("hf:tiny", "abc") is None
    notice = made().notice_for("hf:tiny", "def")
    assert notice is not None
    assert "stay valid" in notice


def test_a_note_that_does_not_belong_to_its_vector_is_refused(tmp_path: Path):
    made().save(tmp_path)
    note = tmp_path / "direction.json"
    whole = note.read_text()
    write_json(note, json.loads(whole) | {"width": 9})
    with pytest.raises(UsageError, match=r"has shape \(8,\), and direction.json says \(9,\)"):
        Direction.load(tmp_path)
    write_json(note, json.loads(whole.replace('"layer"', '"depth"')))
    with pytest.raises(UsageError, match="has no 'layer'"):
        Direction.load(tmp_path)
    note.write_text("[]")
    with pytest.raises(LedgerError, match=r"direction\.json is damaged"):
        Direction.load(tmp_path)
    note.write_text(whole)
    assert Direction.load(tmp_path).layer == 3


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "persona"},
        {"kind": 3},
        {"layer": "2"},
        {"layer": 2.5},
        {"layer": True},
        {"layer": -1},
        {"coefficient": None},
        {"coefficient": "4"},
        {"evidence": []},
    ],
)
def test_a_note_with_values_of_another_kind_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    made().save(tmp_path)
    note = tmp_path / "direction.json"
    held = json.loads(note.read_text())
    write_json(note, {**held, **change})
    with pytest.raises(UsageError, match=r"direction\.json is damaged \(kind "):
        Direction.load(tmp_path)


def test_half_a_direction_is_refused(tmp_path: Path) -> None:
    for lost in ("direction.safetensors", "direction.json"):
        made().save(tmp_path)
        (tmp_path / lost).unlink()
        with pytest.raises(UsageError, match=f"{lost} is missing"):
            Direction.load(tmp_path)
