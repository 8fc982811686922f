"""The Audit table: what happened, to what, when; append-only, kept for audit_retention_days.

    pk            sk                   holds
    TASK#<id>     <stream sequence>    day, sk_time, at, action, attempt, before, after, by,
                                       request_id, detail, ttl

Index by_day: day (2026-11-23), sk_time (time and sequence). The stream's sequence number makes an
event's key: written twice it is the same event, and a task's events sort as they happened.
"""

from __future__ import annotations

from typing import Any

from chalicelib.attributes import item_to_wire, to_wire
from chalicelib.errors import ConditionFailed
from chalicelib.gateways.aws import Call
from chalicelib.timeframes import iso

#: DynamoDB's stream sequence numbers have 21 to 40 digits (DynamoDB Streams API reference).
_SEQUENCE_DIGITS = 40


class AuditTable:
    def __init__(self, call: Call, table: str) -> None:
        self._call = call
        self._table = table

    async def append(
        self, task_id: str, sequence: str, at_ms: int, keep_days: int, event: dict[str, Any]
    ) -> bool:
        """Store one event; False where it is there already."""
        key = sequence.zfill(_SEQUENCE_DIGITS)
        at = iso(at_ms) or ""
        item = {
            "pk": f"TASK#{task_id}",
            "sk": key,
            "task_id": task_id,
            "day": at[:10],
            "sk_time": f"{at}#{key}",
            "at": at_ms,
            "ttl": at_ms // 1000 + keep_days * 86_400,
            **event,
        }
        try:
            await self._call(
                "dynamodb",
                "PutItem",
                TableName=self._table,
                Item=item_to_wire(item),
                ConditionExpression="attribute_not_exists(pk)",
            )
        except ConditionFailed:
            return False
        return True

    async def knows(self, task_id: str) -> bool:
        """Whether anything ever happened to a task of this id."""
        answer = await self._call(
            "dynamodb",
            "Query",
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": to_wire(f"TASK#{task_id}")},
            Limit=1,
        )
        return bool(answer["Items"])
