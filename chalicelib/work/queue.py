"""The queues: plan, urgent (high priority), work (normal and low), and the dead letters.

Bodies are those of work/messages.py. What SQS goes on refusing of a batch is reported to the
caller, who leaves it to sweep.
"""

from __future__ import annotations

from collections.abc import Sequence

from chalicelib.aws.sqs_queue import SqsQueue, batches
from chalicelib.core.backend import Backend
from chalicelib.work import priorities
from chalicelib.work.messages import CollectMessage, DispatchMessage, PlanMessage

#: SQS's limit of a message's delay (AWS documentation).
MOST_DELAY_SECONDS = 900


class WorkQueue:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        settings = backend.settings
        self._plan, self._urgent = settings.plan_queue_url, settings.urgent_queue_url
        self._work, self._dead_letters = settings.work_queue_url, settings.dead_letter_queue_url

    async def send_plan(
        self, message: PlanMessage | DispatchMessage, delay_seconds: int = 0
    ) -> None:
        """Send to the plan queue. Raises CallFailed."""
        later = {"DelaySeconds": delay_seconds} if delay_seconds else {}
        await self._call(
            "sqs", "SendMessage", QueueUrl=self._plan, MessageBody=message.encode(), **later
        )

    async def send_collect(
        self, messages: Sequence[CollectMessage], delay_seconds: int = 0
    ) -> list[CollectMessage]:
        """Send to each message's queue; returns those that could not be sent."""
        unsent: list[CollectMessage] = []
        for priority in priorities.PRIORITIES:
            url = self._urgent if priority == priorities.HIGH else self._work
            same = [message for message in messages if message.priority == priority]
            for batch in batches(same):
                unsent += await self._send_batch(url, batch, delay_seconds)
        return unsent

    async def _send_batch(
        self, url: str, batch: list[CollectMessage], delay_seconds: int
    ) -> list[CollectMessage]:
        entries = [
            {
                "MessageBody": message.encode(),
                # AWS's fair queues go round the groups; what bounds each is collecting/dispatch.py.
                "MessageGroupId": message.task_id,
                "DelaySeconds": min(MOST_DELAY_SECONDS, max(0, delay_seconds)),
            }
            for message in batch
        ]
        return [batch[at] for at in await SqsQueue(self._call, url).send(entries)]

    async def retry_later(self, priority: str, receipt_handle: str, seconds: int) -> None:
        """As SqsQueue.retry_later, of the queue of that priority."""
        url = self._urgent if priority == priorities.HIGH else self._work
        await SqsQueue(self._call, url).retry_later(receipt_handle, seconds)

    async def depths(self) -> dict[str, dict[str, int]]:
        """Approximate numbers of messages per queue: visible, in_flight, delayed."""
        urls = {
            "plan": self._plan,
            "urgent": self._urgent,
            "work": self._work,
            "dead_letters": self._dead_letters,
        }
        return {name: await SqsQueue(self._call, url).depth() for name, url in urls.items()}
