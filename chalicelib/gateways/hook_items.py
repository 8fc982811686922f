"""Webhooks in the Tasks table: where a task's events go, and what became of each.

    pk            sk            holds
    TASK#<id>     HOOK          url, secret, events; outlives the task's own item, whose last event
                                is still being delivered when it expires
    TASK#<id>     HOOK#<seq>    state (pending | delivered | failed), action, event_id, tries,
                                status or error of the last try, last_at

The secret stands in HOOK and nowhere else. The Tasks stream tells of HOOK#<seq>, not of HOOK.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chalicelib.attributes import item_to_wire, to_wire
from chalicelib.errors import ConditionFailed
from chalicelib.gateways.item_table import ItemTable
from chalicelib.gateways.prog_items import item_key, task_pk
from chalicelib.gateways.task_table import CHILD_TTL_SECONDS
from chalicelib.webhooks import DELIVERED, PENDING, HookMessage, Webhook

Item = dict[str, Any]

#: A HOOK item with less time left is given its whole time again. Two events of one task are at most
#: a week apart: an attempt, or a task that has ended and is still there, lasts no longer.
_RENEWED_BELOW_SECONDS = 10 * 86_400


class HookItems(ItemTable):
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

    async def open(self, message: HookMessage, now_ms: int) -> None:
        """Note that an event is to be delivered; what is noted of it already stays."""
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
            )
        except ConditionFailed:
            return

    async def delivery(self, message: HookMessage) -> Item:
        """{state, tries, ...} of an event's delivery; {} where nothing is noted any more."""
        return await self._get(item_key(message.task_id, _key(message.seq))) or {}

    async def note(
        self, message: HookMessage, state: str, tries: int, status: int, error: str, now_ms: int
    ) -> None:
        """Note one try. What was delivered stays so, whatever a late duplicate found."""
        values: Item = {
            "state": state,
            "tries": tries,
            "status": status,
            "error": error,
            "last_at": now_ms,
            "task_id": message.task_id,
            "action": message.event["action"],
            "event_id": message.event["id"],
            "ttl": now_ms // 1000 + CHILD_TTL_SECONDS,
        }
        bound = {f":{name}": to_wire(value) for name, value in values.items()}
        try:
            await self._call(
                "dynamodb",
                "UpdateItem",
                TableName=self._table,
                Key=item_key(message.task_id, _key(message.seq)),
                UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
                ConditionExpression="attribute_not_exists(#state) OR #state <> :done",
                ExpressionAttributeNames={f"#{name}": name for name in values},
                ExpressionAttributeValues={**bound, ":done": to_wire(DELIVERED)},
            )
        except ConditionFailed:
            return

    async def deliveries(self, task_id: str) -> list[Item]:
        """What became of a task's events so far, in their order."""
        return await self._query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :hook)",
            ExpressionAttributeValues={":pk": to_wire(task_pk(task_id)), ":hook": {"S": "HOOK#"}},
            ConsistentRead=True,
        )

    async def _put(self, item: Item, now_ms: int) -> None:
        item = {**item, "ttl": now_ms // 1000 + CHILD_TTL_SECONDS}
        await self._call("dynamodb", "PutItem", TableName=self._table, Item=item_to_wire(item))


def _key(seq: int) -> str:
    return f"HOOK#{seq:012d}"
