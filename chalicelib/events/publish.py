"""Events out: what happened, for whoever listens outside: the event bus, webhooks, totals.

Every step may be repeated: the bus and the webhooks hear of an event at least once, each time under
the same id, and the totals count it once.
"""

from __future__ import annotations

from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.events.bus import LARGEST_DETAIL, EventBus, as_text
from chalicelib.events.totals import COUNTED, Totals
from chalicelib.webhooks import webhook
from chalicelib.webhooks.items import HookItems
from chalicelib.webhooks.queue import WebhookQueue
from chalicelib.webhooks.webhook import HookMessage

Event = dict[str, Any]

#: Of the schemas in docs/events; a change that is more than a new optional field makes another.
VERSION = 1
#: What an event tells outside. The trail's own fields (hashes, where it stood in a stream) are not
#: among them, and what is None is left out.
FIELDS = (
    "id",
    "action",
    "at",
    "subject",
    "seq",
    "owner",
    "by",
    "request_id",
    "attempt",
    "before",
    "after",
    "detail",
    "data",
)
#: What an event that is too large for the bus goes without; it then says `truncated`.
_LARGE = ("data", "before", "after")


async def publish(backend: Backend, events: list[Event]) -> None:
    """Publish events of a stream batch, in their order.

    `events`: recorded audit events, and data events, which have no `seq`. Raises CallFailed where
    some could not be published, so that the batch comes again.
    """
    details = [detail_of(event) for event in events]
    await EventBus(backend).put(details)
    await _enqueue(backend, details)
    for detail in details:
        if detail["action"] in COUNTED:
            await Totals(backend).count(detail["id"], detail["action"], backend.now_ms())


def detail_of(event: Event) -> Event:
    """What is published of an event: the detail of its entry on the bus."""
    detail = {"version": VERSION}
    detail |= {name: event[name] for name in FIELDS if event.get(name) is not None}
    if len(as_text(detail).encode()) > LARGEST_DETAIL:
        detail = {name: value for name, value in detail.items() if name not in _LARGE}
        detail["truncated"] = True
    return detail


async def _enqueue(backend: Backend, details: list[Event]) -> None:
    """Queue what tasks with a webhook want to hear; noted as pending before it is queued.

    What was delivered, or given up, when the stream tells of it once more is not queued again:
    behind a failure it would look like a dead letter that somebody put back (webhooks/deliver.py).
    """
    tellable = [detail for detail in details if detail["action"] in webhook.ACTIONS]
    hooks = await HookItems(backend).read_many(_task_id(detail) for detail in tellable)
    messages = []
    for detail in tellable:
        task_id = _task_id(detail)
        if task_id in hooks and detail["action"] in hooks[task_id]["events"]:
            messages.append(HookMessage(task_id, detail["seq"], detail))
    due = [
        message for message in messages if await HookItems(backend).open(message, backend.now_ms())
    ]
    await WebhookQueue(backend).send(due)
    for task_id in {message.task_id for message in messages}:
        await HookItems(backend).keep(hooks[task_id], backend.now_ms())


def _task_id(detail: Event) -> str:
    return str(detail["subject"]).removeprefix("task:")
