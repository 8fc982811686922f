"""What the gateways of all tables share: consistent reads, updates, whole queries and batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from chalicelib.aws.wire import item_from_wire, to_wire
from chalicelib.core.backend import Call
from chalicelib.core.errors import CallFailed, ConditionFailed, ItemUnreadable
from chalicelib.core.logs import log

Item = dict[str, Any]
Stored = TypeVar("Stored")
Read = TypeVar("Read")
#: Keys of a BatchGetItem, requests of a BatchWriteItem. Source: Amazon DynamoDB API Reference.
_MOST_READ, _MOST_WRITTEN = 100, 25
#: How often a batch is sent, where DynamoDB leaves a part of it undone each time.
_ASKED = 8
_FIRST_WAIT_SECONDS = 0.05


def readable(
    read: Callable[[Stored], Read], items: Iterable[Stored]
) -> tuple[list[Read], list[ItemUnreadable]]:
    """What `read` makes of the items, and the ItemUnreadable that it raised, which are logged: one
    of them costs itself and not the list."""
    found, odd = [], []
    for item in items:
        try:
            found.append(read(item))
        except ItemUnreadable as error:
            odd.append(error)
            log("item_unreadable", level="warning", error=error.detail)
    return found, odd


class ItemTable:
    """A gateway to one table. Keys and requests are in wire form, items are not."""

    def __init__(self, call: Call, table: str) -> None:
        self._call = call
        self._table = table

    async def _get(self, key: Item) -> Item | None:
        """The item, read consistently; None where there is none."""
        answer = await self._call(
            "dynamodb", "GetItem", TableName=self._table, Key=key, ConsistentRead=True
        )
        return item_from_wire(answer["Item"]) if "Item" in answer else None

    async def _update(self, key: Item, **parameters: Any) -> Item:
        """Update one item; returns it as it is afterwards.

        Raises ConditionFailed, with the item as it stands, where the condition does not hold.
        """
        if "ConditionExpression" in parameters:
            parameters["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        answer = await self._call(
            "dynamodb",
            "UpdateItem",
            TableName=self._table,
            Key=key,
            ReturnValues="ALL_NEW",
            **parameters,
        )
        return item_from_wire(answer["Attributes"])

    async def _claim(self, key: Item, now_ms: int, every_ms: int) -> bool:
        """Whether the caller is to do now what one caller in `every_ms` does."""
        try:
            await self._update(
                key,
                UpdateExpression="SET claimed_at = :now",
                ConditionExpression="attribute_not_exists(claimed_at) OR claimed_at <= :before",
                ExpressionAttributeValues={
                    ":now": to_wire(now_ms),
                    ":before": to_wire(now_ms - every_ms),
                },
            )
        except ConditionFailed:
            return False
        return True

    async def _query(self, most: int | None = None, **asked: Any) -> list[Item]:
        """Every item of a query, or at least its first `most`."""
        items: list[Item] = []
        start: dict[str, Any] = {}
        while True:
            answer = await self._call("dynamodb", "Query", TableName=self._table, **asked, **start)
            items += map(item_from_wire, answer["Items"])
            if "LastEvaluatedKey" not in answer or (most is not None and len(items) >= most):
                return items
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def _get_all(self, keys: list[Item]) -> list[Item]:
        """The items that some different keys have, in no order, read consistently.

        Raises CallFailed (Unprocessed) where DynamoDB leaves some unread each time.
        """
        items: list[Item] = []
        for at in range(0, len(keys), _MOST_READ):
            left = keys[at : at + _MOST_READ]
            for _ in range(_ASKED):
                asked = {self._table: {"Keys": left, "ConsistentRead": True}}
                answer = await self._call("dynamodb", "BatchGetItem", RequestItems=asked)
                items += map(item_from_wire, answer["Responses"].get(self._table, []))
                left = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
                if not left:
                    break
            else:
                raise CallFailed("dynamodb", "BatchGetItem", "Unprocessed", f"{len(left)} unread")
        return items

    async def _write_all(
        self, requests: list[Item], wait: Callable[[float], Awaitable[None]] | None = None
    ) -> None:
        """Do every PutRequest and DeleteRequest. Raises CallFailed as `_get_all` does.

        `wait`: called with seconds before what was left undone is sent again. DynamoDB leaves it
        where a partition takes no more, which is 1,000 write units a second (Developer Guide,
        "Partitions and data distribution").
        """
        for at in range(0, len(requests), _MOST_WRITTEN):
            left = requests[at : at + _MOST_WRITTEN]
            for tried in range(_ASKED):
                answer = await self._call(
                    "dynamodb", "BatchWriteItem", RequestItems={self._table: left}
                )
                left = answer.get("UnprocessedItems", {}).get(self._table, [])
                if not left:
                    break
                if wait is not None:
                    await wait(_FIRST_WAIT_SECONDS * 2**tried)
            else:
                raise CallFailed(
                    "dynamodb", "BatchWriteItem", "Unprocessed", f"{len(left)} not written"
                )
