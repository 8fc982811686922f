"""Collecting and refreshing in this process, for callers who wait for the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from chalicelib import wiring
from chalicelib.candles.coverage import Coverage
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.collecting.collect import _judge_unavailable
from chalicelib.collecting.fetch import (
    collect_units,
)
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import Unit
from chalicelib.work.units import bounds


async def collect_market_data_async(
    symbols: Sequence[str],
    timeframes_wanted: Sequence[str],
    progress: Callable[[int, int, str], None] | None = None,
    worker: Worker | None = None,
) -> dict[str, object]:
    """Collect from the last stored candle on, in this process, and return when it is done.

    `progress(done, total, label)` is called after each symbol and timeframe. Returns
    {"units", "succeeded", "failed", "candles", "failures": [{symbol, timeframe, reason, detail}]}.
    One failing symbol never stops the others.
    """
    from chalicelib import wiring

    worker = worker or wiring.worker()
    budget = Budget(worker)
    stored = await CoverageTable(worker).coverage_of(list(dict.fromkeys(symbols)))
    failures: list[dict[str, str]] = []
    done = candles = 0
    total = len(symbols) * len(timeframes_wanted)
    for symbol in symbols:
        left = []
        for index, timeframe in enumerate(timeframes_wanted):
            last = stored.get(symbol, {}).get(timeframe, Coverage()).last
            start, end = bounds(
                timeframe, worker.now_ms(), None, None, last, worker.settings.backfill_candles
            )
            left.append(Unit(index, timeframe, start, max(end, start + 1)))
        deliveries = 0
        while left:
            deliveries += 1
            group = await collect_units(
                worker, budget, symbol, left, "direct", _always, lambda: 1_000_000
            )
            await _judge_unavailable(worker, group, deliveries)
            for unit in left:
                result = group.results.get(unit.number)
                if result is None:
                    continue
                done += 1
                candles += result.stored
                if result.reason:
                    failures.append(
                        {
                            "symbol": symbol,
                            "timeframe": unit.timeframe,
                            "reason": result.reason,
                            "detail": result.detail,
                        }
                    )
                if progress:
                    progress(done, total, f"{symbol} {unit.timeframe}")
            left = [unit for unit in left if unit.number not in group.results]
            if left:
                wait_ms = max(1000 * deliveries, group.wait_until_ms - worker.now_ms())
                await asyncio.sleep(wait_ms / 1000)
    return {
        "units": total,
        "succeeded": total - len(failures),
        "failed": len(failures),
        "candles": candles,
        "failures": failures,
    }


def collect_market_data(symbols: Sequence[str], timeframes: Sequence[str]) -> dict[str, object]:
    """`collect_market_data_async` for callers without an event loop."""
    return asyncio.run(_closing(symbols, timeframes))


async def _closing(symbols: Sequence[str], wanted: Sequence[str]) -> dict[str, object]:
    from chalicelib import wiring

    async with wiring.fresh_worker() as worker:
        return await collect_market_data_async(symbols, wanted, worker=worker)


async def _always() -> bool:
    return True


async def refresh_symbols_async(
    progress: Callable[[int, int, str], None] | None = None, worker: Worker | None = None
) -> dict[str, object]:
    """Refresh the catalogue in this process: {"symbols": [...], "added": n}.

    `progress(done, total, label)` is called when it is done. Raises ExchangeError.
    """
    catalogue = await refresh_catalogue(worker or wiring.worker())
    if progress:
        progress(1, 1, f"{len(catalogue.symbols)} symbols")
    return {"symbols": sorted(catalogue.symbols), "added": catalogue.added}


def refresh_symbols() -> dict[str, object]:
    """`refresh_symbols_async` for callers without an event loop."""

    async def closing() -> dict[str, object]:
        async with wiring.fresh_worker() as worker:
            return await refresh_symbols_async(worker=worker)

    return asyncio.run(closing())
