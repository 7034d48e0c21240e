"""What a server sends that is not text, or has no end: a run that loses nothing to it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from aiohttp import web

from endpoint.stub import Stub
from tailbound.core.contract import SamplingOptions
from tailbound.errors import TargetError
from tailbound.runs import read
from tailbound.targets.endpoint import client, load


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No settings of whoever runs this."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "some-key-for-tests")
    monkeypatch.chdir(tmp_path)


class Halves(Stub):
    """A stub that ends every other answer in half a character, as JSON lets it stand."""

    def _choice(self, asked: dict[str, Any], number: int, chat: bool) -> dict[str, Any]:
        choice = super()._choice(asked, number, chat)
        if chat and "water" in choice["message"]["content"]:
            choice["message"]["content"] += " \ud83d"
        return choice


def test_a_run_loses_nothing_to_halves_of_characters(tmp_path, cli):
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n{"prompt": "y"}\n')
    with Halves() as stub:
        code, out, err = cli(
            *("risk", "p.jsonl", "--target", "openai:m", "--base-url", stub.url, "--out", "run"),
            *("--judge", "regex:unsafe", "--proposal", "none", "--draws", 20),
        )
    assert code == 0, err
    rows = read(tmp_path / "run")
    assert len(rows) == 40
    assert rows["verdict"].unique().to_list() == ["scored"]
    damaged = rows.filter(pl.col("text").str.contains("\ufffd"))
    assert damaged["text"].str.ends_with(" \ufffd").all()
    assert 0 < len(damaged) < 40
    account = json.loads((tmp_path / "run" / "usage.json").read_text())["target"]
    assert account["damaged"] >= len(damaged)
    assert "responses contained invalid text" in " ".join(out.split())


@pytest.fixture
def endless() -> Iterator[tuple[str, list[int]]]:
    """A server whose answers never end, and how many bytes it got rid of."""
    sent = [0]

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=int(request.headers["X-Status"]))
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 2**16)
                sent[0] += 2**16
        except ConnectionError:
            return response

    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    port = asyncio.run_coroutine_threadsafe(start(), loop).result()
    yield f"http://127.0.0.1:{port}/v1", sent
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize(
    ("status", "limit", "message"),
    [(200, 2**20, "longer than 1,048,576 bytes"), (400, 2**16, "status 400")],
)
def test_an_answer_without_end_is_cut_off(endless, monkeypatch, status, limit, message):
    url, sent = endless
    monkeypatch.setattr("tailbound.targets.endpoint.protocol.MOST_BYTES", 2**20)
    monkeypatch.setattr(client, "MOST_BYTES", 2**20)
    monkeypatch.setattr("tailbound.targets.endpoint.probe._RETRY_TIMEOUT", 0.01)
    opened = client.Client.open

    async def with_status(self: client.Client) -> None:
        await opened(self)
        self._session.headers["X-Status"] = str(status)

    monkeypatch.setattr(client.Client, "open", with_status)
    with pytest.raises(TargetError if status == 200 else ValueError, match=message):
        load("m", SamplingOptions(), base_url=url, timeout=20.0)
    assert limit <= sent[0] < limit + 2**24  # what lies in the buffers of two sockets
