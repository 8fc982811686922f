"""What a PROG item holds: which of its up to 200 units an attempt has counted, and how."""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Any, NamedTuple

from chalicelib.core.task_keys import PROG

OPEN, CLOSED = "RUNNING", "CLOSED"
#: Attributes per reason: numbers of the units that failed for it, and the last one's detail.
FAILED, DETAIL = "f_", "d_"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


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
    #: Stored for its units, by all attempts together; and what was sent that was not valid.
    candles: int = 0
    rejected: int = 0
    #: "<symbol> <timeframe>" of what was counted last, and when; None before that.
    last_label: str | None = None
    last_at: int | None = None
    #: Each write that opens, closes or counts raises it.
    rev: int = 0
    #: The dispatch that sends its messages (work/window.py), and since when; None where it was
    #: closed before it was ever opened.
    claim: str | None = None
    claimed_at: int | None = None
    #: When all its messages were in their queue; None until then.
    sent_at: int | None = None
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

    def is_open(self, attempt: int) -> bool:
        """Whether units of this attempt may be counted."""
        return self.attempt == attempt and self.state == OPEN


_FIELDS = frozenset(Progress._fields) - {"number", "failed", "details", "fresh"}


def progress_from(item: dict[str, Any], number: int, fresh: int | None = None) -> Progress:
    """The progress that PROG item `number` holds; `fresh`: of the write that returned it."""
    return Progress(
        number=number,
        failed=_by_reason(item, FAILED),
        details=_by_reason(item, DETAIL),
        fresh=fresh,
        **{name: value for name, value in item.items() if name in _FIELDS},
    )


def number_of(sk: str) -> int | None:
    """The number of the PROG item with this sort key; None where it is another item's."""
    return int(sk.removeprefix(PROG)) if sk.startswith(PROG) else None


def _by_reason(item: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value for name, value in item.items() if name.startswith(prefix)
    }
