"""One side of worker_cpu in a process of its own: `python -m benchmarks.worker_sides ours URL`.

Both fetch the same pages with as many requests in flight, check each candle as closed, and encode
the same stretches of time as Parquet. Prints JSON: CPU ms per page, candles, the largest memory.
"""

from __future__ import annotations

import asyncio
import io
import json
import resource
import sys
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from benchmarks.exchange_server import NOW
from chalicelib.core import timeframes
from chalicelib.work.units import PAGE_CANDLES

SYMBOL, TIMEFRAME, PAGES = "BTCUSDT", "5m", 60
AT_ONCE = 8
_LENGTH = timeframes.LENGTH_MS[TIMEFRAME]
END = timeframes.floor(TIMEFRAME, NOW)
START = END - PAGES * PAGE_CANDLES * _LENGTH
STARTS = range(START, END, PAGE_CANDLES * _LENGTH)
CUTS = list(timeframes.object_cuts(TIMEFRAME, START, END))

Stages = dict[str, float]


async def _free(_: int) -> None:
    """Every request is permitted: the ledger is no part of this benchmark."""


class Ours:
    """The worker's gateway, rules and encoder, as collecting/collect.py calls them."""

    def __init__(self, root_url: str) -> None:
        from chalicelib.exchange.binance import Binance

        self.exchange = Binance(root_url)

    async def aclose(self) -> None:
        await self.exchange.aclose()

    async def collect(self, stages: Stages) -> int:
        from chalicelib.candles.answers import Answer, closed_candles
        from chalicelib.candles.candles import absent
        from chalicelib.candles.codec import encode

        started = time.process_time()
        step = PAGE_CANDLES * _LENGTH
        pages = await asyncio.gather(
            *(self.exchange.klines(SYMBOL, TIMEFRAME, at, at + step, _free) for at in STARTS)
        )
        fetched = time.process_time()
        answers = [Answer(page.rows, page.server_ms) for page in pages]
        candles, _ = closed_candles(TIMEFRAME, answers, START, END)
        checked = time.process_time()
        for start_ms, end_ms in CUTS:
            encode(candles.between(start_ms, end_ms), {"task_id": "benchmark"})
        encoded = time.process_time()
        stages["fetch and decode"] = fetched - started
        stages["check, into columns"] = checked - fetched
        stages["encode Parquet"] = encoded - checked
        absent(TIMEFRAME, candles.open_times, START, END)
        stages["gaps (not in the sum)"] = time.process_time() - encoded
        return len(candles)


class Naive:
    """httpx, `json` and a dict per candle; pyarrow where it is installed, else arro3."""

    def __init__(self, root_url: str) -> None:
        import httpx

        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        self.client = httpx.AsyncClient(
            base_url=root_url, limits=limits, headers={"Accept-Encoding": "gzip"}, timeout=60
        )
        self.in_flight = asyncio.Semaphore(AT_ONCE)

    async def aclose(self) -> None:
        await self.client.aclose()

    async def collect(self, stages: Stages) -> int:
        started = time.process_time()
        pages = await asyncio.gather(*map(self._page, STARTS))
        fetched = time.process_time()
        candles = [candle for page in pages for candle in page if candle["close_time"] < NOW]
        checked = time.process_time()
        times = [candle["open_time"] for candle in candles]
        for start_ms, end_ms in CUTS:
            write_dicts(candles[bisect_left(times, start_ms) : bisect_left(times, end_ms)])
        stages["fetch and decode"] = fetched - started
        stages["check, into columns"] = checked - fetched
        stages["encode Parquet"] = time.process_time() - checked
        return len(candles)

    async def _page(self, start_ms: int) -> list[dict[str, Any]]:
        query = {
            "symbol": SYMBOL,
            "interval": TIMEFRAME,
            "startTime": start_ms,
            "endTime": start_ms + PAGE_CANDLES * _LENGTH - 1,
            "limit": PAGE_CANDLES,
        }
        async with self.in_flight:
            answer = await self.client.get("/api/v3/klines", params=query)
        answer.raise_for_status()
        return [
            {
                "open_time": row[0],
                "close_time": row[6],
                "open": float(row[1]),
                "high": float(row[2]),
                "low": float(row[3]),
                "close": float(row[4]),
                "volume": float(row[5]),
                "quote_volume": float(row[7]),
                "taker_buy_volume": float(row[9]),
                "taker_buy_quote_volume": float(row[10]),
                "trades": row[8],
            }
            for row in answer.json()
        ]


def write_dicts(candles: list[dict[str, Any]]) -> bytes:
    """Candles as Parquet with the writer's defaults."""
    file = io.BytesIO()
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        from arro3.core import Array, DataType, Table
        from arro3.io import write_parquet

        names = list(candles[0])
        types = (DataType.float64(), DataType.int64())
        arrays = [
            Array([candle[name] for candle in candles], types[isinstance(candles[0][name], int)])
            for name in names
        ]
        write_parquet(Table.from_arrays(arrays, names=names), file)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(candles), file)
    return file.getvalue()


SIDES: dict[str, Callable[[str], Ours | Naive]] = {"ours": Ours, "naive": Naive}


async def _measured(side: Ours | Naive) -> dict[str, Any]:
    # A whole pass first: imports, TLS handshakes and the memory's growth belong to a container's
    # start, not to a page.
    await side.collect({})
    stages: Stages = {}
    started = time.process_time()
    count = await side.collect(stages)
    seconds = time.process_time() - started - stages.get("gaps (not in the sum)", 0)
    await side.aclose()
    return {
        "ms": seconds * 1000 / PAGES,
        "candles": count,
        "stages": {name: taken * 1000 / PAGES for name, taken in stages.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


async def _run(name: str, root_url: str) -> dict[str, Any]:
    return await _measured(SIDES[name](root_url))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_run(*sys.argv[1:]))))
