"""Queues of what our code could not handle, kept whole until a person has it replayed or dropped.

StreamFailureQueue: stream records that broke our code (events/record.py, events/replay.py).
UnreadableQueue: queue messages that no code of ours wrote (functions/batches.py, and
`data-collector dead-letters`).

A message is {"v": 1, "source": the table or the queue, "error": text, "record": as Lambda sent it}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.core.backend import Call

VERSION = 1
_BATCH = 10
#: Without waiting, SQS asks only some of its servers and may find nothing in a filled queue. This
#: is less than our clients wait for an answer.
_WAIT_SECONDS = 2
_LONGEST_ERROR = 1000


@dataclass(frozen=True)
class SetAside:
    """A message of the queue."""

    #: SQS's handle, for deleting the message.
    receipt: str
    body: str
    #: The record that was set aside; None where no code of ours wrote the body.
    record: dict[str, Any] | None


class SetAsideQueue:
    def __init__(self, call: Call, url: str) -> None:
        self._call = call
        self._url = url

    async def put(self, source: str, record: Mapping[str, object], error: str) -> None:
        """Keep a record as Lambda sent it. Raises CallFailed."""
        body = {
            "v": VERSION,
            "source": source,
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


def _record(body: str) -> dict[str, Any] | None:
    try:
        content = json.loads(body)
        if content["v"] == VERSION and isinstance(content["record"], dict):
            record: dict[str, Any] = content["record"]
            return record
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None
