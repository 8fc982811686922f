"""Schedules as people know them: making, reading, changing, deleting, running by hand.

A change is stored first; then EventBridge Scheduler is told. Two numbers of the schedule say
whether that was done (rev, synced_rev). Where something breaks off in between, the watch of every
minute does it again (schedules/watch.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence

from chalicelib.core.backend import Backend
from chalicelib.core.errors import (
    CallFailed,
    ConditionFailed,
    InvalidRequest,
    ScheduleNotFound,
)
from chalicelib.core.logs import log
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.quotas.limits import SCHEDULES
from chalicelib.schedules import definition, edits, firings, view
from chalicelib.schedules.eventbridge import Scheduler
from chalicelib.schedules.schedule import Schedule
from chalicelib.schedules.table import ScheduleTable
from chalicelib.schedules.view import View
from chalicelib.tasks import states
from chalicelib.tasks.submit import refresh_for_unknown, submit
from chalicelib.tasks.table import TaskTable
from chalicelib.work.request import CollectionRequest

#: Only its owner makes room, by deleting one.
_SCHEDULES_RETRY_SECONDS = 3600
#: Only its owner, admins, its firings and the watch write a schedule: it does not race more often.
_RACES = 8


async def create_schedule(
    backend: Backend,
    body: object,
    owner: str,
    request_id: str,
    schedule_id: str,
    key_id: str | None = None,
) -> View:
    """Store a schedule and tell EventBridge; its view. An id given twice makes one schedule.

    `key_id`: the key that it needs to go on; None: none. Raises InvalidRequest, PlanTooLarge or
    QuotaExceeded with the schedule not stored.
    """
    now_ms, known = backend.now_ms(), await _known(backend)
    try:
        wanted = definition.parse_new(body, known, backend.settings, now_ms)
    except InvalidRequest:
        await _refresh_for_unknown(backend, body, known, owner, request_id)
        raise
    new = edits.made(schedule_id, wanted, now_ms, owner, request_id, key_id)
    most = SCHEDULES.limit(backend.settings)
    schedule = await ScheduleTable(backend).create(new, wanted.webhook, most)
    if schedule is None:
        detail = f"there are {most} schedules, and there may be no more: delete one"
        raise SCHEDULES.exceeded(backend.settings, detail, _SCHEDULES_RETRY_SECONDS)
    return await _view(backend, await _tell(backend, schedule) or schedule)


async def change_schedule(
    backend: Backend,
    body: object,
    by: str,
    request_id: str,
    schedule_id: str,
    key_id: str | None = None,
    owners: Sequence[str] = (),
) -> View:
    """Change some fields; the schedule's view after it. `key_id` as in `create_schedule`; `owners`:
    whose schedules may be changed (empty: those of `by`). Raises as that does, and
    ScheduleNotFound."""
    known = await _known(backend)
    table = ScheduleTable(backend)

    async def change(seen: Schedule) -> Schedule:
        now_ms = backend.now_ms()
        webhook = await table.webhook_of(seen)
        wanted = definition.parse_change(body, seen, webhook, known, backend.settings, now_ms)
        if wanted.is_empty:
            return seen
        new = edits.changed(seen, wanted, now_ms, by, request_id, key_id)
        if wanted.sets_webhook:
            return await table.replace_with_webhook(seen, new, wanted.webhook)
        return await table.replace(seen, new)

    try:
        schedule = await _write(backend, owners or (by,), schedule_id, change)
    except InvalidRequest:
        await _refresh_for_unknown(backend, body, known, by, request_id)
        raise
    return await _view(backend, await _tell(backend, schedule) or schedule)


async def delete_schedule(
    backend: Backend, by: str, request_id: str, schedule_id: str, owners: Sequence[str] = ()
) -> None:
    """Delete a schedule; its tasks stay. `owners`, errors: as of `change_schedule`."""

    async def bury(seen: Schedule) -> Schedule:
        tombstone = edits.removed(seen, backend.now_ms(), by, request_id)
        return await ScheduleTable(backend).replace(seen, tombstone)

    try:
        tombstone = await _write(backend, owners or (by,), schedule_id, bury)
    except ScheduleNotFound:
        found = await ScheduleTable(backend).read_of(owners or (by,), schedule_id)
        if found is None or found.request_id != request_id:
            raise
        tombstone = found  # it was this request, and the answer to its write was lost
    await _tell(backend, tombstone)


async def run_now(
    backend: Backend,
    by: str,
    request_id: str,
    schedule_id: str,
    task_id: str,
    owners: Sequence[str] = (),
) -> str:
    """Start a schedule's collection at once, even if it is disabled or its last task runs; the
    task id. Later firings see it as the last run. The task is the schedule's owner's, whoever runs
    it. `owners` as in `change_schedule`. Raises ScheduleNotFound, QuotaExceeded."""
    schedule = await find_schedule(backend, owners or (by,), schedule_id)
    await start(backend, schedule, task_id, states.BY_REQUEST, request_id, by)

    async def note(seen: Schedule) -> Schedule:
        if seen.last_task_id == task_id:
            return seen
        new = firings.ran(seen, task_id, backend.now_ms(), by, request_id)
        return await ScheduleTable(backend).replace(seen, new)

    await _write(backend, (schedule.owner,), schedule_id, note)
    return task_id


async def view_schedule(backend: Backend, owners: Sequence[str], schedule_id: str) -> View:
    """The whole answer of GET /schedules/{id}. Raises ScheduleNotFound."""
    return await _view(backend, await find_schedule(backend, owners, schedule_id))


async def list_schedules(
    backend: Backend, owners: Sequence[str], limit: int, after: str | None
) -> tuple[list[View], str | None]:
    """One page of the schedules of some owners, by id, and the id after which the next starts."""
    found: list[Schedule] = []
    ends: list[str] = []
    for owner in owners:
        page, end = await ScheduleTable(backend).page_of_owner(owner, limit, after)
        found += page
        ends += [end] if end else []
    # Behind the first end, some owner may have schedules that were not read.
    found.sort(key=lambda schedule: schedule.schedule_id)
    whole = [one for one in found if not ends or one.schedule_id <= min(ends)]
    following = min(ends, default=None)
    if len(whole) > limit:
        whole, following = whole[:limit], whole[limit - 1].schedule_id
    return [view.summary(schedule, backend.now_ms()) for schedule in whole], following


async def find_schedule(backend: Backend, owners: Sequence[str], schedule_id: str) -> Schedule:
    """A schedule of one of these owners that is not deleted. Raises ScheduleNotFound."""
    schedule = await ScheduleTable(backend).read_of(owners, schedule_id)
    if schedule is None or schedule.removed:
        raise ScheduleNotFound(f"there is no schedule {schedule_id}")
    return schedule


# --- for those who look after schedules -----------------------------------------------------------


async def synchronise(backend: Backend, schedule: Schedule) -> Schedule | None:
    """Tell EventBridge what it does not know yet of a schedule; the schedule then, None where it is
    gone. Safe to repeat. Raises CallFailed."""
    table, schedule_id = ScheduleTable(backend), schedule.schedule_id
    current: Schedule | None = schedule
    outdated = False
    for _ in range(_RACES):
        if current is None or not (outdated or current.rev != current.synced_rev):
            return current
        try:
            if current.removed:
                await Scheduler(backend).remove(schedule_id)
                await table.delete(current)
                return None
            return await table.replace(current, await _put(backend, current))
        except ConditionFailed:
            # Somebody changed it meanwhile, and may have told EventBridge before we told it the
            # older one. So the newest is told once more.
            current, outdated = await table.read(schedule.owner, schedule_id), True
    raise _contended(schedule_id)


async def start(
    backend: Backend,
    schedule: Schedule,
    task_id: str,
    source: str,
    request_id: str,
    by: str | None = None,
) -> None:
    """Store the task of a run, with the schedule's request. Repeated, it is the same task.

    `by`: who asks for it, where that is not the schedule's owner. Raises QuotaExceeded with no task
    stored.
    """
    request = CollectionRequest.unpack(schedule.request)
    if schedule.webhook_host:
        webhook = await ScheduleTable(backend).webhook_of(schedule)
        request = dataclasses.replace(request, webhook=webhook)
    await submit(
        backend,
        states.DATA_COLLECTION,
        request,
        owner=schedule.owner,
        request_id=request_id,
        task_id=task_id,
        source=source,
        schedule_id=schedule.schedule_id,
        by=by,
    )


async def _put(backend: Backend, schedule: Schedule) -> Schedule:
    """Tell EventBridge; the schedule that says so, or why it was refused for good."""
    sync_error = None
    try:
        starts_ms = firings.first_firing(schedule, backend.now_ms())
        await Scheduler(backend).put(schedule, starts_ms)
    except CallFailed as failed:
        if failed.code != "ValidationException":
            raise
        sync_error = failed.detail
        log("schedule_refused", level="error", schedule_id=schedule.schedule_id)
    return dataclasses.replace(schedule, sync_error=sync_error, synced_rev=schedule.rev)


async def _tell(backend: Backend, schedule: Schedule) -> Schedule | None:
    """Tell EventBridge what was just stored; the schedule then, None where it is gone.

    Where that fails, the watch does it within a minute.
    """
    try:
        return await synchronise(backend, schedule)
    except CallFailed as failed:
        schedule_id = schedule.schedule_id
        log("schedule_not_told", level="warning", schedule_id=schedule_id, error=failed.detail)
        return schedule


async def _view(backend: Backend, schedule: Schedule) -> View:
    now_ms = backend.now_ms()
    status = None
    if schedule.last_task_id is not None:
        task = await TaskTable(backend).read(schedule.last_task_id)
        status = task.state if task and not task.is_expired(now_ms) else None
    promised = schedule.max_lag_seconds is not None
    lag = await ScheduleTable(backend).lag_of(schedule) if promised else None
    return view.view(schedule, lag, status, now_ms)


async def _write(
    backend: Backend,
    owners: Sequence[str],
    schedule_id: str,
    write: Callable[[Schedule], Awaitable[Schedule]],
) -> Schedule:
    """What `write` stored in the place of the schedule that it is given.

    It is given the newest again where it raises ConditionFailed. Raises ScheduleNotFound.
    """
    for _ in range(_RACES):
        try:
            return await write(await find_schedule(backend, owners, schedule_id))
        except ConditionFailed:
            continue
    raise _contended(schedule_id)


async def _known(backend: Backend) -> dict[str, str] | None:
    catalogue = await CatalogueTable(backend).read_own_catalogue()
    return catalogue.known if catalogue else None


async def _refresh_for_unknown(
    backend: Backend, body: object, known: dict[str, str] | None, owner: str, request_id: str
) -> None:
    request = body.get("request") if isinstance(body, dict) else None
    await refresh_for_unknown(backend, request, known, owner, request_id)


def _contended(schedule_id: str) -> CallFailed:
    return CallFailed("dynamodb", "PutItem", "Contention", f"schedule {schedule_id}")
