"""StreamFailureQueue: stream records that broke our code, kept whole until they are replayed.

A message is {"v": 1, "table": "tasks" | "market", "error": text, "record": as Lambda sent it}.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypedDict

from chalicelib.aws.stream import StreamRecord
from chalicelib.core.backend import Backend

VERSION = 1
_BATCH = 10
#: Without waiting, SQS asks only some of its servers and may find nothing in a filled queue. This
#: is less than our clients wait for an answer.
_WAIT_SECONDS = 2
_LONGEST_ERROR = 1000


class _Body(TypedDict):
    v: int
    table: str
    error: str
    record: StreamRecord


@dataclass(frozen=True)
class SetAside:
    """A message of the queue."""

    #: SQS's handle, for deleting the message.
    receipt: str
    body: str
    #: The record that was set aside; None where no code of ours wrote the body.
    record: StreamRecord | None


class SetAsideQueue:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._url = backend.settings.stream_failure_queue_url

    async def put(self, table: str, record: StreamRecord, error: str) -> None:
        body: _Body = {
            "v": VERSION,
            "table": table,
            "error": error[:_LONGEST_ERROR],
            "record": record,
        }
        await self._call(
            "sqs",
            "SendMessage",
            QueueUrl=self._url,
            MessageBody=json.dumps(body, separators=(",", ":")),
        )

    async def take(self) -> list[SetAside]:
        """Some messages, hidden from others for the queue's visibility timeout; [] at the end."""
        answer = await self._call(
            "sqs",
            "ReceiveMessage",
            QueueUrl=self._url,
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=_WAIT_SECONDS,
        )
        return [
            SetAside(message["ReceiptHandle"], message["Body"], _record(message["Body"]))
            for message in answer.get("Messages", [])
        ]

    async def done(self, message: SetAside) -> None:
        await self._call("sqs", "DeleteMessage", QueueUrl=self._url, ReceiptHandle=message.receipt)


def _record(body: str) -> StreamRecord | None:
    try:
        content: _Body = json.loads(body)
        if content["v"] == VERSION and isinstance(content["record"]["dynamodb"], dict):
            return content["record"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None
