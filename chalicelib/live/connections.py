"""The Connections table: open WebSockets, and which streams of updates each listens to.

    pk                 sk            holds
    CONN#<id>          CONN          owner, scopes, key_id (of the caller), connected_at,
                                     topics (SS: streams), ttl, window (of RATE_SECONDS),
                                     messages (in it)
    TOPIC#<stream>     CONN#<id>     key_id, ttl
    LISTENED#<table>   <stream>      token, ttl: somebody may listen; table: tasks, market

A stream is a topic's key (live/topics.py). The table also holds the streams' numbers
(live/sequence_table.py), tickets to connect with (live/ticket_table.py), and the places of an
owner's connections, where these are limited (quotas/places.py).

API Gateway ends a connection after two hours. Its rows end then, too, even where $disconnect never
comes: every read treats a row whose ttl has passed as gone.

Why no listener misses a change. Subscribing writes TOPIC, then LISTENED, then reads `sequence`,
then the data. Announcing reads LISTENED after the change; pushing reads the data, raises
`sequence`, then reads TOPIC. All reads are consistent. So a change is either announced, or was made
before the subscriber's data were read. An update with a higher number than the subscriber's
sequence finds the subscriber's row; an update up to that number holds nothing that is not in its
snapshot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib.access.caller import Caller
from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed, RequestRejected
from chalicelib.live import topics
from chalicelib.quotas.limits import CONNECTIONS
from chalicelib.quotas.places import Place, Places

LIFE_SECONDS = 7_200
MOST_TOPICS = 50
RATE_SECONDS, MOST_MESSAGES = 10, 20
TASKS_TABLE, MARKET_TABLE = "tasks", "market"
_RACES = 10
#: One that breaks off is noticed by API Gateway within ten minutes; mostly others close theirs.
_RETRY_SECONDS = 30
_GONE = ("GoneException", "410", "Gone")
_CONN = "CONN#"

Row = dict[str, Any]


@dataclass(frozen=True)
class Connection:
    """`topics`: the streams it listens to; `messages`: how many came in this window so far."""

    id: str
    caller: Caller
    topics: frozenset[str]
    messages: int


class ConnectionTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.connections_table)
        self._settings = backend.settings
        self._most = CONNECTIONS.limit(backend.settings)

    # --- connections ------------------------------------------------------------------------

    async def open(self, connection_id: str, caller: Caller, now_ms: int) -> None:
        """Raises QuotaExceeded where the owner has too many open already."""
        if self._most:
            await self._take_place(Place(connection_id, 1, now_ms), caller.owner)
        row = {**_connection(connection_id), **caller.row, "connected_at": now_ms}
        row |= {"ttl": _ttl(now_ms), "window": 0, "messages": 0}
        await self._call("dynamodb", "PutItem", TableName=self._table, Item=item_to_wire(row))

    async def count_message(self, connection_id: str, now_ms: int) -> Connection:
        """Count a message of a connection. Raises RequestRejected where it has expired."""
        window = now_ms // 1000 // RATE_SECONDS
        for condition, change in (
            ("#window = :window", "ADD messages :one"),
            ("#window <> :window", "SET #window = :window, messages = :one"),
            ("#window = :window", "ADD messages :one"),  # another message opened the window
        ):
            try:
                row = await self._update(
                    item_to_wire(_connection(connection_id)),
                    UpdateExpression=change,
                    ConditionExpression=f"{condition} AND #ttl > :now",
                    ExpressionAttributeNames={"#window": "window", "#ttl": "ttl"},
                    ExpressionAttributeValues={
                        ":one": to_wire(1),
                        ":window": to_wire(window),
                        ":now": to_wire(now_ms // 1000),
                    },
                )
            except ConditionFailed as refused:
                row = {} if refused.item is None else item_from_wire(refused.item)
                if row.get("ttl", 0) <= now_ms // 1000:
                    break
                continue
            return _connection_in(row)
        raise RequestRejected(
            "this connection has expired; connect again", reason="CONNECTION_EXPIRED"
        )

    async def change_topics(
        self, connection_id: str, change: Callable[[frozenset[str]], frozenset[str]]
    ) -> None:
        """Set the streams that a connection listens to; `change` may raise. Raises CallFailed."""
        before: frozenset[str] = frozenset()
        for _ in range(_RACES):
            after = change(before)
            values = {":before": to_wire(set(before))} if before else {}
            values |= {":after": to_wire(set(after))} if after else {}
            try:
                await self._update(
                    item_to_wire(_connection(connection_id)),
                    UpdateExpression="SET topics = :after" if after else "REMOVE topics",
                    ConditionExpression="attribute_exists(pk) AND "
                    + ("topics = :before" if before else "attribute_not_exists(topics)"),
                    **({"ExpressionAttributeValues": values} if values else {}),
                )
            except ConditionFailed as refused:
                if refused.item is None:
                    raise RequestRejected(
                        "this connection is closed", reason="CONNECTION_EXPIRED"
                    ) from None
                before = _topics_in(item_from_wire(refused.item))
                continue
            return
        raise CallFailed("dynamodb", "UpdateItem", "Contention", "topics of a connection")

    async def close(self, connection_id: str, stream: str | None = None) -> None:
        """Forget a connection and all that it listened to, `stream` in any case."""
        key = item_to_wire(_connection(connection_id))
        row = await self._get(key) or {}
        await self.unlist(connection_id, _topics_in(row) | ({stream} if stream else set()))
        await self._call("dynamodb", "DeleteItem", TableName=self._table, Key=key)
        if self._most and row:
            # Whatever is not given back here is found free once somebody needs it.
            place = Place(connection_id, 1, row["connected_at"])
            await self._places(row["owner"]).drop({place})

    # --- streams ----------------------------------------------------------------------------

    async def enlist(
        self, connection_id: str, streams: Iterable[str], now_ms: int, key_id: str | None = None
    ) -> None:
        """List a connection as a listener of streams; repeating it does no harm.

        `key_id`: the key that it was opened with; None where there are no keys.
        """
        streams, ttl = list(streams), _ttl(now_ms)
        # In two steps: `take_off` relies on the token being newer than the listener's row.
        key = {} if key_id is None else {"key_id": key_id}
        rows: list[Row] = [
            {**_listener(each, connection_id), **key, "ttl": ttl} for each in streams
        ]
        await self._write_all([{"PutRequest": {"Item": item_to_wire(row)}} for row in rows])
        token = os.urandom(8).hex()
        rows = [{**_listened(each), "token": token, "ttl": ttl} for each in streams]
        await self._write_all([{"PutRequest": {"Item": item_to_wire(row)}} for row in rows])

    async def unlist(self, connection_id: str, streams: Iterable[str]) -> None:
        keys = [item_to_wire(_listener(stream, connection_id)) for stream in streams]
        await self._write_all([{"DeleteRequest": {"Key": key}} for key in keys])

    async def listened(self, table: str, now_ms: int) -> set[str]:
        """The streams fed by a table (TASKS_TABLE, MARKET_TABLE) that somebody may listen to."""
        return {row["sk"] for row in await self._rows(f"LISTENED#{table}", now_ms)}

    async def take_off(self, stream: str, now_ms: int) -> None:
        """Stop announcing a stream where nobody listens to it."""
        key = item_to_wire(_listened(stream))
        listened = await self._get(key)
        # Read after the token: whoever enlists from now on changes the token.
        if listened is None or await self.subscribers(stream, now_ms):
            return
        try:
            await self._call(
                "dynamodb",
                "DeleteItem",
                TableName=self._table,
                Key=key,
                ConditionExpression="#token = :token",
                ExpressionAttributeNames={"#token": "token"},
                ExpressionAttributeValues={":token": to_wire(listened["token"])},
            )
        except ConditionFailed:
            return  # somebody has just come, or another pusher was quicker

    async def subscribers(self, stream: str, now_ms: int) -> dict[str, str | None]:
        """The connections that listen to a stream: id -> id of its key, None where it has none."""
        rows = await self._rows(f"TOPIC#{stream}", now_ms, _CONN)
        return {row["sk"].removeprefix(_CONN): row.get("key_id") for row in rows}

    # --- sending ----------------------------------------------------------------------------

    async def send(self, connection_id: str, text: str, stream: str | None = None) -> bool:
        """Send to one connection; where that is gone, forget it and return False."""
        try:
            await self._call(
                "apigatewaymanagementapi",
                "PostToConnection",
                ConnectionId=connection_id,
                Data=text.encode(),
            )
        except CallFailed as failed:
            if failed.code not in _GONE:
                raise
            await self.close(connection_id, stream)
            return False
        return True

    async def hang_up(self, connection_id: str, stream: str | None = None) -> None:
        """Close a connection and forget it; its client notices."""
        try:
            await self._call(
                "apigatewaymanagementapi", "DeleteConnection", ConnectionId=connection_id
            )
        except CallFailed as failed:
            if failed.code not in _GONE:
                raise
        await self.close(connection_id, stream)

    # --- shared -----------------------------------------------------------------------------

    def _places(self, owner: str) -> Places:
        return Places(self._call, self._table, owner)

    async def _take_place(self, mine: Place, owner: str) -> None:
        async def turns(places: Iterable[Place]) -> dict[Place, bool]:
            by_id = {place.holder: place for place in places}
            rows = await self._get_all([item_to_wire(_connection(each)) for each in by_id])
            return {
                by_id[row["pk"].removeprefix(_CONN)]: row["ttl"] > mine.taken_at // 1000
                for row in rows
            }

        if not await self._places(owner).take(mine, self._most, turns):
            raise CONNECTIONS.exceeded(
                self._settings,
                f"{self._most} connections are open, and there may be no more: close one",
                _RETRY_SECONDS,
            )

    async def _rows(self, pk: str, now_ms: int, prefix: str = "") -> list[Row]:
        """The rows under `pk` whose ttl has not passed."""
        condition, values = "pk = :pk", {":pk": to_wire(pk)}
        if prefix:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = to_wire(prefix)
        rows = await self._query(
            KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True
        )
        return [row for row in rows if row["ttl"] > now_ms // 1000]


def _connection_in(row: Row) -> Connection:
    connection_id = row["pk"].removeprefix(_CONN)
    return Connection(connection_id, Caller.of_row(row), _topics_in(row), row["messages"])


def _topics_in(row: Row) -> frozenset[str]:
    return frozenset(row.get("topics", ()))


def _ttl(now_ms: int) -> int:
    # From now, not from connecting: a LISTENED row must outlive every connection that needs it.
    return now_ms // 1000 + LIFE_SECONDS


def _connection(connection_id: str) -> Row:
    return {"pk": _CONN + connection_id, "sk": "CONN"}


def _listener(stream: str, connection_id: str) -> Row:
    return {"pk": f"TOPIC#{stream}", "sk": _CONN + connection_id}


def _listened(stream: str) -> Row:
    market = stream.startswith((f"{topics.PRICES}:", f"{topics.CANDLES}:"))
    return {"pk": f"LISTENED#{MARKET_TABLE if market else TASKS_TABLE}", "sk": stream}
