"""What its owner's edits do to a schedule: pure functions, from schedule to schedule."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.schedules import firings
from chalicelib.schedules.definition import Definition
from chalicelib.schedules.schedule import QUEUE, Schedule
from chalicelib.tasks import states


def made(
    schedule_id: str,
    definition: Definition,
    now_ms: int,
    owner: str,
    request_id: str,
    key_id: str | None = None,
) -> Schedule:
    """A new schedule from a whole definition, not yet known to EventBridge."""
    schedule = Schedule(
        **definition.fields,
        owner=owner,
        schedule_id=schedule_id,
        created_at=now_ms,
        updated_at=now_ms,
        by=owner,
        request_id=request_id,
        key_id=key_id,
        rev=1,
        accounted_until=now_ms,
        next_run_at=None,
        webhook_rev=int(definition.sets_webhook),
    )
    return firings.begun(schedule, now_ms)


def changed(
    schedule: Schedule,
    change: Definition,
    now_ms: int,
    by: str,
    request_id: str,
    key_id: str | None = None,
) -> Schedule:
    """The schedule with some fields changed; EventBridge is told where that concerns it."""
    fields = change.fields
    new = replace(
        schedule, **fields, updated_at=now_ms, by=by, request_id=request_id, key_id=key_id
    )
    if new.enabled:
        new = replace(new, stopped_because=None)
    if "expression" in fields or "timezone" in fields:
        new = firings.begun(new, now_ms)
    if {"expression", "timezone", "enabled"} & set(fields):
        new = replace(new, rev=schedule.rev + 1)
    # The new webhook may be on the same host, and nothing else of a webhook is shown.
    if change.sets_webhook:
        new = replace(new, webhook_rev=schedule.webhook_rev + 1)
    # A run that waits must not start when a pause ends, nor under another overlap rule.
    if not new.enabled or new.overlap != QUEUE:
        new = replace(new, queued_for=None)
    if not new.enabled or new.max_lag_seconds is None:
        new = replace(new, breached_since=None)
    return new


def removed(schedule: Schedule, now_ms: int, by: str, request_id: str) -> Schedule:
    """A tombstone: it stays until EventBridge has forgotten the schedule."""
    pause = Definition({"enabled": False})
    new = changed(schedule, pause, now_ms, by, request_id, schedule.key_id)
    return replace(new, removed=True)


def stopped(schedule: Schedule, why: str, now_ms: int, request_id: str) -> Schedule:
    """The schedule, disabled without being asked."""
    pause = Definition({"enabled": False})
    new = changed(schedule, pause, now_ms, states.BY_SYSTEM, request_id, schedule.key_id)
    return replace(new, stopped_because=why)
