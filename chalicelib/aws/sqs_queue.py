"""What the gateways of all queues share: whole batches, messages that come back later, the depth.

The answer to a batch may name failed entries although its status is 200. They are sent again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from chalicelib.aws.calls import batched
from chalicelib.core.backend import Call
from chalicelib.core.errors import CallFailed

#: SQS's limit of a batch.
BATCH_ENTRIES = 10
#: A batch may hold 1 MiB. It stays far below, so that one slow request delays the others less.
BATCH_BYTES = 200_000
_TRIES = 4
#: What ChangeMessageVisibility answers then, without the prefix "AWS.SimpleQueueService.". Source:
#: SQS API Reference; the last one is what it says of a message that has been deleted.
_RECEIPT_IS_OLD = ("MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidParameterValue")
_DEPTHS = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


class _Message(Protocol):
    def encode(self) -> str: ...


Message = TypeVar("Message", bound=_Message)


def batches(messages: Sequence[Message]) -> list[list[Message]]:
    """Messages in order, in batches that `SqsQueue.send` can send."""
    return batched(messages, lambda each: len(each.encode()), BATCH_ENTRIES, BATCH_BYTES)


class SqsQueue:
    def __init__(self, call: Call, url: str) -> None:
        self._call = call
        self._url = url

    async def send(self, entries: Sequence[dict[str, Any]]) -> list[int]:
        """Send a batch; the places of the entries that SQS refused in each try."""
        left = list(range(len(entries)))
        for _ in range(_TRIES):
            answer = await self._call(
                "sqs",
                "SendMessageBatch",
                QueueUrl=self._url,
                Entries=[{"Id": str(at), **entries[at]} for at in left],
            )
            left = sorted(int(entry["Id"]) for entry in answer.get("Failed", []))
            if not left:
                break
        return left

    async def retry_later(self, receipt_handle: str, seconds: int) -> None:
        """Let a message that this invocation fails come back after `seconds`.

        Where its receipt is old, the message is visible again, or gone, and nothing is to be done.
        Raises CallFailed; it then comes back after the queue's visibility timeout.
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
            if failed.code.rpartition(".")[2] not in _RECEIPT_IS_OLD:
                raise

    async def depth(self) -> dict[str, int]:
        """Approximate numbers of messages: visible, in_flight, delayed."""
        answer = await self._call(
            "sqs",
            "GetQueueAttributes",
            QueueUrl=self._url,
            AttributeNames=list(_DEPTHS.values()),
        )
        return {name: int(answer["Attributes"][found]) for name, found in _DEPTHS.items()}
