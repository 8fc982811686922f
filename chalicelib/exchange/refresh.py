"""Asking the exchange for its symbols and for their prices."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ExchangeThrottled
from chalicelib.exchange.binance import Permit
from chalicelib.exchange.catalogue_table import Asked, CatalogueTable
from chalicelib.exchange.ledger import DEFAULT_WEIGHT_LIMIT, Ledger, fleet_limit
from chalicelib.exchange.prices import kept
from chalicelib.exchange.worker import Worker


@dataclass(frozen=True)
class Refreshed:
    """`symbols`: symbol -> status; `added`: how many of them were not known before."""

    symbols: dict[str, str]
    added: int


async def refresh_catalogue(worker: Worker, asked: Asked | None = None) -> Refreshed:
    """Load the exchange's symbols into the Market table. Raises ExchangeError.

    `asked`: who asked for it, for the audit trail; None: the system itself.
    """
    table = CatalogueTable(worker)
    try:
        listing = await worker.exchange.listing(_permit(worker))
    except ExchangeThrottled as error:
        await Ledger(worker).pause(error.until_ms, error.detail[:200])
        raise
    before = await table.read_catalogue()
    weight_limit = listing.weight_limit or DEFAULT_WEIGHT_LIMIT
    await table.write_catalogue(listing.symbols, weight_limit, worker.now_ms(), asked)
    known = before.symbols if before else {}
    return Refreshed(listing.symbols, len(listing.symbols.keys() - known.keys()))


async def refresh_prices(worker: Worker) -> int:
    """Store every listed symbol's price in one packed item; returns how many are new.

    A symbol without a usable price in this answer keeps the last one, with its own time, for a day.
    The exchange still quotes delisted symbols: those that the catalogue does not list are left out.
    """
    table = CatalogueTable(worker)
    try:
        (prices, _), server_ms = await worker.exchange.prices(_permit(worker))
    except ExchangeThrottled as error:
        await Ledger(worker).pause(error.until_ms, error.detail[:200])
        raise
    catalogue = await table.read_catalogue()
    before, now_ms = await table.read_prices(), worker.now_ms()
    older = kept(before, now_ms)
    if catalogue is not None:
        prices = {name: prices[name] for name in prices if name in catalogue.symbols}
        older = {name: older[name] for name in older if name in catalogue.symbols}
    if prices:
        # A server's clock that is ahead must not keep its prices fresh.
        await table.write_prices(prices, min(server_ms, now_ms), older)
    elif before is not None:
        await table.write_prices({}, before.priced_at, older)
    return len(prices)


def _permit(backend: Backend) -> Permit:
    """Takes weight for each request, retries included."""

    async def permit(weight: int) -> None:
        catalogue = await CatalogueTable(backend).read_catalogue()
        limit = max(weight, fleet_limit(catalogue, backend.settings))
        until_ms = await Ledger(backend).take_weight(weight, limit, backend.now_ms())
        if until_ms:
            raise ExchangeThrottled("waiting for the exchange", until_ms)

    return permit
