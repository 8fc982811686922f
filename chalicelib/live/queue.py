"""The push queue: updates on their way to WebSocket clients (live/updates.py), FIFO.

A stream is a message group: one invocation at a time works on it, in the order in which it changed.
An id of its own keeps a change that the table's stream tells twice from being pushed twice.
"""

from __future__ import annotations

import hashlib
from typing import Any

from chalicelib.aws.sqs_queue import BATCH_BYTES, BATCH_ENTRIES, SqsQueue
from chalicelib.core.backend import Backend
from chalicelib.live.updates import Update


class PushQueue:
    def __init__(self, backend: Backend) -> None:
        self._queue = SqsQueue(backend.call, backend.settings.push_queue_url)

    async def send(self, updates: list[Update]) -> list[Update]:
        """Send in order; returns those that SQS refused, again and again. Raises CallFailed."""
        unsent: list[Update] = []
        for batch in _batches(updates):
            unsent += [batch[at] for at in await self._queue.send([*map(_entry, batch)])]
        return unsent

    async def retry_later(self, receipt_handle: str, seconds: int) -> None:
        """As SqsQueue.retry_later."""
        await self._queue.retry_later(receipt_handle, seconds)


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


def _entry(update: Update) -> dict[str, Any]:
    return {
        "MessageBody": update.encode(),
        # Hashed: a symbol may be non-ASCII and an owner long, which SQS's ids may not.
        "MessageGroupId": _digest(update.stream),
        "MessageDeduplicationId": _digest(f"{update.stream} {update.about} {update.number}"),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
