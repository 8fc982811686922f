"""Coverage in the Market table: what is stored of each symbol, and what the exchange did not have.

pk                    sk          holds
COVER#<exchange>      <symbol>    rev, tf_<timeframe>: JSON of candles/coverage.py's entry
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_to_wire, to_wire
from chalicelib.candles import coverage
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed

Gap = tuple[int, int, str]
_RACES = 20


class CoverageTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.market_table)
        self._exchange = backend.settings.exchange

    async def coverage_of(self, symbols: list[str]) -> dict[str, dict[str, coverage.Entry]]:
        """symbol -> timeframe -> entry, for the symbols of which something is stored."""
        keys = [self._key(symbol) for symbol in symbols]
        return {item["sk"]: entries_in(item) for item in await self._get_all(keys)}

    async def extend_coverage(
        self, symbol: str, parts: list[tuple[str, int, int, int | None, list[Gap]]]
    ) -> None:
        """Record (timeframe, start, end, last open time stored, gaps) for a symbol.

        Workers of one symbol may race; the loser reads again and extends what the winner wrote.
        """
        key = self._key(symbol)
        for _ in range(_RACES):
            item = await self._get(key) or {"rev": 0}
            before, entries = entries_in(item), entries_in(item)
            for timeframe, start_ms, end_ms, last_open, gaps in parts:
                entries[timeframe] = coverage.extended(
                    entries.get(timeframe), start_ms, end_ms, last_open, gaps
                )
            if entries == before:
                return
            fresh = {f"tf_{timeframe}": json.dumps(entry) for timeframe, entry in entries.items()}
            try:
                await self._call(
                    "dynamodb",
                    "PutItem",
                    TableName=self._table,
                    Item={**key, **item_to_wire({**fresh, "rev": item["rev"] + 1})},
                    ConditionExpression="attribute_not_exists(pk) OR rev = :rev",
                    ExpressionAttributeValues={":rev": to_wire(item["rev"])},
                )
            except ConditionFailed:
                continue
            return
        raise CallFailed("dynamodb", "PutItem", "Contention", f"coverage of {symbol}")

    def _key(self, symbol: str) -> dict[str, Any]:
        return {"pk": {"S": f"COVER#{self._exchange}"}, "sk": {"S": symbol}}


def entries_in(item: dict[str, Any]) -> dict[str, coverage.Entry]:
    return {name[3:]: json.loads(text) for name, text in item.items() if name.startswith("tf_")}
