"""Request weight for one worker, taken from the shared ledger in blocks."""

from __future__ import annotations

import asyncio

from chalicelib.core.backend import Backend
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import MINUTE_MS, Ledger, fleet_limit
from chalicelib.exchange.weights import BLOCK_WEIGHT

#: All workers' blocks together hold at most this part of the fleet's limit.
_PART_IN_BLOCKS = 4
_CATALOGUE_AGE_MS = 300_000


class Budget:
    """One per container. `take` before asking the exchange, `observe` what it answers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._ledger = Ledger(backend)
        self._minute = -1
        self._left = 0
        self._known = 0
        self._limit = fleet_limit(None, backend.settings)
        self._limit_read_ms = 0
        self._taking = asyncio.Lock()

    async def take(self, weight: int) -> int:
        """0 where `weight` may be spent now, else the epoch ms at which to ask again.

        The pause of the whole fleet is read every time, even where the block has weight left.
        Raises ExchangeRootChanged.
        """
        async with self._taking:
            now_ms = self._backend.now_ms()
            limit = await self._fleet_limit(now_ms)
            weight = min(weight, limit)  # a tiny limit must still let a group through, slowly
            if self._minute != now_ms // MINUTE_MS:
                self._minute, self._left, self._known = now_ms // MINUTE_MS, 0, 0
            if self._left >= weight:
                until_ms = await self._ledger.waits_until(now_ms)
                if until_ms > now_ms:
                    return until_ms
            else:
                share = limit // (_PART_IN_BLOCKS * self._backend.settings.collectors)
                block = max(weight, min(BLOCK_WEIGHT, share))
                until_ms = await self._ledger.take_weight(block, limit, now_ms)
                if until_ms and block > weight:
                    block = weight
                    until_ms = await self._ledger.take_weight(block, limit, now_ms)
                if until_ms:
                    return until_ms
                self._left += block
            self._left -= weight
            return 0

    async def observe(self, used_weight: int | None) -> None:
        """Note the exchange's own count; it goes to the ledger when it is well ahead of ours."""
        if used_weight is None:
            return
        now_ms = self._backend.now_ms()
        limit = await self._fleet_limit(now_ms)
        if used_weight - self._known < max(20, limit // 20):
            return
        self._known = used_weight
        await self._ledger.observe_weight(used_weight, now_ms)

    async def _fleet_limit(self, now_ms: int) -> int:
        if now_ms - self._limit_read_ms > _CATALOGUE_AGE_MS:
            catalogue = await CatalogueTable(self._backend).read_catalogue()
            self._limit = fleet_limit(catalogue, self._backend.settings)
            self._limit_read_ms = now_ms
        return max(1, self._limit)
