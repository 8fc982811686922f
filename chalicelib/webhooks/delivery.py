"""The delivery of one event to one task's webhook: what became of it so far. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.webhooks.message import WebhookMessage

#: The states of a delivery. A pending one is queued, or waits for its next try.
PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"


@dataclass(frozen=True)
class Delivery:
    """One event's delivery, as its HOOK#<seq> item holds it (webhooks/items.py).

    All times are epoch ms. `status`, `error` and `last_at` are those of the last try.
    """

    task_id: str
    #: The event's number in the task's audit trail, from 1.
    seq: int
    #: What the event is about, like task.completed.
    action: str
    event_id: str
    state: str = PENDING
    #: How many tries were made.
    tries: int = 0
    #: The HTTP status; 0 where no answer came.
    status: int = 0
    #: Why the try failed; "" where it did not.
    error: str = ""
    last_at: int = 0
    #: The id of the queue message that makes the next try; "" where there is none.
    carrier: str = ""
    #: When the next try is due, or when the claim of the running one ends; None before the first
    #: try, 0 after the last.
    next_at: int | None = None
    #: When the running try began; 0 where none is running.
    claimed_at: int = 0

    @classmethod
    def of(cls, message: WebhookMessage) -> Delivery:
        """The delivery of a message's event before its first try."""
        event = message.event
        return cls(message.task_id, message.seq, event["action"], event["id"])
