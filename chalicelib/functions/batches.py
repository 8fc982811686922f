"""Batches of the messages that plan, collect and bury a task's units.

What a message is about is bound to every log line that is written while it is handled.
"""

from __future__ import annotations

from collections.abc import Callable

from chalicelib.aws.sqs_batch import Batch, BatchAnswer, Record
from chalicelib.collecting.bury import bury_message
from chalicelib.collecting.collect import Outcome, collect_message
from chalicelib.collecting.dispatch import dispatch_task
from chalicelib.collecting.plan import plan_task
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.errors import PoisonMessage
from chalicelib.core.logs import bound, log
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.worker import Worker
from chalicelib.functions.records import each, or_set_aside
from chalicelib.work.messages import CollectMessage, PlanMessage, decode
from chalicelib.work.queue import WorkQueue

#: Back off before a failed message returns: 5, 10, 20, 40 ... seconds by delivery.
BACKOFF_SECONDS = 5
#: The longest that it waits because the exchange asked for it: sweep takes what is silent for long
#: for lost.
_LONGEST_WAIT_SECONDS = 300


async def plan_batch(worker: Worker, batch: Batch) -> BatchAnswer:
    async def one(record: Record) -> bool:
        message = decode(record["body"])
        if isinstance(message, CollectMessage):
            raise PoisonMessage("the plan queue holds plan and dispatch messages only")
        with bound(task_id=message.task_id, attempt=message.attempt):
            if isinstance(message, PlanMessage):
                await plan_task(worker, message)
            else:
                await dispatch_task(worker, message)
        return True

    return await each(batch, or_set_aside(worker, one))


async def collect_batch(
    worker: Worker, budget: Budget, batch: Batch, remaining_ms: Callable[[], int]
) -> BatchAnswer:
    async def one(record: Record) -> bool:
        message = decode(record["body"])
        if not isinstance(message, CollectMessage):
            raise PoisonMessage("the work queues hold collect messages only")
        deliveries = int(record["attributes"]["ApproximateReceiveCount"])
        with bound(
            task_id=message.task_id,
            attempt=message.attempt,
            prog=message.prog,
            symbol=message.symbol,
        ):
            handled = await collect_message(worker, budget, message, deliveries, remaining_ms)
            if handled.outcome is Outcome.DONE:
                return True
            named_ms = handled.again_ms - worker.now_ms()
            seconds = min(-(-named_ms // 1000), _LONGEST_WAIT_SECONDS)
            seconds = max(seconds, BACKOFF_SECONDS * 2 ** min(deliveries - 1, 6))
            log("message_comes_back", level="warning", after_seconds=seconds)
            await WorkQueue(worker).retry_later(message.priority, record["receiptHandle"], seconds)
            return False

    return await each(batch, or_set_aside(worker, one))


async def bury_batch(backend: Backend, batch: Batch) -> BatchAnswer:
    async def one(record: Record) -> bool:
        await bury_message(backend, record["body"])
        metrics.count("DeadLetters")
        return True

    return await each(batch, or_set_aside(backend, one))
