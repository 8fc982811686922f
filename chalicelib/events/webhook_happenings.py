"""What happened to webhook deliveries. Pure."""

from __future__ import annotations

from chalicelib.aws.stream import Change
from chalicelib.events.happening import SYSTEM, Happening
from chalicelib.webhooks.delivery import DELIVERED, FAILED
from chalicelib.webhooks.items import delivery_change


def of_webhook(change: Change) -> list[Happening]:
    """An event that reached its task's webhook, or was given up; [] for all other changes."""
    deliveries = delivery_change(change)
    if deliveries is None:
        return []
    before, after = deliveries
    state_before = before.state if before else None
    if after.state == state_before or after.state not in (DELIVERED, FAILED):
        return []
    return [
        Happening(
            subject=f"task:{after.task_id}",
            action=f"webhook.{after.state}",
            by=SYSTEM,
            before=state_before,
            after=after.state,
            detail=after.error,
            data={
                "event_id": after.event_id,
                "event_action": after.action,
                "tries": after.tries,
                "status": after.status,
                "error": after.error,
            },
        )
    ]
