"""The push queue: updates on their way to WebSocket clients (updates.py), FIFO.

A stream is a message group: one invocation at a time works on it, in the order in which it changed.
An id of its own keeps a change that the table's stream tells twice from being pushed twice.
"""

from __future__ import annotations

import hashlib
from typing import Any

from chalicelib.errors import CallFailed
from chalicelib.gateways.aws import Call
from chalicelib.updates import Update

#: SQS's limit of a batch, and far below its limit of 1 MiB.
BATCH_ENTRIES = 10
BATCH_BYTES = 200_000
_TRIES = 4


class PushQueue:
    def __init__(self, call: Call, url: str) -> None:
        self._call = call
        self._url = url

    async def send(self, updates: list[Update]) -> list[Update]:
        """Send in order; returns those that SQS refused, again and again. Raises CallFailed."""
        unsent: list[Update] = []
        for batch in _batches(updates):
            for _ in range(_TRIES):
                entries = [_entry(at, update) for at, update in enumerate(batch)]
                answer = await self._call(
                    "sqs", "SendMessageBatch", QueueUrl=self._url, Entries=entries
                )
                batch = [batch[int(entry["Id"])] for entry in answer.get("Failed", [])]
                if not batch:
                    break
            unsent += batch
        return unsent

    async def retry_later(self, receipt_handle: str, seconds: int) -> None:
        """Let a message that this invocation fails come back after `seconds`.

        Without it, it comes back after the queue's visibility timeout.
        """
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


def _batches(updates: list[Update]) -> list[list[Update]]:
    """In order, and no stream twice in a batch: of a batch SQS may refuse the first and take the
    second, and a stream's updates would change places."""
    batches: list[list[Update]] = []
    sizes: list[int] = []
    after: dict[str, int] = {}
    for update in updates:
        length = len(update.encode())
        at = after.get(update.stream, 0)
        while at < len(batches) and (
            len(batches[at]) == BATCH_ENTRIES or sizes[at] + length > BATCH_BYTES
        ):
            at += 1
        if at == len(batches):
            batches.append([])
            sizes.append(0)
        batches[at].append(update)
        sizes[at] += length
        after[update.stream] = at + 1
    return batches


def _entry(at: int, update: Update) -> dict[str, Any]:
    return {
        "Id": str(at),
        "MessageBody": update.encode(),
        # Hashed: a symbol may be non-ASCII and an owner long, which SQS's ids may not.
        "MessageGroupId": _digest(update.stream),
        "MessageDeduplicationId": _digest(f"{update.stream} {update.about} {update.number}"),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
