"""The exchange's clock: real time, shifted by an offset or frozen."""

import time


class Clock:
    """Tells epoch milliseconds. `frozen_at` stops it; `offset_ms` shifts it otherwise."""

    def __init__(self, frozen_at: int | None = None) -> None:
        self.offset_ms = 0
        self.frozen_at = frozen_at

    def now(self) -> int:
        """The exchange's time in epoch ms."""
        real = time.time_ns() // 1_000_000 if self.frozen_at is None else self.frozen_at
        return real + self.offset_ms
