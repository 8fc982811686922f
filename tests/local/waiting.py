"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], object], patience_s: float = 120.0) -> None:
    """Return when `holds`. Fails after `patience_s`, which a busy machine may need."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
