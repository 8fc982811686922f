"""Schedules as people know them: making, reading, changing, deleting, running by hand.

A change is stored first and told to EventBridge Scheduler then; the item says by two numbers
whether that was done (rev, synced_rev). Whatever breaks off in between, the watch of every minute
does again (schedules/watch.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed, ScheduleNotFound
from chalicelib.core.logs import log
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.schedules import definition as schedule_definition
from chalicelib.schedules import firings, view
from chalicelib.schedules.eventbridge import Scheduler
from chalicelib.schedules.table import ScheduleTable, owner_of
from chalicelib.tasks import states
from chalicelib.tasks.submit import submit
from chalicelib.tasks.table import TaskTable
from chalicelib.work.request import CollectionRequest

Item = dict[str, Any]
#: Writers of one schedule are its owner, its firings and the watch: more races than these are none.
_RACES = 8


async def create_schedule(
    backend: Backend, body: object, owner: str, request_id: str, schedule_id: str
) -> Item:
    """Store a schedule and tell EventBridge; its view. An id given twice makes one schedule.

    Raises InvalidRequest or PlanTooLarge with nothing stored.
    """
    now_ms = backend.now_ms()
    definition = schedule_definition.parse_new(
        body, await _known(backend), backend.settings, now_ms
    )
    schedule = schedule_definition.made(schedule_id, definition, now_ms, owner, request_id)
    schedule = await ScheduleTable(backend).create(owner, schedule)
    return await _view(backend, await _tell(backend, schedule) or schedule)


async def change_schedule(
    backend: Backend, body: object, owner: str, request_id: str, schedule_id: str
) -> Item:
    """Change some fields; the schedule's view after it. Raises as `create_schedule`, and
    ScheduleNotFound."""
    known = await _known(backend)

    async def change(schedule: Item) -> Item | None:
        now_ms = backend.now_ms()
        before = {**schedule, "webhook": await ScheduleTable(backend).webhook_of(schedule)}
        changes = schedule_definition.parse_change(body, before, known, backend.settings, now_ms)
        return changes and schedule_definition.changed(schedule, changes, now_ms, owner, request_id)

    schedule = await _change(backend, owner, schedule_id, change)
    return await _view(backend, await _tell(backend, schedule) or schedule)


async def delete_schedule(backend: Backend, owner: str, request_id: str, schedule_id: str) -> None:
    """Delete a schedule; its tasks stay. Raises ScheduleNotFound."""

    async def bury(schedule: Item) -> Item:
        return schedule_definition.removed(schedule, backend.now_ms(), owner, request_id)

    await _tell(backend, await _change(backend, owner, schedule_id, bury))


async def run_now(
    backend: Backend, owner: str, request_id: str, schedule_id: str, task_id: str
) -> str:
    """Start a schedule's collection at once, whatever its overlap rule says and though it is
    disabled; the task id. Later firings see it as the last run. Raises ScheduleNotFound."""
    schedule = await find_schedule(backend, owner, schedule_id)
    await start(backend, schedule, task_id, states.BY_REQUEST, request_id)

    async def note(schedule: Item) -> Item | None:
        if schedule.get("last_task_id") == task_id:
            return None
        return firings.ran(schedule, task_id, backend.now_ms(), owner, request_id)

    await _change(backend, owner, schedule_id, note)
    return task_id


async def view_schedule(backend: Backend, owner: str, schedule_id: str) -> Item:
    """The whole answer of GET /schedules/{id}. Raises ScheduleNotFound."""
    return await _view(backend, await find_schedule(backend, owner, schedule_id))


async def list_schedules(
    backend: Backend, owner: str, limit: int, after: str | None
) -> tuple[list[Item], str | None]:
    """One page of an owner's schedules, and where the next one starts."""
    found, following = await ScheduleTable(backend).page_of_owner(owner, limit, after)
    return [view.summary(schedule, backend.now_ms()) for schedule in found], following


async def find_schedule(backend: Backend, owner: str, schedule_id: str) -> Item:
    """The item of a schedule. Raises ScheduleNotFound."""
    schedule = await ScheduleTable(backend).read(owner, schedule_id)
    if schedule is None or schedule.get("removed"):
        raise ScheduleNotFound(f"there is no schedule {schedule_id}")
    return schedule


# --- for those who look after schedules -----------------------------------------------------------


async def synchronise(backend: Backend, schedule: Item) -> Item | None:
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
                await Scheduler(backend).remove(schedule_id)
                await ScheduleTable(backend).delete(current)
                return None
            return await ScheduleTable(backend).replace(
                current, await _put(backend, owner, current)
            )
        except ConditionFailed:
            # Changed meanwhile, and perhaps told by whoever did it: ours may have come behind.
            current, outdated = await ScheduleTable(backend).read(owner, schedule_id), True
    raise _contended(schedule_id)


async def start(
    backend: Backend, schedule: Item, task_id: str, source: str, request_id: str
) -> None:
    """Store the task of a run, with the schedule's request; repeated, it is the same task."""
    request = CollectionRequest.unpack(schedule["request"])
    if schedule.get("webhook_host"):
        request = replace(request, webhook=await ScheduleTable(backend).webhook_of(schedule))
    await submit(
        backend,
        states.DATA_COLLECTION,
        request,
        owner_of(schedule),
        request_id,
        task_id,
        source,
        schedule["schedule_id"],
    )


async def _put(backend: Backend, owner: str, schedule: Item) -> Item:
    """Tell EventBridge; the item that says so, or why it was refused for good."""
    after = {name: value for name, value in schedule.items() if name != "sync_error"}
    try:
        starts_ms = firings.first_firing(schedule, backend.now_ms())
        await Scheduler(backend).put(owner, schedule, starts_ms)
    except CallFailed as failed:
        if failed.code != "ValidationException":
            raise
        after["sync_error"] = failed.detail
        log("schedule_refused", level="error", schedule_id=schedule["schedule_id"])
    return {**after, "synced_rev": schedule["rev"]}


async def _tell(backend: Backend, schedule: Item) -> Item | None:
    """Tell EventBridge of what was just stored; where that fails, the watch does it within a
    minute. The item then, None where it is gone."""
    try:
        return await synchronise(backend, schedule)
    except CallFailed as failed:
        schedule_id = schedule["schedule_id"]
        log("schedule_not_told", level="warning", schedule_id=schedule_id, error=failed.detail)
        return schedule


async def _view(backend: Backend, schedule: Item) -> Item:
    now_ms = backend.now_ms()
    status = None
    if "last_task_id" in schedule:
        meta = await TaskTable(backend).read(schedule["last_task_id"], now_ms)
        status = meta["state"] if meta and not meta["expired"] else None
    promised = schedule["max_lag_seconds"] is not None
    lag = await ScheduleTable(backend).lag_of(schedule) if promised else None
    return view.view(schedule, lag, status, now_ms)


async def _change(
    backend: Backend, owner: str, schedule_id: str, change: Callable[[Item], Awaitable[Item | None]]
) -> Item:
    """Replace a schedule by what `change` makes of it (nothing: leave it); the item after it."""
    for _ in range(_RACES):
        schedule = await find_schedule(backend, owner, schedule_id)
        new = await change(schedule)
        if not new:
            return schedule
        try:
            return await ScheduleTable(backend).replace(schedule, new)
        except ConditionFailed:
            continue
    raise _contended(schedule_id)


async def _known(backend: Backend) -> dict[str, str] | None:
    catalogue = await CatalogueTable(backend).read_catalogue()
    return catalogue["symbols"] if catalogue else None


def _contended(schedule_id: str) -> CallFailed:
    return CallFailed("dynamodb", "PutItem", "Contention", f"schedule {schedule_id}")
