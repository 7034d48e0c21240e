import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailbound.storage.documents import read_json
from tailbound.storage.files import write_atomically, write_durably, write_json


def test_content_is_replaced_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    write_atomically(path, "été")
    write_atomically(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    write_json(tmp_path / "f.json", {"b": 1, "a": [None]})
    text = (tmp_path / "f.json").read_text()
    assert text.startswith('{\n  "b": 1,\n  "a": [\n    null\n  ],\n  "checksum": "')
    assert read_json(tmp_path / "f.json") == {"b": 1, "a": [None]}
    assert sorted(os.listdir(tmp_path)) == ["f.json", "f.txt"]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomically(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        write_durably(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "f", {"a": float("nan")})


def test_what_a_forked_process_left_behind_is_removed(tmp_path: Path) -> None:
    """Its sibling and its parent are other processes, though all were imported once."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tailbound.storage.files import remove_unfinished, write_durably\n"
        "home = Path(sys.argv[1])\n"
        "def killed(temporary):\n"
        "    temporary.write_text('half')\n"
        "    os._exit(9)\n"
        "if os.fork() == 0:\n"
        "    write_durably(home / 'ledger.json', killed)\n"
        "os.wait()\n"
        "assert len(os.listdir(home)) == 1\n"
        "if os.fork() == 0:\n"
        "    remove_unfinished(home)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "assert os.listdir(home) == [], os.listdir(home)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
