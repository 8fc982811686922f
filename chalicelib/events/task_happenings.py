"""What happened to tasks and their units. Pure."""

from __future__ import annotations

from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.core.times import iso
from chalicelib.events.happening import MOST_NAMES, SYSTEM, Happening, Item
from chalicelib.tasks import states
from chalicelib.work.request import CollectionRequest


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
    fields = {
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
        **fields,
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
    """Cancelled or retried, by whoever the task says moved it last."""
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
    """What a cancelled or failed task had collected when it was closed; once per attempt."""
    old, new = change.old, change.new
    if new["state"] not in states.TERMINAL or "stopped_at" in old or "stopped_at" not in new:
        return []
    receipt = {**new["result"], "stopped_at": iso(new["stopped_at"])}
    return [_task(change, "task.stopped", data=receipt, detail=new.get("message", ""))]


def of_units(change: Change) -> list[Happening]:
    """A PROG item: the units that one write added to the failed ones, by number.

    Another item holds their names. events/trail.py reads them.
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
