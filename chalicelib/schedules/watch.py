"""Firings, and the watch of every minute, which completes what a crash, a pause or an outage left.

Every step is decided by one conditional write of the schedule's item. So a firing and the watch may
run at once, and so may two watches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from chalicelib.access.keys import why_ended
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed, QuotaExceeded
from chalicelib.core.logs import bound, log
from chalicelib.schedules import edits, firings
from chalicelib.schedules.eventbridge import firing_of
from chalicelib.schedules.manage import start, synchronise
from chalicelib.schedules.promise import measure_freshness
from chalicelib.schedules.schedule import Schedule
from chalicelib.schedules.table import ScheduleTable
from chalicelib.tasks import states
from chalicelib.tasks.table import TaskTable

_RACES = 8


async def receive_firing(backend: Backend, event: dict[str, Any], request_id: str) -> str:
    """Decide the run of a firing, as EventBridge Scheduler sent it; the task id of the run."""
    firing = firing_of(event)
    # Without a time, the run counts as due in the minute in which it fires.
    this_minute = backend.now_ms() // 60_000 * 60_000
    at_ms = this_minute if firing.at_ms is None else firing.at_ms
    with bound(schedule_id=firing.schedule_id):
        return await run_schedule(
            backend, firing.owner, firing.schedule_id, at_ms, firing.rev, request_id
        )


async def run_schedule(
    backend: Backend, owner: str, schedule_id: str, at_ms: int, rev: int, request_id: str
) -> str:
    """Decide the run that is due at `at_ms`; its task id, the same however often it arrives.

    The task is made unless the run is skipped, queued, or was decided before. `rev`: of the
    schedule as EventBridge knows it. Raises CallFailed; the firing may then be repeated.
    """
    for _ in range(_RACES):
        schedule = await ScheduleTable(backend).read(owner, schedule_id)
        task_id = firings.task_id_of(schedule_id, at_ms)
        if schedule is None or not schedule.enabled:
            log("firing_ignored", level="warning", schedule_id=schedule_id)
            return task_id
        try:
            schedule = await _finish_start(backend, schedule, request_id)
            schedule = await _stop_without_key(backend, schedule, request_id)
            if not schedule.enabled:
                return task_id
            new = firings.fire(schedule, at_ms, await _is_active(backend, schedule))
            if new is None and rev == schedule.rev:
                log("firing_repeated", schedule_id=schedule_id, at=at_ms)
                return task_id
            new = new or schedule
            if rev != schedule.rev:  # EventBridge knows an older one: the watch tells it again
                new = replace(new, synced_rev=0)
            schedule = await ScheduleTable(backend).replace(schedule, new)
            await _finish_start(backend, schedule, request_id)
        except ConditionFailed:
            continue
        return task_id
    raise CallFailed("dynamodb", "PutItem", "Contention", f"schedule {schedule_id}")


async def watch_schedules(backend: Backend, request_id: str) -> dict[str, int]:
    """Look after every schedule that is enabled or half changed, then measure freshness.

    Returns how many were seen and how many failed; those are looked after a minute later. A
    schedule that cannot be read, or breaks our own code (a time zone that was abolished, say), does
    not stop the others: its error is raised when all have had their turn, and the alarm goes off.
    """
    seen, odd = await ScheduleTable(backend).watched()
    failed = 0
    bugs: list[Exception] = [*odd]
    for schedule in seen:
        with bound(schedule_id=schedule.schedule_id):
            try:
                await _look_after(backend, schedule, request_id)
            except CallFailed as error:
                failed += 1
                log("schedule_watch_failed", level="error", error=error.detail)
            except Exception as bug:  # noqa: BLE001 - raised again below
                bugs.append(bug)
                log("schedule_watch_failed", level="error", trace=True, error=repr(bug))
    failed += await measure_freshness(backend, request_id)
    if bugs:
        raise bugs[0]
    return {"seen": len(seen), "failed": failed}


async def _look_after(backend: Backend, schedule: Schedule, request_id: str) -> None:
    steps: tuple[Callable[[Schedule], Awaitable[Schedule | None]], ...] = (
        lambda seen: _finish_start(backend, seen, request_id),
        lambda seen: _stop_without_key(backend, seen, request_id),
        lambda seen: _start_queued(backend, seen, request_id),
        lambda seen: _make_up(backend, seen, request_id),
        lambda seen: synchronise(backend, seen),
    )
    current: Schedule | None = schedule
    for step in steps:
        try:
            current = await step(current) if current else None
        except ConditionFailed:  # a firing or its owner was quicker; the next minute looks again
            return


async def _stop_without_key(backend: Backend, schedule: Schedule, request_id: str) -> Schedule:
    """Disable a schedule whose key works no more; the schedule after it."""
    if schedule.key_id is None or not schedule.enabled:
        return schedule
    why = await why_ended(backend, schedule.key_id)
    if why is None:
        return schedule
    reason = f"the key {schedule.key_id} {why}; enable the schedule with another one"
    log("schedule_stopped", level="warning", schedule_id=schedule.schedule_id, reason=reason)
    stopped = edits.stopped(schedule, reason, backend.now_ms(), request_id)
    return await ScheduleTable(backend).replace(schedule, stopped)


async def _start_queued(backend: Backend, schedule: Schedule, request_id: str) -> Schedule:
    if schedule.queued_for is None or await _is_active(backend, schedule):
        return schedule
    schedule = await ScheduleTable(backend).replace(schedule, firings.start_queued(schedule))
    return await _finish_start(backend, schedule, request_id)


async def _make_up(backend: Backend, schedule: Schedule, request_id: str) -> Schedule:
    """Count the runs that never came, and make up for them where that is wanted."""
    if not schedule.enabled:
        return schedule
    active = schedule.catch_up and await _is_active(backend, schedule)
    new = firings.make_up(schedule, backend.now_ms(), active)
    if new is None:
        return schedule
    log(
        "runs_missed",
        level="warning",
        schedule_id=schedule.schedule_id,
        missed=new.missed - schedule.missed,
    )
    schedule = await ScheduleTable(backend).replace(schedule, new)
    return await _finish_start(backend, schedule, request_id)


async def _finish_start(backend: Backend, schedule: Schedule, request_id: str) -> Schedule:
    """Store the task of a run that was decided; the schedule after it.

    Where the owner's quota leaves no room for it, the run is missed.
    """
    if schedule.starting is None:
        return schedule
    task_id = schedule.starting.task_id
    try:
        await start(backend, schedule, task_id, states.BY_SCHEDULE, request_id)
        new = firings.started(schedule)
    except QuotaExceeded as refused:
        log("run_refused", level="warning", schedule_id=schedule.schedule_id, error=refused.detail)
        new = firings.refused(schedule, refused.reason)
    return await ScheduleTable(backend).replace(schedule, new)


async def _is_active(backend: Backend, schedule: Schedule) -> bool:
    """Whether the schedule's last task has not ended."""
    if schedule.last_task_id is None:
        return False
    task = await TaskTable(backend).read(schedule.last_task_id)
    return task is not None and task.is_active
