"""EventBridge Scheduler in memory: what it keeps, and which errors it answers with.

It fires nothing by itself: tests do, with `firing`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from chalicelib.core.errors import CallFailed

_FIELDS = {
    *("Name", "GroupName", "ScheduleExpression", "ScheduleExpressionTimezone"),
    *("FlexibleTimeWindow", "State", "Target"),
}
_TARGET = {"Arn", "RoleArn", "Input", "DeadLetterConfig", "RetryPolicy"}


@dataclass
class Scheduler:
    """`schedules`: name -> what was sent last; `refuse`: expressions that it finds invalid."""

    group: str = "group"
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuse: set[str] = field(default_factory=set)

    def apply(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        name = parameters["Name"]
        if parameters["GroupName"] != self.group:
            raise _failed(operation, "ResourceNotFoundException", "no such group")
        if operation == "DeleteSchedule":
            if set(parameters) != {"Name", "GroupName"}:
                raise NotImplementedError(parameters)
            if self.schedules.pop(name, None) is None:
                raise _failed(operation, "ResourceNotFoundException", name)
            return {}
        if operation not in ("CreateSchedule", "UpdateSchedule"):
            raise NotImplementedError(operation)
        if set(parameters) - {"StartDate"} != _FIELDS or set(parameters["Target"]) != _TARGET:
            raise NotImplementedError(parameters)
        expression = parameters["ScheduleExpression"]
        if expression in self.refuse or not 1 <= len(expression) <= 256:
            raise _failed(operation, "ValidationException", "Invalid Schedule Expression")
        if operation == "CreateSchedule" and name in self.schedules:
            raise _failed(operation, "ConflictException", name)
        if operation == "UpdateSchedule" and name not in self.schedules:
            raise _failed(operation, "ResourceNotFoundException", name)
        self.schedules[name] = parameters
        return {"ScheduleArn": f"arn:aws:scheduler:us-east-1:0:schedule/{self.group}/{name}"}

    def firing(self, name: str, at: str) -> dict[str, Any]:
        """The event of a run that is due `at` (ISO 8601)."""
        text = self.schedules[name]["Target"]["Input"]
        event: dict[str, Any] = json.loads(text.replace("<aws.scheduler.scheduled-time>", at))
        return event


def _failed(operation: str, code: str, message: str) -> CallFailed:
    return CallFailed("scheduler", operation, code, message)
