"""Waiting for something to become true, with what was last seen in the failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

Seen = TypeVar("Seen")


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
