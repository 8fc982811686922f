"""StreamFailureQueue: stream records that broke our code, kept whole until they are replayed.

{"v": 1, "table": "tasks" | "market", "error": text, "record": the record as Lambda sent it}
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from chalicelib.core.backend import Backend

VERSION = 1
_BATCH = 10
#: Without waiting, SQS asks only some of its servers, and finds nothing beside a filled queue. Less
#: than the clients wait for an answer.
_WAIT_SECONDS = 2


class SetAside(NamedTuple):
    """A message; `record` is None where no code of ours wrote it."""

    receipt: str
    body: str
    record: dict[str, Any] | None


class FailureQueue:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._url = backend.settings.stream_failure_queue_url

    async def put(self, table: str, record: dict[str, Any], error: str) -> None:
        body = {"v": VERSION, "table": table, "error": error[:1000], "record": record}
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
        if content["v"] == VERSION and isinstance(content["record"]["dynamodb"], dict):
            record: dict[str, Any] = content["record"]
            return record
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None
