"""The Market table: what is stored, what is listed, what it costs, and the brakes of the fleet.

    pk                    sk          holds
    COVER#<exchange>      <symbol>    rev, tf_<timeframe>: JSON of candles/coverage.py's entry
    CATALOGUE#<exchange>  CATALOGUE   symbols: zlib JSON {symbol: status}, weight_limit,
                                      refreshed_at, asked (by, request_id, task_id; or null)
    PRICES#<exchange>     PRICES      prices: zlib JSON {symbol: price as sent}, priced_at
    LIMIT#<exchange>      LIMIT       window_minute, used (request weight in it), paused_until,
                                      pause_reason

The LIMIT item is ledger and breaker in one, so that one conditional update checks both.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from chalicelib.aws.calls import Call
from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.candles import coverage
from chalicelib.core import metrics
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.exchange.catalogue_table import packed
from chalicelib.exchange.ledger import MINUTE_MS

Gap = tuple[int, int, str]
_RACES = 20


class MarketTable(ItemTable):
    def __init__(self, call: Call, table: str, exchange: str) -> None:
        super().__init__(call, table)
        self._exchange = exchange

    # --- coverage -------------------------------------------------------------------------

    async def coverage_of(self, symbols: list[str]) -> dict[str, dict[str, coverage.Entry]]:
        """symbol -> timeframe -> entry, for the symbols of which something is stored."""
        keys = [self._key("COVER", symbol) for symbol in symbols]
        return {item["sk"]: entries_in(item) for item in await self._get_all(keys)}

    async def extend_coverage(
        self, symbol: str, parts: list[tuple[str, int, int, int | None, list[Gap]]]
    ) -> None:
        """Record (timeframe, start, end, last open time stored, gaps) for a symbol.

        Workers of one symbol may race; the loser reads again and extends what the winner wrote.
        """
        key = self._key("COVER", symbol)
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

    # --- catalogue and prices ---------------------------------------------------------------

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

    # --- ledger and breaker -----------------------------------------------------------------

    async def read_limit(self) -> dict[str, Any]:
        """{"window_minute", "used", "paused_until", "pause_reason"}, with zeros where unset."""
        item = await self._read("LIMIT") or {}
        return {"window_minute": 0, "used": 0, "paused_until": 0, "pause_reason": ""} | item

    async def take_weight(self, weight: int, budget: int, now_ms: int) -> int:
        """Take request weight from this minute's budget for the whole fleet.

        Returns 0 where it was granted, else the epoch ms at which asking again makes sense.
        """
        key = self._key("LIMIT", "LIMIT")
        minute = now_ms // MINUTE_MS
        not_paused = "(attribute_not_exists(paused_until) OR paused_until <= :now)"
        for _ in range(_RACES):
            values = {
                ":weight": to_wire(weight),
                ":minute": to_wire(minute),
                ":now": to_wire(now_ms),
            }
            try:
                await self._call(
                    "dynamodb",
                    "UpdateItem",
                    TableName=self._table,
                    Key=key,
                    UpdateExpression="ADD used :weight",
                    ConditionExpression="window_minute = :minute AND used <= :room AND "
                    + not_paused,
                    ExpressionAttributeValues={**values, ":room": to_wire(budget - weight)},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
                return 0
            except ConditionFailed as refused:
                old = {} if refused.item is None else item_from_wire(refused.item)
            if old.get("paused_until", 0) > now_ms:
                return int(old["paused_until"])
            if old.get("window_minute", -1) == minute:
                return (minute + 1) * MINUTE_MS
            if old.get("window_minute", -1) > minute:  # our clock is behind another worker's
                minute = old["window_minute"]
                continue
            try:
                await self._call(
                    "dynamodb",
                    "UpdateItem",
                    TableName=self._table,
                    Key=key,
                    UpdateExpression="SET window_minute = :minute, used = :weight",
                    ConditionExpression="(attribute_not_exists(window_minute) OR "
                    "window_minute < :minute) AND " + not_paused,
                    ExpressionAttributeValues=values,
                )
                return 0
            except ConditionFailed:
                continue
        return now_ms + 1000

    async def observe_weight(self, used: int, now_ms: int) -> None:
        """The exchange itself counted `used` in this minute; where that is more, it stands."""
        try:
            await self._call(
                "dynamodb",
                "UpdateItem",
                TableName=self._table,
                Key=self._key("LIMIT", "LIMIT"),
                UpdateExpression="SET used = :used",
                ConditionExpression="window_minute = :minute AND used < :used",
                ExpressionAttributeValues={
                    ":used": to_wire(used),
                    ":minute": to_wire(now_ms // MINUTE_MS),
                },
            )
        except ConditionFailed:
            return  # the ledger knows as much already

    async def pause(self, until_ms: int, reason: str) -> None:
        """Stop every worker until `until_ms`; a longer pause that stands already is kept."""
        try:
            await self._call(
                "dynamodb",
                "UpdateItem",
                TableName=self._table,
                Key=self._key("LIMIT", "LIMIT"),
                UpdateExpression="SET paused_until = :until, pause_reason = :reason",
                ConditionExpression="attribute_not_exists(paused_until) OR paused_until < :until",
                ExpressionAttributeValues={":until": to_wire(until_ms), ":reason": to_wire(reason)},
            )
            metrics.count("BreakerOpened")
        except ConditionFailed:
            return

    # --- shared -----------------------------------------------------------------------------

    async def _read(self, kind: str) -> dict[str, Any] | None:
        return await self._get(self._key(kind, kind))

    async def _write(self, kind: str, values: dict[str, Any]) -> None:
        await self._call(
            "dynamodb",
            "PutItem",
            TableName=self._table,
            Item={**self._key(kind, kind), **item_to_wire(values)},
        )

    def _key(self, kind: str, sk: str) -> dict[str, Any]:
        return {"pk": {"S": f"{kind}#{self._exchange}"}, "sk": {"S": sk}}


def entries_in(item: dict[str, Any]) -> dict[str, coverage.Entry]:
    return {name[3:]: json.loads(text) for name, text in item.items() if name.startswith("tf_")}
