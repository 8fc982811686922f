"""Idempotency keys, beside the tasks: one answer per key, however often the request arrives.

    pk                    sk     holds
    IDEM#<owner>#<key>    IDEM   request_hash, task_id, state (in_flight | open | answered),
                                 claimed_at, status, body, ttl

`open`: the first try broke off with its outcome unknown; the next one goes on with its task id.
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed

IN_FLIGHT, OPEN, ANSWERED = "in_flight", "open", "answered"

#: A claim older than this belongs to an invocation that API Gateway has given up on (29 s).
ABANDONED_MS = 30_000
Item = dict[str, Any]


class IdempotencyKeys:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._table = backend.settings.tasks_table

    async def claim(
        self, owner: str, key: str, request_hash: str, task_id: str, now_ms: int, ttl: int
    ) -> tuple[bool, Item]:
        """(True, item) where this request may be worked on, else (False, what stands there).

        A claim that was left open or abandoned is taken over if it is of the same request; it
        then keeps its task id.
        """
        item = {
            "request_hash": request_hash,
            "task_id": task_id,
            "state": IN_FLIGHT,
            "claimed_at": now_ms,
            "ttl": ttl,
        }
        try:
            await self._call(
                "dynamodb",
                "PutItem",
                TableName=self._table,
                Item={**_key(owner, key), **item_to_wire(item)},
                ConditionExpression="attribute_not_exists(pk) OR #ttl <= :now",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":now": to_wire(now_ms // 1000)},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            if refused.item is None:
                raise CallFailed("dynamodb", "PutItem", "ItemVanished", "no old item") from refused
            return await self._take_over(
                owner, key, request_hash, item_from_wire(refused.item), now_ms
            )
        return True, item

    async def _take_over(
        self, owner: str, key: str, request_hash: str, old: Item, now_ms: int
    ) -> tuple[bool, Item]:
        left = old["state"] == OPEN or now_ms - old["claimed_at"] > ABANDONED_MS
        if old["state"] == ANSWERED or not left or old["request_hash"] != request_hash:
            return False, old
        try:
            answer = await self._update(
                owner,
                key,
                "SET #state = :state, claimed_at = :now",
                {
                    ":state": IN_FLIGHT,
                    # Later than the old claim even within one millisecond: only one may win.
                    ":now": max(now_ms, old["claimed_at"] + 1),
                    ":old": old["claimed_at"],
                },
                "claimed_at = :old AND #state <> :answered",
            )
        except ConditionFailed:  # another repetition was quicker
            return False, {**old, "state": IN_FLIGHT}
        return True, {**answer, "taken_over": True}

    async def answer(self, owner: str, key: str, status: int, body: str) -> None:
        """Keep the answer for every repetition."""
        await self._update(
            owner,
            key,
            "SET #state = :answered, answer_status = :status, answer_body = :body",
            {":status": status, ":body": body},
            "attribute_exists(pk)",
        )

    async def leave_open(self, owner: str, key: str) -> None:
        """The outcome is unknown: the next repetition goes on at once."""
        await self._update(owner, key, "SET #state = :open", {":open": OPEN}, "#state <> :answered")

    async def release(self, owner: str, key: str) -> None:
        """The request was rejected and changed nothing: the key may be used again."""
        await self._call("dynamodb", "DeleteItem", TableName=self._table, Key=_key(owner, key))

    async def _update(
        self, owner: str, key: str, expression: str, values: Item, condition: str
    ) -> Item:
        bound = {**values}
        if ":answered" in expression + condition:
            bound[":answered"] = ANSWERED
        answer = await self._call(
            "dynamodb",
            "UpdateItem",
            TableName=self._table,
            Key=_key(owner, key),
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues=item_to_wire(bound),
            ReturnValues="ALL_NEW",
        )
        return item_from_wire(answer["Attributes"])


def _key(owner: str, key: str) -> dict[str, Any]:
    return {"pk": {"S": f"IDEM#{owner}#{key}"}, "sk": {"S": "IDEM"}}
