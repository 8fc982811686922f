"""What the exchange lists, and its latest prices: two items of the Market table.

pk                    sk          holds
CATALOGUE#<exchange>  CATALOGUE   symbols: zlib JSON {symbol: status}, weight_limit,
                                  refreshed_at, asked (by, request_id, task_id; or null), root
PRICES#<exchange>     PRICES      prices: zlib JSON {symbol: price as sent}, priced_at; an older
                                  price is [price, its time]
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ExchangeRootChanged

if TYPE_CHECKING:
    from chalicelib.aws.stream import Change

_CATALOGUE, _PRICES = "CATALOGUE", "PRICES"

# Named tuples, because every dataclass would cost the API's cold start half a millisecond.


class Asked(NamedTuple):
    """Who had the catalogue refreshed, by which request, for which task."""

    by: str
    request_id: str | None
    task_id: str | None


class Catalogue(NamedTuple):
    """What the exchange lists.

    `symbols`: symbol -> status; `weight_limit`: request weight per minute and IP; `refreshed_at`:
    epoch ms; `asked`: None where the system refreshed it by itself; `root`: which was asked.
    """

    symbols: dict[str, str]
    weight_limit: int
    refreshed_at: int
    asked: Asked | None = None
    root: str = ""


class Price(NamedTuple):
    """`price` as the exchange sent it; `priced_at`: when it did, epoch ms."""

    price: str
    priced_at: int


class Prices(NamedTuple):
    """`prices`: by symbol; `priced_at`: time of the newest of them, epoch ms."""

    prices: dict[str, Price]
    priced_at: int


class CatalogueChange(NamedTuple):
    """A change of the catalogue: symbol -> status before and after, and who asked for it."""

    exchange: str
    before: dict[str, str]
    after: dict[str, str]
    asked: Asked | None


class CatalogueTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.market_table)
        self._exchange = backend.settings.exchange
        self._root = backend.settings.exchange_root

    async def read_catalogue(self) -> Catalogue | None:
        """None before the first refresh."""
        item = await self._get(self._key(_CATALOGUE))
        if item is None:
            return None
        return Catalogue(
            symbols=_symbols_in(item),
            weight_limit=item["weight_limit"],
            refreshed_at=item["refreshed_at"],
            asked=_asked_in(item),
            root=item["root"],
        )

    async def read_own_catalogue(self) -> Catalogue | None:
        """For what is going to ask the exchange: raises ExchangeRootChanged where its name belongs
        to another root than ours."""
        catalogue = await self.read_catalogue()
        if catalogue is not None and catalogue.root != self._root:
            raise ExchangeRootChanged(self._exchange, catalogue.root, self._root)
        return catalogue

    async def write_catalogue(
        self, symbols: dict[str, str], weight_limit: int, now_ms: int, asked: Asked | None = None
    ) -> None:
        values = {"symbols": packed(symbols), "weight_limit": weight_limit, "refreshed_at": now_ms}
        about = {"asked": asked and asked._asdict(), "root": self._root}
        await self._write(_CATALOGUE, {**values, **about})

    async def read_prices(self) -> Prices | None:
        """None before the first refresh."""
        item = await self._get(self._key(_PRICES))
        return None if item is None else _prices_in(item)

    async def write_prices(
        self,
        prices: dict[str, str],
        priced_at_ms: int,
        older: Mapping[str, Price] = MappingProxyType({}),
    ) -> None:
        """Replace all prices: `prices` as sent at `priced_at_ms`, and `older` ones beside them."""
        values = packed({**older, **prices})
        await self._write(_PRICES, {"prices": values, "priced_at": priced_at_ms})

    async def _write(self, kind: str, values: dict[str, Any]) -> None:
        await self._call(
            "dynamodb",
            "PutItem",
            TableName=self._table,
            Item={**self._key(kind), **item_to_wire(values)},
        )

    def _key(self, kind: str) -> dict[str, Any]:
        return {"pk": {"S": f"{kind}#{self._exchange}"}, "sk": {"S": kind}}


def catalogue_change(change: Change) -> CatalogueChange | None:
    """None where the change is of another kind of item, or deleted the item."""
    if not change.new or not change.pk.startswith(f"{_CATALOGUE}#"):
        return None
    return CatalogueChange(
        exchange=change.pk.removeprefix(f"{_CATALOGUE}#"),
        before=_symbols_in(change.old) if change.old else {},
        after=_symbols_in(change.new),
        asked=_asked_in(change.new),
    )


def changed_prices(change: Change) -> Prices | None:
    """The prices after a change; None where it is of another kind of item, or deleted the item."""
    if not change.new or not change.pk.startswith(f"{_PRICES}#"):
        return None
    return _prices_in(change.new)


def packed(value: Mapping[str, str | Price]) -> bytes:
    """A mapping in the form that the items hold."""
    return zlib.compress(json.dumps(value, ensure_ascii=False, sort_keys=True).encode(), 6)


def _unpacked(value: bytes) -> dict[str, Any]:
    mapping: dict[str, Any] = json.loads(zlib.decompress(value))
    return mapping


def _symbols_in(item: dict[str, Any]) -> dict[str, str]:
    return _unpacked(item["symbols"])


def _asked_in(item: dict[str, Any]) -> Asked | None:
    asked = item.get("asked")
    return Asked(asked["by"], asked.get("request_id"), asked.get("task_id")) if asked else None


def _prices_in(item: dict[str, Any]) -> Prices:
    priced_at = item["priced_at"]
    prices = {
        symbol: Price(found, priced_at) if isinstance(found, str) else Price(*found)
        for symbol, found in _unpacked(item["prices"]).items()
    }
    return Prices(prices, priced_at)
