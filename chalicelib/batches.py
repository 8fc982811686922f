"""Batches of queue messages, answered as SQS event sources expect it.

The answer names the messages that failed; SQS keeps those and deletes the others. This is the one
place that catches everything: what goes wrong with one message is logged and fails it alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chalicelib.budget import Budget
from chalicelib.burying import bury_message
from chalicelib.collecting import Outcome, collect_message
from chalicelib.errors import PoisonMessage
from chalicelib.logs import log
from chalicelib.messages import CollectMessage, PlanMessage, decode
from chalicelib.planning import plan_task
from chalicelib.together import together
from chalicelib.wiring import Bench, Desk

Event = dict[str, Any]
#: Back off before a failed message returns: 5, 10, 20, 40 ... seconds by delivery.
BACKOFF_SECONDS = 5


async def plan_batch(bench: Bench, event: Event) -> Event:
    async def one(record: Event) -> bool:
        message = decode(record["body"])
        if not isinstance(message, PlanMessage):
            raise PoisonMessage("the plan queue holds plan messages only")
        await plan_task(bench, message)
        return True

    return await _each(event, one)


async def collect_batch(
    bench: Bench, budget: Budget, event: Event, remaining_ms: Callable[[], int]
) -> Event:
    async def one(record: Event) -> bool:
        message = decode(record["body"])
        if not isinstance(message, CollectMessage):
            raise PoisonMessage("the work queues hold collect messages only")
        deliveries = int(record["attributes"]["ApproximateReceiveCount"])
        outcome = await collect_message(bench, budget, message, deliveries, remaining_ms)
        if outcome is Outcome.DONE:
            return True
        seconds = BACKOFF_SECONDS * 2 ** min(deliveries - 1, 6)
        await bench.queue.retry_later(message.priority, record["receiptHandle"], seconds)
        return False

    return await _each(event, one)


async def bury_batch(desk: Desk, event: Event) -> Event:
    async def one(record: Event) -> bool:
        await bury_message(desk, record["body"])
        return True

    return await _each(event, one)


async def _each(event: Event, one: Callable[[Event], Awaitable[bool]]) -> Event:
    """Run `one` on every record at once; the answer names the records that failed."""

    async def guarded(record: Event) -> str | None:
        try:
            return None if await one(record) else str(record["messageId"])
        except Exception as error:  # noqa: BLE001 - the edge: one message's failure is its own
            log(
                "record_failed",
                level="error",
                message_id=record.get("messageId"),
                error=repr(error),
                trace=True,
            )
            return str(record["messageId"])

    failed = await together(*map(guarded, event["Records"]))
    return {"batchItemFailures": [{"itemIdentifier": entry} for entry in failed if entry]}
