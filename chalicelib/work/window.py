"""How much of a task is in its queue at a time. Pure.

A task's messages are not all sent when it is planned: only so many that a task which comes later
waits behind a bounded number of them, however large the first one is. Units whose messages were
sent and that have not been counted are outstanding. The next PROG item is sent while at most
`REFILL_BELOW` units are, so at most `REFILL_BELOW` + PROG_UNITS ever are. Whoever counts the unit
that makes an item half done asks for more.

Two dispatches at once keep to that without a lock: both take the lowest items that are free, each
item goes to one of them, and what is outstanding of older items only falls. So whoever takes the
highest item has reckoned with all below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Units. More, and others wait longer; less, and the five workers run out of messages before the
#: next ones come (docs/BENCHMARKS.md, fairness).
REFILL_BELOW = 100
#: How long a dispatch is given to send the messages of the items it took. Another one that takes
#: them too early only sends them twice, which the fence bears.
LEASE_MS = 20_000
#: How soon a task that let others go first looks again.
TURN_SECONDS = 5
#: After so long without a look, the message that would have brought it back is taken for lost.
TURN_LOST_MS = 30_000
#: An item that never asks: the task has no more.
NEVER = -1


class Claim(NamedTuple):
    """One dispatch's mark on the items it sends; `more`: the task has items after these."""

    id: str
    at_ms: int
    more: bool

    def refill_at(self, left: int) -> int:
        """At how many units left an item asks for more, `left` being what is sent of it."""
        return left // 2 if self.more else NEVER


class Standing(NamedTuple):
    """An unfinished PROG item: units not counted, and whether they are sent, or just being sent."""

    number: int
    left: int
    sent: bool


def next_progs(standings: Iterable[Standing]) -> list[int]:
    """The PROG items to send now, given all unfinished ones in the order of their numbers."""
    standings = list(standings)
    outstanding = sum(standing.left for standing in standings if standing.sent)
    taken = []
    for standing in standings:
        if outstanding > REFILL_BELOW:
            break
        if not standing.sent:
            taken.append(standing.number)
            outstanding += standing.left
    return taken


def asks_for_more(left: int, fresh: int | None, refill_at: int) -> bool:
    """Whether counting `fresh` units, which left `left`, is the count that asks for more.

    One count sees the item fall to `refill_at`, and one sees it end: the second is for items that
    all waited for their last units as the first ones asked. None: counted by a delivery of which
    nobody knows whether it came to ask.
    """
    if left > refill_at:
        return False
    return fresh is None or left + fresh > refill_at or left == 0
