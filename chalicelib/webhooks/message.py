"""The queue message that takes one event to one task's webhook. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypedDict

from chalicelib.core.errors import PoisonMessage


class OutgoingEvent(TypedDict):
    """The fields of a published event (docs/EVENTS.md) that a delivery reads.

    An event has more fields. They are sent on as they are.
    """

    id: str
    action: str
    #: ISO 8601, UTC.
    at: str


@dataclass(frozen=True)
class WebhookMessage:
    """One event on its way to one task's webhook.

    `seq` is the event's number in the task's audit trail, from 1.
    """

    task_id: str
    seq: int
    event: OutgoingEvent

    def encode(self) -> str:
        """The queue body: JSON in ASCII.

        SQS refuses a few characters that the exchange's texts may hold. One event that cannot be
        queued would hold up the whole stream.
        """
        return json.dumps(
            {"v": 1, "task_id": self.task_id, "seq": self.seq, "event": self.event},
            separators=(",", ":"),
        )


def decode(body: str) -> WebhookMessage:
    """The message of a queue body. Raises PoisonMessage for a body that `encode` never wrote."""
    try:
        fields: dict[str, Any] = json.loads(body)
        if fields["v"] != 1:
            raise ValueError("version")
        message = WebhookMessage(fields["task_id"], fields["seq"], fields["event"])
        if not isinstance(message.task_id, str) or not isinstance(message.seq, int):
            raise TypeError("fields")
        for name in OutgoingEvent.__annotations__:
            fields["event"][name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PoisonMessage(f"no message of a webhook: {error!r}") from error
    return message
