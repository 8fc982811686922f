"""How many requests an owner may send: a token bucket in each container, without a write.

So the rate is approximate: N containers let through up to N times as much, and a new container
begins with a full bucket. What the whole API takes is limited by the stage's throttling.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from chalicelib.core.settings import Settings
from chalicelib.quotas.limits import REQUESTS_PER_SECOND

#: A bucket holds what so many seconds allow, so that a burst passes.
BURST_SECONDS = 2
#: Owners that a container remembers. The one that has been quiet longest is forgotten first.
MOST_OWNERS = 1_000


class Buckets:
    """Owner -> tokens, and when they were counted, in epoch ms."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, owner: str, per_second: int, now_ms: int) -> float:
        """Take a token; how many are left then. Below zero: none was there, and none was taken."""
        most = float(per_second * BURST_SECONDS)
        tokens, at_ms = self._buckets.pop(owner, (most, now_ms))
        tokens = min(most, tokens + max(0, now_ms - at_ms) * per_second / 1000)
        left = tokens - 1
        self._buckets[owner] = (left if left >= 0 else tokens, now_ms)
        if len(self._buckets) > MOST_OWNERS:
            self._buckets.popitem(last=False)
        return left

    def __len__(self) -> int:
        return len(self._buckets)


_buckets = Buckets()


def take_request(settings: Settings, owner: str, now_ms: int) -> dict[str, str]:
    """Count a request; the RateLimit fields of its answer. Raises QuotaExceeded."""
    rate = REQUESTS_PER_SECOND.limit(settings)
    if not rate:
        return {}
    left = _buckets.take(owner, rate, now_ms)
    if left < 0:
        detail = f"more than {rate} requests a second; slow down"
        raise REQUESTS_PER_SECOND.exceeded(settings, detail, max(1, math.ceil(-left / rate)))
    return REQUESTS_PER_SECOND.headers(rate, int(left), 1)
