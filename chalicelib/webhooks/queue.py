"""The queue of events on their way to webhooks, and its dead letters.

Bodies are those of webhooks/message.py. They hold neither the URL nor the secret.

An event that failed for good is put among the dead letters by our own code, so that it is there at
once. The queue's redrive policy is only for messages that kill the function.
"""

from __future__ import annotations

from collections.abc import Sequence

from chalicelib.aws.sqs_queue import SqsQueue, batches
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.webhooks.message import WebhookMessage


class WebhookQueue:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._queue = SqsQueue(backend.call, backend.settings.webhook_queue_url)
        self._dead_letters_url = backend.settings.webhook_dead_letter_queue_url
        self._dead_letters = SqsQueue(backend.call, self._dead_letters_url)

    async def send(self, messages: Sequence[WebhookMessage]) -> None:
        """Queue deliveries. Raises CallFailed where some could not be queued."""
        for batch in batches(messages):
            # Fair queues: one task's many failures do not keep another's end waiting.
            unsent = await self._queue.send(
                [
                    {"MessageBody": message.encode(), "MessageGroupId": message.task_id}
                    for message in batch
                ]
            )
            if unsent:
                detail = f"{len(unsent)} webhooks not queued"
                raise CallFailed("sqs", "SendMessageBatch", "Failed", detail)

    async def put_off(self, message: WebhookMessage, seconds: int) -> None:
        """Queue a delivery that has to wait, for at most 15 minutes; its record is then done with.

        Not by the record's visibility: each receive brings it nearer to the dead letters.
        """
        entry = {"MessageBody": message.encode(), "MessageGroupId": message.task_id}
        if await self._queue.send([{**entry, "DelaySeconds": min(seconds, 900)}]):
            raise CallFailed("sqs", "SendMessageBatch", "Failed", "a webhook was not put off")

    async def retry_later(self, receipt_handle: str, seconds: int) -> None:
        """Let a delivery that failed come back after `seconds`, not the visibility timeout."""
        await self._queue.retry_later(receipt_handle, seconds)

    async def bury(self, body: str) -> None:
        """Put a delivery that failed for good among the dead letters."""
        await self._call("sqs", "SendMessage", QueueUrl=self._dead_letters_url, MessageBody=body)

    async def depths(self) -> dict[str, dict[str, int]]:
        """Approximate numbers of messages, in the form of WorkQueue.depths."""
        return {
            "webhooks": await self._queue.depth(),
            "webhook_dead_letters": await self._dead_letters.depth(),
        }
