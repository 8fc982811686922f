"""What a container works with: its backend, its worker and its reader of candles.

Nothing is read or connected at import, because the packaging command imports app.py without the
functions' environment.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from chalicelib.aws.signed_calls import SignedCalls
from chalicelib.core.backend import Backend, wall_clock_ms
from chalicelib.core.environ import from_environ

if TYPE_CHECKING:
    from chalicelib.aws.pooled_calls import PooledCalls
    from chalicelib.candles.store import Held
    from chalicelib.exchange.worker import Worker


@lru_cache(maxsize=1)
def backend() -> Backend:
    """The container's backend over blocking calls, for functions that must start quickly."""
    settings = from_environ(os.environ)
    call = SignedCalls({"apigatewaymanagementapi": settings.ws_endpoint}, settings.url_suffix)
    return Backend(call, settings, wall_clock_ms)


class BlockingCandles:
    """The store of candles over blocking calls; loaded with the first candle that is read, because
    arro3 takes a twentieth of a second."""

    async def read(self, symbol: str, timeframe: str, open_ms: int) -> Held:
        """As CandleStore.read."""
        from chalicelib.candles.store import CandleStore

        return await CandleStore(backend()).read(symbol, timeframe, open_ms)


def candle_reader() -> BlockingCandles:
    """A reader of stored candles, for functions without an event loop."""
    return BlockingCandles()


@lru_cache(maxsize=1)
def worker() -> Worker:
    """The container's worker; make and use it on one event loop."""
    return _worker(_pooled_calls())


@lru_cache(maxsize=1)
def exporter() -> Backend:
    """The container's backend over an SDK, for one long job a day; on one event loop."""
    from chalicelib.aws.sdk_calls import SdkCalls

    return Backend(SdkCalls(), from_environ(os.environ), wall_clock_ms)


@asynccontextmanager
async def fresh_worker() -> AsyncIterator[Worker]:
    """A new worker, closed at the end: for callers that start and end their own event loop."""
    calls = _pooled_calls()
    worker = _worker(calls)
    try:
        yield worker
    finally:
        await worker.exchange.aclose()
        if worker.archive is not None:
            await worker.archive.aclose()
        await calls.aclose()


def _pooled_calls() -> PooledCalls:
    from chalicelib.aws.pooled_calls import PooledCalls

    return PooledCalls(url_suffix=from_environ(os.environ).url_suffix)


def _worker(calls: PooledCalls) -> Worker:
    from chalicelib.exchange.archive import Archive
    from chalicelib.exchange.binance import Binance
    from chalicelib.exchange.worker import Worker

    settings = from_environ(os.environ)
    archive = Archive(settings.archive_root) if settings.archive_root else None
    return Worker(calls, settings, wall_clock_ms, Binance(settings.exchange_url), archive)
