"""The latest prices of any number of symbols, from one stored item."""

from __future__ import annotations

from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.errors import NotReady
from chalicelib.core.times import DAY, MINUTE, iso
from chalicelib.exchange.catalogue_table import CatalogueTable, Price, Prices

#: Prices are refreshed every minute: a price that is older was missed by three refreshes.
STALE_AFTER_MS = 3 * MINUTE
#: An older price says nothing of today; its symbol then has none.
DROPPED_AFTER_MS = DAY


async def latest_prices(backend: Backend, wanted: list[str] | None) -> dict[str, Any]:
    """{"exchange", "prices": {symbol: as `shown`}, "unreachable": [...], "as_of"}.

    `wanted` None: all. `as_of` is the time of the newest price. Raises NotReady before the first
    refresh.
    """
    stored = await CatalogueTable(backend).read_prices()
    if stored is None:
        raise NotReady("no prices yet; they are refreshed every minute", reason="NO_PRICES_YET")
    now_ms = backend.now_ms()
    known = kept(stored, now_ms)
    symbols = known if wanted is None else list(dict.fromkeys(wanted))
    return {
        "exchange": backend.settings.exchange,
        "prices": {symbol: shown(known[symbol], now_ms) for symbol in symbols if symbol in known},
        "unreachable": [symbol for symbol in symbols if symbol not in known],
        "as_of": iso(stored.priced_at),
    }


def kept(stored: Prices | None, now_ms: int) -> dict[str, Price]:
    """The stored prices that are not too old to be shown."""
    prices = stored.prices if stored else {}
    return {
        symbol: price
        for symbol, price in prices.items()
        if now_ms - price.priced_at < DROPPED_AFTER_MS
    }


def shown(price: Price, now_ms: int) -> dict[str, Any]:
    """{"price", "time", "age_seconds", "stale"}, as the API and the updates show a price.

    `time` is when the exchange was asked; `age_seconds` is counted from it, whole and rounded down.
    """
    age_ms = max(0, now_ms - price.priced_at)
    return {
        "price": float(price.price),
        "time": iso(price.priced_at),
        "age_seconds": age_ms // 1000,
        "stale": age_ms > STALE_AFTER_MS,
    }
