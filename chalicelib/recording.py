"""From the Tasks stream: the audit trail, then whoever listens, outside and over WebSockets."""

from __future__ import annotations

from typing import Any

from chalicelib.announcing import announce
from chalicelib.changes import Change, change_of
from chalicelib.happenings import Happening, of_change
from chalicelib.logs import log
from chalicelib.measuring import measure_changes
from chalicelib.publishing import publish
from chalicelib.wiring import Desk


async def record_task_changes(desk: Desk, records: list[dict[str, Any]]) -> None:
    """Audit what happened in a batch, then tell those who listen.

    Safe to repeat: an audit event's key is its stream sequence number. Raises CallFailed where the
    trail could not be written, so that the batch comes again.
    """
    changes = [change_of(record) for record in records]
    events = []
    for change in changes:
        for happening in of_change(change):
            events.append(await _record(desk, change, happening))
    measure_changes(changes)
    await publish(desk, events)
    await announce(desk, changes)


async def _record(desk: Desk, change: Change, happening: Happening) -> dict[str, Any]:
    if happening.subject.startswith("task:"):
        log(
            "happened",
            task_id=happening.subject[5:],
            attempt=happening.attempt,
            action=happening.action,
        )
    event = {**vars(happening)}
    subject = event.pop("subject")
    await desk.audit.append(
        subject.removeprefix("task:"),
        change.sequence,
        change.at_ms,
        desk.settings.audit_retention_days,
        event,
    )
    return event
