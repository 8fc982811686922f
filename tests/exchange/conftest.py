"""A local exchange in a thread of the test's process, on a free port."""

import asyncio
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from local.exchange.clock import Clock
from local.exchange.exchange import Exchange
from local.exchange.server import make_app
from local.exchange.timeframes import utc_ms

NOW = utc_ms("2026-03-04T05:06:07.890")


@dataclass
class Reply:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running exchange: its state, its address, and a plain client."""

    exchange: Exchange
    url: str

    def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> Reply:
        if query:
            path += "?" + urllib.parse.urlencode(query)
        return self.send("GET", path, headers=headers)

    def klines(self, symbol: str, interval: str, **query: Any) -> list[list[Any]]:
        reply = self.get("/api/v3/klines", symbol=symbol, interval=interval, **query)
        assert reply.status == 200, reply.body
        return reply.json

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers=headers or {}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return Reply(reply.status, reply.headers, reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.headers, error.read())

    def fault(self, **rule: Any) -> int:
        reply = self.send("POST", "/_local/faults", rule)
        assert reply.status == 201, reply.body
        return reply.json["faults"][0]["id"]


def serve(exchange: Exchange) -> Iterator[Server]:
    """Serve an exchange until the generator is closed."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(make_app(exchange), access_log=None, shutdown_timeout=1.0)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner.addresses[0][1]

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Server(exchange, f"http://127.0.0.1:{port}")
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    yield from serve(Exchange(weight_limit=10**9, clock=Clock(NOW)))


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """The shared exchange, its clock at NOW, without faults, weights and statistics."""
    shared_server.send("POST", "/_local/reset")
    yield shared_server
    shared_server.send("POST", "/_local/reset")
    shared_server.send("PUT", "/_local/clock", {"now": NOW})


@pytest.fixture
def small_server() -> Iterator[Server]:
    """An exchange of its own with a weight limit of 10 and little patience."""
    yield from serve(Exchange(symbols=20, weight_limit=10, clock=Clock(NOW), patience=3))
