"""Tickets to connect with, in the Connections table.

pk                 sk            holds
TICKET#<sha256>    TICKET        owner, scopes, key_id (of the caller), ttl
"""

from __future__ import annotations

from typing import Any

from chalicelib.access.caller import Caller
from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed


class TicketTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.connections_table)

    async def put(self, digest: str, caller: Caller, ttl: int) -> None:
        """`digest`: of the ticket, which itself is stored nowhere; `ttl` in epoch seconds."""
        row = {**_key(digest), **caller.row, "ttl": ttl}
        await self._call("dynamodb", "PutItem", TableName=self._table, Item=item_to_wire(row))

    async def take(self, digest: str, now_ms: int) -> Caller | None:
        """Who got the ticket, once; None where there is no such ticket, or it is used or old."""
        try:
            answer = await self._call(
                "dynamodb",
                "DeleteItem",
                TableName=self._table,
                Key=item_to_wire(_key(digest)),
                ConditionExpression="#ttl > :now",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":now": to_wire(now_ms // 1000)},
                ReturnValues="ALL_OLD",
            )
        except ConditionFailed:
            return None
        return Caller.of_row(item_from_wire(answer["Attributes"]))


def _key(digest: str) -> dict[str, Any]:
    return {"pk": f"TICKET#{digest}", "sk": "TICKET"}
