"""How much of the exchange's weight limit the fleet may use in a minute. Pure.

The share begins below the operator's ceiling. It rises to it, a step a minute, where the exchange's
own count agrees with the ledger's. A count that is ahead says that strangers ask from the same
address: what they use is left to them, and the share is spent over the whole minute, a quarter at
a time. Where the exchange has throttled us, the share is halved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chalicelib.core.settings import Settings
from chalicelib.core.times import MINUTE
from chalicelib.exchange.catalogue_table import Catalogue

#: Binance's request weight per minute and IP, where the exchange does not name its limit.
DEFAULT_WEIGHT_LIMIT = 6000
# Of the exchange's limit, in percent.
_FIRST, _LEAST, _STEP = 80, 10, 10
#: What strangers and we may use together. What is left lets requests arrive late.
_TOGETHER = 98
#: What only tasks of priority high and the system's own requests may use: one of each of those in
#: the same minute (weights.py), and a few pages.
_FOR_HIGH = 2
#: A count that is ahead by no more may be our own: requests that arrived late in the minute before.
_TOLERATED = 1
#: Beside strangers so much stays free: what is in flight, or paid ahead, is not in the exchange's
#: count yet.
_UNDER_WAY = 3
#: Strangers are taken to go on as they began, but not from less than this.
_LEAST_SEEN_MS = 15_000
#: Beside strangers the minute is spent in so many parts. Else it were spent in its first seconds,
#: and nobody would see what they use in the rest of it.
_PARTS = 4


class WeightLimits(NamedTuple):
    """Request weight a minute. `exchange`: what the exchange allows an address; `ceiling`: what the
    operator allows all workers together."""

    exchange: int
    ceiling: int

    def percent(self, percent: int) -> int:
        return self.exchange * percent // 100

    def is_ahead(self, counted: int, ours: int) -> bool:
        """Whether the exchange's count says that somebody else asks, too."""
        return counted - ours > self.percent(_TOLERATED)

    @property
    def together(self) -> int:
        """What strangers at the same address and we may use."""
        return max(self.ceiling, self.percent(_TOGETHER))

    def kept(self, high: bool) -> int:
        """What requests must leave untouched; `high`: whether they are what it is kept for."""
        return 0 if high else min(self.percent(_FOR_HIGH), self.ceiling // 10)

    def bounded(self, share: int) -> int:
        """The share, no less than lets some requests through and never above the ceiling."""
        return max(1, min(max(share, self.percent(_LEAST)), self.ceiling))


def weight_limits(catalogue: Catalogue | None, settings: Settings) -> WeightLimits:
    """What the exchange and the operator allow.

    `catalogue` None: the exchange's limit is not known yet, and Binance's is taken.
    """
    weight_limit = (catalogue.weight_limit if catalogue else 0) or DEFAULT_WEIGHT_LIMIT
    return WeightLimits(weight_limit, max(1, weight_limit * settings.budget_percent // 100))


class Spent(NamedTuple):
    """What happened to the exchange's weight in a minute.

    `share`: what the fleet may use; `expected`: what strangers are expected to use; `used`: what
    the fleet took; `counted`: that with what the exchange counted besides; `ahead_ms`: how long the
    minute lasted when its count was last ahead; `seen`: whether its count was seen; `throttled`:
    whether it has throttled us since the minute began.
    """

    share: int = 0
    expected: int = 0
    used: int = 0
    counted: int = 0
    ahead_ms: int = 0
    seen: bool = False
    throttled: bool = False

    def has_strangers(self, limits: WeightLimits) -> bool:
        return limits.is_ahead(self.counted, self.used)

    def part(self, into_ms: int, high: bool) -> int:
        """How many parts of the minute have begun, that may be spent; `into_ms`: how long it has
        lasted."""
        in_parts = self.expected and not high
        return into_ms * _PARTS // MINUTE + 1 if in_parts else _PARTS

    def rooms(self, limits: WeightLimits, high: bool, into_ms: int) -> tuple[int, int]:
        """Up to where `used` may go by now, and `counted`."""
        under_way = limits.percent(_UNDER_WAY) if self.has_strangers(limits) else 0
        kept = limits.kept(high)
        for_us = min(self.share, limits.ceiling) - kept
        part = for_us * self.part(into_ms, high) // _PARTS
        return part, limits.together - under_way - kept

    def left(self, limits: WeightLimits, high: bool, into_ms: int = MINUTE - 1) -> int:
        """Weight that may be taken yet; below 0 where more was taken than may be."""
        for_us, for_all = self.rooms(limits, high, into_ms)
        return min(for_us - self.used, for_all - self.counted)

    def more_after_ms(self, into_ms: int, high: bool) -> int:
        """How long the minute will have lasted when more may be taken: all of it, where that is in
        the next one."""
        return self.part(into_ms, high) * MINUTE // _PARTS


def first_share(limits: WeightLimits) -> int:
    """The share as long as nothing is known of the exchange's own count."""
    return limits.bounded(limits.percent(_FIRST))


def next_minute(spent: Spent, limits: WeightLimits) -> Spent:
    """What the next minute begins with, by the last one in which the fleet asked."""
    if not spent.share:
        return Spent(first_share(limits))
    share, expected = spent.share, 0
    if spent.has_strangers(limits):
        lasted_ms = min(max(spent.ahead_ms, _LEAST_SEEN_MS), MINUTE)
        expected = (spent.counted - spent.used) * MINUTE // lasted_ms
        share = min(_risen(share, limits), limits.together - expected)
    elif spent.seen:
        share = _risen(share, limits)
    if spent.throttled:
        share = min(share, spent.share // 2)
    return Spent(limits.bounded(share), expected)


class Allowance(NamedTuple):
    """Request weight that requests of one kind may use; `high`: also what is kept for such."""

    spent: Spent
    limits: WeightLimits
    high: bool = True

    @property
    def limit(self) -> int:
        """In the running minute."""
        return max(1, self.spent.rooms(self.limits, self.high, MINUTE - 1)[0])

    @property
    def left(self) -> int:
        """Of that, by now."""
        return max(0, self.spent.left(self.limits, self.high))

    def coming(self) -> Iterator[int]:
        """In the minutes to come, without end, where the exchange counts no strangers."""
        share = self.spent.share
        while True:
            share = self.limits.bounded(_risen(share, self.limits))
            yield max(1, share - self.limits.kept(self.high))


def _risen(share: int, limits: WeightLimits) -> int:
    return share + max(1, limits.percent(_STEP))
