"""What the audit trail records of webhook deliveries."""

from __future__ import annotations

from chalicelib.aws.stream import Change
from chalicelib.events.happening import SYSTEM, Happening


def of_webhook(change: Change) -> list[Happening]:
    """A HOOK#<seq> item: an event that reached its task's webhook, or was given up."""
    old, new = change.old, change.new
    if not new or not (change.pk.startswith("TASK#") and change.sk.startswith("HOOK#")):
        return []
    if new["state"] == old.get("state") or new["state"] not in ("delivered", "failed"):
        return []
    return [
        Happening(
            subject=f"task:{new['task_id']}",
            action=f"webhook.{new['state']}",
            by=SYSTEM,
            before=old.get("state"),
            after=new["state"],
            detail=new["error"],
            data={
                "event_id": new["event_id"],
                "event_action": new["action"],
                "tries": new["tries"],
                "status": new["status"],
                "error": new["error"],
            },
        )
    ]
