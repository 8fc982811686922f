"""Taking weight as tests want it: in one line, and up to a limit of their own."""

from __future__ import annotations

from chalicelib.exchange.ledger import Ledger, Wanted
from chalicelib.exchange.share import WeightLimits


def limited(most: int) -> WeightLimits:
    """Limits of a fleet that may use `most` in a minute from the first one on."""
    return WeightLimits(-(-most * 5 // 4), most)


async def take_weight(ledger: Ledger, weight: int, most: int, now_ms: int) -> int:
    """0 where it was granted, else when to ask again; nothing is kept for others."""
    taken = await ledger.take_weight(Wanted(weight, high=True), limited(most), now_ms)
    return taken.until_ms
