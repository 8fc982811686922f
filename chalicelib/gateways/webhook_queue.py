"""The queue of events on their way to webhooks, and its dead letters.

Bodies are those of webhooks.py; they hold neither the URL nor the secret. What no receiver took in
all its tries is put among the dead letters here, so that it is there at once and by its own doing;
the queue's redrive is only for messages that kill the function.
"""

from __future__ import annotations

from collections.abc import Sequence

from chalicelib.errors import CallFailed
from chalicelib.gateways.aws import Call
from chalicelib.gateways.work_queue import BATCH_BYTES, BATCH_ENTRIES
from chalicelib.webhooks import HookMessage

_TRIES = 4


class WebhookQueue:
    def __init__(self, call: Call, url: str, dead_letters_url: str) -> None:
        self._call = call
        self._url = url
        self._dead_letters_url = dead_letters_url

    async def send(self, messages: Sequence[HookMessage]) -> None:
        """Queue deliveries. Raises CallFailed where some could not be queued."""
        for batch in _batches(messages):
            await self._send_batch(batch)

    async def _send_batch(self, batch: list[HookMessage]) -> None:
        for _ in range(_TRIES):
            entries = [
                {
                    "Id": str(at),
                    "MessageBody": message.encode(),
                    # Fair queues: one task's many failures do not keep another's end waiting.
                    "MessageGroupId": message.task_id,
                }
                for at, message in enumerate(batch)
            ]
            answer = await self._call(
                "sqs", "SendMessageBatch", QueueUrl=self._url, Entries=entries
            )
            batch = [batch[int(entry["Id"])] for entry in answer.get("Failed", [])]
            if not batch:
                return
        raise CallFailed("sqs", "SendMessageBatch", "Failed", f"{len(batch)} webhooks not queued")

    async def retry_later(self, receipt_handle: str, seconds: int) -> None:
        """Let a delivery that failed come back after `seconds`, not the visibility timeout."""
        try:
            await self._call(
                "sqs",
                "ChangeMessageVisibility",
                QueueUrl=self._url,
                ReceiptHandle=receipt_handle,
                VisibilityTimeout=seconds,
            )
        except CallFailed as failed:
            # An old receipt, or a message gone since: the visibility timeout stands instead.
            if failed.code == "ConnectionError":
                raise

    async def bury(self, body: str) -> None:
        """Put a delivery that failed for good among the dead letters."""
        await self._call("sqs", "SendMessage", QueueUrl=self._dead_letters_url, MessageBody=body)

    async def depths(self) -> dict[str, dict[str, int]]:
        """Approximate numbers of messages, as WorkQueue.depths tells its own."""
        depths = {}
        urls = (("webhooks", self._url), ("webhook_dead_letters", self._dead_letters_url))
        for name, url in urls:
            answer = await self._call(
                "sqs",
                "GetQueueAttributes",
                QueueUrl=url,
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


def _batches(messages: Sequence[HookMessage]) -> list[list[HookMessage]]:
    batches: list[list[HookMessage]] = []
    size = 0
    for message in messages:
        length = len(message.encode().encode())
        if not batches or len(batches[-1]) == BATCH_ENTRIES or size + length > BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(message)
        size += length
    return batches
