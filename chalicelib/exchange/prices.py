"""The latest prices of any number of symbols, from one stored item."""

from __future__ import annotations

from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.errors import NotReady
from chalicelib.core.times import iso
from chalicelib.exchange.catalogue_table import CatalogueTable


async def latest_prices(backend: Backend, wanted: list[str] | None) -> dict[str, Any]:
    """{"prices": {symbol: {"price", "time"}}, "unreachable": [...], "as_of"}.

    `wanted` None: all. A price is a number; `time` is when the exchange was asked, every
    minute. Raises NotReady before the first refresh.
    """
    stored = await CatalogueTable(backend).read_prices()
    if stored is None:
        raise NotReady("no prices yet; they are refreshed every minute", reason="NO_PRICES_YET")
    known, at = stored.prices, iso(stored.priced_at)
    symbols = known if wanted is None else list(dict.fromkeys(wanted))
    return {
        "prices": {
            symbol: {"price": float(known[symbol]), "time": at}
            for symbol in symbols
            if symbol in known
        },
        "unreachable": [symbol for symbol in symbols if symbol not in known],
        "as_of": at,
    }
