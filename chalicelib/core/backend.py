"""What every store and use case is made over: the way to AWS, the settings and the clock."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from chalicelib.core.settings import Settings

#: `call(service, operation, **parameters)`; aws/calls.py describes it.
Call = Callable[..., Awaitable[dict[str, Any]]]
Clock = Callable[[], int]


@dataclass(frozen=True, eq=False, repr=False)
class Backend:
    """`now_ms`: the clock, epoch ms. Stores are made over it: `TaskTable(backend).read(...)`."""

    call: Call
    settings: Settings
    now_ms: Clock


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000
