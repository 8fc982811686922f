"""Reading the candles bucket from functions without an event loop: over a loop of the reader's own.

The libraries take a third of a second to load, so the store is made when the first candle is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from chalicelib.candles.store import CandleStore, Held


class BlockingCandles:
    """`make`: makes the store that candles are read from."""

    def __init__(self, make: Callable[[], CandleStore]) -> None:
        self._make = make
        self._store: CandleStore | None = None
        self._loop: asyncio.Runner | None = None
        # Pushing reads in several threads, and a loop runs in only one at a time.
        self._turn = threading.Lock()

    async def read(self, symbol: str, timeframe: str, open_ms: int) -> Held:
        """As CandleStore.read."""
        import asyncio

        with self._turn:
            self._loop = self._loop or asyncio.Runner()
            self._store = self._store or self._make()
            return self._loop.run(self._store.read(symbol, timeframe, open_ms))

    def close(self) -> None:
        """End the loop; a container never does this."""
        if self._loop is not None:
            self._loop.close()
