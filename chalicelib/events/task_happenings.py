"""What happened to tasks and their units. Pure."""

from __future__ import annotations

from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.core.errors import ItemUnreadable
from chalicelib.core.times import iso
from chalicelib.events.happening import MOST_NAMES, SYSTEM, Happening, Item
from chalicelib.tasks import states
from chalicelib.tasks.changes import TaskChange, prog_change, task_change
from chalicelib.tasks.task import Task
from chalicelib.work.request import CollectionRequest
from chalicelib.work.selector import is_plain

#: So many of a request's symbols are named.
_NAMED = 5


def of_task(change: Change) -> list[Happening]:
    """A task: submitted, planned, started, ended, stopped, retried, expired."""
    changed = task_change(change)
    if changed is None:
        return []
    old, new = changed.old, changed.new
    if new is None:
        return [_task(changed, "task.expired" if change.by_ttl else "task.deleted")]
    if old is not None and old.state == new.state:
        return _stopped(old, new)
    if new.state == states.PENDING:
        if old is None:
            return [_submitted(changed, new)]
        return [_moved(changed, new, "task.retried")]
    if new.state == states.RUNNING:
        return [*_planned(old, new), _task(changed, "task.started")]
    if new.state == states.CANCELLED:
        return [_moved(changed, new, "task.cancelled")]
    data = None if new.result is None else {**new.result, "task": _in_short(new)}
    return [_task(changed, f"task.{new.state}", data=data)]


def _task(changed: TaskChange, action: str, by: str = SYSTEM, **more: Any) -> Happening:
    """A move of the task, or its beginning or end; `more`: other fields of the happening."""
    task = changed.task
    return Happening(
        subject=f"task:{task.task_id}",
        action=action,
        by=by,
        attempt=task.attempt,
        before=changed.old.state if changed.old else None,
        after=changed.new.state if changed.new else None,
        detail=task.error or task.message,
        owner=task.owner,
        **more,
    )


def _submitted(changed: TaskChange, task: Task) -> Happening:
    by_itself = task.source != states.BY_REQUEST
    return _task(
        changed,
        "task.submitted",
        by=task.source if by_itself else task.moved_by or task.owner,
        request_id=task.request_id,
        data=_asked_for(task),
    )


def _asked_for(task: Task) -> Item:
    asked: Item = {"task_type": task.task_type, "source": task.source}
    if task.schedule_id is not None:
        asked["schedule_id"] = task.schedule_id
    if task.task_type == states.DATA_COLLECTION:
        request = CollectionRequest.unpack(task.request)
        symbols = request.symbols
        if symbols is not None and not is_plain(symbols):  # how many they select is not known yet
            asked["selectors"], symbols = list(symbols[:MOST_NAMES]), None
        asked |= {
            "symbols": None if symbols is None else len(symbols),
            "timeframes": list(request.timeframes),
            "start": iso(request.start_ms),
            "end": iso(request.end_ms),
            "priority": request.priority,
        }
    return asked


def _in_short(task: Task) -> Item:
    """What an end tells of its task, for those who ask when the task has expired."""
    try:
        symbols = CollectionRequest.unpack(task.request).symbols or ()
        asked = {**_asked_for(task), "symbol_names": list(symbols[:_NAMED])}
    except ItemUnreadable:  # nobody could plan it, but it has ended
        asked = {"task_type": task.task_type, "source": task.source}
    times = ("created_at", "started_at", "completed_at")
    known = {**asked, **{name: iso(getattr(task, name)) for name in times}, "error": task.error}
    if task.state == states.CANCELLED:
        known["cancelled_by"] = task.moved_by or task.owner
    return known


def _moved(changed: TaskChange, task: Task, action: str) -> Happening:
    """Cancelled or retried, by whoever the task says moved it last."""
    by, request_id = task.moved_by or task.owner, task.moved_request_id
    return _task(changed, action, by=by, request_id=request_id)


def _planned(old: Task | None, new: Task) -> list[Happening]:
    """The first attempt's start brings the plan; later ones keep it."""
    if new.plan_id is None or (old is not None and old.plan_id is not None):
        return []
    plan = {"units": new.total_units, "progs": new.progs_total}
    return [
        Happening(
            subject=f"task:{new.task_id}",
            action="task.planned",
            by=SYSTEM,
            attempt=new.attempt,
            after=plan,
            owner=new.owner,
        )
    ]


def _stopped(old: Task, new: Task) -> list[Happening]:
    """What a cancelled or failed task had collected when it was shut; once per attempt."""
    ended = new.state in states.TERMINAL
    if not ended or old.stopped_at is not None or new.stopped_at is None or new.result is None:
        return []
    return [
        Happening(
            subject=f"task:{new.task_id}",
            action="task.stopped",
            by=SYSTEM,
            attempt=new.attempt,
            before=old.state,
            after=new.state,
            detail=new.message,
            data={**new.result, "stopped_at": iso(new.stopped_at), "task": _in_short(new)},
            owner=new.owner,
        )
    ]


def of_units(change: Change) -> list[Happening]:
    """A PROG item: the units that one write added to the failed ones, by number.

    Another item holds their names. events/trail.py reads them.
    """
    changed = prog_change(change)
    if changed is None:
        return []
    old, new = changed.old, changed.new
    before = old.failed_units if old is not None and old.attempt == new.attempt else frozenset()
    after = new.reasons
    fresh = {unit: reason for unit, reason in after.items() if unit not in before}
    if not fresh:
        return []
    units = [
        {"number": unit, "reason": fresh[unit], "detail": new.details.get(fresh[unit], "")}
        for unit in sorted(fresh)
    ]
    reasons = ", ".join(sorted(set(fresh.values())))
    return [
        Happening(
            subject=f"task:{changed.task_id}",
            action="task.unit_failed",
            by=SYSTEM,
            attempt=new.attempt,
            before=len(before),
            after=len(after),
            detail=f"{len(fresh)} failed: {reasons}",
            data={"prog": new.number, "failed": len(fresh), "units": units[:MOST_NAMES]},
        )
    ]
