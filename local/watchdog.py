"""Says what does not answer when nothing has happened for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 20.0


class Watchdog:
    """While it watches, something must happen every `patience_s` seconds (`happened`); otherwise
    it says what is silent, and again after every such pause. It ends nothing.

    `silent` is called in a thread of its own.
    """

    def __init__(
        self,
        silent: Callable[[], list[str]],
        say: Callable[[str], None],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._silent, self._say, self._patience_s = silent, say, patience_s
        self._last = time.monotonic()
        self._ended = threading.Event()

    def happened(self) -> None:
        self._last = time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()

    def _watch(self) -> None:
        began = self._last
        next_at = began + self._patience_s
        while not self._ended.wait(max(next_at - time.monotonic(), 0.01)):
            if self._last != began:
                began = self._last
                next_at = began + self._patience_s
                continue
            quiet_s = time.monotonic() - began
            for line in self._silent() or ["all that was started answers; it may only be slow."]:
                if self._last == began and not self._ended.is_set():
                    self._say(f"nothing has happened for {quiet_s:.0f} s: {line}")
            next_at = time.monotonic() + self._patience_s
