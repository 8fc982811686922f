"""The local exchange over TLS, in a process of its own: its work is not the worker's."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import web

from benchmarks import certificate
from local.exchange.clock import Clock
from local.exchange.exchange import Exchange
from local.exchange.server import make_app
from local.exchange.timeframes import utc_ms

#: Frozen, so that every run and both sides get the same pages.
NOW = utc_ms("2026-03-04T05:06:07Z")
_ENDLESS = 10**9  # request weight per minute: nothing is throttled here


@contextmanager
def exchange_over_tls() -> Iterator[tuple[str, Path]]:
    """The root URL and the bundle of certificates a client needs, while the server runs."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        ours, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        process = spawn.Process(target=_main, args=(folder, theirs), daemon=True)
        process.start()
        try:
            yield f"https://127.0.0.1:{ours.recv()}", certificate.bundle(Path(folder))
        finally:
            process.terminate()
            process.join()


def _main(folder: str, parent: Connection) -> None:
    asyncio.run(_serve(Path(folder), parent))


async def _serve(folder: Path, parent: Connection) -> None:
    exchange = Exchange(20, _ENDLESS, 1, Clock(frozen_at=NOW), 10)
    runner = web.AppRunner(make_app(exchange), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.server_context(folder))
    await site.start()
    parent.send(runner.addresses[0][1])
    await asyncio.Event().wait()
