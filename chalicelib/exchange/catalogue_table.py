"""What the exchange lists, and its latest prices, in the Market table.

pk                    sk          holds
CATALOGUE#<exchange>  CATALOGUE   symbols: zlib JSON {symbol: status}, delisted: zlib JSON {symbol:
                                  when it was missing first}, assets: zlib JSON (assets.py), root,
                                  unnamed, weight_limit, refreshed_at, asked (by, request_id,
                                  task_id; or null)
REFUSED#<exchange>    REFUSED     the newest list that was refused: symbols: zlib JSON {symbol:
                                  status}, known, missing: zlib JSON [symbol], refused_at,
                                  instead_of, asked
REFRESH#<exchange>    REFRESH     claimed_at: when the system last began a refresh by itself
PRICES#<exchange>     PRICES      prices: zlib JSON {symbol: price as sent}, priced_at; an older
                                  price is [price, its time]
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ExchangeRootChanged
from chalicelib.core.symbols import DELISTED
from chalicelib.exchange.assets import grouped, ungrouped

if TYPE_CHECKING:
    from chalicelib.aws.stream import Change

_CATALOGUE, _PRICES = "CATALOGUE", "PRICES"
_REFUSED, _REFRESH = "REFUSED", "REFRESH"
#: Between two refreshes that the system queues by itself, over all workers and callers.
_REFRESH_EVERY_MS = 60_000

# Named tuples, because every dataclass would cost the API's cold start half a millisecond.


class Asked(NamedTuple):
    """Who had the catalogue refreshed, by which request, for which task."""

    by: str
    request_id: str | None
    task_id: str | None


class Catalogue(NamedTuple):
    """What the exchange lists, and has listed.

    `symbols`: symbol -> status, of those that are listed; `weight_limit`: request weight per minute
    and IP; `refreshed_at`: when the exchange was asked, epoch ms; `asked`: None where the system
    refreshed it by itself; `delisted`: symbol -> when it was missing first, epoch ms; `unnamed`:
    entries of the list that name no symbol, and did so while no symbol was missing; `assets`:
    symbol -> base and quote asset, where the exchange says them; `root`: which was asked.
    """

    symbols: dict[str, str]
    weight_limit: int
    refreshed_at: int
    asked: Asked | None = None
    delisted: Mapping[str, int] = {}
    unnamed: int = 0
    assets: Mapping[str, Sequence[str]] = {}
    root: str = ""

    @property
    def known(self) -> dict[str, str]:
        """symbol -> status, of delisted symbols too."""
        return {**dict.fromkeys(self.delisted, DELISTED), **self.symbols}


class RefusedList(NamedTuple):
    """A list that was not taken over, because too many symbols are missing in it.

    `symbols`: what it lists, symbol -> status; `known`: how many symbols it should have had;
    `missing`: those of them that it does not list; `refused_at`: epoch ms; `instead_of`: when the
    catalogue that stays was refreshed, 0 where there is none.
    """

    symbols: dict[str, str]
    known: int
    missing: Sequence[str]
    refused_at: int
    instead_of: int
    asked: Asked | None = None


class Price(NamedTuple):
    """`price` as the exchange sent it; `priced_at`: when it did, epoch ms."""

    price: str
    priced_at: int


class Prices(NamedTuple):
    """`prices`: by symbol; `priced_at`: time of the newest of them, epoch ms."""

    prices: dict[str, Price]
    priced_at: int


class CatalogueChange(NamedTuple):
    """A change of the catalogue: symbol -> status before and after, who asked for it, and when the
    exchange was asked, epoch ms."""

    exchange: str
    before: dict[str, str]
    after: dict[str, str]
    asked: Asked | None
    refreshed_at: int


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
            delisted=unpacked(item["delisted"]),
            unnamed=item["unnamed"],
            assets=ungrouped(unpacked(item["assets"])) if "assets" in item else {},
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
        self,
        symbols: dict[str, str],
        weight_limit: int,
        now_ms: int,
        asked: Asked | None = None,
        delisted: Mapping[str, int] | None = None,
        unnamed: int = 0,
        assets: Mapping[str, Sequence[str]] = MappingProxyType({}),
        **condition: Any,
    ) -> None:
        """Store what Catalogue says of its fields. Raises ConditionFailed."""
        values = {
            "symbols": packed(symbols),
            "delisted": packed(delisted or {}),
            "unnamed": unnamed,
            "assets": packed(grouped(assets)),
            "weight_limit": weight_limit,
            "refreshed_at": now_ms,
            "asked": asked and asked._asdict(),
            "root": self._root,
        }
        await self._write(_CATALOGUE, values, **condition)

    async def replace_catalogue(self, seen: Catalogue | None, new: Catalogue) -> None:
        """Store `new` in the place of `seen`. Raises ConditionFailed where that is not there."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if seen is not None:
            condition = {
                "ConditionExpression": "refreshed_at = :seen",
                "ExpressionAttributeValues": {":seen": to_wire(seen.refreshed_at)},
            }
        await self.write_catalogue(*new[:-1], **condition)  # the root is ours

    async def read_refused(self) -> RefusedList | None:
        """The newest list that was refused; None where there never was one."""
        item = await self._get(self._key(_REFUSED))
        return None if item is None else _refused_in(item)

    async def write_refused(self, refused: RefusedList) -> None:
        values = {
            "symbols": packed(refused.symbols),
            "known": refused.known,
            "missing": packed(refused.missing),
            "refused_at": refused.refused_at,
            "instead_of": refused.instead_of,
            "asked": refused.asked and refused.asked._asdict(),
        }
        await self._write(_REFUSED, values)

    async def claim_refresh(self, now_ms: int) -> bool:
        """Whether the caller may have the list refreshed now: one caller in a minute may."""
        return await self._claim(self._key(_REFRESH), now_ms, _REFRESH_EVERY_MS)

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

    async def _write(self, kind: str, values: dict[str, Any], **condition: Any) -> None:
        await self._call(
            "dynamodb",
            "PutItem",
            TableName=self._table,
            Item={**self._key(kind), **item_to_wire(values)},
            **condition,
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
        refreshed_at=change.new["refreshed_at"],
    )


def refused_change(change: Change) -> tuple[str, RefusedList | None, RefusedList] | None:
    """(exchange, the refused list before, and after); None where another kind of item changed."""
    if not change.new or not change.pk.startswith(f"{_REFUSED}#"):
        return None
    before = _refused_in(change.old) if change.old else None
    return change.pk.removeprefix(f"{_REFUSED}#"), before, _refused_in(change.new)


def changed_prices(change: Change) -> Prices | None:
    """The prices after a change; None where it is of another kind of item, or deleted the item."""
    if not change.new or not change.pk.startswith(f"{_PRICES}#"):
        return None
    return _prices_in(change.new)


def packed(value: Mapping[str, Any] | Sequence[str]) -> bytes:
    """A mapping or list in the form that the items hold."""
    return zlib.compress(json.dumps(value, ensure_ascii=False, sort_keys=True).encode(), 6)


def unpacked(value: bytes) -> Any:
    """What `packed` was given."""
    return json.loads(zlib.decompress(value))


def _symbols_in(item: dict[str, Any]) -> dict[str, str]:
    return cast("dict[str, str]", unpacked(item["symbols"]))


def _refused_in(item: dict[str, Any]) -> RefusedList:
    return RefusedList(
        symbols=_symbols_in(item),
        known=item["known"],
        missing=unpacked(item["missing"]),
        refused_at=item["refused_at"],
        instead_of=item["instead_of"],
        asked=_asked_in(item),
    )


def _asked_in(item: dict[str, Any]) -> Asked | None:
    asked = item.get("asked")
    return Asked(asked["by"], asked.get("request_id"), asked.get("task_id")) if asked else None


def _prices_in(item: dict[str, Any]) -> Prices:
    priced_at = item["priced_at"]
    prices = {
        symbol: Price(found, priced_at) if isinstance(found, str) else Price(*found)
        for symbol, found in unpacked(item["prices"]).items()
    }
    return Prices(prices, priced_at)
