"""How much of a task is in its queue at a time. Pure.

A task's messages are not all sent when it is planned, but a few PROG items at a time. So a task
that comes later waits behind a bounded number of messages, however large the first task is.

A unit is outstanding when its message was sent and it has not been counted. The next PROG item is
sent while at most `refill_below` units are outstanding, so at most `refill_below` + PROG_UNITS ever
are. Whoever counts the unit that makes an item half done asks for more.

Two dispatches at once keep to that without a lock. Both take the lowest items that are free, each
item goes to one of them, and the outstanding units of older items only become fewer. So whoever
takes the highest item has counted all below it in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Units for each worker. With more, others wait longer. With fewer, workers run out of messages
#: before the next ones come (docs/BENCHMARKS.md, fairness).
UNITS_EACH = 20
#: How long a dispatch is given to send the messages of the items that it took. Where another one
#: takes them too early, they are sent twice, and counted once.
LEASE_MS = 20_000
#: How soon a task that let others go first looks again.
TURN_SECONDS = 5
#: After so long without a look, the message that was to make it look again is taken for lost.
TURN_LOST_MS = 30_000
#: An item that never asks: the task has no more.
NEVER = -1


class Claim(NamedTuple):
    """One dispatch's mark on the items that it sends; `more`: the task has items after these."""

    id: str
    at_ms: int
    more: bool

    def refill_at(self, left: int) -> int:
        """At how many units left an item asks for more; `left`: those it has now."""
        return left // 2 if self.more else NEVER


class Standing(NamedTuple):
    """An unfinished PROG item. `left`: its units that are not counted; `sent`: whether they were
    sent, or are being sent just now."""

    number: int
    left: int
    sent: bool


def refill_below(collectors: int) -> int:
    """With how many outstanding units the next PROG item is still sent; `collectors`: workers."""
    return UNITS_EACH * collectors


def next_progs(standings: Iterable[Standing], collectors: int) -> list[int]:
    """The PROG items to send now, given all unfinished ones in the order of their numbers."""
    standings = list(standings)
    most = refill_below(collectors)
    outstanding = sum(standing.left for standing in standings if standing.sent)
    taken = []
    for standing in standings:
        if outstanding > most:
            break
        if not standing.sent:
            taken.append(standing.number)
            outstanding += standing.left
    return taken


def asks_for_more(left: int, fresh: int | None, refill_at: int) -> bool:
    """Whether the count of `fresh` units, after which `left` remain, is one that asks for more.

    Two counts of an item ask: the one by which it falls to `refill_at`, and the one that ends it.
    The second is needed where all items that were sent waited for their last units when the first
    one asked. `fresh` None: another delivery counted the units, and may have died before it asked.
    """
    if left > refill_at:
        return False
    return fresh is None or left + fresh > refill_at or left == 0
