"""Priorities of tasks."""

from __future__ import annotations

#: High has workers of its own; low is sent only while nothing else is collected.
HIGH, NORMAL, LOW = "high", "normal", "low"


PRIORITIES = (HIGH, NORMAL, LOW)
