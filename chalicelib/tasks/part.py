"""What a task has counted, known from a bounded number of items. Pure.

A large task has a thousand PROG items. A PART item keeps the totals of up to PART_PROGS of them:
when a PROG item is full, what it counted is added to its part, once. So what a task has counted is
in its parts, of which there are few, and in the PROG items that are open, of which there are few
(work/window.py).

A part holds what its PROG items had when its attempt began, too, as `kept` of a PROG item says. So
a PROG item that waits for its turn need not be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType
from typing import Any, NamedTuple

from chalicelib.tasks.progress import FAILED, Progress
from chalicelib.tasks.task import Counts, Task

#: PROG items of a part. A part so large stays below 1 KB, which is one write unit.
PART_PROGS = 50
_NOTHING: Mapping[str, int] = MappingProxyType({})


class Part(NamedTuple):
    """A PART item. Numbers of PROG items are those within the task; times are in epoch ms."""

    #: From 0, within the task.
    number: int
    #: The attempt that it counts.
    attempt: int
    #: Its PROG items.
    size: int
    #: So many of its PROG items, from its first on, may have been opened by its attempt.
    opened: int = 0
    #: The PROG items whose units this attempt has all counted, or found collected. What they
    #: counted is in the figures below.
    finished: Set[int] = frozenset()
    #: Of these: those with failed units, and those with rejected candles.
    failing: Set[int] = frozenset()
    rejecting: Set[int] = frozenset()
    #: As Counts has them: of what is finished, and of what older attempts had collected.
    succeeded: int = 0
    failed: int = 0
    candles: int = 0
    revised: int = 0
    rejected: int = 0
    from_store: int = 0
    #: Reason -> units that failed for it.
    reasons: Mapping[str, int] = _NOTHING
    #: Of the PROG item that was finished last, as there.
    last_label: str | None = None
    last_at: int | None = None
    last_reason: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of its PROG items are finished."""
        return len(self.finished) == self.size

    @property
    def open_numbers(self) -> list[int]:
        """The PROG items that may be open."""
        first = part_start(self.number)
        return [at for at in range(first, first + self.opened) if at not in self.finished]


class Tally(NamedTuple):
    """A task's parts, and its PROG items that may be open: all that counts."""

    parts: tuple[Part, ...] = ()
    progs: tuple[Progress, ...] = ()

    def finished(self, attempt: int) -> frozenset[int]:
        """The PROG items that this attempt has finished."""
        return frozenset().union(*(part.finished for part in self.parts if part.attempt == attempt))

    def is_finished(self, task: Task) -> bool:
        """Whether all units of a planned task are counted."""
        return len(self.finished(task.attempt)) == task.progs_total


def part_of(number: int) -> int:
    """The part that PROG item `number` belongs to."""
    return number // PART_PROGS


def part_start(number: int) -> int:
    """The first PROG item of part `number`."""
    return number * PART_PROGS


def part_sizes(progs_total: int) -> list[int]:
    """PROG items of each part of a task that has so many."""
    return [min(PART_PROGS, progs_total - at) for at in range(0, progs_total, PART_PROGS)]


def totals(attempt: int, units: int, tally: Tally) -> Counts:
    """What a task has counted so far; `attempt` and `units` are the task's.

    Failures of an older attempt do not count, whether their PROG item was opened again or not:
    else the progress would fall when it is.
    """
    parts = tally.parts
    begun = {part.number: part.attempt for part in parts}
    # What an older attempt left in a PROG item is in its part.
    fresh = [prog for prog in tally.progs if prog.attempt >= begun.get(part_of(prog.number), 0)]
    return {
        "units": units,
        "succeeded": sum(part.succeeded for part in parts)
        + sum(len(prog.succeeded) - prog.kept for prog in fresh),
        "failed": sum(part.failed for part in parts if part.attempt == attempt)
        + sum(len(prog.failed_units) for prog in fresh if prog.attempt == attempt),
        "candles": sum(part.candles for part in parts)
        + sum(prog.candles - prog.kept_candles for prog in fresh),
        "revised_candles": sum(part.revised for part in parts)
        + sum(prog.revised - prog.kept_revised for prog in fresh),
        "rejected_candles": sum(part.rejected for part in parts)
        + sum(prog.rejected - prog.kept_rejected for prog in fresh),
        "from_store": sum(part.from_store for part in parts)
        + sum(prog.from_store - prog.kept_from_store for prog in fresh),
    }


def begun_again(number: int, attempt: int, size: int, progs: Iterable[Progress]) -> Part:
    """Part `number` as an attempt finds it; `progs`: its PROG items, of which none can count."""
    progs = [*progs]
    return Part(
        number=number,
        attempt=attempt,
        size=size,
        finished={prog.number for prog in progs if len(prog.succeeded) == prog.unit_count > 0},
        rejecting={prog.number for prog in progs if prog.rejections},
        succeeded=sum(len(prog.succeeded) for prog in progs),
        candles=sum(prog.candles for prog in progs),
        revised=sum(prog.revised for prog in progs),
        rejected=sum(prog.rejected for prog in progs),
        from_store=sum(prog.from_store for prog in progs),
    )


_FIELDS = frozenset(Part._fields) - {"number", "reasons"}


def part_from(item: dict[str, Any], number: int) -> Part:
    """The part that PART item `number` holds."""
    reasons = {
        name.removeprefix(FAILED): count for name, count in item.items() if name.startswith(FAILED)
    }
    held = {name: value for name, value in item.items() if name in _FIELDS}
    return Part(number=number, reasons=reasons, **held)
