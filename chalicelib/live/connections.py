"""The Connections table: open WebSockets, what each wants to hear, and tickets to connect with.

    pk                 sk            holds
    CONN#<id>          CONN          owner, connected_at, topics (SS: streams), ttl,
                                     window (of RATE_SECONDS), messages (in it)
    TOPIC#<stream>     CONN#<id>     ttl
    TOPIC#<stream>     STATE         sequence, pushed_at, ttl
    LISTENED#<table>   <stream>      token, ttl: somebody may listen; table: tasks, market
    TICKET#<sha256>    TICKET        owner, ttl

A stream is a topic's key (live/topics.py). API Gateway ends a connection after two hours; so do its
rows, should $disconnect never come, and every read treats a row whose ttl has passed as gone.

Why no listener misses a change: subscribing writes TOPIC, then LISTENED, then reads `sequence`,
then the data. Announcing reads LISTENED after the change; pushing reads the data, raises
`sequence`, then reads TOPIC. All reads are consistent. So a change is either announced, or was made
before the subscriber's data were read. An update numbered after the subscriber's sequence finds the
subscriber's row; one numbered up to it tells nothing that its snapshot does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed, RequestRejected
from chalicelib.live import topics

LIFE_SECONDS = 7_200
#: Longer than any connection that may know the sequence.
_STATE_SECONDS = LIFE_SECONDS + 3_600
MOST_TOPICS = 50
RATE_SECONDS, MOST_MESSAGES = 10, 20
TASKS_TABLE, MARKET_TABLE = "tasks", "market"
_RACES = 10
_GONE = ("GoneException", "410", "Gone")

Row = dict[str, Any]


@dataclass(frozen=True)
class Connection:
    """`topics`: the streams it listens to; `messages`: received in this window, this one too."""

    id: str
    owner: str
    topics: frozenset[str]
    messages: int


class ConnectionTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.connections_table)

    # --- connections ------------------------------------------------------------------------

    async def open(self, connection_id: str, owner: str, now_ms: int) -> None:
        row = {**_connection(connection_id), "owner": owner, "connected_at": now_ms}
        row |= {"ttl": _ttl(now_ms), "window": 0, "messages": 0}
        await self._call("dynamodb", "PutItem", TableName=self._table, Item=item_to_wire(row))

    async def count_message(self, connection_id: str, now_ms: int) -> Connection:
        """Count a message of a connection. Raises RequestRejected where that is not known."""
        window = now_ms // 1000 // RATE_SECONDS
        for condition, change in (
            ("#window = :window", "ADD messages :one"),
            ("#window <> :window", "SET #window = :window, messages = :one"),
            ("#window = :window", "ADD messages :one"),  # another message opened the window
        ):
            try:
                answer = await self._call(
                    "dynamodb",
                    "UpdateItem",
                    TableName=self._table,
                    Key=item_to_wire(_connection(connection_id)),
                    UpdateExpression=change,
                    ConditionExpression=f"{condition} AND #ttl > :now",
                    ExpressionAttributeNames={"#window": "window", "#ttl": "ttl"},
                    ExpressionAttributeValues={
                        ":one": to_wire(1),
                        ":window": to_wire(window),
                        ":now": to_wire(now_ms // 1000),
                    },
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ConditionFailed as refused:
                row = {} if refused.item is None else item_from_wire(refused.item)
                if row.get("ttl", 0) <= now_ms // 1000:
                    break
                continue
            row = item_from_wire(answer["Attributes"])
            held = frozenset(row.get("topics", ()))
            return Connection(connection_id, row["owner"], held, row["messages"])
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
                await self._call(
                    "dynamodb",
                    "UpdateItem",
                    TableName=self._table,
                    Key=item_to_wire(_connection(connection_id)),
                    UpdateExpression="SET topics = :after" if after else "REMOVE topics",
                    ConditionExpression="attribute_exists(pk) AND "
                    + ("topics = :before" if before else "attribute_not_exists(topics)"),
                    **({"ExpressionAttributeValues": values} if values else {}),
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ConditionFailed as refused:
                if refused.item is None:
                    raise RequestRejected(
                        "this connection is closed", reason="CONNECTION_EXPIRED"
                    ) from None
                before = frozenset(item_from_wire(refused.item).get("topics", ()))
                continue
            return
        raise CallFailed("dynamodb", "UpdateItem", "Contention", "topics of a connection")

    async def close(self, connection_id: str, stream: str | None = None) -> None:
        """Forget a connection and all that it listened to, `stream` in any case."""
        key = item_to_wire(_connection(connection_id))
        held = set((await self._get(key) or {}).get("topics", ()))
        await self.unlist(connection_id, held | ({stream} if stream else set()))
        await self._call("dynamodb", "DeleteItem", TableName=self._table, Key=key)

    # --- streams ----------------------------------------------------------------------------

    async def enlist(self, connection_id: str, streams: Iterable[str], now_ms: int) -> None:
        """Let a connection be found by those who announce and push; repeating it does no harm."""
        streams, ttl = list(streams), _ttl(now_ms)
        # In two steps: `take_off` relies on the token being newer than the listener's row.
        rows: list[Row] = [{**_listener(each, connection_id), "ttl": ttl} for each in streams]
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
        """Announce a stream no longer, where nobody listens to it."""
        key = item_to_wire(_listened(stream))
        listened = await self._get(key)
        # Looked for after the token was read: who enlists from now on changes the token.
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

    async def subscribers(self, stream: str, now_ms: int) -> list[str]:
        """Ids of the connections that listen to a stream."""
        rows = await self._rows(f"TOPIC#{stream}", now_ms, "CONN#")
        return [row["sk"][5:] for row in rows]

    async def sequence(self, stream: str, now_ms: int) -> int:
        """Number of a stream's last update, 0 before the first.

        A write, because the number must live on for as long as whoever asks may compare with it.
        """
        return await self._number(stream, now_ms, "SET #ttl = :ttl ADD #sequence :more", more=0)

    async def next_sequence(self, stream: str, now_ms: int) -> int:
        """The number of the update that is pushed now."""
        change = "SET #ttl = :ttl, pushed_at = :now ADD #sequence :more"
        return await self._number(stream, now_ms, change, more=1, now=now_ms)

    async def pushed_at(self, stream: str) -> int:
        """When a stream's last update was pushed, in epoch ms; 0 before the first."""
        return int((await self._get(_state(stream)) or {}).get("pushed_at", 0))

    async def _number(self, stream: str, now_ms: int, change: str, **values: int) -> int:
        values["ttl"] = now_ms // 1000 + _STATE_SECONDS
        answer = await self._call(
            "dynamodb",
            "UpdateItem",
            TableName=self._table,
            Key=_state(stream),
            UpdateExpression=change,
            ExpressionAttributeNames={"#ttl": "ttl", "#sequence": "sequence"},
            ExpressionAttributeValues={f":{name}": to_wire(n) for name, n in values.items()},
            ReturnValues="ALL_NEW",
        )
        return int(item_from_wire(answer["Attributes"])["sequence"])

    # --- tickets ----------------------------------------------------------------------------

    async def put_ticket(self, digest: str, owner: str, ttl: int) -> None:
        """`digest`: of the ticket, which itself is stored nowhere; `ttl` in epoch seconds."""
        row = {"pk": f"TICKET#{digest}", "sk": "TICKET", "owner": owner, "ttl": ttl}
        await self._call("dynamodb", "PutItem", TableName=self._table, Item=item_to_wire(row))

    async def take_ticket(self, digest: str, now_ms: int) -> str | None:
        """The ticket's owner, once; None where there is no such ticket, or it is used or old."""
        try:
            answer = await self._call(
                "dynamodb",
                "DeleteItem",
                TableName=self._table,
                Key={"pk": {"S": f"TICKET#{digest}"}, "sk": {"S": "TICKET"}},
                ConditionExpression="#ttl > :now",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":now": to_wire(now_ms // 1000)},
                ReturnValues="ALL_OLD",
            )
        except ConditionFailed:
            return None
        return str(item_from_wire(answer["Attributes"])["owner"])

    # --- sending ----------------------------------------------------------------------------

    async def send(self, connection_id: str, text: str, stream: str | None = None) -> bool:
        """Send to one connection; False, and it is forgotten, where it is gone."""
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
        """Close a connection, which its client notices, and forget it."""
        try:
            await self._call(
                "apigatewaymanagementapi", "DeleteConnection", ConnectionId=connection_id
            )
        except CallFailed as failed:
            if failed.code not in _GONE:
                raise
        await self.close(connection_id, stream)

    # --- shared -----------------------------------------------------------------------------

    async def _rows(self, pk: str, now_ms: int, prefix: str = "") -> list[Row]:
        condition, values = "pk = :pk", {":pk": to_wire(pk)}
        if prefix:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = to_wire(prefix)
        rows = await self._query(
            KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True
        )
        return [row for row in rows if row["ttl"] > now_ms // 1000]


def _ttl(now_ms: int) -> int:
    # From now, not from connecting: a LISTENED row must outlive every connection that needs it.
    return now_ms // 1000 + LIFE_SECONDS


def _connection(connection_id: str) -> dict[str, Any]:
    return {"pk": f"CONN#{connection_id}", "sk": "CONN"}


def _listener(stream: str, connection_id: str) -> dict[str, Any]:
    return {"pk": f"TOPIC#{stream}", "sk": f"CONN#{connection_id}"}


def _state(stream: str) -> dict[str, Any]:
    return {"pk": {"S": f"TOPIC#{stream}"}, "sk": {"S": "STATE"}}


def _listened(stream: str) -> dict[str, Any]:
    market = stream.startswith((f"{topics.PRICES}:", f"{topics.CANDLES}:"))
    return {"pk": f"LISTENED#{MARKET_TABLE if market else TASKS_TABLE}", "sk": stream}
