"""The edge of every event function: decode, one call, and per-record failures.

This is the one place that catches everything: what goes wrong with one record is logged and fails
that record alone.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chalicelib import wiring
from chalicelib.errors import ExchangeError, PoisonMessage
from chalicelib.gateways.aws import run
from chalicelib.logs import log

if TYPE_CHECKING:
    import asyncio

Event = dict[str, Any]
#: Back off before a failed message returns: 5, 10, 20, 40 ... seconds by delivery.
_BACKOFF_SECONDS = 5


@lru_cache(maxsize=1)
def _loop() -> asyncio.Runner:
    """One event loop per container: clients cached across loops fail once theirs is closed."""
    import asyncio  # here, not above: the API's cold start would pay for it

    return asyncio.Runner()


def plan(event: Event, context: Any) -> Event:
    from chalicelib.messages import PlanMessage, decode
    from chalicelib.planning import plan_task

    async def one(record: Event) -> bool:
        message = decode(record["body"])
        if not isinstance(message, PlanMessage):
            raise PoisonMessage("the plan queue holds plan messages only")
        await plan_task(wiring.bench(), message)
        return True

    return _loop().run(_each(event, one))


def collect(event: Event, context: Any) -> Event:
    from chalicelib.collecting import Outcome, collect_message
    from chalicelib.messages import CollectMessage, decode

    async def one(record: Event) -> bool:
        bench = wiring.bench()
        message = decode(record["body"])
        if not isinstance(message, CollectMessage):
            raise PoisonMessage("the work queues hold collect messages only")
        deliveries = int(record["attributes"]["ApproximateReceiveCount"])
        outcome = await collect_message(
            bench, _budget(), message, deliveries, context.get_remaining_time_in_millis
        )
        if outcome is Outcome.DONE:
            return True
        await bench.queue.retry_later(
            message.priority,
            record["receiptHandle"],
            _BACKOFF_SECONDS * 2 ** min(deliveries - 1, 6),
        )
        return False

    return _loop().run(_each(event, one))


def bury(event: Event, context: Any) -> Event:
    from chalicelib.burying import bury_message

    async def one(record: Event) -> bool:
        await bury_message(wiring.desk(), record["body"])
        return True

    return _loop().run(_each(event, one))


def sweep(event: Event, context: Any) -> Event:
    from chalicelib import sweeping

    return run(sweeping.sweep(wiring.desk()))


def refresh_prices(event: Event, context: Any) -> Event:
    from chalicelib import refreshing

    async def refresh() -> Event:
        try:
            return {"prices": await refreshing.refresh_prices(wiring.bench())}
        except ExchangeError as error:  # the next minute tries again
            log("prices_not_refreshed", level="warning", error=error.detail)
            return {"prices": 0, "error": error.detail}

    return _loop().run(refresh())


def run_schedule(event: Event, context: Any) -> Event:
    from chalicelib import scheduling

    task_id = run(
        scheduling.run_schedule(wiring.desk(), str(event["time"]), context.aws_request_id)
    )
    return {"task_id": task_id}


def on_task_change(event: Event, context: Any) -> Event:
    from chalicelib.notifying import record_changes

    run(record_changes(wiring.desk(), event["Records"]))
    return {}


def ws_connect(event: Any) -> None:
    from chalicelib import connecting

    run(connecting.connect(wiring.desk(), event.connection_id))


def ws_message(event: Any) -> None:
    from chalicelib import connecting

    run(connecting.receive(wiring.desk(), event.connection_id, event.body))


def ws_disconnect(event: Any) -> None:
    from chalicelib import connecting

    run(connecting.disconnect(wiring.desk(), event.connection_id))


@lru_cache(maxsize=1)
def _budget() -> Any:
    from chalicelib.budget import Budget

    return Budget(wiring.bench())


async def _each(event: Event, one: Callable[[Event], Awaitable[bool]]) -> Event:
    """Run `one` on every record at once; the answer names the records that failed."""

    import asyncio

    async def guarded(record: Event) -> str | None:
        try:
            return None if await one(record) else record["messageId"]
        except Exception as error:  # noqa: BLE001 - the edge: one record's failure is its own
            log(
                "record_failed",
                level="error",
                message_id=record.get("messageId"),
                error=repr(error),
                trace=traceback.format_exc(),
            )
            return str(record["messageId"])

    failed = await asyncio.gather(*map(guarded, event["Records"]))
    return {"batchItemFailures": [{"itemIdentifier": entry} for entry in failed if entry]}
