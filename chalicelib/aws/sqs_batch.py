"""A batch of queue messages as Lambda hands it to a function, and the function's answer.

Source: AWS Lambda Developer Guide, "Using Lambda with Amazon SQS". The times and counts among a
record's attributes are texts.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Record(TypedDict):
    """One message. `attributes` holds ApproximateReceiveCount (how often SQS handed it out),
    SentTimestamp (when SQS took it, epoch ms) and others."""

    messageId: str
    receiptHandle: str
    body: str
    attributes: dict[str, str]
    eventSourceARN: NotRequired[str]


class Batch(TypedDict):
    Records: list[Record]


class Failure(TypedDict):
    itemIdentifier: str


class BatchAnswer(TypedDict):
    """Names the messages that failed. SQS hands those out again, and deletes all others."""

    batchItemFailures: list[Failure]


def answer(failed: list[str]) -> BatchAnswer:
    """The answer that names these message ids as failed."""
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
