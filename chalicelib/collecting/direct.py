"""Collecting and refreshing in this process, for callers who wait for the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from chalicelib import wiring
from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.summary import Summary
from chalicelib.collecting.group import collect_units, judged
from chalicelib.collecting.ranges import wanted
from chalicelib.collecting.store import Result
from chalicelib.core.backend import Backend
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import NEW, Unit

#: Called with a symbol, one of its units, and what that came to.
Finished = Callable[[str, Unit, Result], None]


async def collect_market_data_async(
    symbols: Sequence[str],
    timeframes_wanted: Sequence[str],
    progress: Callable[[int, int, str], None] | None = None,
    worker: Worker | None = None,
) -> dict[str, object]:
    """Collect from the last stored candle on, in this process, and return when it is done.

    Gaps that are due are asked for again. `progress(done, total, label)` is called after each
    unit: a symbol, a timeframe, and a stretch of time. Returns
    {"units", "succeeded", "failed", "candles", "failures": [{symbol, timeframe, reason, detail}]}.
    One failing symbol never stops the others.
    """
    worker = worker or wiring.worker()
    budget = Budget(worker)
    stored = await CoverageTable(worker).coverage_of(list(dict.fromkeys(symbols)))
    planned = [
        (symbol, _units(worker, timeframes_wanted, stored.get(symbol, {}))) for symbol in symbols
    ]
    failures: list[dict[str, str]] = []
    done = candles = 0
    total = sum(len(units) for _, units in planned)

    def finished(symbol: str, unit: Unit, result: Result) -> None:
        nonlocal done, candles
        done += 1
        candles += result.stored
        if result.reason:
            about = {"symbol": symbol, "timeframe": unit.timeframe}
            failures.append({**about, "reason": result.reason, "detail": result.detail})
        if progress:
            progress(done, total, f"{symbol} {unit.timeframe}")

    for symbol, units in planned:
        await _collect_symbol(worker, budget, symbol, units, finished)
    return {
        "units": total,
        "succeeded": total - len(failures),
        "failed": len(failures),
        "candles": candles,
        "failures": failures,
    }


def collect_market_data(symbols: Sequence[str], timeframes: Sequence[str]) -> dict[str, object]:
    """`collect_market_data_async` for callers without an event loop."""

    async def collect() -> dict[str, object]:
        async with wiring.fresh_worker() as worker:
            return await collect_market_data_async(symbols, timeframes, worker=worker)

    return asyncio.run(collect())


async def refresh_symbols_async(
    progress: Callable[[int, int, str], None] | None = None, worker: Worker | None = None
) -> dict[str, object]:
    """Refresh the catalogue in this process: {"symbols": [...], "added": n}.

    `progress(done, total, label)` is called when it is done. Raises ExchangeError.
    """
    refreshed = await refresh_catalogue(worker or wiring.worker())
    if progress:
        progress(1, 1, f"{len(refreshed.symbols)} symbols")
    return {"symbols": sorted(refreshed.symbols), "added": refreshed.added}


def refresh_symbols() -> dict[str, object]:
    """`refresh_symbols_async` for callers without an event loop."""

    async def refresh() -> dict[str, object]:
        async with wiring.fresh_worker() as worker:
            return await refresh_symbols_async(worker=worker)

    return asyncio.run(refresh())


def _units(backend: Backend, timeframes: Sequence[str], stored: Coverages) -> list[Unit]:
    """The units of each timeframe, from what is stored up to now."""
    backfill = backend.settings.backfill_candles
    units: list[Unit] = []
    for timeframe in timeframes:
        known = stored.get(timeframe, Summary())
        asked = wanted(timeframe, backend.now_ms(), None, None, known, backfill)
        for window in [*asked.again, *asked.windows]:
            units.append(Unit(len(units), timeframe, *window))
    return units


async def _collect_symbol(
    worker: Worker, budget: Budget, symbol: str, units: list[Unit], finished: Finished
) -> None:
    """Collect until every unit has a result, and wait as long as the exchange makes us wait."""
    left = units
    deliveries = 0
    while left:
        deliveries += 1
        group = await collect_units(
            worker,
            budget,
            symbol,
            left,
            fill=NEW,
            task_id="direct",
            authorised=_always,
            remaining_ms=lambda: 1_000_000,
        )
        group = await judged(worker, group, deliveries)
        for unit in left:
            if unit.number in group.results:
                finished(symbol, unit, group.results[unit.number])
        left = [unit for unit in left if unit.number not in group.results]
        if left:
            wait_ms = max(1000 * deliveries, group.wait_until_ms - worker.now_ms())
            await asyncio.sleep(wait_ms / 1000)


async def _always() -> bool:
    return True
