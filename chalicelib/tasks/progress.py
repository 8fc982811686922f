"""What a PROG item holds: which of its up to 200 units an attempt has counted, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType
from typing import Any, NamedTuple

from chalicelib.core.errors import ItemUnreadable
from chalicelib.core.task_keys import PROG

OPEN, CLOSED = "RUNNING", "CLOSED"
#: Attributes per reason: numbers of the units that failed for it, and the last one's detail.
FAILED, DETAIL = "f_", "d_"
#: Attributes per unit: its last trouble, and open times of candles that were rejected.
TROUBLE, REJECTED = "t_", "r_"
#: Rejected candles that a PROG item names; workers that count at once may add some more each.
MOST_REJECTIONS = 100
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Collected(NamedTuple):
    """What one unit that succeeded brought: candles stored; of those, how many replaced other
    values; candles that were not valid, and the open times (epoch ms) of some of these; whether
    nothing was asked for, because all of it was stored or explained."""

    candles: int = 0
    revised: int = 0
    rejected: int = 0
    rejections: Set[int] = frozenset()
    from_store: bool = False


class Trouble(NamedTuple):
    """Why a unit has to wait for another try; `at`: since when; `text`: for people."""

    at: int
    text: str


# A named tuple for the same reason as Task (tasks/task.py).
class Progress(NamedTuple):
    """A PROG item. Units are known by their numbers, their places in the UNITS item of the same
    number. Times are in epoch milliseconds."""

    #: From 0, within the task.
    number: int
    #: The attempt that has opened or closed it.
    attempt: int
    #: OPEN: units may be counted; CLOSED: no more.
    state: str
    #: Units in it; 0 where it was closed before it was ever opened.
    unit_count: int = 0
    #: The units counted, failed ones included. Those that succeeded are kept by a retry.
    done: Set[int] = frozenset()
    #: Reason -> the units that failed for it in this attempt.
    failed: Mapping[str, Set[int]] = _NOTHING
    #: Reason -> what the last of these failures said.
    details: Mapping[str, str] = _NOTHING
    #: Unit -> its last trouble in this attempt; `waiting` leaves out those that are counted.
    troubles: Mapping[int, Trouble] = _NOTHING
    #: Stored for its units, by all attempts together; of those, how many replaced other values;
    #: and what was sent that was not valid.
    candles: int = 0
    revised: int = 0
    rejected: int = 0
    #: Units for which nothing was asked, because all of it was stored or explained.
    from_store: int = 0
    #: Unit -> open times of its rejected candles; all units together, about MOST_REJECTIONS.
    rejections: Mapping[int, Set[int]] = _NOTHING
    #: Of its units that succeeded and of the four counts: what older attempts had brought when
    #: this one opened it. Its PART item counts that already (tasks/part.py).
    kept: int = 0
    kept_candles: int = 0
    kept_revised: int = 0
    kept_rejected: int = 0
    kept_from_store: int = 0
    #: "<symbol> <timeframe>" of what was counted last, when, and why that failed; None before that,
    #: and where it did not fail.
    last_label: str | None = None
    last_at: int | None = None
    last_reason: str | None = None
    #: Each write that opens, closes, counts or notes trouble raises it.
    rev: int = 0
    #: The dispatch that sends its messages (work/window.py), and since when; None where it was
    #: closed before it was ever opened.
    claim: str | None = None
    claimed_at: int | None = None
    #: When all its messages were in their queue, the last time; None until then.
    sent_at: int | None = None
    #: How often sweep has sent them again in this attempt (collecting/sweep.py).
    sent_again: int = 0
    #: At how many units left the task's next items are asked for, or window.NEVER; None as `claim`.
    refill_at: int | None = None
    #: How many units the write that returned it has counted. It is not stored: None where it comes
    #: from anywhere else, and where that write found all its units counted before.
    fresh: int | None = None

    @property
    def failed_units(self) -> frozenset[int]:
        """The units that failed, for whatever reason."""
        return frozenset().union(*self.failed.values())

    @property
    def succeeded(self) -> Set[int]:
        return self.done - self.failed_units

    @property
    def reasons(self) -> dict[int, str]:
        """Unit -> why it failed, of all that did."""
        return {unit: reason for reason, units in self.failed.items() for unit in units}

    @property
    def waiting(self) -> dict[int, Trouble]:
        """Unit -> trouble, of those that wait for another try; none once it is closed."""
        if self.state != OPEN:
            return {}
        return {unit: why for unit, why in self.troubles.items() if unit not in self.done}

    def is_open(self, attempt: int) -> bool:
        """Whether units of this attempt may be counted."""
        return self.attempt == attempt and self.state == OPEN


_FIELDS = frozenset(Progress._fields) - {
    "number",
    "failed",
    "details",
    "troubles",
    "rejections",
    "fresh",
}


def progress_from(item: dict[str, Any], number: int, fresh: int | None = None) -> Progress:
    """The progress that PROG item `number` holds; `fresh`: of the write that returned it.

    Raises ItemUnreadable where it does not say which attempt it is of, or in which state.
    """
    if not isinstance(item.get("attempt"), int) or item.get("state") not in (OPEN, CLOSED):
        raise ItemUnreadable(f"{item.get('pk')} {item.get('sk')} has an odd attempt or state")
    return Progress(
        number=number,
        failed=_starting(item, FAILED),
        details=_starting(item, DETAIL),
        troubles={int(unit): Trouble(*why) for unit, why in _starting(item, TROUBLE).items()},
        rejections={int(unit): opens for unit, opens in _starting(item, REJECTED).items()},
        fresh=fresh,
        **{name: value for name, value in item.items() if name in _FIELDS},
    )


def number_of(sk: str) -> int | None:
    """The number of the PROG item with this sort key; None where it is another item's."""
    return int(sk.removeprefix(PROG)) if sk.startswith(PROG) else None


def of_attempt(attempt: int, progs: Iterable[Progress]) -> list[Progress]:
    """The PROG items that this attempt has opened: the others still hold what older ones did."""
    return [prog for prog in progs if prog.attempt == attempt]


def _starting(item: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value for name, value in item.items() if name.startswith(prefix)
    }
