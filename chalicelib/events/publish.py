"""Publish events: on the event bus, to webhooks, and in the totals.

Every step may be repeated. The bus and the webhooks get an event at least once, each time with the
same id. The totals count it once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from chalicelib.core.backend import Backend
from chalicelib.events.bus import LARGEST_DETAIL, EventBus
from chalicelib.events.event import FIELDS, VERSION, Event, PublishedEvent, as_text
from chalicelib.events.totals import COUNTED, Totals
from chalicelib.webhooks import webhook
from chalicelib.webhooks.items import WebhookItems
from chalicelib.webhooks.message import WebhookMessage
from chalicelib.webhooks.queue import WebhookQueue

#: What an event that is too large for the bus goes without; it then says `truncated`.
_LARGE = ("data", "before", "after")


async def publish(backend: Backend, events: Sequence[Event]) -> None:
    """Publish the events of a stream batch, in their order.

    Raises CallFailed where some could not be published, so that the batch comes again.
    """
    published = [published_event(event) for event in events]
    await EventBus(backend).put(published)
    await _enqueue(backend, published)
    for event in published:
        if event["action"] in COUNTED:
            await Totals(backend).count(event["id"], event["action"], backend.now_ms())


def published_event(event: Event) -> PublishedEvent:
    """What is published of an event; without its large parts where the bus could not take it."""
    known: Mapping[str, object] = event
    fields: dict[str, object] = {"version": VERSION}
    fields |= {name: known[name] for name in FIELDS if known.get(name) is not None}
    whole = cast(PublishedEvent, fields)
    if len(as_text(whole).encode()) <= LARGEST_DETAIL:
        return whole
    fields = {name: value for name, value in fields.items() if name not in _LARGE}
    return cast(PublishedEvent, {**fields, "truncated": True})


async def _enqueue(backend: Backend, events: list[PublishedEvent]) -> None:
    """Queue the events that a task's webhook asked for. Each is noted as pending before that.

    An event that was delivered or given up is not queued again when the stream brings it again. A
    copy that is queued after the failure would look like a dead letter that somebody put back
    (webhooks/deliver.py).
    """
    possible = [event for event in events if event["action"] in webhook.ACTIONS]
    webhooks = await WebhookItems(backend).read_many(_task_id(event) for event in possible)
    messages = []
    for event in possible:
        task_id = _task_id(event)
        if task_id in webhooks and event["action"] in webhooks[task_id].webhook.events:
            messages.append(WebhookMessage(task_id, event["seq"], event))
    due = [
        message
        for message in messages
        if await WebhookItems(backend).open(message, backend.now_ms())
    ]
    await WebhookQueue(backend).send(due)
    # Whichever events a webhook asked for, it has to be there for the next one.
    for stored in webhooks.values():
        await WebhookItems(backend).keep(stored, backend.now_ms())


def _task_id(event: PublishedEvent) -> str:
    return event["subject"].removeprefix("task:")
