"""The push queue: updates on their way to WebSocket clients (live/updates.py), FIFO.

A stream is a message group: one invocation at a time works on it, in the order of its changes. Each
update has a deduplication id: a change that the table's stream delivers twice is pushed once.
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
    """Batches in order, with no stream twice in one batch.

    SQS may refuse one message of a batch and take a later one: a stream's updates would then change
    places.
    """
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
        # Hashed, because SQS's ids are short and ASCII: a symbol may be non-ASCII, an owner long.
        "MessageGroupId": _digest(update.stream),
        "MessageDeduplicationId": _digest(f"{update.stream} {update.about} {update.number}"),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
