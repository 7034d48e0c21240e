"""`tailbound view` as a process: one page behind one secret address, and nothing else."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from processes import Launcher, Process

Serve = Callable[..., tuple[str, Process]]
Answer = tuple[int, dict[str, str], bytes]


def ask(
    url: str, *, path: str | None = None, method: str = "GET", headers: dict[str, str] | None = None
) -> Answer:
    """Status, headers by lower-case name, and body."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
    connection.putrequest(
        method, where.path if path is None else path, skip_host=True, skip_accept_encoding=True
    )
    for name, value in {"Host": where.netloc, **(headers or {})}.items():
        if value:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def raw(url: str, request: bytes) -> bytes:
    """What comes back for these bytes; nothing where the connection is only closed."""
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=20) as connection:
        connection.sendall(request)
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
        except ConnectionResetError:
            pass
    return found


def test_only_the_page_and_its_status_are_served_and_only_to_its_address(
    serve: Serve, when: Path
) -> None:
    url, _ = serve(when)
    host = urlsplit(url).netloc
    path = urlsplit(url).path
    assert re.fullmatch(r"/[A-Za-z0-9_-]{43}/", path)
    status, headers, body = ask(url)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"How rarely it misbehaves" in body
    assert path.strip("/").encode() not in body
    # the page's own policy and that of the server admit the same, but for frames
    inside = re.search(rb'Content-Security-Policy" content="([^"]*)"', body)
    assert inside is not None
    assert headers["content-security-policy"] == f"{inside[1].decode()}; frame-ancestors 'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["server"] == "tailbound"
    assert ask(url, method="HEAD")[::2] == (200, b"")

    status, headers, body = ask(url, path=path + "status")
    assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
    document = json.loads(body)
    assert document["finished"]
    assert document["lines"][0].startswith("when: finished; ")

    # another path, or nearly the right one
    wrong = [
        *("/", "/report.html", "/status", path[:-1], path + "?", path + "x", path.upper()),
        *(path + "../", path + "run.yaml", path + "%2e%2e/%2e%2e/etc/passwd", f"/{path}status/"),
        *("/../../etc/passwd", "/%2e%2e/", "/a" * 9000, f"http://{host}/"),
    ]
    for one in wrong:
        status, headers, body = ask(url, path=one)
        assert (status, body) == (404, b"Not found\n"), one
        assert headers["content-security-policy"].startswith("default-src 'none'")
    # a name that leads here from another site
    hosts = ["evil.example", f"evil.example:{urlsplit(url).port}", "127.0.0.1.evil.example", ""]
    for one in [*hosts, "0.0.0.0", "127.0.0.1:99999999", f"{host}, evil.example", f"user@{host}"]:
        assert ask(url, headers={"Host": one})[::2] == (403, b"Forbidden\n"), one
    for one in (host, host.replace("127.0.0.1", "LOCALHOST"), "[::1]:1", "localhost"):
        assert ask(url, headers={"Host": one})[0] == 200, one
    twice = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n".encode()
    assert raw(url, twice).startswith(b"HTTP/1.0 403 ")


def test_other_methods_and_broken_requests_are_refused_without_an_echo(
    serve: Serve, when: Path
) -> None:
    url, process = serve(when)
    path, host = urlsplit(url).path, urlsplit(url).netloc
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "EVIL<b>"):
        status, headers, body = ask(url, method=method)
        assert (status, headers["allow"], body) == (405, "GET, HEAD", b"Method Not Allowed\n")
    broken = {
        "a long line": b"GET /" + b"evil" * 40_000 + b" HTTP/1.1\r\n\r\n",
        "a huge header": f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX: ".encode()
        + b"evil" * 40_000
        + b"\r\n\r\n",
        "many headers": f"GET {path} HTTP/1.1\r\nHost: {host}\r\n".encode()
        + b"X-evil: 1\r\n" * 500
        + b"\r\n",
        "no version": b"GET /evil\r\n\r\n",
        "no request": b"evil\r\n\r\n",
        "another version": b"GET / HTTP/evil\r\n\r\n",
        "no text": bytes(range(128, 256)) * 4 + b"\r\n\r\n",
    }
    for name, request in broken.items():
        answer = raw(url, request)
        assert b"evil" not in answer, name
        assert b"Traceback" not in answer, name
        assert not answer.startswith(b"HTTP/1.0 200"), name
    # connections that say nothing take nobody's place
    silent = [socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) for _ in range(20)]
    assert ask(url)[0] == 200
    for one in silent:
        one.close()
    assert process.running
    assert Path(process.files + ".err").read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it(serve: Serve, when: Path, number: signal.Signals) -> None:
    url, process = serve(when)
    before = sorted(path.name for path in when.rglob("*"))
    assert ask(url)[0] == 200
    process.send_signal(number)
    done = process.finish(timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(ConnectionRefusedError):
        ask(url)
    assert sorted(path.name for path in when.rglob("*")) == before


def test_wrong_usage_is_one_line(launcher: Launcher, when: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "file").write_text("x")
        cases = {
            "does not exist": (tmp_path / "nothing",),
            "run.yaml": (tmp_path,),
            "is in use; take another --port": (when, "--port", port),
            "--port must lie between": (when, "--port", 70000),
            "is named twice": (when, when.parent / "." / when.name),
            "file": (tmp_path / "file",),
        }
        for message, arguments in cases.items():
            done = launcher.run("view", *arguments, "--no-browser", timeout=30)
            assert (done.returncode, done.stdout) == (2, ""), message
            assert message in done.stderr
            assert done.stderr.count("\n") == 1
