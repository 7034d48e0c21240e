"""Waits that no server can take away, and failures that no waiting helps against."""

from __future__ import annotations

import asyncio
import random
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from endpoint.stub import Faults, Stub
from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import TargetError, UsageError
from tailbound.targets.endpoint import load
from tailbound.targets.endpoint.settings import EndpointSettings
from tailbound.targets.endpoint.waiting import LONGEST_ASKED, retry_after, wait_seconds
from targets.tiny_models import Queue

KEY = "sk-very-secret/key"
PROMPT = Prompt(id="p", messages=(("user", "question"),))


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No settings of whoever runs this."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


def test_what_retry_after_says():
    assert retry_after("2.5") == 2.5
    assert retry_after("-1") == 0
    assert retry_after("1e400") == retry_after("9" * 400) == LONGEST_ASKED
    for nonsense in (None, "", "soon", "nan", "Thu, 01 Jan 99999 00:00:00 GMT", "Mon, 99 Foo 1 x"):
        assert retry_after(nonsense) is None
    assert retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert retry_after("Fri, 31 Dec 9999 23:59:59 GMT") == LONGEST_ASKED
    assert retry_after("Fri, 31 Dec 9999 23:59:59 -2359") in (None, LONGEST_ASKED)
    date = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60)))
    assert date is not None
    assert 55 < date <= 60


@pytest.mark.parametrize("asked", [None, 0.0, 1e-9, 0.1])
def test_waits_have_a_floor_that_grows_with_jitter(asked):
    rng = random.Random(0)
    waits = [
        [wait_seconds(attempt, asked, first=0.5, longest=30.0, rng=rng) for _ in range(50)]
        for attempt in range(1, 9)
    ]
    assert min(waits[0]) >= 0.25
    assert min(waits[-1]) >= 2.5
    assert max(map(max, waits)) <= 30.0
    assert all(len(set(several)) == 50 for several in waits)


def test_a_time_that_is_asked_for_is_kept_with_jitter():
    rng = random.Random(0)
    waits = [wait_seconds(1, 20.0, first=0.5, longest=30.0, rng=rng) for _ in range(50)]
    assert min(waits) >= 20.0
    assert max(waits) <= 22.0
    assert len(set(waits)) == 50


@pytest.mark.parametrize("asked", ["0", "nan", "-5", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_a_server_that_asks_for_no_wait_is_not_run_down(asked):
    with Stub() as stub:
        made = load("m", SamplingOptions(), base_url=stub.url, retry_timeout=1.5, timeout=5.0)
        stub.faults = Faults(overloaded=10**9, retry_after=asked)
        before = stub.seen["requests"]
        with pytest.raises(TargetError, match="status 429"):
            list(made.sample(Queue([DrawRequest(prompt=PROMPT, stream="s", index=1)]), seed=0))
        assert stub.seen["requests"] - before <= 5


class Tls:
    """A server with a certificate that nobody signed; counts its connections."""

    def __init__(self, folder: Path) -> None:
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        starting = asyncio.start_server(self._hang_up, "127.0.0.1", 0, ssl=self._context)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        port = self._server.sockets[0].getsockname()[1]
        return f"https://127.0.0.1:{port}/v1"

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _hang_up(self, _: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()


@pytest.fixture
def untrusted(tmp_path: Path) -> Iterator[str]:
    assert shutil.which("openssl"), "install the openssl command to make a certificate"
    with Tls(tmp_path) as url:
        yield url


def test_a_certificate_that_is_not_trusted_is_said_at_once(untrusted):
    started = time.monotonic()
    with pytest.raises(TargetError, match=r"its certificate is not trusted .*SSL_CERT_FILE"):
        load("m", SamplingOptions(), base_url=untrusted)
    assert time.monotonic() - started < 5


def test_a_server_without_tls_is_said_at_once():
    with Stub() as stub:
        started = time.monotonic()
        with pytest.raises(TargetError, match="does not speak TLS there: begin --base-url with"):
            load("m", SamplingOptions(), base_url=stub.url.replace("http", "https"))
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h:99999/v1", "Port out of range"),
        ("http://h:port/v1", "Port could not be cast"),
        ("http://h:0/v1", "its port is a number from 1 to 65535"),
        ("http://h:/v1", "its port is a number"),
        ("http://[::1/v1", "Invalid IPv6 URL"),
        ("http://h]:80/v1", "Invalid IPv6 URL"),
        ("http://h/v1#chat", "a part behind # is never sent"),
        ("http://h /v1", "spaces or control characters"),
        ("http://h\n/v1", "spaces or control characters"),
        ("ftp://h/v1", "it begins with http"),
        ("http:///v1", "it contains no host name"),
        ("", "it begins with http"),
    ],
)
def test_base_urls_that_are_none(url, problem):
    with pytest.raises(UsageError, match="--base-url must be such as") as caught:
        EndpointSettings(base_url=url)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_host_that_cannot_be_looked_up_by_its_name():
    with pytest.raises(UsageError, match="correct --base-url"):
        load("m", SamplingOptions(), base_url=f"http://{'ü' * 300}.example/v1")


@pytest.mark.parametrize("place", ["user:{}@h/v1", "h/v1?key={}", "h/v1#a@{}", "{}@[::1/v1"])
def test_secrets_in_a_base_url_are_refused_and_not_repeated(place):
    with pytest.raises(UsageError, match="must hold no key, password or query") as caught:
        EndpointSettings(base_url="http://" + place.format("hunter2hunter2"))
    assert "hunter2" not in str(caught.value)


def test_a_key_in_place_of_its_variable_is_not_repeated():
    with pytest.raises(UsageError, match="no such variable is set") as caught:
        load("m", SamplingOptions(), base_url="http://h/v1", key_env="hf_VeRySeCrEt")
    assert "SeCrEt" not in str(caught.value)


def test_a_key_that_a_server_repeats_in_any_spelling_is_not_shown():
    with Stub(Faults(status=401, said=KEY.replace("/", "\\/"))) as stub:
        with pytest.raises(
            UsageError, match=r"\[key\].*is the key in OPENAI_API_KEY right"
        ) as caught:
            load("m", SamplingOptions(), base_url=stub.url)
        assert "secret" not in str(caught.value)
    settings = EndpointSettings(base_url="http://h/v1", key=KEY)
    assert settings.redacted("proxy http://me:pass@proxy:1 fails") == (
        "proxy http://[password]@proxy:1 fails"
    )


def test_a_missing_key_is_named(monkeypatch, cli, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UsageError, match="needs a key, and OPENAI_API_KEY is not set"):
        load("m", SamplingOptions())
    with (
        Stub(Faults(status=401, said="no key")) as stub,
        pytest.raises(UsageError, match="no key was sent: set OPENAI_API_KEY"),
    ):
        load("m", SamplingOptions(), base_url=stub.url)


def test_an_unreachable_server_ends_a_command_with_1_and_leaves_nothing(monkeypatch, cli, tmp_path):
    monkeypatch.setattr("tailbound.targets.endpoint.probe._RETRY_TIMEOUT", 0.2)
    with Stub() as stub:
        url = stub.url
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "x"}\n')
    code, _, err = cli(
        *("risk", prompts, "--target", "openai:m", "--base-url", url, "--judge", "regex:x"),
        *("--proposal", "none", "--out", tmp_path / "run"),
    )
    assert (code, err.count("\n")) == (1, 1)
    assert "cannot be used" in err
    assert not (tmp_path / "run").exists()
