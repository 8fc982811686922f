"""Idempotency keys, beside the tasks: one answer per key, however often the request arrives.

    pk                    sk     holds
    IDEM#<owner>#<key>    IDEM   request_hash, task_id, state (in_flight | open | answered),
                                 claimed_at, taken_by (which try took it over), answer_status,
                                 answer_body, ttl
    IDEM#<owner>#<hash>   LAST   the same, of the last start of the request with this hash;
                                 state is always in_flight: the task says what became of it

`open`: the first try broke off and nobody knows its outcome. The next try goes on with its task id.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from chalicelib.aws.wire import Wire, item_from_wire, item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed

CALLERS, LAST = "IDEM", "LAST"
IN_FLIGHT, OPEN, ANSWERED = "in_flight", "open", "answered"

#: A claim older than this belongs to an invocation that API Gateway has given up on (29 s).
ABANDONED_MS = 30_000


class IdempotencyKey(NamedTuple):
    """A used key.

    `request_hash`: of the request that used it first; `task_id`: the id for what that request
    makes; `state`: one of the three above; `claimed_at`: when the last try began, epoch ms; `ttl`:
    when the key may be used anew, epoch seconds; `answer`: the HTTP status and the body as JSON
    text, once the state is `answered`.
    """

    request_hash: str
    task_id: str
    state: str
    claimed_at: int
    ttl: int
    answer: tuple[int, str] | None = None


class Claim(NamedTuple):
    """`granted`: whether the request may be worked on now. `taken_over`: an earlier try of it broke
    off. `key`: what is stored; where it is not granted, by an earlier request."""

    key: IdempotencyKey
    granted: bool
    taken_over: bool = False


class IdempotencyKeys:
    """Of one kind: those that callers send (CALLERS), or the last starts of requests (LAST)."""

    def __init__(self, backend: Backend, kind: str = CALLERS) -> None:
        self._call = backend.call
        self._table = backend.settings.tasks_table
        self._kind = kind

    async def claim(
        self, owner: str, key: str, request_hash: str, task_id: str, now_ms: int, ttl: int
    ) -> Claim:
        """Claim a key for a request.

        A claim that was left open or abandoned is taken over if it is of the same request; it
        then keeps its task id.
        """
        new = IdempotencyKey(request_hash, task_id, IN_FLIGHT, now_ms, ttl)
        old = await self.put(owner, key, new)
        if old not in (None, new):  # our own is there where the call's first answer was lost
            return await self._take_over(owner, key, request_hash, old, now_ms)
        return Claim(new, granted=True)

    async def put(
        self, owner: str, key: str, new: IdempotencyKey, old: IdempotencyKey | None = None
    ) -> IdempotencyKey | None:
        """Store a key where none holds, or where `old` does; None then, else the key that holds.

        `new.claimed_at` is now.
        """
        free = "attribute_not_exists(pk) OR #ttl <= :now"
        values = {":now": to_wire(new.claimed_at // 1000)}
        if old is not None:
            free += " OR task_id = :old"
            values[":old"] = to_wire(old.task_id)
        try:
            await self._call(
                "dynamodb",
                "PutItem",
                TableName=self._table,
                Item={**self._key(owner, key), **_item_of(new)},
                ConditionExpression=free,
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues=values,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            if refused.item is None:
                raise CallFailed("dynamodb", "PutItem", "ItemVanished", "no old item") from refused
            return _key_of(refused.item)
        return None

    async def _take_over(
        self, owner: str, key: str, request_hash: str, old: IdempotencyKey, now_ms: int
    ) -> Claim:
        left = old.state == OPEN or now_ms - old.claimed_at > ABANDONED_MS
        if old.state == ANSWERED or not left or old.request_hash != request_hash:
            return Claim(old, granted=False)
        by = os.urandom(8).hex()
        try:
            taken = await self._update(
                owner,
                key,
                "SET #state = :state, claimed_at = :now, taken_by = :by",
                {
                    ":state": IN_FLIGHT,
                    ":by": by,
                    # Later than the old claim even within one millisecond: only one may win.
                    ":now": max(now_ms, old.claimed_at + 1),
                    ":old": old.claimed_at,
                },
                "claimed_at = :old AND #state <> :answered",
            )
        except ConditionFailed as refused:
            if refused.item is not None and refused.item.get("taken_by") == to_wire(by):
                # This call itself, whose first answer was lost.
                return Claim(_key_of(refused.item), granted=True, taken_over=True)
            # Another repetition was quicker.
            return Claim(old._replace(state=IN_FLIGHT), granted=False)
        return Claim(taken, granted=True, taken_over=True)

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
        await self._call("dynamodb", "DeleteItem", TableName=self._table, Key=self._key(owner, key))

    async def _update(
        self, owner: str, key: str, expression: str, values: dict[str, Any], condition: str
    ) -> IdempotencyKey:
        bound = {**values}
        if ":answered" in expression + condition:
            bound[":answered"] = ANSWERED
        answer = await self._call(
            "dynamodb",
            "UpdateItem",
            TableName=self._table,
            Key=self._key(owner, key),
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues=item_to_wire(bound),
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
        return _key_of(answer["Attributes"])

    def _key(self, owner: str, key: str) -> Wire:
        return {"pk": {"S": f"IDEM#{owner}#{key}"}, "sk": {"S": self._kind}}


def _item_of(new: IdempotencyKey) -> Wire:
    """The attributes of a key that has no answer yet."""
    return item_to_wire({name: value for name, value in new._asdict().items() if name != "answer"})


def _key_of(wire: Wire) -> IdempotencyKey:
    item = item_from_wire(wire)
    answered = item["state"] == ANSWERED
    return IdempotencyKey(
        request_hash=item["request_hash"],
        task_id=item["task_id"],
        state=item["state"],
        claimed_at=item["claimed_at"],
        ttl=item["ttl"],
        answer=(item["answer_status"], item["answer_body"]) if answered else None,
    )
