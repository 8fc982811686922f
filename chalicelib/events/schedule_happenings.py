"""What happened to schedules. Pure."""

from __future__ import annotations

from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.core.times import iso
from chalicelib.events.happening import MOST_NAMES, SYSTEM, Happening, Item
from chalicelib.tasks import states
from chalicelib.work.request import CollectionRequest

#: What a person chooses of a schedule; `enabled` has actions of its own.
_CHOSEN = (
    *("name", "expression", "timezone", "request", "webhook_rev", "overlap", "catch_up"),
    "max_lag_seconds",
)


def of_schedule(change: Change) -> list[Happening]:
    """A SCHED item: made, changed, paused, deleted; fired, skipped, queued, missed, breached."""
    if not change.sk.startswith("SCHED#"):
        return []
    old, new = change.old, change.new
    if not new:
        return []  # its deletion happened when it was marked as removed
    if not old:
        return [_schedule(change, "created", by=str(new["by"]), after=_definition(new))]
    if new.get("removed"):
        gone = _schedule(change, "deleted", by=str(new["by"]), before=_definition(old))
        return [] if old.get("removed") else [gone]
    return [*_schedule_changes(change), *_firings(change)]


def _schedule_changes(change: Change) -> list[Happening]:
    before, after = _definition(change.old), _definition(change.new)
    # By the items, not their definitions: those hold only the first symbols of a request.
    chosen = [_choices(item) for item in (change.old, change.new)]
    differing = [name for name in after if chosen[0][name] != chosen[1][name]]
    by, found = str(change.new["by"]), []
    if changed := [name for name in differing if name != "enabled"]:
        parts = [{name: side[name] for name in changed} for side in (before, after)]
        found.append(_schedule(change, "changed", by=by, before=parts[0], after=parts[1]))
    if "enabled" in differing:
        found.append(_schedule(change, "enabled" if after["enabled"] else "disabled", by=by))
    return found


def _firings(change: Change) -> list[Happening]:
    """What the clock, the watch or a person did; more than one of it may be in one write."""
    old, new = change.old, change.new
    found = []
    if new["missed"] > old["missed"]:
        data = {"missed": new["missed"] - old["missed"], "until": iso(new["accounted_until"])}
        found.append(_schedule(change, "missed", data=data))
    if new["skipped"] > old["skipped"]:
        data = {"at": iso(new["last_skipped_at"]), "running": new.get("last_task_id")}
        found.append(_schedule(change, "skipped", by=states.BY_SCHEDULE, data=data))
    if new.get("last_task_id") != old.get("last_task_id"):
        by = str(new["last_run_by"])
        data = {"task_id": new["last_task_id"], "at": iso(new["last_run_at"])}
        found.append(_schedule(change, "fired", by=by, data=data))
    if new.get("queued_for") not in (None, old.get("queued_for")):
        data = {"at": iso(new["queued_for"]), "running": new.get("last_task_id")}
        found.append(_schedule(change, "queued", by=states.BY_SCHEDULE, data=data))
    if new["breaches"] > old["breaches"]:
        data = {"promised_seconds": new["max_lag_seconds"]}
        data["repair_task_id"] = new.get("last_repair_task_id")
        found.append(_schedule(change, "breached", data=data))
    return found


def _schedule(change: Change, what: str, by: str = SYSTEM, **more: Any) -> Happening:
    item = change.item
    owner = change.pk.removeprefix("SCHEDULES#")
    asked = by not in (SYSTEM, states.BY_SCHEDULE)
    return Happening(
        subject=f"schedule:{item['schedule_id']}",
        action=f"schedule.{what}",
        by=by,
        request_id=item["request_id"] if asked else None,
        detail=item["name"],
        owner=owner,
        **more,
    )


def _choices(item: Item) -> Item:
    """What stands in the item; the host of a request's webhook stands apart."""
    chosen = {name: item.get(name) for name in (*_CHOSEN, "enabled")}
    chosen["request"] = (item["request"], item.get("webhook_host"))
    chosen["webhook_rev"] = item.get("webhook_rev", 0)
    return chosen


def _definition(item: Item) -> Item:
    chosen = _choices(item)
    request = CollectionRequest.unpack(item["request"])
    chosen["request"] = {
        "webhook_host": item.get("webhook_host"),
        "symbols": None if request.symbols is None else list(request.symbols[:MOST_NAMES]),
        "symbols_count": None if request.symbols is None else len(request.symbols),
        "timeframes": list(request.timeframes),
        "priority": request.priority,
    }
    return chosen
