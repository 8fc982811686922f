"""Totals that only grow: how often each thing happened since the stack was created.

    table    pk                   sk                     holds
    Market   TOTALS#<exchange>    TOTALS                 one number per action
    Market   COUNTED#<event id>   COUNTED                ttl: counted already, for as long as the
                                                         event may come again

One transaction writes an event's mark and adds to its count. So an event that comes twice is
counted once, and no crash can come between the two.
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed

#: How often these happened is in GET /metrics.
COUNTED = frozenset(
    {
        "task.submitted",
        "task.completed",
        "task.failed",
        "task.cancelled",
        "task.retried",
        "task.expired",
        "webhook.delivered",
        "webhook.failed",
    }
)
#: The streams keep a record for a day, and one that is set aside waits for two weeks more to be
#: replayed.
_MARK_SECONDS = 16 * 86_400
#: How often counts of other shards may come in between. Each time, the call itself has tried again
#: after waits (aws/signed_calls.py).
_RACES = 8


class Totals(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.market_table)
        self._exchange = backend.settings.exchange

    async def read(self) -> dict[str, int]:
        """action -> how often; {} before the first."""
        item = await self._get(self._totals) or {}
        return {name: count for name, count in item.items() if name not in ("pk", "sk")}

    async def count(self, event_id: str, action: str, now_ms: int) -> None:
        """Count an event once. Raises CallFailed where it may not have been counted."""
        mark = {"pk": {"S": f"COUNTED#{event_id}"}, "sk": {"S": "COUNTED"}}
        for left in reversed(range(_RACES)):
            try:
                await self._call(
                    "dynamodb",
                    "TransactWriteItems",
                    TransactItems=[
                        {
                            "Put": {
                                "TableName": self._table,
                                "Item": {**mark, "ttl": to_wire(now_ms // 1000 + _MARK_SECONDS)},
                                "ConditionExpression": "attribute_not_exists(pk)",
                            }
                        },
                        {
                            "Update": {
                                "TableName": self._table,
                                "Key": self._totals,
                                "UpdateExpression": "ADD #action :one",
                                "ExpressionAttributeNames": {"#action": action},
                                "ExpressionAttributeValues": {":one": to_wire(1)},
                            }
                        },
                    ],
                )
                return
            except CallFailed as failed:
                if failed.code != "TransactionCanceledException":
                    raise
                # The event was counted before, or another count came at the same moment. Only
                # the mark says which.
                if await self._is_marked(mark):
                    return
                if not left:
                    raise

    async def _is_marked(self, mark: dict[str, Any]) -> bool:
        return await self._get(mark) is not None

    @property
    def _totals(self) -> dict[str, Any]:
        return {"pk": {"S": f"TOTALS#{self._exchange}"}, "sk": {"S": "TOTALS"}}
