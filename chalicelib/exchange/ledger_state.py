"""What the ledger's item says (ledger.py): weight, breaker and people's pauses. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from chalicelib.exchange.share import Spent, WeightLimits, next_minute

MINUTE_MS = 60_000
#: While a person's pause lasts, whoever waits looks again so often: it may be ended at any time.
LOOK_AGAIN_MS = 60_000


class Hold(NamedTuple):
    """A pause that a person ordered, in epoch ms; `until_ms` times.FOREVER_MS: until resumed."""

    since_ms: int
    until_ms: int
    by: str
    reason: str = ""


class LedgerState(NamedTuple):
    """`window_minute`, `seen_minute`, `throttled_minute`: in epoch minutes; `fleet_share`,
    `expected`, `used`, `counted`, `ahead_ms`: as in share.Spent; `throttled_until`: the
    end of the last pause for that, epoch ms, and `strikes`: how often it has throttled us again
    soon after such a pause; `paused_until`: of the breaker, epoch ms, 0 where nothing opened it;
    `root`: whose name the exchange's is, "" where it was never asked; `holds`: (since, until) of
    people's pauses, epoch ms, oldest first; `held_by`, `hold_reason`: of the newest; `hold_rev`:
    how often they changed."""

    window_minute: int = 0
    fleet_share: int = 0
    expected: int = 0
    used: int = 0
    counted: int = 0
    ahead_ms: int = 0
    seen_minute: int = 0
    throttled_minute: int = 0
    throttled_until: int = 0
    strikes: int = 0
    paused_until: int = 0
    pause_reason: str = ""
    root: str = ""
    holds: tuple[tuple[int, int], ...] = ()
    held_by: str = ""
    hold_reason: str = ""
    hold_rev: int = 0

    @property
    def spent(self) -> Spent:
        """What has happened in the window's minute."""
        return Spent(
            self.fleet_share,
            self.expected,
            self.used,
            self.counted,
            self.ahead_ms,
            self.seen_minute == self.window_minute,
            self.throttled_minute >= self.window_minute,
        )

    def spent_at(self, now_ms: int, limits: WeightLimits) -> Spent:
        """What has happened in the running minute."""
        if self.window_minute >= now_ms // MINUTE_MS:
            return self.spent
        return next_minute(self.spent, limits)

    def used_at(self, now_ms: int) -> int:
        """Request weight that the fleet has used in the running minute."""
        return self.used if self.window_minute == now_ms // MINUTE_MS else 0

    def is_paused(self, now_ms: int) -> bool:
        return self.waits_until(now_ms) > now_ms

    def waits_until(self, now_ms: int) -> int:
        """Epoch ms at which asking again makes sense; 0 or past: now."""
        hold = self.hold_at(now_ms)
        return max(self.paused_until, min(hold.until_ms, now_ms + LOOK_AGAIN_MS) if hold else 0)

    def hold_at(self, now_ms: int) -> Hold | None:
        """The pause of a person that lasts now."""
        if not self.holds or self.holds[-1][1] <= now_ms:
            return None
        return Hold(*self.holds[-1], self.held_by, self.hold_reason)

    def held_ms(self, since_ms: int, now_ms: int) -> int:
        """For how long people have paused it in this stretch of time."""
        parts = (min(until, now_ms) - max(since, since_ms) for since, until in self.holds)
        return sum(max(0, part) for part in parts)

    def resumed_at(self, now_ms: int) -> int:
        """Epoch ms at which the last pause that is over ended; 0 where there was none."""
        return max((until for _, until in self.holds if until <= now_ms), default=0)


def state_in(item: dict[str, Any]) -> LedgerState:
    known = {name: item[name] for name in LedgerState._fields if name in item}
    holds = tuple((since, until) for since, until in item.get("holds", ()))
    return LedgerState(**{**known, "holds": holds})


def next_minute_ms(now_ms: int) -> int:
    """When the running minute ends, in epoch ms: the weight used is then counted from 0 again."""
    return (now_ms // MINUTE_MS + 1) * MINUTE_MS
