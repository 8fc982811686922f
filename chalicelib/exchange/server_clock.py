"""The exchange's clock, as far as its answers tell it. Pure.

An answer's Date is in whole seconds, and was written between our request and the answer's arrival.
So each answer bounds by how much the exchange's clock is ahead of ours. Many of them together bound
it to about one round trip. The exchange counts weight in minutes of its own clock.
"""

from __future__ import annotations

from typing import NamedTuple

from chalicelib.core.times import MINUTE

#: What is taken for granted before the first answer: both clocks are set by the network.
_UNSURE_MS = 500
#: A Date that may be further off, or a very slow answer, says nothing of the minute. Nor does one
#: while whose request was under way our clock was set back.
_MOST_MS = 10_000
#: A request that is permitted reaches the exchange within so long, or is one of few.
_TRAVEL_MS = 500


class ServerClock(NamedTuple):
    """The exchange's clock is ahead of ours by `low_ms` to `high_ms`; `told_so`: whether an answer
    says so."""

    low_ms: int = -_UNSURE_MS
    high_ms: int = _UNSURE_MS
    told_so: bool = False

    @property
    def ahead_ms(self) -> int:
        return (self.low_ms + self.high_ms) // 2

    def told(self, sent_ms: int, received_ms: int, date_ms: int) -> ServerClock:
        """The clock after one more answer. `sent_ms`, `received_ms`: by our clock, epoch ms."""
        new = ServerClock(date_ms - received_ms, date_ms + 1000 - sent_ms, True)
        if new.low_ms < -_MOST_MS or new.high_ms > _MOST_MS or new.low_ms > new.high_ms:
            return self
        both = ServerClock(max(self.low_ms, new.low_ms), min(self.high_ms, new.high_ms), True)
        # Where they contradict each other, one of the clocks was set.
        return both if self.told_so and both.low_ms <= both.high_ms else new

    def wait_ms(self, now_ms: int) -> int:
        """How long a request must wait so that it is certain in which minute it is counted."""
        earliest, latest = now_ms + self.low_ms, now_ms + self.high_ms + _TRAVEL_MS
        end_ms = (earliest // MINUTE + 1) * MINUTE
        return 0 if latest < end_ms else end_ms - earliest

    def minute(self, now_ms: int) -> int:
        """The exchange's minute, in epoch minutes."""
        return (now_ms + self.ahead_ms) // MINUTE

    def was_in(self, minute: int, at_ms: int) -> bool:
        """Whether that minute of the exchange had begun for certain at this time of our clock."""
        return (at_ms + self.low_ms) // MINUTE == minute


#: Ours, for requests that are few enough to be counted in whichever minute.
OUR_CLOCK = ServerClock(0, 0)
