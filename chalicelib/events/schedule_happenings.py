"""What happened to schedules. Pure."""

from __future__ import annotations

from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.core.times import iso
from chalicelib.events.happening import MOST_NAMES, SYSTEM, Happening
from chalicelib.schedules.schedule import Schedule, schedule_change
from chalicelib.tasks import states
from chalicelib.work.request import CollectionRequest


def of_schedule(change: Change) -> list[Happening]:
    """A schedule that was made, changed, paused, deleted; fired, skipped, queued, missed, breached.

    Nothing for other items, nor where the item goes: its deletion happened when it was marked as
    removed.
    """
    schedules = schedule_change(change)
    if schedules is None:
        return []
    old, new = schedules
    if old is None:
        return [_happening(new, "created", by=new.by, after=_definition(new))]
    if new.removed:
        gone = _happening(new, "deleted", by=new.by, before=_definition(old))
        return [] if old.removed else [gone]
    return [*_changes(old, new), *_firings(old, new)]


def _changes(old: Schedule, new: Schedule) -> list[Happening]:
    """What its owner changed. `enabled` has actions of its own."""
    before, after = _definition(old), _definition(new)
    # By the schedules, not their definitions: those hold only the first symbols of a request.
    old_fields, new_fields = _chosen(old), _chosen(new)
    differing = [name for name in after if old_fields[name] != new_fields[name]]
    found = []
    if names := [name for name in differing if name != "enabled"]:
        parts = [{name: side[name] for name in names} for side in (before, after)]
        found.append(_happening(new, "changed", by=new.by, before=parts[0], after=parts[1]))
    if "enabled" in differing:
        found.append(_happening(new, "enabled" if new.enabled else "disabled", by=new.by))
    return found


def _firings(old: Schedule, new: Schedule) -> list[Happening]:
    """What the clock, the watch or a person did. One write may hold several of these."""
    found = []
    if new.missed > old.missed:
        data: dict[str, Any] = {
            "missed": new.missed - old.missed,
            "until": iso(new.accounted_until),
        }
        if new.last_refused_at != old.last_refused_at:
            data["reason"] = new.refusal
        found.append(_happening(new, "missed", data=data))
    if new.skipped > old.skipped:
        data = {"at": iso(new.last_skipped_at), "running": new.last_task_id}
        found.append(_happening(new, "skipped", by=states.BY_SCHEDULE, data=data))
    if new.last_task_id != old.last_task_id and new.runs > old.runs:
        data = {"task_id": new.last_task_id, "at": iso(new.last_run_at)}
        found.append(_happening(new, "fired", by=str(new.last_run_by), data=data))
    if new.queued_for not in (None, old.queued_for):
        data = {"at": iso(new.queued_for), "running": new.last_task_id}
        found.append(_happening(new, "queued", by=states.BY_SCHEDULE, data=data))
    if new.breaches > old.breaches:
        data = {
            "promised_seconds": new.max_lag_seconds,
            "repair_task_id": new.last_repair_task_id,
        }
        found.append(_happening(new, "breached", data=data))
    return found


def _happening(schedule: Schedule, what: str, by: str = SYSTEM, **more: Any) -> Happening:
    asked = by not in (SYSTEM, states.BY_SCHEDULE)
    return Happening(
        subject=f"schedule:{schedule.schedule_id}",
        action=f"schedule.{what}",
        by=by,
        request_id=schedule.request_id if asked else None,
        detail=schedule.name,
        owner=schedule.owner,
        **more,
    )


def _chosen(schedule: Schedule) -> dict[str, Any]:
    """What its owner chose, whole; the request with the host of its webhook, which stands apart."""
    return {
        "name": schedule.name,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "request": (schedule.request, schedule.webhook_host),
        "webhook_rev": schedule.webhook_rev,
        "overlap": schedule.overlap,
        "catch_up": schedule.catch_up,
        "max_lag_seconds": schedule.max_lag_seconds,
        "enabled": schedule.enabled,
    }


def _definition(schedule: Schedule) -> dict[str, Any]:
    """What its owner chose, with the first symbols of the request."""
    request = CollectionRequest.unpack(schedule.request)
    shown = {
        "webhook_host": schedule.webhook_host,
        "symbols": None if request.symbols is None else list(request.symbols[:MOST_NAMES]),
        "symbols_count": None if request.symbols is None else len(request.symbols),
        "timeframes": list(request.timeframes),
        "priority": request.priority,
    }
    return {**_chosen(schedule), "request": shown}
