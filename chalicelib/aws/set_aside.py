"""Queues of what our code could not handle, kept whole until a person has it replayed or dropped.

StreamFailureQueue: stream records that broke our code (events/record.py, events/replay.py).
UnreadableQueue: queue messages that no code of ours wrote (functions/records.py, and
`data-collector dead-letters`).

A message is {"v": 1, "source": the table or the queue, "error": text, "record": as Lambda sent it}.
A stream's record may be larger than a message: two images of 400 KB, with their binary values as
base64. Then it goes without its images, and "cut": true says so. It shows a person which change it
was, but it cannot be replayed. A queue's message always fits: its queue takes 64 KiB (infra).

Sources: DynamoDB Developer Guide, "Quotas" (an item's size); SQS Developer Guide, "Message quotas".
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
#: SQS's limit of a message, in bytes.
LARGEST_BODY = 1_048_576
_IMAGES = ("OldImage", "NewImage")


@dataclass(frozen=True)
class SetAside:
    """A message of the queue."""

    #: SQS's handle, for deleting the message.
    receipt: str
    body: str
    #: The record that was set aside; None where it was cut, or no code of ours wrote the body.
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
        text = _text(body)
        if len(text) > LARGEST_BODY:
            text = _text({**body, "record": _cut(record), "cut": True})
        await self._call("sqs", "SendMessage", QueueUrl=self._url, MessageBody=text)

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


def _text(body: dict[str, Any]) -> str:
    """JSON in ASCII: as many bytes as characters."""
    return json.dumps(body, separators=(",", ":"))


def _cut(record: Mapping[str, Any]) -> dict[str, Any]:
    """A stream's record without its images."""
    change = {name: part for name, part in record["dynamodb"].items() if name not in _IMAGES}
    return {**record, "dynamodb": change}


def _record(body: str) -> dict[str, Any] | None:
    try:
        content = json.loads(body)
        whole = content["v"] == VERSION and not content.get("cut")
        if whole and isinstance(content["record"], dict):
            record: dict[str, Any] = content["record"]
            return record
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None
