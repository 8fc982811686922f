"""What a schedule's firings do to it: a state machine of pure functions, from schedule to schedule.

Each firing is decided in one conditional write of the schedule's item, before its task is made. The
task's id follows from the schedule and the time. So a firing that comes twice, late or half done
makes one task. `Schedule.accounted_until` is the fence: no run up to it is decided again.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from chalicelib.core.times import iso
from chalicelib.schedules import cron
from chalicelib.schedules.schedule import QUEUE, Schedule, Starting
from chalicelib.tasks import states

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

#: A run that has not come this long after its time is missed. EventBridge Scheduler is accurate to
#: a minute (its user guide), and tries again for as long.
PATIENCE_MS = 120_000
#: Missed runs are counted up to here. After a long pause it only matters that there were many.
MOST_MISSED = 1000
_MINUTE_MS = 60_000
_NAMESPACE = uuid.UUID("6f0c51a4-7f0f-4b73-9c0a-0d5f6d3b4a51")


def task_id_of(schedule_id: str, at_ms: int) -> str:
    """The task of one run: the same however often it fires."""
    return str(uuid.uuid5(_NAMESPACE, f"{schedule_id}#{iso(at_ms)}"))


def repair_id_of(schedule: Schedule) -> str:
    """The task of the current repair: the same for the same breach and the same attempt at it."""
    repair = f"{schedule.schedule_id}#breach{schedule.breaches}#{schedule.repairs}"
    return str(uuid.uuid5(_NAMESPACE, repair))


def begun(schedule: Schedule, now_ms: int) -> Schedule:
    """Count from now on: a schedule that is new, or whose times have changed."""
    return _decided_until(schedule, now_ms)


def fire(schedule: Schedule, at_ms: int, last_is_active: bool) -> Schedule | None:
    """Decide the run of `at_ms`; None where it had been decided before.

    `last_is_active`: whether the schedule's last task has not ended.
    """
    if at_ms // _MINUTE_MS <= schedule.accounted_until // _MINUTE_MS:
        return None
    missed, _ = _until(schedule, at_ms - _tolerance_ms(schedule))
    schedule = replace(schedule, missed=schedule.missed + missed)
    return _run(_decided_until(schedule, at_ms), at_ms, last_is_active)


def make_up(schedule: Schedule, now_ms: int, last_is_active: bool) -> Schedule | None:
    """Count the runs that never came; with `catch_up`, start one run for all of them. None where
    no run is overdue."""
    missed, latest = _until(schedule, now_ms - PATIENCE_MS)
    if not missed:
        return None
    # Something keeps EventBridge from firing, so the watch tells it of the schedule anew, after
    # which a rate may begin anew. So for a rate all runs up to now are decided here, even those
    # that might still come within the patience: the fence turns them away from now on.
    until = latest
    if _is_rate(schedule):
        until, (missed, latest) = now_ms, _until(schedule, now_ms)
    schedule = replace(schedule, missed=schedule.missed + missed, synced_rev=0)
    after = _decided_until(schedule, until)
    return _run(after, latest, last_is_active) if schedule.catch_up else after


def start_queued(schedule: Schedule) -> Schedule:
    """Start the run that waits: the last task has ended. Nothing happens where none waits."""
    if schedule.queued_for is None:
        return schedule
    return _started(replace(schedule, queued_for=None), schedule.queued_for)


def started(schedule: Schedule) -> Schedule:
    """The schedule once the task of its last decision is stored."""
    return replace(schedule, starting=None)


def refused(schedule: Schedule, reason: str) -> Schedule:
    """The schedule once the task of its last decision was refused: the run is missed."""
    starting = schedule.starting
    if starting is None:
        return schedule
    return replace(
        schedule,
        starting=None,
        last_task_id=starting.last_task_id,
        last_run_at=starting.last_run_at,
        last_run_by=starting.last_run_by,
        last_refused_at=starting.at,
        refusal=reason,
        runs=schedule.runs - 1,
        missed=schedule.missed + 1,
    )


def ran(schedule: Schedule, task_id: str, now_ms: int, by: str, request_id: str) -> Schedule:
    """The schedule after `by` ran it by hand."""
    return replace(
        schedule,
        last_task_id=task_id,
        last_run_at=now_ms,
        last_run_by=by,
        request_id=request_id,
        runs=schedule.runs + 1,
    )


def next_run(schedule: Schedule, now_ms: int) -> int | None:
    """When it runs next. An overdue run is left out: it will be made up for, or counted missed."""
    if not schedule.enabled:
        return None
    if schedule.next_run_at is None or schedule.next_run_at > now_ms:
        return schedule.next_run_at
    _, latest = _until(schedule, now_ms)
    return _next(schedule, latest)


def first_firing(schedule: Schedule, now_ms: int) -> int | None:
    """The first run of a rate that EventBridge is told now; it counts from there. None for a cron
    expression, which needs no start."""
    if not _is_rate(schedule):
        return None
    _, latest = _until(schedule, now_ms)
    return _next(schedule, latest)


def next_after(expression: str, timezone: str, at_ms: int) -> int | None:
    """The first run after `at_ms`; None where there is none."""
    return cron.next_after(cron.parse(expression), zone(timezone), at_ms)


def _run(schedule: Schedule, at_ms: int, last_is_active: bool) -> Schedule:
    """Start, queue or skip the run of `at_ms`."""
    waiting = schedule.queued_for is not None
    if not last_is_active:
        if waiting:
            return replace(start_queued(schedule), queued_for=at_ms)
        return _started(schedule, at_ms)
    if schedule.overlap == QUEUE and not waiting:
        return replace(schedule, queued_for=at_ms)
    return replace(schedule, skipped=schedule.skipped + 1, last_skipped_at=at_ms)


def _started(schedule: Schedule, at_ms: int) -> Schedule:
    task_id = task_id_of(schedule.schedule_id, at_ms)
    return replace(
        schedule,
        starting=Starting(
            task_id, at_ms, schedule.last_task_id, schedule.last_run_at, schedule.last_run_by
        ),
        last_task_id=task_id,
        last_run_at=at_ms,
        last_run_by=states.BY_SCHEDULE,
        runs=schedule.runs + 1,
    )


def _decided_until(schedule: Schedule, at_ms: int) -> Schedule:
    return replace(schedule, accounted_until=at_ms, next_run_at=_next(schedule, at_ms))


def _until(schedule: Schedule, until_ms: int) -> tuple[int, int]:
    """(how many runs lie after accounted_until and not after `until_ms`, the last of them)."""
    latest, count = schedule.accounted_until, 0
    expression = cron.parse(schedule.expression)
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


def _tolerance_ms(schedule: Schedule) -> int:
    """A run that was expected this long before a firing, or less, is that firing: not missed.

    EventBridge's clock decides when a rate fires, so it may be a little off ours. More than half
    the interval would hide every missed run.
    """
    expression = cron.parse(schedule.expression)
    if isinstance(expression, cron.Rate):
        return min(PATIENCE_MS, expression.every_ms // 2)
    return 1


def _is_rate(schedule: Schedule) -> bool:
    return isinstance(cron.parse(schedule.expression), cron.Rate)


def _next(schedule: Schedule, at_ms: int) -> int | None:
    return next_after(schedule.expression, schedule.timezone, at_ms)


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database. Raises ValueError where none has that name.

    Names and rules are those of the package tzdata, never the machine's: its files have other
    names too, such as localtime, and may be older.
    """
    import zoneinfo  # here, not above: the API's cold start seldom needs it
    from importlib import resources

    if name not in _zone_names():
        raise ValueError(f"{name[:100]!r} is no time zone; {_near_zone(name[:100])}")
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as rules:
        return zoneinfo.ZoneInfo.from_file(rules, key=name)


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    from importlib import resources

    names = resources.files("tzdata").joinpath("zones").read_text("ascii").split()
    return frozenset(names) - {"Factory"}  # "no zone was set"


def _near_zone(name: str) -> str:
    """A hint at the name that was meant: without its case, its region, or a letter."""
    import difflib

    wanted = "_".join(name.casefold().split())
    zones = {zone.casefold(): zone for zone in sorted(_zone_names())}
    by_city = {folded.rpartition("/")[2]: folded for folded in zones}
    found = difflib.get_close_matches(wanted, zones, 1, 0.8)
    near = wanted if wanted in zones else by_city.get(wanted) or next(iter(found), None)
    return "one reads like Europe/Berlin" if near is None else f"did you mean {zones[near]}?"
