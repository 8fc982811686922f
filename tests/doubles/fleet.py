"""The functions behind the queues, one delivery at a time, as functions/triggers.py runs them.

What the use case raises fails the delivery; the message comes back, or ends in the dead letters.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chalicelib.collecting.bury import bury_message
from chalicelib.collecting.collect import Outcome, collect_message
from chalicelib.collecting.dispatch import dispatch_task
from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.sweep import sweep
from chalicelib.core.errors import CollectorError
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import CollectMessage, DispatchMessage, PlanMessage, decode
from chalicelib.work.queue import WorkQueue
from tests.doubles.aws import Aws

_AGES = 5_000


class Crash(BaseException):
    """The process dies here: no handler of ours may catch it."""


class Fleet:
    def __init__(self, aws: Aws, worker: Worker) -> None:
        self.worker = worker
        self.budget = Budget(worker)
        self.remaining_ms: Callable[[], int] = lambda: 60_000
        self._aws = aws

    async def plan(self) -> int:
        """Deliver what the plan queue holds; returns how many deliveries that were."""
        return await self._deliver(self.worker.settings.plan_queue_url, self._plan)

    async def collect(self, most: int = 10) -> int:
        settings, count = self.worker.settings, 0
        for url in (settings.urgent_queue_url, settings.work_queue_url):
            count += await self._deliver(url, self._collect, most)
        return count

    async def bury(self) -> int:
        return await self._deliver(self.worker.settings.dead_letter_queue_url, self._bury)

    async def settle(self) -> None:
        """Let everything happen, waits included, until every queue is empty."""
        for _ in range(_AGES):
            if not await self.plan() + await self.collect() + await self.bury():
                at_ms = self._aws.sqs.next_visible_at()
                if at_ms is None:
                    return
                self._aws.clock.advance_to(at_ms)
        raise AssertionError("the queues never emptied")

    async def settle_and_sweep(self, minutes: int) -> None:
        """`settle` with the sweep of every minute between, for so many minutes."""
        for _ in range(minutes):
            await self.settle()
            self._aws.clock.advance(60_000)
            with suppress(Crash):
                await sweep(self.worker)
        await self.settle()

    async def _deliver(self, url: str, one: Callable[[Any], Any], most: int = 10) -> int:
        records = self._aws.sqs.receive(url, most)
        for record in records:
            try:
                done = await one(record)
            except (CollectorError, Crash):
                continue
            if done:
                self._aws.sqs.delete(url, record["receiptHandle"])
        return len(records)

    async def _plan(self, record: dict[str, Any]) -> bool:
        message = decode(record["body"])
        if isinstance(message, DispatchMessage):
            await dispatch_task(self.worker, message)
        else:
            assert isinstance(message, PlanMessage)
            await plan_task(self.worker, message)
        return True

    async def _collect(self, record: dict[str, Any]) -> bool:
        message = decode(record["body"])
        assert isinstance(message, CollectMessage)
        deliveries = int(record["attributes"]["ApproximateReceiveCount"])
        handled = await collect_message(
            self.worker, self.budget, message, deliveries, self.remaining_ms
        )
        if handled.outcome is Outcome.RETRY:
            await WorkQueue(self.worker).retry_later(message.priority, record["receiptHandle"], 5)
        return handled.outcome is Outcome.DONE

    async def _bury(self, record: dict[str, Any]) -> bool:
        await bury_message(self.worker, record["body"])
        return True
