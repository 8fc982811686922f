"""Schedules as people know them: making, reading, changing, deleting, running by hand.

A change is stored first and told to EventBridge Scheduler then; the item says by two numbers
whether that was done (rev, synced_rev). Whatever breaks off in between, the watch of every minute
does again (schedules/watch.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from chalicelib.core.errors import CallFailed, ConditionFailed, ScheduleNotFound
from chalicelib.core.logs import log
from chalicelib.schedules import definition as schedule_definition
from chalicelib.schedules import firings, view
from chalicelib.schedules.table import owner_of
from chalicelib.tasks import states
from chalicelib.tasks.submit import submit
from chalicelib.wiring import Desk
from chalicelib.work.request import CollectionRequest

Item = dict[str, Any]
#: Writers of one schedule are its owner, its firings and the watch: more races than these are none.
_RACES = 8


async def create_schedule(
    desk: Desk, body: object, owner: str, request_id: str, schedule_id: str
) -> Item:
    """Store a schedule and tell EventBridge; its view. An id given twice makes one schedule.

    Raises InvalidRequest or PlanTooLarge with nothing stored.
    """
    now_ms = desk.now_ms()
    definition = schedule_definition.parse_new(body, await _known(desk), desk.settings, now_ms)
    schedule = schedule_definition.made(schedule_id, definition, now_ms, owner, request_id)
    schedule = await desk.schedules.create(owner, schedule)
    return await _view(desk, await _tell(desk, schedule) or schedule)


async def change_schedule(
    desk: Desk, body: object, owner: str, request_id: str, schedule_id: str
) -> Item:
    """Change some fields; the schedule's view after it. Raises as `create_schedule`, and
    ScheduleNotFound."""
    known = await _known(desk)

    async def change(schedule: Item) -> Item | None:
        now_ms = desk.now_ms()
        before = {**schedule, "webhook": await desk.schedules.webhook_of(schedule)}
        changes = schedule_definition.parse_change(body, before, known, desk.settings, now_ms)
        return changes and schedule_definition.changed(schedule, changes, now_ms, owner, request_id)

    schedule = await _change(desk, owner, schedule_id, change)
    return await _view(desk, await _tell(desk, schedule) or schedule)


async def delete_schedule(desk: Desk, owner: str, request_id: str, schedule_id: str) -> None:
    """Delete a schedule; its tasks stay. Raises ScheduleNotFound."""

    async def bury(schedule: Item) -> Item:
        return schedule_definition.removed(schedule, desk.now_ms(), owner, request_id)

    await _tell(desk, await _change(desk, owner, schedule_id, bury))


async def run_now(desk: Desk, owner: str, request_id: str, schedule_id: str, task_id: str) -> str:
    """Start a schedule's collection at once, whatever its overlap rule says and though it is
    disabled; the task id. Later firings see it as the last run. Raises ScheduleNotFound."""
    schedule = await find_schedule(desk, owner, schedule_id)
    await start(desk, schedule, task_id, states.BY_REQUEST, request_id)

    async def note(schedule: Item) -> Item | None:
        if schedule.get("last_task_id") == task_id:
            return None
        return firings.ran(schedule, task_id, desk.now_ms(), owner, request_id)

    await _change(desk, owner, schedule_id, note)
    return task_id


async def view_schedule(desk: Desk, owner: str, schedule_id: str) -> Item:
    """The whole answer of GET /schedules/{id}. Raises ScheduleNotFound."""
    return await _view(desk, await find_schedule(desk, owner, schedule_id))


async def list_schedules(
    desk: Desk, owner: str, limit: int, after: str | None
) -> tuple[list[Item], str | None]:
    """One page of an owner's schedules, and where the next one starts."""
    found, following = await desk.schedules.page_of_owner(owner, limit, after)
    return [view.summary(schedule, desk.now_ms()) for schedule in found], following


async def find_schedule(desk: Desk, owner: str, schedule_id: str) -> Item:
    """The item of a schedule. Raises ScheduleNotFound."""
    schedule = await desk.schedules.read(owner, schedule_id)
    if schedule is None or schedule.get("removed"):
        raise ScheduleNotFound(f"there is no schedule {schedule_id}")
    return schedule


# --- for those who look after schedules -----------------------------------------------------------


async def synchronise(desk: Desk, schedule: Item) -> Item | None:
    """Tell EventBridge what it does not know yet of a schedule; the item then, None where it is
    gone. Safe to repeat. Raises CallFailed."""
    owner, schedule_id = owner_of(schedule), schedule["schedule_id"]
    current: Item | None = schedule
    outdated = False
    for _ in range(_RACES):
        if current is None or not (outdated or current["rev"] != current["synced_rev"]):
            return current
        try:
            if current.get("removed"):
                await desk.scheduler.remove(schedule_id)
                await desk.schedules.delete(current)
                return None
            return await desk.schedules.replace(current, await _put(desk, owner, current))
        except ConditionFailed:
            # Changed meanwhile, and perhaps told by whoever did it: ours may have come behind.
            current, outdated = await desk.schedules.read(owner, schedule_id), True
    raise _contended(schedule_id)


async def start(desk: Desk, schedule: Item, task_id: str, source: str, request_id: str) -> None:
    """Store the task of a run, with the schedule's request; repeated, it is the same task."""
    request = CollectionRequest.unpack(schedule["request"])
    if schedule.get("webhook_host"):
        request = replace(request, webhook=await desk.schedules.webhook_of(schedule))
    await submit(
        desk,
        states.DATA_COLLECTION,
        request,
        owner_of(schedule),
        request_id,
        task_id,
        source,
        schedule["schedule_id"],
    )


async def _put(desk: Desk, owner: str, schedule: Item) -> Item:
    """Tell EventBridge; the item that says so, or why it was refused for good."""
    after = {name: value for name, value in schedule.items() if name != "sync_error"}
    try:
        starts_ms = firings.first_firing(schedule, desk.now_ms())
        await desk.scheduler.put(owner, schedule, starts_ms)
    except CallFailed as failed:
        if failed.code != "ValidationException":
            raise
        after["sync_error"] = failed.detail
        log("schedule_refused", level="error", schedule_id=schedule["schedule_id"])
    return {**after, "synced_rev": schedule["rev"]}


async def _tell(desk: Desk, schedule: Item) -> Item | None:
    """Tell EventBridge of what was just stored; where that fails, the watch does it within a
    minute. The item then, None where it is gone."""
    try:
        return await synchronise(desk, schedule)
    except CallFailed as failed:
        schedule_id = schedule["schedule_id"]
        log("schedule_not_told", level="warning", schedule_id=schedule_id, error=failed.detail)
        return schedule


async def _view(desk: Desk, schedule: Item) -> Item:
    now_ms = desk.now_ms()
    status = None
    if "last_task_id" in schedule:
        meta = await desk.tasks.read(schedule["last_task_id"], now_ms)
        status = meta["state"] if meta and not meta["expired"] else None
    promised = schedule["max_lag_seconds"] is not None
    lag = await desk.schedules.lag_of(schedule) if promised else None
    return view.view(schedule, lag, status, now_ms)


async def _change(
    desk: Desk, owner: str, schedule_id: str, change: Callable[[Item], Awaitable[Item | None]]
) -> Item:
    """Replace a schedule by what `change` makes of it (nothing: leave it); the item after it."""
    for _ in range(_RACES):
        schedule = await find_schedule(desk, owner, schedule_id)
        new = await change(schedule)
        if not new:
            return schedule
        try:
            return await desk.schedules.replace(schedule, new)
        except ConditionFailed:
            continue
    raise _contended(schedule_id)


async def _known(desk: Desk) -> dict[str, str] | None:
    catalogue = await desk.market.read_catalogue()
    return catalogue["symbols"] if catalogue else None


def _contended(schedule_id: str) -> CallFailed:
    return CallFailed("dynamodb", "PutItem", "Contention", f"schedule {schedule_id}")
