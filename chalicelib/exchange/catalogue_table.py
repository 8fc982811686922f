"""What the exchange lists, and its latest prices: two items of the Market table.

pk                    sk          holds
CATALOGUE#<exchange>  CATALOGUE   symbols: zlib JSON {symbol: status}, weight_limit,
                                  refreshed_at, asked (by, request_id, task_id; or null)
PRICES#<exchange>     PRICES      prices: zlib JSON {symbol: price as sent}, priced_at
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_to_wire
from chalicelib.core.backend import Backend


class CatalogueTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.market_table)
        self._exchange = backend.settings.exchange

    async def read_catalogue(self) -> dict[str, Any] | None:
        """{"symbols": {symbol: status}, "weight_limit", "refreshed_at"}; None before the first."""
        item = await self._read("CATALOGUE")
        if item is None:
            return None
        return {**item, "symbols": json.loads(zlib.decompress(item["symbols"]))}

    async def write_catalogue(
        self,
        symbols: dict[str, str],
        weight_limit: int,
        now_ms: int,
        asked: dict[str, Any] | None = None,
    ) -> None:
        """`asked`: by, request_id and task_id of whoever had it refreshed; None: the system."""
        fields = {"symbols": packed(symbols), "weight_limit": weight_limit, "refreshed_at": now_ms}
        await self._write("CATALOGUE", {**fields, "asked": asked})

    async def read_prices(self) -> dict[str, Any] | None:
        """{"prices": {symbol: price as the exchange sent it}, "priced_at"}."""
        item = await self._read("PRICES")
        if item is None:
            return None
        return {**item, "prices": json.loads(zlib.decompress(item["prices"]))}

    async def write_prices(self, prices: dict[str, str], priced_at_ms: int) -> None:
        await self._write("PRICES", {"prices": packed(prices), "priced_at": priced_at_ms})

    async def _read(self, kind: str) -> dict[str, Any] | None:
        return await self._get(self._key(kind))

    async def _write(self, kind: str, values: dict[str, Any]) -> None:
        await self._call(
            "dynamodb",
            "PutItem",
            TableName=self._table,
            Item={**self._key(kind), **item_to_wire(values)},
        )

    def _key(self, kind: str) -> dict[str, Any]:
        return {"pk": {"S": f"{kind}#{self._exchange}"}, "sk": {"S": kind}}


def prices_in(item: dict[str, Any]) -> tuple[dict[str, str], int]:
    """{symbol: price as the exchange sent it} of a PRICES item, and their time in epoch ms."""
    return json.loads(zlib.decompress(item["prices"])), item["priced_at"]


def packed(value: dict[str, str]) -> bytes:
    """A mapping as the items hold it; `prices_in` reads it back."""
    return zlib.compress(json.dumps(value, ensure_ascii=False, sort_keys=True).encode(), 6)
