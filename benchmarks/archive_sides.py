"""One side of the archive's benchmark in a process of its own: `… -m benchmarks.archive_sides`.

    archive URL    twelve closed months of one symbol's minutes from the bulk archive, as a worker
                   takes them: checksums and samples included
    rest URL       the same from REST, a month at a time
    month FOLDER   a month of seconds, 2.7 million lines, from a file in that folder to columns

Prints JSON: seconds, CPU seconds, candles and their checksum, the largest memory.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from benchmarks.exchange_server import NOW
from chalicelib.candles.answers import Answer, closed_candles
from chalicelib.candles.candles import VALUES, Candles
from chalicelib.candles.intervals import Interval
from chalicelib.core import timeframes
from chalicelib.core.settings import Settings
from chalicelib.core.times import DAY
from chalicelib.exchange.archive_file import ArchiveFile, monthly_file
from chalicelib.exchange.archive_rows import candles_in
from chalicelib.work.units import PAGE_CANDLES

SYMBOL, TIMEFRAME = "BTCUSDT", "1m"
YEAR = Interval(1_740_787_200_000, 1_772_323_200_000)  # 2025-03-01 to 2026-03-01
SECONDS_FILE = ArchiveFile(SYMBOL, "1s", YEAR.start_ms, YEAR.start_ms + 31 * DAY)


async def _free(_: int) -> None:
    """Every request is permitted: the ledger is no part of this benchmark."""


async def archive(url: str) -> list[Candles]:
    from chalicelib.collecting.archived import from_archive
    from chalicelib.exchange.archive import Archive
    from chalicelib.exchange.binance import Binance
    from chalicelib.exchange.worker import Worker

    async def no_call(*_: Any, **__: Any) -> dict[str, Any]:
        raise AssertionError("AWS is no part of this benchmark")

    worker = Worker(no_call, Settings(), lambda: NOW, Binance(url), Archive(url))
    found = await from_archive(worker, SYMBOL, TIMEFRAME, [YEAR], _free)
    await worker.exchange.aclose()
    assert worker.archive is not None
    await worker.archive.aclose()
    if found.passed_over:
        raise RuntimeError(f"files were not used: {found.passed_over}")
    return [found.candles]


async def rest(url: str) -> list[Candles]:
    from chalicelib.exchange.binance import Binance

    exchange = Binance(url)
    found = []
    step = PAGE_CANDLES * timeframes.LENGTH_MS[TIMEFRAME]
    start_ms = YEAR.start_ms
    while start_ms < YEAR.end_ms:
        end_ms = monthly_file(SYMBOL, TIMEFRAME, start_ms).end_ms
        pages = await asyncio.gather(
            *(
                exchange.klines(SYMBOL, TIMEFRAME, at, min(at + step, end_ms), _free)
                for at in range(start_ms, end_ms, step)
            )
        )
        answers = [Answer(page.rows, page.server_ms) for page in pages]
        found.append(closed_candles(TIMEFRAME, answers, start_ms, end_ms)[0])
        start_ms = end_ms
    await exchange.aclose()
    return found


def month(folder: str) -> int:
    """How many candles a month of seconds has, none of which is kept."""
    with (Path(folder) / SECONDS_FILE.name).open("rb") as content:
        return sum(map(len, candles_in(content, SECONDS_FILE, NOW)))


def main(side: str, place: str) -> dict[str, Any]:
    started, cpu = time.monotonic(), time.process_time()
    if side == "month":
        count, digest = month(place), 0
    else:
        found = asyncio.run({"archive": archive, "rest": rest}[side](place))
        count, digest = sum(map(len, found)), 0
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    if side != "month":
        for name in VALUES:
            for part in found:
                digest = zlib.crc32(part.columns[name].tobytes(), digest)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "cpu": cpu,
        "candles": count,
        "digest": digest,
        "peak_mb": kilobytes / (1 << 20 if sys.platform == "darwin" else 1 << 10),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
