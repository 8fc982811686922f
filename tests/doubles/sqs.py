"""SQS queues in memory: visibility, delay, receive counts, redrive, partial failures; of FIFO
queues also the order of a message group and five minutes of deduplication (per group)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from chalicelib.core.errors import CallFailed
from tests.doubles.clock import Clock

_MOST_BYTES = 1024 * 1024
_SAME_MS = 300_000
#: What FIFO queues accept as a group or deduplication id (SQS API Reference, SendMessage).
_FIFO_ID = re.compile("[a-zA-Z0-9!-/:-@[-`{-~]{1,128}")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Message:
    """`visible_at` in epoch ms; `receipt` is the latest receipt handle, "" before the first."""

    id: str
    body: str
    sent_at: int
    visible_at: int
    delayed: bool
    group: str | None = None
    receives: int = 0
    receipt: str = ""


@dataclass
class Queue:
    """`refuse_next`: so many entries of the next batches come back as Failed.

    `missed_polls`: so many of the next short polls find nothing, whatever is there: SQS asks only
    some of its servers then (SQS Developer Guide, "Amazon SQS short and long polling").

    `seen`, of a FIFO queue: (group, deduplication id) -> when it was sent, and as which message.
    """

    visibility_seconds: int = 30
    max_receives: int | None = None
    dead_letters: str | None = None
    messages: list[Message] = field(default_factory=list)
    refuse_next: int = 0
    missed_polls: int = 0
    fifo: bool = False
    #: Off where no function takes what is in it, only a person would.
    consumed: bool = True
    seen: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)


class Sqs:
    def __init__(self, clock: Clock, queues: dict[str, Queue]) -> None:
        self.queues = queues
        self._clock = clock
        self._number = 0

    def apply(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, f"_{operation}")(**parameters)
        return answer

    # --- what the collector calls -------------------------------------------------------------

    def _SendMessage(
        self,
        QueueUrl: str,
        MessageBody: str,
        DelaySeconds: int = 0,
        MessageGroupId: str | None = None,
    ) -> dict[str, Any]:
        queue = self._queue("SendMessage", QueueUrl)
        self._check(MessageBody, DelaySeconds)
        return {"MessageId": self._put(queue, MessageBody, DelaySeconds, MessageGroupId).id}

    def _SendMessageBatch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        operation = "SendMessageBatch"
        queue = self._queue(operation, QueueUrl)
        if not Entries:
            raise _failed(operation, "AWS.SimpleQueueService.EmptyBatchRequest", "no entries")
        if len(Entries) > 10:
            raise _failed(operation, "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", "> 10")
        if len({entry["Id"] for entry in Entries}) != len(Entries):
            raise _failed(operation, "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "twice")
        if sum(len(entry["MessageBody"].encode()) for entry in Entries) > _MOST_BYTES:
            raise _failed(operation, "AWS.SimpleQueueService.BatchRequestTooLong", "too long")
        answer: dict[str, list[dict[str, Any]]] = {"Successful": [], "Failed": []}
        for entry in Entries:
            if queue.refuse_next:
                queue.refuse_next -= 1
                answer["Failed"].append(
                    {"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"}
                )
                continue
            self._check(entry["MessageBody"], entry.get("DelaySeconds", 0))
            sent = self._send_fifo(queue, entry) if queue.fifo else self._send(queue, entry)
            answer["Successful"].append({"Id": entry["Id"], "MessageId": sent})
        return {name: entries for name, entries in answer.items() if entries}

    def _ChangeMessageVisibility(
        self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int
    ) -> dict[str, Any]:
        operation = "ChangeMessageVisibility"
        queue = self._queue(operation, QueueUrl)
        if not 0 <= VisibilityTimeout <= 43_200:
            raise _failed(operation, "InvalidParameterValue", f"visibility {VisibilityTimeout}")
        for message in queue.messages:
            if message.receipt and message.receipt == ReceiptHandle:
                if message.visible_at <= self._clock():
                    raise _failed(operation, "MessageNotInflight", "visible again")
                message.visible_at = self._clock() + VisibilityTimeout * 1000
                return {}
        raise _failed(operation, "InvalidParameterValue", "the receipt handle is not valid")

    def _GetQueueAttributes(self, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        queue, now_ms = self._queue("GetQueueAttributes", QueueUrl), self._clock()
        hidden = [message for message in queue.messages if message.visible_at > now_ms]
        counts = {
            "ApproximateNumberOfMessages": len(queue.messages) - len(hidden),
            "ApproximateNumberOfMessagesNotVisible": sum(not m.delayed for m in hidden),
            "ApproximateNumberOfMessagesDelayed": sum(m.delayed for m in hidden),
        }
        return {"Attributes": {name: str(counts[name]) for name in AttributeNames}}

    def _ReceiveMessage(
        self, QueueUrl: str, MaxNumberOfMessages: int = 1, WaitTimeSeconds: int = 0
    ) -> dict[str, Any]:
        queue = self._queue("ReceiveMessage", QueueUrl)
        if not 1 <= MaxNumberOfMessages <= 10:
            raise _failed("ReceiveMessage", "InvalidParameterValue", "1 to 10 messages")
        if not 0 <= WaitTimeSeconds <= 20:
            raise _failed("ReceiveMessage", "InvalidParameterValue", "0 to 20 seconds")
        if queue.missed_polls and not WaitTimeSeconds:
            queue.missed_polls -= 1
            return {}
        records = self.receive(QueueUrl, MaxNumberOfMessages)
        shown = {"MessageId": "messageId", "ReceiptHandle": "receiptHandle", "Body": "body"}
        messages = [{name: record[at] for name, at in shown.items()} for record in records]
        return {"Messages": messages} if messages else {}

    def _DeleteMessage(self, QueueUrl: str, ReceiptHandle: str) -> dict[str, Any]:
        self._queue("DeleteMessage", QueueUrl)
        self.delete(QueueUrl, ReceiptHandle)
        return {}

    # --- what Lambda's event source mapping does ----------------------------------------------

    def receive(self, url: str, most: int = 10) -> list[dict[str, Any]]:
        """Receive visible messages, in the form in which Lambda's event carries them.

        A message received max_receives times already goes to the dead letters instead.
        """
        queue, now_ms = self.queues[url], self._clock()
        if not queue.messages:
            return []
        records: list[dict[str, Any]] = []
        locked = {message.group for message in queue.messages if message.visible_at > now_ms}
        for message in [m for m in queue.messages if m.visible_at <= now_ms]:
            if len(records) == most:
                break
            if queue.fifo and message.group in locked:
                continue
            if queue.max_receives is not None and message.receives >= queue.max_receives:
                queue.messages.remove(message)
                message.receipt = ""
                self.queues[str(queue.dead_letters)].messages.append(message)
                continue
            self._number += 1
            message.receives += 1
            message.receipt = f"receipt-{self._number}"
            message.visible_at = now_ms + queue.visibility_seconds * 1000
            message.delayed = False
            records.append(
                {
                    "messageId": message.id,
                    "receiptHandle": message.receipt,
                    "body": message.body,
                    "attributes": {
                        "ApproximateReceiveCount": str(message.receives),
                        "SentTimestamp": str(message.sent_at),
                    },
                    "messageAttributes": {},
                    "eventSource": "aws:sqs",
                }
            )
        return records

    def delete(self, url: str, receipt: str) -> None:
        """Acknowledge; an outdated receipt does nothing."""
        queue = self.queues[url]
        queue.messages = [message for message in queue.messages if message.receipt != receipt]

    def bodies(self, url: str) -> list[str]:
        """The bodies of all messages in a queue, hidden ones too."""
        return [message.body for message in self.queues[url].messages]

    def next_visible_at(self) -> int | None:
        """When the first message that is consumed can be received; None where none is left."""
        consumed = [queue for queue in self.queues.values() if queue.consumed]
        times = [_free_at(queue, message) for queue in consumed for message in queue.messages]
        return min(times, default=None)

    def _send(self, queue: Queue, entry: dict[str, Any]) -> str:
        body, delay = entry["MessageBody"], entry.get("DelaySeconds", 0)
        return self._put(queue, body, delay, entry.get("MessageGroupId")).id

    def _send_fifo(self, queue: Queue, entry: dict[str, Any]) -> str:
        """Its message, or the one that was sent under the same id within five minutes."""
        ids = (entry["MessageGroupId"], entry["MessageDeduplicationId"])
        if not all(_FIFO_ID.fullmatch(one) for one in ids) or "DelaySeconds" in entry:
            raise _failed("SendMessageBatch", "InvalidParameterValue", f"ids {ids}, or a delay")
        sent_at, message_id = queue.seen.get(ids, (-_SAME_MS, ""))
        if self._clock() - sent_at < _SAME_MS:
            return message_id
        message_id = self._send(queue, entry)
        queue.seen[ids] = self._clock(), message_id
        return message_id

    def _put(self, queue: Queue, body: str, delay_seconds: int, group: str | None) -> Message:
        self._number += 1
        now_ms = self._clock()
        message = Message(
            f"message-{self._number}",
            body,
            now_ms,
            now_ms + delay_seconds * 1000,
            delay_seconds > 0,
            group,
        )
        queue.messages.append(message)
        return message

    def _check(self, body: str, delay_seconds: int) -> None:
        if not body or _FORBIDDEN.search(body):
            raise _failed("SendMessage", "InvalidMessageContents", "characters not allowed")
        if len(body.encode()) > _MOST_BYTES or not 0 <= delay_seconds <= 900:
            raise _failed("SendMessage", "InvalidParameterValue", "body or delay too large")

    def _queue(self, operation: str, url: str) -> Queue:
        if url not in self.queues:
            raise _failed(operation, "AWS.SimpleQueueService.NonExistentQueue", url)
        return self.queues[url]


def _free_at(queue: Queue, message: Message) -> int:
    """When a message can be received: of a FIFO queue not while one of its group is hidden."""
    group = [other for other in queue.messages if queue.fifo and other.group == message.group]
    return max(other.visible_at for other in [message, *group])


def _failed(operation: str, code: str, message: str) -> CallFailed:
    return CallFailed("sqs", operation, code, message)
