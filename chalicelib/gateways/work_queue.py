"""The queues: plan, urgent (high priority), work (normal and low), and the dead letters.

Bodies are those of messages.py. A batch answer may carry `Failed` entries beside a status of 200;
they are sent again here, and what still fails is reported to the caller, who leaves it to sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chalicelib import tasks
from chalicelib.errors import CallFailed
from chalicelib.gateways.aws import Call
from chalicelib.messages import CollectMessage, PlanMessage

#: SQS limits (AWS documentation): entries of a batch, delay of a message.
BATCH_ENTRIES = 10
MOST_DELAY_SECONDS = 900
#: A batch may hold 1 MiB; staying far below keeps one slow request from holding up the rest.
BATCH_BYTES = 200_000
_TRIES = 4


@dataclass(frozen=True)
class QueueUrls:
    plan: str
    urgent: str
    work: str
    dead_letters: str


class WorkQueue:
    def __init__(self, call: Call, urls: QueueUrls) -> None:
        self._call = call
        self._urls = urls

    async def send_plan(self, message: PlanMessage, delay_seconds: int = 0) -> None:
        later = {"DelaySeconds": delay_seconds} if delay_seconds else {}
        await self._call(
            "sqs", "SendMessage", QueueUrl=self._urls.plan, MessageBody=message.encode(), **later
        )

    async def send_collect(
        self, messages: Sequence[CollectMessage], delay_seconds: int = 0
    ) -> list[CollectMessage]:
        """Send to each message's queue; returns those that could not be sent."""
        unsent: list[CollectMessage] = []
        for priority in tasks.PRIORITIES:
            url = self._urls.urgent if priority == tasks.HIGH else self._urls.work
            same = [message for message in messages if message.priority == priority]
            for batch in _batches(same):
                unsent += await self._send_batch(url, batch, delay_seconds)
        return unsent

    async def _send_batch(
        self, url: str, batch: list[CollectMessage], delay_seconds: int
    ) -> list[CollectMessage]:
        for _ in range(_TRIES):
            entries = [
                {
                    "Id": str(at),
                    "MessageBody": message.encode(),
                    # AWS's fair queues go round the groups; what bounds each is dispatching.py.
                    "MessageGroupId": message.task_id,
                    "DelaySeconds": min(MOST_DELAY_SECONDS, max(0, delay_seconds)),
                }
                for at, message in enumerate(batch)
            ]
            answer = await self._call("sqs", "SendMessageBatch", QueueUrl=url, Entries=entries)
            batch = [batch[int(entry["Id"])] for entry in answer.get("Failed", [])]
            if not batch:
                return []
        return batch

    async def retry_later(self, priority: str, receipt_handle: str, seconds: int) -> None:
        """Let a message that this invocation fails come back after `seconds`.

        Without it, it comes back after the queue's visibility timeout.
        """
        url = self._urls.urgent if priority == tasks.HIGH else self._urls.work
        try:
            await self._call(
                "sqs",
                "ChangeMessageVisibility",
                QueueUrl=url,
                ReceiptHandle=receipt_handle,
                VisibilityTimeout=seconds,
            )
        except CallFailed as failed:
            # An old receipt, or a message gone since: the visibility timeout stands instead.
            if failed.code == "ConnectionError":
                raise

    async def depths(self) -> dict[str, dict[str, int]]:
        """Approximate numbers of messages per queue: visible, in_flight, delayed."""
        depths = {}
        for name in ("plan", "urgent", "work", "dead_letters"):
            answer = await self._call(
                "sqs",
                "GetQueueAttributes",
                QueueUrl=getattr(self._urls, name),
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )
            counts = answer["Attributes"]
            depths[name] = {
                "visible": int(counts["ApproximateNumberOfMessages"]),
                "in_flight": int(counts["ApproximateNumberOfMessagesNotVisible"]),
                "delayed": int(counts["ApproximateNumberOfMessagesDelayed"]),
            }
        return depths


def _batches(messages: list[CollectMessage]) -> list[list[CollectMessage]]:
    batches: list[list[CollectMessage]] = []
    size = 0
    for message in messages:
        length = len(message.encode())
        if not batches or len(batches[-1]) == BATCH_ENTRIES or size + length > BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(message)
        size += length
    return batches
