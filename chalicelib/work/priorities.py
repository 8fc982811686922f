"""Priorities of tasks."""

from __future__ import annotations

#: High has workers of its own; low is sent only while nothing else is collected.
HIGH, NORMAL, LOW = "high", "normal", "low"


PRIORITIES = (HIGH, NORMAL, LOW)


def workers_of(priority: str, collectors: int) -> int:
    """How many of the workers collect units of a priority; `collectors`: the setting."""
    urgent = max(2, collectors * 2 // 5)
    return urgent if priority == HIGH else collectors - urgent
