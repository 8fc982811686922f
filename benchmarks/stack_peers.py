"""Other people's libraries at the stack's work.

    python -m benchmarks.stack_peers NAME JOBS FOLDER

The jobs are the exchange's URL and series: symbol, timeframe, start and end. Each series becomes
one Parquet file below FOLDER as soon as its pages are there, while the next ones are fetched. What
is warm on the other side is warm here: libraries are imported, the client is open, and one page was
stored. Then this says `ready`, waits for a line, works, and prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.worker_peers import IN_FLIGHT, PAGE, SIDES

_MINUTE_MS = 60_000
_MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
Series = tuple[str, str, int, int]


async def collect(side: Any, series: list[Series], folder: Path) -> int:
    """How many candles were stored."""
    in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def fetched(page: Series) -> Any:
        async with in_flight:
            return await side.page(*page)

    async def stored(each: Series) -> int:
        symbol, timeframe, start_ms, end_ms = each
        step = PAGE * _MINUTES[timeframe] * _MINUTE_MS
        starts = range(start_ms, end_ms, step)
        pages = ((symbol, timeframe, at, min(at + step, end_ms)) for at in starts)
        answers = await asyncio.gather(*map(fetched, pages))
        times, whole = side.series(answers)
        (folder / f"{symbol}-{timeframe}.parquet").write_bytes(side.file(whole, 0, len(times)))
        return len(times)

    return sum(await asyncio.gather(*map(stored, series)))


async def main(
    name: str, exchange_url: str, series: list[Series], folder: Path
) -> dict[str, float]:
    side: Any = SIDES[name](exchange_url)
    await side.open()
    symbol, timeframe, start_ms, _ = series[0]
    page = PAGE * _MINUTES[timeframe] * _MINUTE_MS
    await collect(side, [(symbol, timeframe, start_ms, start_ms + page)], folder)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    spent = time.process_time()
    candles = await collect(side, series, folder)
    done = {
        "candles": candles,
        "ended": time.time(),
        "cpu_s": time.process_time() - spent,
    }
    await side.aclose()
    return done


if __name__ == "__main__":
    url, jobs = json.loads(Path(sys.argv[2]).read_text())
    print(json.dumps(asyncio.run(main(sys.argv[1], url, jobs, Path(sys.argv[3])))))
