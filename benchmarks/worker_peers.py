"""The other sides of the worker's benchmark: `python -m benchmarks.worker_peers NAME JOBS`.

naive, ccxt, python-binance, floor: each fetches the same pages with as many requests in flight, and
encodes the same stretches of time as Parquet, in memory. None of them calls AWS, proves that
nothing is missing, or counts anything. Prints JSON as worker_ours.py does.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import resource
import struct
import sys
import time
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.side import PASSES

IN_FLIGHT = 8
PAGE = 1000
#: A kline's columns, in its order; the twelfth says nothing.
COLUMNS = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
INTEGERS = ("open_time", "close_time", "trades")


class Naive:
    """httpx, `json`, a dict per candle, pyarrow's defaults."""

    def __init__(self, root_url: str) -> None:
        import httpx

        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        headers = {"Accept-Encoding": "gzip"}
        self.client = httpx.AsyncClient(
            base_url=root_url, limits=limits, headers=headers, timeout=60
        )

    async def open(self) -> None:
        return

    async def aclose(self) -> None:
        await self.client.aclose()

    async def page(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Any:
        query = _query(symbol, timeframe, start_ms, end_ms)
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

    def series(self, pages: list[Any]) -> tuple[list[int], Any]:
        candles = [candle for page in pages for candle in page]
        return [candle["open_time"] for candle in candles], candles

    def file(self, candles: Any, low: int, high: int) -> bytes:
        import pyarrow
        import pyarrow.parquet

        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(candles[low:high]), file)
        return file.getvalue()


class Pandas:
    """What the peers share: a data frame per series, `to_parquet` with pyarrow."""

    columns: tuple[str, ...] = COLUMNS

    def series(self, pages: list[Any]) -> tuple[Any, Any]:
        import pandas

        rows = [row[: len(self.columns)] for page in pages for row in page]
        frame = pandas.DataFrame(rows, columns=list(self.columns))
        floats = [name for name in self.columns if name not in INTEGERS]
        frame[floats] = frame[floats].astype(float)
        times = frame["open_time"].tolist()
        for name in {"open_time", "close_time"} & {*self.columns}:
            frame[name] = pandas.to_datetime(frame[name], unit="ms", utc=True)
        return times, frame

    def file(self, frame: Any, low: int, high: int) -> bytes:
        file = io.BytesIO()
        frame.iloc[low:high].to_parquet(file, engine="pyarrow", index=False)
        return file.getvalue()


class Ccxt(Pandas):
    """`fetch_ohlcv`, as its users call it: six of the eleven columns."""

    columns = COLUMNS[:6]

    def __init__(self, root_url: str) -> None:
        import ccxt.async_support

        options = {"fetchMarkets": {"types": ["spot"]}}
        self.client = ccxt.async_support.binance(
            {
                "enableRateLimit": False,
                "options": options,
                "cafile": os.environ["SSL_CERT_FILE"],
            }
        )
        self.client.urls["api"]["public"] = f"{root_url}/api/v3"

    async def open(self) -> None:
        await self.client.load_markets()

    async def aclose(self) -> None:
        await self.client.close()

    async def page(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Any:
        market = self.client.markets_by_id[symbol][0]["symbol"]
        until = {"until": end_ms - 1}
        return await self.client.fetch_ohlcv(market, timeframe, start_ms, PAGE, until)


class PythonBinance(Pandas):
    def __init__(self, root_url: str) -> None:
        from binance import AsyncClient

        class Client(AsyncClient):  # type: ignore[misc]
            API_URL = f"{root_url}/api"

        self.client = Client()

    async def open(self) -> None:
        return

    async def aclose(self) -> None:
        await self.client.close_connection()

    async def page(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Any:
        return await self.client.get_klines(**_query(symbol, timeframe, start_ms, end_ms))


class Floor:
    """aiohttp, isal, msgspec, arrays and arro3, written by hand for this and nothing else."""

    def __init__(self, root_url: str) -> None:
        import msgspec

        unused = msgspec.Raw
        row = tuple[int, float, float, float, float, float, int, float, int, float, float, unused]
        self.decode = msgspec.json.Decoder(list[row], strict=False).decode
        self.root_url = root_url

    async def open(self) -> None:
        import aiohttp

        gc.freeze()
        gc.set_threshold(100_000)
        self.client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=IN_FLIGHT),
            headers={"Accept-Encoding": "gzip"},
            auto_decompress=False,
        )

    async def aclose(self) -> None:
        await self.client.close()

    async def page(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Any:
        from isal import isal_zlib
        from yarl import URL

        query = _query(symbol, timeframe, start_ms, end_ms)
        text = "&".join(f"{name}={value}" for name, value in query.items())
        url = URL(f"{self.root_url}/api/v3/klines?{text}", encoded=True)
        async with self.client.get(url) as answer:
            body = await answer.read()
        columns = zip(*self.decode(isal_zlib.decompress(body, wbits=31)), strict=True)
        return [
            packed("q" if name in INTEGERS else "d", column)
            for name, column in zip(COLUMNS, columns, strict=False)
        ]

    def series(self, pages: list[Any]) -> tuple[Any, Any]:
        whole = [array(column.typecode) for column in pages[0]]
        for column, part in chain.from_iterable(zip(whole, page, strict=True) for page in pages):
            column.extend(part)
        return whole[0], whole

    def file(self, columns: Any, low: int, high: int) -> bytes:
        from arro3.core import Array, DataType, Table
        from arro3.io import write_parquet

        times = DataType.timestamp("ms", tz="UTC")
        arrays = [Array.from_buffer(column[low:high]) for column in columns]
        for at in (0, 6):
            arrays[at] = arrays[at].cast(times)
        file = io.BytesIO()
        write_parquet(
            Table.from_arrays(arrays, names=list(COLUMNS)),
            file,
            compression="zstd(1)",
            dictionary_enabled=False,
            encoding="plain",
            column_encoding=dict.fromkeys(INTEGERS, "delta_binary_packed"),
            skip_arrow_metadata=True,
        )
        return file.getvalue()


def packed(code: str, values: Sequence[Any]) -> array[Any]:
    """An array, in three fifths of the time that its constructor takes."""
    return array(code, struct.pack(f"{len(values)}{code}", *values))


SIDES: dict[str, type[Any]] = {
    "naive": Naive,
    "ccxt": Ccxt,
    "python-binance": PythonBinance,
    "floor": Floor,
}


def _query(symbol: str, timeframe: str, start_ms: int, end_ms: int) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "interval": timeframe,
        "startTime": start_ms,
        "endTime": end_ms - 1,
        "limit": PAGE,
    }


async def collect(side: Any, jobs: dict[str, Any]) -> dict[str, int]:
    """Fetch all pages, then encode all files; counts of candles, files and bytes."""
    in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def fetched(page: list[Any]) -> Any:
        async with in_flight:
            return await side.page(*page)

    pages: dict[tuple[str, str], list[Any]] = {}
    answers = await asyncio.gather(*map(fetched, jobs["pages"]))
    for (symbol, timeframe, *_), answer in zip(jobs["pages"], answers, strict=True):
        pages.setdefault((symbol, timeframe), []).append(answer)
    candles = length = 0
    whole = {name: side.series(each) for name, each in pages.items()}
    for symbol, timeframe, start_ms, end_ms in jobs["files"]:
        times, series = whole[symbol, timeframe]
        low, high = bisect_left(times, start_ms), bisect_left(times, end_ms)
        length += len(side.file(series, low, high))
        candles += high - low
    return {"candles": candles, "files": len(jobs["files"]), "bytes": length}


async def measured(name: str, jobs: dict[str, Any]) -> dict[str, Any]:
    side: Any = SIDES[name](jobs["exchange_url"])
    await side.open()
    # A first pass: imports, TLS handshakes and the memory's growth belong to the start.
    await collect(side, jobs)
    taken = []
    for _ in range(PASSES):
        started = time.process_time()
        counts = await collect(side, jobs)
        taken.append(time.process_time() - started)
    await side.aclose()
    return {
        "ms": min(taken) * 1000 / len(jobs["pages"]),
        **counts,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text())
    print(json.dumps(asyncio.run(measured(sys.argv[1], given))))
