"""Webhooks in the Tasks table: where a task's events go, and what became of each.

    pk            sk            holds
    TASK#<id>     HOOK          url, secret, events; outlives the task's own item, whose last event
                                is still being delivered when it expires
    TASK#<id>     HOOK#<seq>    state (pending | delivered | failed), action, event_id, tries,
                                status or error of the last try, last_at; carrier (the id of the
                                queue message that carries it on), next_at (when its next try is
                                due), claimed_at (when the try that is being made began, else 0)

The secret stands in HOOK and nowhere else in the table. The table's stream holds whole items, so
for a day it holds HOOK too, for whoever may read it (GetRecords: on_task_change). That function's
filter lets HOOK#<seq> wake it, not HOOK; this keeps the secret from what the function is given,
not from what its role could read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed
from chalicelib.core.task_keys import CHILD_TTL_SECONDS, item_key, task_pk
from chalicelib.webhooks.retry import DELIVERED, PENDING
from chalicelib.webhooks.webhook import HookMessage, Webhook

Item = dict[str, Any]

#: A HOOK item with less time left is given its whole time again. Two events of one task are at most
#: a week apart: an attempt, or a task that has ended and is still there, lasts no longer.
_RENEWED_BELOW_SECONDS = 10 * 86_400


class HookItems(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.tasks_table)

    # --- where they go ----------------------------------------------------------------------

    async def write(self, task_id: str, hook: Webhook, now_ms: int) -> None:
        """Store a task's webhook, before the task itself, so that none of its events is missed."""
        fields = {"url": hook.url, "secret": hook.secret, "events": list(hook.events)}
        await self._put({**fields, "pk": task_pk(task_id), "sk": "HOOK"}, now_ms)

    async def read(self, task_id: str) -> Webhook | None:
        found = await self.read_many([task_id])
        return Webhook.of(found[task_id]) if found else None

    async def read_many(self, task_ids: Iterable[str]) -> dict[str, Item]:
        """task id -> HOOK item, of those tasks that have one."""
        keys = [item_key(task_id, "HOOK") for task_id in dict.fromkeys(task_ids)]
        return {item["pk"].removeprefix("TASK#"): item for item in await self._get_all(keys)}

    async def keep(self, hook: Item, now_ms: int) -> None:
        """Give a HOOK item its whole time again, where little of it is left."""
        if hook["ttl"] - now_ms // 1000 < _RENEWED_BELOW_SECONDS:
            fields = {name: value for name, value in hook.items() if name != "ttl"}
            await self._put(fields, now_ms)

    # --- what became of them ----------------------------------------------------------------

    async def open(self, message: HookMessage, now_ms: int) -> bool:
        """Note that an event is to be delivered, and whether it still is; what is noted stays."""
        item = {
            "pk": task_pk(message.task_id),
            "sk": _key(message.seq),
            "task_id": message.task_id,
            "state": PENDING,
            "action": message.event["action"],
            "event_id": message.event["id"],
            "tries": 0,
            "ttl": now_ms // 1000 + CHILD_TTL_SECONDS,
        }
        try:
            await self._call(
                "dynamodb",
                "PutItem",
                TableName=self._table,
                Item=item_to_wire(item),
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refused:
            return refused.item is None or item_from_wire(refused.item)["state"] == PENDING
        return True

    async def delivery(self, message: HookMessage) -> Item:
        """{state, tries, ...} of an event's delivery; {} where nothing is noted any more."""
        return await self._get(item_key(message.task_id, _key(message.seq))) or {}

    async def claim(
        self, message: HookMessage, seen: Item, carrier: str, now_ms: int, until_ms: int
    ) -> bool:
        """Take a delivery for one try, until then at most; False where others did since `seen`.

        `seen`: what `delivery` answered. Each claim and each noted try changes next_at or tries,
        so of all who saw the same only one can claim.
        """
        values: Item = {
            "state": seen.get("state", PENDING),
            "tries": seen.get("tries", 0),
            "carrier": carrier,
            "next_at": until_ms,
            "claimed_at": now_ms,
        }
        compared = {"was_tries": to_wire(values["tries"])}
        condition = "#tries = :was_tries AND attribute_not_exists(#next_at)"
        if "next_at" in seen:
            compared["was_next_at"] = to_wire(seen["next_at"])
            condition = "#tries = :was_tries AND #next_at = :was_next_at"
        elif not seen:
            compared = {}
            condition = "attribute_not_exists(#tries)"
        return await self._set(message, values, now_ms, condition, compared)

    async def note(
        self,
        message: HookMessage,
        state: str,
        tries: int,
        status: int,
        error: str,
        now_ms: int,
        carrier: str = "",
        next_at: int = 0,
    ) -> None:
        """Note one try. What was delivered stays so, whatever a late duplicate found.

        `carrier`, `next_at`: the queue message that comes for the next try, and when.
        """
        values: Item = {
            "state": state,
            "tries": tries,
            "status": status,
            "error": error,
            "last_at": now_ms,
            "carrier": carrier,
            "next_at": next_at,
            "claimed_at": 0,
        }
        condition = "attribute_not_exists(#state) OR #state <> :done"
        await self._set(message, values, now_ms, condition, {"done": to_wire(DELIVERED)})

    async def deliveries(self, task_id: str) -> list[Item]:
        """What became of a task's events so far, in their order."""
        return await self._query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :hook)",
            ExpressionAttributeValues={":pk": to_wire(task_pk(task_id)), ":hook": {"S": "HOOK#"}},
            ConsistentRead=True,
        )

    async def _set(
        self, message: HookMessage, values: Item, now_ms: int, condition: str, compared: Item
    ) -> bool:
        """Write fields of a delivery; False where the condition does not hold.

        `compared`: the condition's own values, in wire form.
        """
        values = {
            **values,
            "task_id": message.task_id,
            "action": message.event["action"],
            "event_id": message.event["id"],
            "ttl": now_ms // 1000 + CHILD_TTL_SECONDS,
        }
        bound = {f":{name}": to_wire(value) for name, value in values.items()}
        bound |= {f":{name}": value for name, value in compared.items()}
        try:
            await self._call(
                "dynamodb",
                "UpdateItem",
                TableName=self._table,
                Key=item_key(message.task_id, _key(message.seq)),
                UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{name}": name for name in values},
                ExpressionAttributeValues=bound,
            )
        except ConditionFailed:
            return False
        return True

    async def _put(self, item: Item, now_ms: int) -> None:
        item = {**item, "ttl": now_ms // 1000 + CHILD_TTL_SECONDS}
        await self._call("dynamodb", "PutItem", TableName=self._table, Item=item_to_wire(item))


def _key(seq: int) -> str:
    return f"HOOK#{seq:012d}"
