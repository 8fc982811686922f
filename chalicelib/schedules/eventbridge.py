"""EventBridge Scheduler: the clock behind our schedules, one of its schedules for each of ours.

In the stack's schedule group, named by the schedule's id:

    ScheduleExpression, -Timezone, State   those of the schedule
    StartDate       of a rate: its first run. Without one EventBridge would fire at once, and once
                    more with every update
    Target.Input    {"owner", "schedule_id", "rev", "scheduled_at"}; Scheduler replaces
                    <aws.scheduler.scheduled-time> by the time at which the run was due
    Target          run_schedule, with a role of Scheduler's own and a dead-letter queue

Sources: EventBridge Scheduler API Reference (CreateSchedule, UpdateSchedule, DeleteSchedule); its
User Guide, "Adding context attributes", "Rate-based schedules".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.core.times import parse_time
from chalicelib.schedules.schedule import Schedule

_SCHEDULED_TIME = "<aws.scheduler.scheduled-time>"
#: Scheduler tries again for two minutes. By then the run has been made up for, or counted missed.
_OLDEST_SECONDS, _RETRIES = 120, 4


@dataclass(frozen=True)
class Firing:
    """What Scheduler sends to our function.

    `rev`: of the schedule, as Scheduler knows it. `at_ms`: when the run was due, epoch ms; None
    where the placeholder is still there, as an embedded cloud leaves it.
    """

    owner: str
    schedule_id: str
    rev: int
    at_ms: int | None


def firing_of(event: dict[str, Any]) -> Firing:
    """The firing that an event (Target.Input) describes."""
    due = event["scheduled_at"]
    at_ms = None if due == _SCHEDULED_TIME else parse_time(due)
    return Firing(event["owner"], event["schedule_id"], int(event["rev"]), at_ms)


class Scheduler:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._settings = backend.settings

    async def put(self, schedule: Schedule, starts_ms: int | None) -> None:
        """Make or change Scheduler's schedule, so that it is what ours is.

        `starts_ms`: a rate's first run, epoch ms. Raises CallFailed, with the code
        ValidationException where Scheduler refuses it for good.
        """
        wanted = self._wanted(schedule)
        if starts_ms is not None:
            wanted["StartDate"] = starts_ms // 1000
        operations = ["UpdateSchedule", "CreateSchedule", "UpdateSchedule"]
        if not schedule.synced_rev:
            del operations[0]
        for operation in operations:
            try:
                await self._call("scheduler", operation, **wanted)
            except CallFailed as failed:
                # Made or deleted meanwhile, or by this very call, repeated after a lost answer.
                if failed.code not in ("ConflictException", "ResourceNotFoundException"):
                    raise
                last = failed
            else:
                return
        raise last

    async def remove(self, schedule_id: str) -> None:
        """Forget a schedule; nothing happens where there is none."""
        try:
            await self._call(
                "scheduler",
                "DeleteSchedule",
                Name=schedule_id,
                GroupName=self._settings.schedule_group,
            )
        except CallFailed as failed:
            if failed.code != "ResourceNotFoundException":
                raise

    def _wanted(self, schedule: Schedule) -> dict[str, Any]:
        event = {
            "owner": schedule.owner,
            "schedule_id": schedule.schedule_id,
            "rev": schedule.rev,
            "scheduled_at": _SCHEDULED_TIME,
        }
        return {
            "Name": schedule.schedule_id,
            "GroupName": self._settings.schedule_group,
            "ScheduleExpression": schedule.expression,
            "ScheduleExpressionTimezone": schedule.timezone,
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "State": "ENABLED" if schedule.enabled else "DISABLED",
            "Target": {
                "Arn": self._settings.schedule_function_arn,
                "RoleArn": self._settings.schedule_role_arn,
                "Input": json.dumps(event),
                "DeadLetterConfig": {"Arn": self._settings.schedule_dead_letter_arn},
                "RetryPolicy": {
                    "MaximumEventAgeInSeconds": _OLDEST_SECONDS,
                    "MaximumRetryAttempts": _RETRIES,
                },
            },
        }
