"""What the audit trail tells of: one happening for each thing that somebody or something did. Pure.

A change of an item becomes happenings by the functions in `OF_KIND`; changes of other items, and
changes that no one need know of, become none.

    task.submitted   data: what is asked for         task.cancelled   the decision
    task.planned     after: units and PROG items     task.stopped     data: the receipt, or what
    task.started                                                      a failed task had landed
    task.unit_failed data: the units, by name        task.retried     the attempt is the new one
    task.completed   data: the result                task.expired     DynamoDB's TTL removed it
    task.failed      data: the result, where one is  task.deleted     somebody else did
    schedule.created, changed, enabled, disabled, deleted    by whom; before and after
    schedule.fired   data: the task and the time     schedule.skipped, queued   data: the time
    schedule.missed  data: how many runs             schedule.breached          data: the repair
    webhook.delivered, failed   data: which event, after how many tries, and the last one's outcome
    symbols.changed  data: counts and names of what the exchange added, removed, or halted
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.core.timeframes import iso
from chalicelib.events.happening import MOST_NAMES, SYSTEM, Happening, Item
from chalicelib.events.schedule_happenings import of_schedule
from chalicelib.tasks import states
from chalicelib.work.request import CollectionRequest


def of_change(change: Change) -> list[Happening]:
    """All that happened with one change of an item, in order."""
    return [happening for kind in OF_KIND for happening in kind(change)]


# --- tasks --------------------------------------------------------------------------------------


def of_task(change: Change) -> list[Happening]:
    """A task's META item: submitted, planned, started, ended, stopped, retried, expired."""
    if not (change.pk.startswith("TASK#") and change.sk == "META"):
        return []
    old, new = change.old, change.new
    if not new:
        gone = "task.expired" if change.by_ttl else "task.deleted"
        return [_task(change, gone, after=None)]
    if old.get("state") == new["state"]:
        return _stopped(change)
    if new["state"] == states.PENDING:
        return [_retried(change) if old else _submitted(change)]
    if new["state"] == states.RUNNING:
        return [*_planned(change), _task(change, "task.started")]
    if new["state"] == states.CANCELLED:
        return [_moved(change, "task.cancelled")]
    return [_task(change, f"task.{new['state']}", data=new.get("result"))]


def _task(change: Change, action: str, by: str = SYSTEM, **more: Any) -> Happening:
    item = change.item
    told = {
        "before": change.old.get("state"),
        "after": change.new.get("state"),
        "detail": item.get("error") or item.get("message", ""),
        **more,
    }
    return Happening(
        subject=f"task:{item['task_id']}",
        action=action,
        by=by,
        attempt=item["attempt"],
        owner=item.get("owner"),
        **told,
    )


def _submitted(change: Change) -> Happening:
    meta = change.new
    source = meta.get("source")
    return _task(
        change,
        "task.submitted",
        by=source if source in (states.BY_SCHEDULE, states.BY_FRESHNESS) else str(meta["owner"]),
        request_id=meta.get("request_id"),
        data=_asked_for(meta),
    )


def _asked_for(meta: Item) -> Item:
    asked: Item = {"task_type": meta["task_type"], "source": meta.get("source", states.BY_REQUEST)}
    if "schedule_id" in meta:
        asked["schedule_id"] = meta["schedule_id"]
    if meta["task_type"] == states.DATA_COLLECTION:
        request = CollectionRequest.unpack(meta["request"])
        asked |= {
            "symbols": None if request.symbols is None else len(request.symbols),
            "timeframes": list(request.timeframes),
            "start": iso(request.start_ms),
            "end": iso(request.end_ms),
            "priority": request.priority,
        }
    return asked


def _moved(change: Change, action: str) -> Happening:
    """Cancelled or retried: by whoever META says moved it last."""
    meta = change.new
    return _task(
        change,
        action,
        by=str(meta.get("moved_by") or meta["owner"]),
        request_id=meta.get("moved_request_id"),
    )


def _retried(change: Change) -> Happening:
    return _moved(change, "task.retried")


def _planned(change: Change) -> list[Happening]:
    """The first attempt's start brings the plan; later ones keep it."""
    meta = change.new
    if "plan_id" not in meta or "plan_id" in change.old:
        return []
    plan = {"units": meta["total_units"], "progs": meta["progs_total"]}
    return [_task(change, "task.planned", before=None, after=plan, detail="")]


def _stopped(change: Change) -> list[Happening]:
    """What had landed when a cancelled or failed task was shut; written once per attempt."""
    old, new = change.old, change.new
    if new["state"] not in states.TERMINAL or "stopped_at" in old or "stopped_at" not in new:
        return []
    receipt = {**new["result"], "stopped_at": iso(new["stopped_at"])}
    return [_task(change, "task.stopped", data=receipt, detail=new.get("message", ""))]


def of_units(change: Change) -> list[Happening]:
    """A PROG item: the units that one write added to the failed ones, by number.

    Their names stand in another item; events/record.py reads them.
    """
    old, new = change.old, change.new
    if not new or not (change.pk.startswith("TASK#") and change.sk.startswith("PROG#")):
        return []
    before = _failures(old) if old.get("attempt") == new["attempt"] else {}
    after = _failures(new)
    fresh = {unit: reason for unit, reason in after.items() if unit not in before}
    if not fresh:
        return []
    units = [
        {"number": unit, "reason": fresh[unit], "detail": new.get(f"d_{fresh[unit]}", "")}
        for unit in sorted(fresh)
    ]
    reasons = ", ".join(sorted(set(fresh.values())))
    return [
        Happening(
            subject=f"task:{change.pk.removeprefix('TASK#')}",
            action="task.unit_failed",
            by=SYSTEM,
            attempt=new["attempt"],
            before=len(before),
            after=len(after),
            detail=f"{len(fresh)} failed: {reasons}",
            data={
                "prog": int(change.sk.removeprefix("PROG#")),
                "failed": len(fresh),
                "units": units[:MOST_NAMES],
            },
        )
    ]


def _failures(prog: Item) -> dict[int, str]:
    """Unit number -> reason."""
    return {
        unit: name.removeprefix("f_")
        for name, units in sorted(prog.items())
        if name.startswith("f_")
        for unit in units
    }


# --- the market ---------------------------------------------------------------------------------


def of_catalogue(change: Change) -> list[Happening]:
    """The catalogue: what the exchange lists, and with which status."""
    if not change.new or not change.pk.startswith("CATALOGUE#"):
        return []
    old, new = _symbols(change.old), _symbols(change.new)
    added, removed = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    if not (added or removed or changed):
        return []
    asked = change.new.get("asked") or {}
    return [
        Happening(
            subject=f"market:{change.pk.removeprefix('CATALOGUE#')}",
            action="symbols.changed",
            by=asked.get("by", SYSTEM),
            request_id=asked.get("request_id"),
            before=len(old),
            after=len(new),
            detail=f"{len(added)} added, {len(removed)} removed, {len(changed)} changed status",
            data={
                "task_id": asked.get("task_id"),
                "added": {"count": len(added), "symbols": added[:MOST_NAMES]},
                "removed": {"count": len(removed), "symbols": removed[:MOST_NAMES]},
                "changed": {
                    "count": len(changed),
                    "symbols": {name: [old[name], new[name]] for name in changed[:MOST_NAMES]},
                },
            },
        )
    ]


def _symbols(item: Item) -> dict[str, str]:
    symbols: dict[str, str] = json.loads(zlib.decompress(item["symbols"])) if item else {}
    return symbols


# --- webhooks -----------------------------------------------------------------------------------


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


OF_KIND: list[Callable[[Change], list[Happening]]] = [
    of_task,
    of_units,
    of_catalogue,
    of_schedule,
    of_webhook,
]
