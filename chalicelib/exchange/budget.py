"""Request weight for one worker, taken from the shared ledger in blocks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chalicelib.core.backend import Backend
from chalicelib.core.logs import log
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger, Wanted
from chalicelib.exchange.ledger_state import MINUTE_MS, LedgerState
from chalicelib.exchange.server_clock import ServerClock
from chalicelib.exchange.share import WeightLimits, weight_limits
from chalicelib.exchange.weights import BLOCK_WEIGHT

if TYPE_CHECKING:
    from chalicelib.exchange.binance import Page

#: All workers' blocks together hold at most this part of what is left in the minute, so that they
#: shrink towards its end: what is left of a block then is lost.
_PART_IN_BLOCKS = 4
_CATALOGUE_AGE_MS = 300_000


class Budget:
    """One per container. `take` before asking the exchange, `observe` what it answers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._ledger = Ledger(backend)
        self._clock = ServerClock()
        self._minute = -1
        self._left = 0
        #: The ledger as it was last seen; the minute in which the exchange last showed its count,
        #: and strangers in it.
        self._state: LedgerState | None = None
        self._seen_minute = self._shared_minute = -1
        self._limits = weight_limits(None, backend.settings)
        self._limits_read_ms = 0
        self._taking = asyncio.Lock()

    async def take(self, weight: int, high: bool = False) -> int:
        """0 where `weight` may be spent now, else the epoch ms at which to ask again.

        `high`: also of what is kept for tasks of priority high. The pause of the whole fleet is
        read every time, even where the block has weight left. Waits as `wait` does. Raises
        ExchangeRootChanged.
        """
        async with self._taking:
            limits = await self._read_limits()
            await self.wait()
            now_ms = self._backend.now_ms()
            if self._minute != self._clock.minute(now_ms):
                self._minute, self._left = self._clock.minute(now_ms), 0
            if self._left < weight:
                wanted = Wanted(
                    weight - self._left,
                    0 if high else self._block(limits),
                    high,
                    self._clock,
                    self._seen_minute == self._minute,
                )
                taken = await self._ledger.take_weight(wanted, limits, now_ms, self._state)
                self._state = taken.state
                if taken.weight:
                    self._left = max(0, self._left + taken.weight - weight)
                return taken.until_ms
            self._left -= weight
            minute = self._minute
        # Others may take meanwhile: their reads of the ledger go together with this one.
        spends = False
        try:
            until_ms = await self._ledger.waits_until(now_ms)
            spends = until_ms <= now_ms
        finally:
            if not spends and self._minute == minute:
                self._left += weight
        return 0 if spends else until_ms

    async def wait(self) -> None:
        """Until it is certain in which of the exchange's minutes a request would be counted: a
        second at most, as a rule."""
        if wait_ms := self._clock.wait_ms(self._backend.now_ms()):
            await asyncio.sleep(wait_ms / 1000)

    async def observe(self, page: Page) -> None:
        """Learn the exchange's clock of an answer, and its own count of weight.

        The count goes to the ledger where it is ahead of it. One that was answered in another
        minute than it was asked for is of nobody knows which, and is passed over.
        """
        self._clock = self._clock.told(page.sent_ms, self._backend.now_ms(), page.server_ms)
        minute = page.server_ms // MINUTE_MS
        if page.used_weight is None or not self._clock.was_in(minute, page.sent_ms):
            return
        self._seen_minute = minute
        state, limits = self._state, await self._read_limits()
        known = state.counted if state and state.window_minute == minute else 0
        if not limits.is_ahead(page.used_weight, known):
            return
        self._state = await self._ledger.observe_weight(page.used_weight, page.server_ms)
        if self._state.spent.has_strangers(limits) and self._shared_minute != minute:
            self._shared_minute = minute
            log("exchange_shared", by_others=self._state.counted - self._state.used)

    def _block(self, limits: WeightLimits) -> int:
        """How much to take ahead; nothing beside strangers, whose weight leaves no room for it."""
        spent = (self._state or LedgerState()).spent_at(self._minute * MINUTE_MS, limits)
        if spent.has_strangers(limits):
            return 0
        parts = _PART_IN_BLOCKS * self._backend.settings.collectors
        return min(BLOCK_WEIGHT, spent.left(limits, high=False) // parts)

    async def _read_limits(self) -> WeightLimits:
        now_ms = self._backend.now_ms()
        if now_ms - self._limits_read_ms > _CATALOGUE_AGE_MS:
            catalogue = await CatalogueTable(self._backend).read_catalogue()
            self._limits = weight_limits(catalogue, self._backend.settings)
            self._limits_read_ms = now_ms
        return self._limits
