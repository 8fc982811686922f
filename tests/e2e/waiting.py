"""Waiting for something to become true, with what was last seen in the failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from market_data_collector.client import Client

Seen = TypeVar("Seen")
ENDED = ("completed", "failed", "cancelled")


def until(look: Callable[[], Seen], done: Callable[[Seen], bool], seconds: float = 90) -> Seen:
    """The first of `look()` that is `done`; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if done(seen):
            return seen
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s; last seen: {seen!r}")
        time.sleep(0.2)


def ended(api: Client, task_id: str, seconds: float = 90) -> dict[str, Any]:
    """The task as it is shown once it has ended."""
    return until(lambda: api.task(task_id), lambda task: task["status"] in ENDED, seconds)
