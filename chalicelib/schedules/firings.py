"""What a schedule's firings do to it: a state machine of pure functions, from item to item.

    accounted_until   every run up to this time (epoch ms) has been decided: the fence
    next_run_at       the first one after it; None where none is left
    starting          {task_id, at}: decided, and its task may not be stored yet
    queued_for        the run that waits for the last task to end (overlap: queue)
    last_run_at, last_task_id, last_run_by      the last run that was started
    last_skipped_at, runs, skipped, missed, breaches      counters, and when it was last skipped
    breached_since, repairs, last_repair_at, last_repair_task_id      freshness, while it is broken

A firing is decided in one conditional write before its task is made, and the task's id follows from
the schedule and the time. So a firing that comes twice, late or half done makes one task.
"""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chalicelib.core.times import iso
from chalicelib.schedules import cron
from chalicelib.tasks import states

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

#: A run that has not come this long after its time is missed. EventBridge Scheduler is accurate to
#: a minute (its user guide), and tries again for as long.
PATIENCE_MS = 120_000
#: Missed runs are counted up to here; behind a long pause it is only said that there were many.
MOST_MISSED = 1000
SKIP, QUEUE = "skip", "queue"
_MINUTE_MS = 60_000
_NAMESPACE = uuid.UUID("6f0c51a4-7f0f-4b73-9c0a-0d5f6d3b4a51")

Item = dict[str, Any]


def task_id_of(schedule_id: str, at_ms: int) -> str:
    """The task of one run: the same however often it fires."""
    return str(uuid.uuid5(_NAMESPACE, f"{schedule_id}#{iso(at_ms)}"))


def repair_id_of(schedule: Item) -> str:
    """The task that makes up for a broken promise: the breach and the try tell it apart."""
    of = f"{schedule['schedule_id']}#breach{schedule['breaches']}#{schedule['repairs']}"
    return str(uuid.uuid5(_NAMESPACE, of))


def is_watched(schedule: Item) -> bool:
    """Whether the watch of every minute has anything to look after."""
    return bool(
        schedule["enabled"] or schedule["rev"] != schedule["synced_rev"] or "starting" in schedule
    )


def begun(schedule: Item, now_ms: int) -> Item:
    """Count from now on: a schedule that is new, or whose times have changed."""
    return _decided_until(schedule, now_ms)


def fire(schedule: Item, at_ms: int, last_is_active: bool) -> Item | None:
    """After the run of `at_ms` was decided; None where that had been done before.

    `last_is_active`: whether the schedule's last task has not ended.
    """
    if at_ms // _MINUTE_MS <= schedule["accounted_until"] // _MINUTE_MS:
        return None
    missed, _ = _until(schedule, at_ms - _tolerance_ms(schedule))
    return _run(_decided_until(_counted(schedule, missed), at_ms), at_ms, last_is_active)


def make_up(schedule: Item, now_ms: int, last_is_active: bool) -> Item | None:
    """After runs that never came were counted, and with catch_up made up for, once for all of them;
    None where none is overdue."""
    missed, latest = _until(schedule, now_ms - PATIENCE_MS)
    if not missed:
        return None
    # Whatever keeps EventBridge from firing, what it knows of this schedule is written anew; a rate
    # may then begin anew too. So all its runs up to now are decided here, those too that might have
    # come within the patience: the fence turns them away from now on.
    until = latest
    if _is_rate(schedule):
        until, (missed, latest) = now_ms, _until(schedule, now_ms)
    after = {**_decided_until(_counted(schedule, missed), until), "synced_rev": 0}
    return _run(after, latest, last_is_active) if schedule["catch_up"] else after


def start_queued(schedule: Item) -> Item:
    """After the waiting run was started: the last task has ended."""
    queued_for = schedule["queued_for"]
    rest = {name: value for name, value in schedule.items() if name != "queued_for"}
    return _started(rest, queued_for)


def started(schedule: Item) -> Item:
    """After the task of the last decision was stored."""
    return {name: value for name, value in schedule.items() if name != "starting"}


def ran(schedule: Item, task_id: str, now_ms: int, by: str, request_id: str) -> Item:
    """After somebody ran it by hand."""
    return {
        **schedule,
        "last_task_id": task_id,
        "last_run_at": now_ms,
        "last_run_by": by,
        "request_id": request_id,
        "runs": schedule["runs"] + 1,
    }


def next_run(schedule: Item, now_ms: int) -> int | None:
    """When it runs next, as far as anyone can know: what is overdue is made up for, or is not."""
    if not schedule["enabled"]:
        return None
    stored = schedule.get("next_run_at")
    if stored is None or stored > now_ms:
        return stored
    _, latest = _until(schedule, now_ms)
    return _next(schedule, latest)


def first_firing(schedule: Item, now_ms: int) -> int | None:
    """When EventBridge, told of a schedule now, is to fire a rate first, and count from then on;
    None for a cron expression, which says so itself."""
    if not _is_rate(schedule):
        return None
    _, latest = _until(schedule, now_ms)
    return _next(schedule, latest)


def _run(schedule: Item, at_ms: int, last_is_active: bool) -> Item:
    """Start, queue or skip the run of `at_ms`."""
    waiting = "queued_for" in schedule
    if not last_is_active:
        return (
            {**start_queued(schedule), "queued_for": at_ms}
            if waiting
            else _started(schedule, at_ms)
        )
    if schedule["overlap"] == QUEUE and not waiting:
        return {**schedule, "queued_for": at_ms}
    return {**schedule, "skipped": schedule["skipped"] + 1, "last_skipped_at": at_ms}


def _started(schedule: Item, at_ms: int) -> Item:
    task_id = task_id_of(schedule["schedule_id"], at_ms)
    return {
        **schedule,
        "starting": {"task_id": task_id, "at": at_ms},
        "last_task_id": task_id,
        "last_run_at": at_ms,
        "last_run_by": states.BY_SCHEDULE,
        "runs": schedule["runs"] + 1,
    }


def _counted(schedule: Item, missed: int) -> Item:
    return {**schedule, "missed": schedule["missed"] + missed} if missed else schedule


def _decided_until(schedule: Item, at_ms: int) -> Item:
    return {**schedule, "accounted_until": at_ms, "next_run_at": _next(schedule, at_ms)}


def _until(schedule: Item, until_ms: int) -> tuple[int, int]:
    """(how many runs lie after accounted_until and not after `until_ms`, the last of them)."""
    latest, count = schedule["accounted_until"], 0
    expression = cron.parse(schedule["expression"])
    if isinstance(expression, cron.Rate):
        count = max(0, until_ms - latest) // expression.every_ms
        return min(count, MOST_MISSED), latest + count * expression.every_ms
    following = _next(schedule, latest)
    while following is not None and following <= until_ms:
        if count == MOST_MISSED:
            return count, until_ms
        latest, count = following, count + 1
        following = _next(schedule, latest)
    return count, latest


def _tolerance_ms(schedule: Item) -> int:
    """How much earlier than our clock has it a run may fire. A rate's clock is EventBridge's: what
    came a little off for ours was not missed. More than half its interval would hide every one."""
    expression = cron.parse(schedule["expression"])
    if isinstance(expression, cron.Rate):
        return min(PATIENCE_MS, expression.every_ms // 2)
    return 1


def _is_rate(schedule: Item) -> bool:
    return isinstance(cron.parse(schedule["expression"]), cron.Rate)


def _next(schedule: Item, at_ms: int) -> int | None:
    return cron.next_after(cron.parse(schedule["expression"]), zone(schedule["timezone"]), at_ms)


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database. Raises ValueError where there is none of that name."""
    import zoneinfo  # here, not above: the API's cold start seldom needs it

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name[:100]!r} is no time zone; one reads like Europe/Berlin") from error
