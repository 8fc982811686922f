"""The Connections table: open WebSockets and what each wants to hear, and sending to them.

    pk              sk              holds
    CONN#<id>       CONN            connected_at, ttl
    CONN#<id>       TOPIC#<topic>   ttl
    TOPIC#<topic>   CONN#<id>       ttl

API Gateway ends a connection after two hours; so do the rows, should $disconnect never come.
"""

from __future__ import annotations

from typing import Any

from chalicelib.attributes import item_from_wire, item_to_wire, to_wire
from chalicelib.errors import CallFailed
from chalicelib.gateways.aws import Call

LIFE_SECONDS = 7_200
MOST_TOPICS = 50


class ConnectionTable:
    def __init__(self, call: Call, table: str) -> None:
        self._call = call
        self._table = table

    async def open(self, connection_id: str, now_ms: int) -> None:
        await self._put(f"CONN#{connection_id}", "CONN", now_ms)

    async def subscribe(self, connection_id: str, topic: str, now_ms: int) -> None:
        await self._put(f"TOPIC#{topic}", f"CONN#{connection_id}", now_ms)
        await self._put(f"CONN#{connection_id}", f"TOPIC#{topic}", now_ms)

    async def unsubscribe(self, connection_id: str, topic: str) -> None:
        await self._delete(f"TOPIC#{topic}", f"CONN#{connection_id}")
        await self._delete(f"CONN#{connection_id}", f"TOPIC#{topic}")

    async def topics_of(self, connection_id: str) -> list[str]:
        rows = await self._rows(f"CONN#{connection_id}", 0)
        return [row["sk"][6:] for row in rows if row["sk"].startswith("TOPIC#")]

    async def subscribers(self, topic: str, now_ms: int) -> list[str]:
        """Ids of the connections that want to hear of `topic`."""
        return [row["sk"][5:] for row in await self._rows(f"TOPIC#{topic}", now_ms)]

    async def close(self, connection_id: str) -> None:
        """Forget a connection and all that it subscribed to."""
        for topic in await self.topics_of(connection_id):
            await self.unsubscribe(connection_id, topic)
        await self._delete(f"CONN#{connection_id}", "CONN")

    async def send(self, connection_id: str, text: str) -> bool:
        """Send to one connection; False, and it is forgotten, where it is gone."""
        try:
            await self._call(
                "apigatewaymanagementapi",
                "PostToConnection",
                ConnectionId=connection_id,
                Data=text.encode(),
            )
        except CallFailed as failed:
            if failed.code not in ("GoneException", "410", "Gone"):
                raise
            await self.close(connection_id)
            return False
        return True

    async def _put(self, pk: str, sk: str, now_ms: int) -> None:
        item = {"pk": pk, "sk": sk, "at": now_ms, "ttl": now_ms // 1000 + LIFE_SECONDS}
        await self._call("dynamodb", "PutItem", TableName=self._table, Item=item_to_wire(item))

    async def _delete(self, pk: str, sk: str) -> None:
        await self._call(
            "dynamodb",
            "DeleteItem",
            TableName=self._table,
            Key={"pk": {"S": pk}, "sk": {"S": sk}},
        )

    async def _rows(self, pk: str, now_ms: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            answer = await self._call(
                "dynamodb",
                "Query",
                TableName=self._table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": to_wire(pk)},
                **start,
            )
            rows += map(item_from_wire, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return [row for row in rows if row["ttl"] > now_ms // 1000]
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
