"""Asking the exchange what it lists and what it costs now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chalicelib.core.errors import ExchangeThrottled
from chalicelib.exchange.binance import ALL_PRICES_WEIGHT, EXCHANGE_INFO_WEIGHT
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import DEFAULT_WEIGHT_LIMIT, Ledger
from chalicelib.exchange.worker import Worker


@dataclass(frozen=True)
class Catalogue:
    """symbol -> status; how many were not known before; the weight limit per minute."""

    symbols: dict[str, str]
    added: int
    weight_limit: int


async def refresh_catalogue(worker: Worker, asked: dict[str, Any] | None = None) -> Catalogue:
    """Load the exchange's symbols into the Market table. Raises ExchangeError.

    `asked`: by, request_id and task_id of whoever asked for it, for the audit trail.
    """
    await _take(worker, EXCHANGE_INFO_WEIGHT)
    try:
        listing = await worker.exchange.listing()
    except ExchangeThrottled as error:
        await Ledger(worker).pause(error.until_ms, error.detail[:200])
        raise
    before = await CatalogueTable(worker).read_catalogue()
    limit = listing.weight_limit or DEFAULT_WEIGHT_LIMIT
    await CatalogueTable(worker).write_catalogue(listing.symbols, limit, worker.now_ms(), asked)
    known = before["symbols"] if before else {}
    return Catalogue(listing.symbols, len(listing.symbols.keys() - known.keys()), limit)


async def refresh_prices(worker: Worker) -> int:
    """Store every listed symbol's price in one packed item; returns how many.

    The exchange still quotes delisted symbols: what the catalogue does not list is left out.
    """
    await _take(worker, ALL_PRICES_WEIGHT)
    try:
        prices, server_ms = await worker.exchange.prices()
    except ExchangeThrottled as error:
        await Ledger(worker).pause(error.until_ms, error.detail[:200])
        raise
    catalogue = await CatalogueTable(worker).read_catalogue()
    if catalogue is not None:
        prices = {name: prices[name] for name in prices if name in catalogue["symbols"]}
    await CatalogueTable(worker).write_prices(prices, server_ms)
    return len(prices)


async def _take(worker: Worker, weight: int) -> None:
    catalogue = await CatalogueTable(worker).read_catalogue()
    limit = (catalogue or {}).get("weight_limit") or DEFAULT_WEIGHT_LIMIT
    share = max(weight, limit * worker.settings.budget_percent // 100)
    until_ms = await Ledger(worker).take_weight(weight, share, worker.now_ms())
    if until_ms:
        raise ExchangeThrottled("waiting for the exchange", until_ms)
