"""Nothing from outside reaches the terminal raw, whichever way it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import box

from endpoint.stub import Faults, Stub
from tailbound.core.outside import visible
from tailbound.terminal.console import notice, step
from tailbound.terminal.safe import SafeConsole, SafeTable

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m"
EVIL = f"a{ESCAPES}b\nc\rd\u202ee\u2066f\u200bg\u2028h\x00i"
SHOWN = "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m"


def raw(text: str) -> set[str]:
    """What a terminal would act upon or hide, line breaks aside."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}


def test_what_a_terminal_would_act_upon_is_written_out():
    assert visible(EVIL) == (f"a{SHOWN}b\\nc\\rd\\u202ee\\u2066f\\u200bg\\u2028h\\x00i")
    for plain in ("plain", "naïve — 日本語\u3000😀", "a\xa0b"):
        assert visible(plain) == plain


@given(st.text(st.characters()))
def test_what_is_visible_is_one_line_that_can_be_written(text):
    assert not raw(visible(text))
    assert "\n" not in visible(text)
    visible(text).encode()


def test_consoles_and_tables(capsys):
    table = SafeTable(box=box.SIMPLE)
    table.add_column(EVIL)
    table.add_row(EVIL)
    console = SafeConsole()
    console.print(table)
    console.print(f"[bold]{EVIL}")
    out = capsys.readouterr().out
    assert not raw(out)
    assert "[bold]" in out
    assert "b\\nc" in out.replace("\n", "")


def test_notices_and_steps_are_one_line(capsys):
    notice(EVIL)
    step(EVIL)
    err = capsys.readouterr().err
    assert not raw(err)
    assert err.count("\n") == 2


def test_a_traceback_is_not_raw():
    code = (
        "from tailbound.terminal.console import guard\nguard()\n"
        "raise RuntimeError('a\\x1b[2J\\u202eb\\udcff')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "RuntimeError: a\\x1b[2J\\u202eb\\udcff\n" in done.stderr
    assert not raw(done.stderr)


@pytest.mark.parametrize("status", [400, 401, 404, 418])
def test_what_a_server_says_in_an_error(tmp_path, cli, monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", "some-key-for-tests")
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    with Stub(Faults(status=status, said=EVIL)) as stub:
        code, _, err = cli(
            *("risk", tmp_path / "p.jsonl", "--target", "openai:m", "--base-url", stub.url),
            *("--judge", "regex:x", "--proposal", "none", "--out", tmp_path / "run"),
        )
    assert code == 2
    assert err.count("\n") == 1
    assert not raw(err)
    assert "owned" in err


def test_names_that_a_server_lists(tmp_path, cli, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "some-key-for-tests")
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    with Stub() as stub:
        stub.models = [EVIL]
        code, _, err = cli(
            *("risk", tmp_path / "p.jsonl", "--target", "openai:m", "--base-url", stub.url),
            *("--judge", "regex:x", "--proposal", "none", "--draws", "2", "--out", tmp_path / "r"),
        )
    assert code == 0
    assert "does not list 'm', but a" in err
    assert not raw(err)


def imported(folder: Path, cli) -> Path:
    rows = [
        {"id": f"{n}{EVIL}", "prompt": f"{n}{EVIL}", "response": EVIL, "score": n, "model": EVIL}
        for n in (0, 1)
    ]
    rows += [{**rows[0], "id": f"2{EVIL}", "score": None, "reason": EVIL}]
    source = folder / "e\x1bvil\nname.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = cli("import", source, "--out", folder / "run\x1b7")
    assert code == 0
    assert not raw(out + err)
    return folder / "run\x1b7"


def test_ids_reasons_and_names_of_imports(tmp_path, cli):
    run = imported(tmp_path, cli)
    code, out, err = cli("summarize", run)
    assert code == 0
    assert not raw(out + err)
    assert f"1a{SHOWN}"[:12] in out
    (tmp_path / "judge_of_tests.py").write_text(
        f"def judge(response):\n    raise ValueError({EVIL!r})\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        code, out, err = cli("rejudge", run, "--judge", "python:judge_of_tests:judge")
    finally:
        sys.path.remove(str(tmp_path))
    assert code == 1
    assert not raw(out + err)
    assert SHOWN in err
    code, out, _ = cli("rejudge", run, "--judge", "regex:x|\x1b\u202e")
    assert code == 0
    assert not raw(out)


def test_json_stays_exact(tmp_path, cli):
    run = imported(tmp_path, cli)
    code, out, _ = cli("summarize", run, "--json")
    assert code == 0
    (stream,) = json.loads(out)["streams"]
    assert {one["id"] for one in stream["prompts"]} == {f"{n}{EVIL}" for n in (0, 1, 2)}


@pytest.mark.parametrize(
    "arguments",
    [
        ("summarize", f"no{EVIL.replace(chr(0), '')}"),
        ("bound", f"no{EVIL.replace(chr(0), '')}", "--budget", "5", "--out", "o"),
        ("risk", "p.jsonl", "--out", "o", "--judge", f"regex:({ESCAPES}"),
        ("risk", "p.jsonl", "--out", "o", "--target", f"none{EVIL}:x"),
        ("risk", "p.jsonl", "--out", "o", f"--{ESCAPES}"),
        (f"no{EVIL}",),
    ],
)
def test_what_is_typed_comes_back_visible(tmp_path, cli, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    code, out, err = cli(*arguments)
    assert code == 2
    assert not raw(out + err)
    assert err.count("\n") == 1


def test_what_doctor_shows_of_the_environment(cli, monkeypatch):
    monkeypatch.setenv("HF_HOME", f"/h{ESCAPES}")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:hunter2@h/v1?key=hunter3")
    for arguments in (("doctor",), ("doctor", "--json")):
        _, out, err = cli(*arguments)
        assert not raw(out + err)
        assert "hunter" not in out
        assert "https://[password]@h/v1?[query]" in out
