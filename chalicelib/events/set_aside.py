"""StreamFailureQueue: stream records that broke our code, kept whole until they are replayed.

A message is {"v": 1, "table": "tasks" | "market", "error": text, "record": as Lambda sent it}. With
two images of 400 KB, and their binary values as base64, a record may be larger than a message. Then
it goes without its images, and "cut": true says so. It shows a person which change it was, but it
cannot be replayed.

Sources: DynamoDB Developer Guide, "Quotas" (an item's size); SQS Developer Guide, "Message quotas".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from chalicelib.aws.stream import StreamRecord
from chalicelib.core.backend import Backend

VERSION = 1
_BATCH = 10
#: Without waiting, SQS asks only some of its servers and may find nothing in a filled queue. This
#: is less than our clients wait for an answer.
_WAIT_SECONDS = 2
_LONGEST_ERROR = 1000
#: SQS's limit of a message, in bytes.
LARGEST_BODY = 1_048_576
_IMAGES = ("OldImage", "NewImage")


class _Body(TypedDict):
    v: int
    table: str
    error: str
    record: StreamRecord
    cut: NotRequired[bool]


@dataclass(frozen=True)
class SetAside:
    """A message of the queue."""

    #: SQS's handle, for deleting the message.
    receipt: str
    body: str
    #: The record that was set aside; None where it was cut, or no code of ours wrote the body.
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
        text = _text(body)
        if len(text) > LARGEST_BODY:
            change = {
                name: part for name, part in record["dynamodb"].items() if name not in _IMAGES
            }
            text = _text({**body, "record": {**record, "dynamodb": change}, "cut": True})
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


def _text(body: _Body) -> str:
    """JSON in ASCII: as many bytes as characters."""
    return json.dumps(body, separators=(",", ":"))


def _record(body: str) -> StreamRecord | None:
    try:
        content: _Body = json.loads(body)
        whole = content["v"] == VERSION and not content.get("cut")
        if whole and isinstance(content["record"]["dynamodb"], dict):
            return content["record"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None
