"""Asking the exchange what it lists and what it costs now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chalicelib import wiring
from chalicelib.candles.coverage_table import DEFAULT_WEIGHT_LIMIT
from chalicelib.core.errors import ExchangeThrottled
from chalicelib.exchange.binance import ALL_PRICES_WEIGHT, EXCHANGE_INFO_WEIGHT
from chalicelib.wiring import Bench


@dataclass(frozen=True)
class Catalogue:
    """symbol -> status; how many were not known before; the weight limit per minute."""

    symbols: dict[str, str]
    added: int
    weight_limit: int


async def refresh_catalogue(bench: Bench, asked: dict[str, Any] | None = None) -> Catalogue:
    """Load the exchange's symbols into the Market table. Raises ExchangeError.

    `asked`: by, request_id and task_id of whoever asked for it, for the audit trail.
    """
    await _take(bench, EXCHANGE_INFO_WEIGHT)
    try:
        listing = await bench.exchange.listing()
    except ExchangeThrottled as error:
        await bench.market.pause(error.until_ms, error.detail[:200])
        raise
    before = await bench.market.read_catalogue()
    limit = listing.weight_limit or DEFAULT_WEIGHT_LIMIT
    await bench.market.write_catalogue(listing.symbols, limit, bench.now_ms(), asked)
    known = before["symbols"] if before else {}
    return Catalogue(listing.symbols, len(listing.symbols.keys() - known.keys()), limit)


async def refresh_prices(bench: Bench) -> int:
    """Store every listed symbol's price in one packed item; returns how many.

    The exchange still quotes delisted symbols: what the catalogue does not list is left out.
    """
    await _take(bench, ALL_PRICES_WEIGHT)
    try:
        prices, server_ms = await bench.exchange.prices()
    except ExchangeThrottled as error:
        await bench.market.pause(error.until_ms, error.detail[:200])
        raise
    catalogue = await bench.market.read_catalogue()
    if catalogue is not None:
        prices = {name: prices[name] for name in prices if name in catalogue["symbols"]}
    await bench.market.write_prices(prices, server_ms)
    return len(prices)


async def _take(bench: Bench, weight: int) -> None:
    catalogue = await bench.market.read_catalogue()
    limit = (catalogue or {}).get("weight_limit") or DEFAULT_WEIGHT_LIMIT
    share = max(weight, limit * bench.settings.budget_percent // 100)
    until_ms = await bench.market.take_weight(weight, share, bench.now_ms())
    if until_ms:
        raise ExchangeThrottled("waiting for the exchange", until_ms)


async def refresh_symbols_async(
    progress: Callable[[int, int, str], None] | None = None, bench: Bench | None = None
) -> dict[str, object]:
    """Refresh the catalogue in this process: {"symbols": [...], "added": n}.

    `progress(done, total, label)` is called when it is done. Raises ExchangeError.
    """
    catalogue = await refresh_catalogue(bench or wiring.bench())
    if progress:
        progress(1, 1, f"{len(catalogue.symbols)} symbols")
    return {"symbols": sorted(catalogue.symbols), "added": catalogue.added}


def refresh_symbols() -> dict[str, object]:
    """`refresh_symbols_async` for callers without an event loop."""

    async def closing() -> dict[str, object]:
        async with wiring.fresh_bench() as bench:
            return await refresh_symbols_async(bench=bench)

    return asyncio.run(closing())
