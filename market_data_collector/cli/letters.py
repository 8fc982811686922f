"""Messages that no code could read: UnreadableQueue of a stack, reached with AWS credentials.

What is in them may be anybody's, so the API does not show them. A message is {"v": 1, "source":
queue, "error": text, "record": as Lambda sent it} (chalicelib/aws/set_aside.py).
"""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from market_data_collector.cli.stack import Stack
from market_data_collector.cli.values import record

#: Where a message goes back to: its source -> the stack's output that has the queue's URL.
QUEUES = {
    "plan": "PlanQueue",
    "urgent": "UrgentQueue",
    "work": "WorkQueue",
    "dead_letters": "DeadLetterQueue",
}
#: Seconds for which what is received stays hidden from others. It is given back before, unless the
#: command dies.
_HIDDEN_SECONDS = 60
#: Without waiting, SQS asks only some of its servers.
WAIT_SECONDS = 1


@dataclass(frozen=True)
class Letter:
    """A message of UnreadableQueue; `set_aside` None: nothing of ours has put it there."""

    message_id: str
    receipt: str
    at_ms: int
    body: str
    set_aside: dict[str, Any] | None

    def view(self) -> dict[str, Any]:
        """For people and machines: `message` is what was set aside, as Lambda sent it."""
        content = self.set_aside or {}
        return {
            "id": self.message_id,
            "set_aside_at": datetime.fromtimestamp(self.at_ms / 1000, UTC).isoformat(),
            "source": content.get("source"),
            "error": content.get("error", "it was not set aside by the collector"),
            "message": content.get("record", {"body": self.body}),
        }


class DeadLetters:
    """UnreadableQueue of a stack, and the queues that its messages came from."""

    def __init__(self, stack: str | None) -> None:
        there = Stack.named(stack)
        self._dropped: list[Letter] = []
        self._sqs = there.client("sqs")
        self._urls = there.outputs
        if "UnreadableQueue" not in self._urls:
            raise click.UsageError(
                f"The stack {there.name} has no UnreadableQueue: deploy it again."
            )

    @contextmanager
    def received(self) -> Iterator[list[Letter]]:
        """All messages, oldest first; those that are still there afterwards can be received again.

        Two commands at once share them: each sees only a part.
        """
        found: dict[str, Letter] = {}
        try:
            while messages := self._receive():
                before = len(found)
                found |= {letter.message_id: letter for letter in map(_letter, messages)}
                if len(found) == before:
                    break
            yield sorted(found.values(), key=lambda letter: letter.at_ms)
        finally:
            for letter in found.values():
                if letter not in self._dropped:
                    self._give_back(letter)

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._urls["UnreadableQueue"],
            MaxNumberOfMessages=10,
            AttributeNames=["SentTimestamp"],
            VisibilityTimeout=_HIDDEN_SECONDS,
            WaitTimeSeconds=WAIT_SECONDS,
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _give_back(self, letter: Letter) -> None:
        self._sqs.change_message_visibility(
            QueueUrl=self._urls["UnreadableQueue"],
            ReceiptHandle=letter.receipt,
            VisibilityTimeout=0,
        )

    def drop(self, letter: Letter) -> None:
        """Delete a message for good."""
        self._sqs.delete_message(
            QueueUrl=self._urls["UnreadableQueue"], ReceiptHandle=letter.receipt
        )
        self._dropped.append(letter)

    def replay(self, letter: Letter) -> None:
        """Put a message back into its queue, as it was, and delete it here. Where the second step
        fails it is in both, which does no harm."""
        content = letter.set_aside or {}
        url = self._urls.get(QUEUES.get(str(content.get("source")), ""))
        was = record(content.get("record"))
        if url is None or not isinstance(was.get("body"), str):
            raise click.UsageError(
                f"It is not known what {letter.message_id} was, or where it came from."
            )
        group = record(was.get("attributes")).get("MessageGroupId")
        self._sqs.send_message(
            QueueUrl=url,
            MessageBody=was["body"],
            MessageAttributes={
                name: _attribute(record(value))
                for name, value in record(was.get("messageAttributes")).items()
            },
            **({"MessageGroupId": group} if group else {}),
        )
        self.drop(letter)


def _letter(message: Mapping[str, Any]) -> Letter:
    try:
        content = json.loads(message["Body"])
        ours = isinstance(content, dict) and isinstance(content.get("record"), dict)
    except (ValueError, RecursionError):
        ours = False
    return Letter(
        message["MessageId"],
        message["ReceiptHandle"],
        int(message.get("Attributes", {}).get("SentTimestamp", 0)),
        message["Body"],
        content if ours else None,
    )


def _attribute(sent: Mapping[str, Any]) -> dict[str, Any]:
    """A message's attribute as SQS takes it, from how Lambda shows it."""
    value: dict[str, Any] = {"DataType": sent["dataType"]}
    if sent.get("stringValue") is not None:
        value["StringValue"] = sent["stringValue"]
    if sent.get("binaryValue") is not None:
        value["BinaryValue"] = base64.b64decode(sent["binaryValue"])
    return value
