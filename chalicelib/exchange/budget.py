"""A worker's share of the exchange's request weight, taken from the shared ledger in blocks."""

from __future__ import annotations

import asyncio

from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import DEFAULT_WEIGHT_LIMIT, MINUTE_MS, Ledger
from chalicelib.exchange.worker import Worker

#: Taking a little ahead saves a write per message; what is left at the minute's end is lost.
BLOCK_WEIGHT = 60
_CATALOGUE_AGE_MS = 300_000


class Budget:
    """One per container. `take` before asking the exchange, `observe` what it answers."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._minute = -1
        self._left = 0
        self._known = 0
        self._limit = DEFAULT_WEIGHT_LIMIT
        self._limit_read_ms = 0
        self._taking = asyncio.Lock()

    async def take(self, weight: int) -> int:
        """0 where `weight` may be spent now, else the epoch ms at which to ask again.

        The pause of the whole fleet is looked up every time, whatever is left of the block.
        """
        async with self._taking:
            now_ms = self._worker.now_ms()
            share = await self._share(now_ms)
            weight = min(weight, share)  # a tiny limit must still let a group through, slowly
            if self._minute != now_ms // MINUTE_MS:
                self._minute, self._left, self._known = now_ms // MINUTE_MS, 0, 0
            if self._left >= weight:
                paused_until = int((await Ledger(self._worker).read_limit())["paused_until"])
                if paused_until > now_ms:
                    return paused_until
            else:
                block = max(weight, min(BLOCK_WEIGHT, share // 20))
                until_ms = await Ledger(self._worker).take_weight(block, share, now_ms)
                if until_ms and block > weight:
                    block = weight
                    until_ms = await Ledger(self._worker).take_weight(block, share, now_ms)
                if until_ms:
                    return until_ms
                self._left += block
            self._left -= weight
            return 0

    async def observe(self, used_weight: int | None) -> None:
        """The exchange's own count; written to the ledger when it runs well ahead of ours."""
        if used_weight is None or used_weight <= self._known:
            return
        now_ms = self._worker.now_ms()
        share = await self._share(now_ms)
        if used_weight - self._known < max(20, share // 20):
            return
        self._known = used_weight
        await Ledger(self._worker).observe_weight(used_weight, now_ms)

    async def _share(self, now_ms: int) -> int:
        if now_ms - self._limit_read_ms > _CATALOGUE_AGE_MS:
            catalogue = await CatalogueTable(self._worker).read_catalogue()
            self._limit = (catalogue or {}).get("weight_limit") or DEFAULT_WEIGHT_LIMIT
            self._limit_read_ms = now_ms
        return max(1, self._limit * self._worker.settings.budget_percent // 100)
