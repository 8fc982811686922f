"""Webhooks in the Tasks table: where a task's events go, and what became of each event.

    pk            sk            holds
    TASK#<id>     HOOK          url, secret, events, owner; outlives the task's own item: that one
                                may expire while its last event is still being delivered
    TASK#<id>     HOOK#<seq>    one event's delivery: task_id, action, event_id, state (pending |
                                delivered | failed), tries; of the last try: status, error,
                                last_at; carrier (the id of the queue message that carries it on),
                                next_at (when its next try is due), claimed_at (when the running
                                try began, else 0); webhooks/delivery.py says more. `seq` has
                                twelve digits

The secret stands in HOOK and nowhere else in the table. The table's stream holds whole items, so
for a day it holds HOOK too, for whoever may read the stream (GetRecords: on_task_change). The
filter of that function lets HOOK#<seq> wake it, but not HOOK. So the secret is kept from what the
function is given, though not from what its role could read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed
from chalicelib.core.task_keys import CHILD_TTL_SECONDS, item_key, task_pk
from chalicelib.webhooks.delivery import DELIVERED, PENDING, Delivery
from chalicelib.webhooks.message import WebhookMessage
from chalicelib.webhooks.webhook import Webhook

if TYPE_CHECKING:  # the API imports this module, and reads no stream
    from chalicelib.aws.stream import Change

Item = dict[str, Any]

_TASK, _WEBHOOK, _DELIVERY = "TASK#", "HOOK", "HOOK#"
#: A HOOK item with less time left is given its whole time again. Two events of one task are less
#: than this apart: an attempt may last a week, and pauses hold it for six days more.
_RENEWED_BELOW_SECONDS = 14 * 86_400


@dataclass(frozen=True)
class StoredWebhook:
    """A HOOK item. `ttl`: when it expires, epoch seconds; `owner`: of its task."""

    task_id: str
    owner: str
    webhook: Webhook
    ttl: int


class WebhookItems(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.tasks_table)

    # --- where events go --------------------------------------------------------------------

    async def write(self, task_id: str, owner: str, webhook: Webhook, now_ms: int) -> None:
        """Store a task's webhook, before the task itself, so that none of its events is missed."""
        item = {
            "url": webhook.url,
            "secret": webhook.secret,
            "events": list(webhook.events),
            "owner": owner,
            "pk": task_pk(task_id),
            "sk": _WEBHOOK,
            "ttl": _ttl(now_ms),
        }
        await self._call("dynamodb", "PutItem", TableName=self._table, Item=item_to_wire(item))

    async def read(self, task_id: str) -> StoredWebhook | None:
        found = await self.read_many([task_id])
        return found[task_id] if found else None

    async def read_many(self, task_ids: Iterable[str]) -> dict[str, StoredWebhook]:
        """task id -> its webhook, of those tasks that have one."""
        keys = [item_key(task_id, _WEBHOOK) for task_id in dict.fromkeys(task_ids)]
        found = [
            StoredWebhook(
                item["pk"].removeprefix(_TASK),
                item.get("owner", ""),  # older items have none
                Webhook.of(item),
                item["ttl"],
            )
            for item in await self._get_all(keys)
        ]
        return {stored.task_id: stored for stored in found}

    async def keep(self, stored: StoredWebhook, now_ms: int) -> None:
        """Give a webhook its whole time again, where little of it is left."""
        if stored.ttl - now_ms // 1000 < _RENEWED_BELOW_SECONDS:
            await self.write(stored.task_id, stored.owner, stored.webhook, now_ms)

    # --- what became of them ----------------------------------------------------------------

    async def open(self, message: WebhookMessage, now_ms: int) -> bool:
        """Note an event's delivery as pending, unless it is noted already.

        Returns whether the event is still to be delivered.
        """
        opened = Delivery.of(message)
        item = {
            "pk": task_pk(opened.task_id),
            "sk": _delivery_sk(opened.seq),
            "task_id": opened.task_id,
            "state": opened.state,
            "action": opened.action,
            "event_id": opened.event_id,
            "tries": opened.tries,
            "ttl": _ttl(now_ms),
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

    async def delivery(self, message: WebhookMessage) -> Delivery | None:
        """The delivery of a message's event; None where it is not noted any more."""
        item = await self._get(item_key(message.task_id, _delivery_sk(message.seq)))
        return None if item is None else _delivery_of(item)

    async def deliveries(self, task_id: str) -> list[Delivery]:
        """All deliveries of a task's events so far, in the order of the events."""
        items = await self._query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :hook)",
            ExpressionAttributeValues={
                ":pk": to_wire(task_pk(task_id)),
                ":hook": to_wire(_DELIVERY),
            },
            ConsistentRead=True,
        )
        return [_delivery_of(item) for item in items]

    async def claim(
        self,
        message: WebhookMessage,
        seen: Delivery | None,
        *,
        carrier: str,
        now_ms: int,
        until_ms: int,
    ) -> bool:
        """Take a delivery for one try, for the message with id `carrier`, until then at most.

        `seen`: what `delivery` returned. Each claim and each noted try changes next_at or tries,
        so only one of those who saw the same can claim; False for all others.
        """
        known = seen or Delivery.of(message)
        values: Item = {
            "state": known.state,
            "tries": known.tries,
            "carrier": carrier,
            "next_at": until_ms,
            "claimed_at": now_ms,
        }
        compared = {"was_tries": to_wire(known.tries)}
        condition = "#tries = :was_tries AND attribute_not_exists(#next_at)"
        if known.next_at is not None:
            compared["was_next_at"] = to_wire(known.next_at)
            condition = "#tries = :was_tries AND #next_at = :was_next_at"
        elif seen is None:
            compared = {}
            condition = "attribute_not_exists(#tries)"
        return await self._set(known, values, now_ms, condition, compared)

    async def note(self, tried: Delivery) -> None:
        """Note a try that was made at `tried.last_at`. A delivered event stays delivered, whatever
        a late copy of its message found."""
        values: Item = {
            "state": tried.state,
            "tries": tried.tries,
            "status": tried.status,
            "error": tried.error,
            "last_at": tried.last_at,
            "carrier": tried.carrier,
            "next_at": tried.next_at,
            "claimed_at": tried.claimed_at,
        }
        condition = "attribute_not_exists(#state) OR #state <> :done"
        await self._set(tried, values, tried.last_at, condition, {"done": to_wire(DELIVERED)})

    async def _set(
        self, delivery: Delivery, values: Item, now_ms: int, condition: str, compared: Item
    ) -> bool:
        """Write some fields of a delivery; False where the condition does not hold.

        `compared`: the condition's own values, in wire form.
        """
        values = {
            **values,
            "task_id": delivery.task_id,
            "action": delivery.action,
            "event_id": delivery.event_id,
            "ttl": _ttl(now_ms),
        }
        bound = {f":{name}": to_wire(value) for name, value in values.items()}
        bound |= {f":{name}": value for name, value in compared.items()}
        try:
            await self._update(
                item_key(delivery.task_id, _delivery_sk(delivery.seq)),
                UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{name}": name for name in values},
                ExpressionAttributeValues=bound,
            )
        except ConditionFailed:
            return False
        return True


def delivery_change(change: Change) -> tuple[Delivery | None, Delivery] | None:
    """A delivery before (None: there was none) and after a change of the Tasks table.

    None where another item changed, and where the delivery's item is gone.
    """
    if not change.new or not change.pk.startswith(_TASK) or not change.sk.startswith(_DELIVERY):
        return None
    return _delivery_of(change.old) if change.old else None, _delivery_of(change.new)


def _delivery_of(item: Item) -> Delivery:
    """What `open` leaves out has its value of before the first try."""
    return Delivery(
        task_id=item["task_id"],
        seq=int(item["sk"].removeprefix(_DELIVERY)),
        action=item["action"],
        event_id=item["event_id"],
        state=item["state"],
        tries=item["tries"],
        status=item.get("status", 0),
        error=item.get("error", ""),
        last_at=item.get("last_at", 0),
        carrier=item.get("carrier", ""),
        next_at=item.get("next_at"),
        claimed_at=item.get("claimed_at", 0),
    )


def _delivery_sk(seq: int) -> str:
    return f"{_DELIVERY}{seq:012d}"


def _ttl(now_ms: int) -> int:
    return now_ms // 1000 + CHILD_TTL_SECONDS
