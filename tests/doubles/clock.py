"""Simulated time: a clock that moves only when told, and an event loop that lives by it.

On the loop, `asyncio.sleep(15)` ends at once and the clock is 15 seconds further. So waits can be
tested without waiting, and a run is the same every time.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from typing import Any

#: 2026-03-04T05:06:07.890Z: in the middle of a second, a minute, an hour, a week and a month.
NOW = 1_772_600_767_890


class Clock:
    """Calling it gives epoch milliseconds."""

    def __init__(self, now_ms: int = NOW) -> None:
        self._now_ms = now_ms

    def __call__(self) -> int:
        return self._now_ms

    def advance(self, ms: int) -> None:
        if ms < 0:
            raise ValueError("time does not go back")
        self._now_ms += ms

    def advance_to(self, at_ms: int) -> None:
        self.advance(max(0, at_ms - self._now_ms))


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop on a Clock. Nothing outside the process may be awaited on it."""

    def __init__(self, clock: Clock) -> None:
        self._simulated = clock
        super().__init__(_JumpingSelector(clock))
        # asyncio adds this to `time()` to find what is due. Its own nanosecond is lost in a float
        # of epoch seconds, and a timer that is due exactly now would never fire.
        self._clock_resolution = 0.0005

    def time(self) -> float:
        return self._simulated() / 1000


class _JumpingSelector(selectors.SelectSelector):
    """Where the loop would wait for its next timer, the clock jumps there."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("every task waits for another: nothing can ever happen again")
        if timeout > 0:
            # A hair less than a millisecond is the rounding of floats, not a wait.
            self._clock.advance(max(1, math.ceil(timeout * 1000 - 0.01)))
        return super().select(0)
