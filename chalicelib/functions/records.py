"""The records of a batch, each by itself, answered as SQS event sources expect it.

The answer names the messages that failed. SQS keeps those and deletes all others. Every error is
caught here: it is logged, and fails its own message alone. A message that cannot be read never will
be, whoever receives it next: it goes to UnreadableQueue at once, whole.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from chalicelib.aws.set_aside import SetAsideQueue
from chalicelib.aws.sqs_batch import Batch, BatchAnswer, Record, answer
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.errors import PoisonMessage
from chalicelib.core.logs import bound, log
from chalicelib.core.together import together

#: Names of queues in metrics, as WorkQueue.depths has them, and what their ARNs contain.
_QUEUES = {
    "plan": "PlanQueue",
    "urgent": "UrgentQueue",
    "work": "WorkQueue",
    "dead_letters": "DeadLetterQueue",
    "webhooks": "WebhookQueue",
}


def or_set_aside(
    backend: Backend, one: Callable[[Record], Awaitable[bool]]
) -> Callable[[Record], Awaitable[bool]]:
    """`one`, with what it cannot read put into UnreadableQueue, and then acknowledged."""

    async def readable(record: Record) -> bool:
        try:
            return await one(record)
        except PoisonMessage as poison:
            # One of the dead letters came from another queue, into which it can be put back.
            came_from = record.get("attributes", {}).get("DeadLetterQueueSourceArn")
            source = _queue_of(came_from or record.get("eventSourceARN"))
            log("message_unreadable", level="error", queue=source, error=poison.detail)
            metrics.count("MessagesUnreadable")
            queue = SetAsideQueue(backend.call, backend.settings.unreadable_queue_url)
            await queue.put(source, record, poison.detail)
            return True

    return readable


async def each(batch: Batch, one: Callable[[Record], Awaitable[bool]]) -> BatchAnswer:
    """Run `one` on every record at once; the answer names the records that failed."""

    async def guarded(record: Record) -> str | None:
        _measure_delivery(record)
        message_id = str(record["messageId"])
        deliveries = record.get("attributes", {}).get("ApproximateReceiveCount")
        with bound(message_id=message_id, delivery=deliveries):
            try:
                return None if await one(record) else message_id
            except Exception as error:  # noqa: BLE001 - the edge: one message's failure is its own
                log("record_failed", level="error", error=repr(error), trace=True)
                return message_id

    failed = [entry for entry in await together(*map(guarded, batch["Records"])) if entry]
    if failed:
        metrics.count("MessagesFailed", len(failed), Function=metrics.function())
    return answer(failed)


def _measure_delivery(record: Record) -> None:
    attributes = record.get("attributes", {})
    if int(attributes.get("ApproximateReceiveCount", 1)) > 1:
        metrics.count("Retries", Function=metrics.function())
    elif "SentTimestamp" in attributes:  # of a first delivery: later ones waited for a backoff
        waited_s = max(0.0, time.time() - int(attributes["SentTimestamp"]) / 1000)
        metrics.measure("QueueWait", waited_s, Queue=_queue_of(record.get("eventSourceARN")))


def _queue_of(arn: str | None) -> str:
    """The queue's name in our metrics, from its ARN: ...-PlanQueue-1A2B3C gives plan."""
    return next((name for name, part in _QUEUES.items() if part in (arn or "")), "other")
