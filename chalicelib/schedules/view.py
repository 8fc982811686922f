"""What a schedule looks like to the people who made it."""

from __future__ import annotations

from typing import Any

from chalicelib.core.times import iso
from chalicelib.schedules import firings
from chalicelib.schedules.schedule import MeasuredLag, Schedule
from chalicelib.work.messages import NEW
from chalicelib.work.request import CollectionRequest

#: A part of an answer, as JSON.
View = dict[str, Any]


def summary(schedule: Schedule, now_ms: int) -> View:
    """A schedule in a list."""
    return {
        "schedule_id": schedule.schedule_id,
        "name": schedule.name,
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
        "overlap": schedule.overlap,
        "catch_up": schedule.catch_up,
        "next_run_at": iso(firings.next_run(schedule, now_ms)),
        "queued_for": iso(schedule.queued_for),
        "runs": {
            "started": schedule.runs,
            "skipped": schedule.skipped,
            "missed": schedule.missed,
        },
        "last_skipped_at": iso(schedule.last_skipped_at),
        "last_refused_at": iso(schedule.last_refused_at),
        "refusal": schedule.refusal,
        "created_at": iso(schedule.created_at),
        "updated_at": iso(schedule.updated_at),
        "in_sync": schedule.rev == schedule.synced_rev and schedule.sync_error is None,
        "sync_error": schedule.sync_error,
        "stopped_because": schedule.stopped_because,
    }


def view(schedule: Schedule, lag: MeasuredLag | None, last_status: str | None, now_ms: int) -> View:
    """The whole answer of GET /schedules/{id}.

    `last_status`: the state of the last run's task, None where it has expired.
    """
    last_run = None
    if schedule.last_task_id is not None:
        last_run = {
            "at": iso(schedule.last_run_at),
            "by": schedule.last_run_by,
            "task_id": schedule.last_task_id,
            "status": last_status,
        }
    return {
        **summary(schedule, now_ms),
        "request": _request_view(schedule),
        "last_run": last_run,
        "freshness": _freshness_view(schedule, lag),
    }


def _freshness_view(schedule: Schedule, lag: MeasuredLag | None) -> View | None:
    if schedule.max_lag_seconds is None:
        return None
    return {
        "promised_seconds": schedule.max_lag_seconds,
        "lag_seconds": lag.lag_seconds if lag else None,
        "timeframes": lag.timeframes if lag else {},
        "behind": lag.behind if lag else None,
        "measured_at": iso(lag.measured_at) if lag else None,
        "breaches": schedule.breaches,
        "breached_since": iso(schedule.breached_since),
        "last_repair_task_id": schedule.last_repair_task_id,
    }


def _request_view(schedule: Schedule) -> View:
    request = CollectionRequest.unpack(schedule.request)
    fields = {
        "symbols": None if request.symbols is None else list(request.symbols),
        "timeframes": list(request.timeframes),
        "priority": request.priority,
        "tolerated_failure_percentage": request.tolerated_failure_percentage,
        "timeout_seconds": request.timeout_seconds,
        "retries": request.retries or None,
        "retry_backoff_seconds": request.retry_backoff_seconds if request.retries else None,
        "fill": None if request.fill == NEW else request.fill,
        "webhook_host": schedule.webhook_host,
    }
    return {name: value for name, value in fields.items() if value is not None}
