"""Add what happened to the audit trail, each event once and at the end of its chain.

An event is known by its place in the stream: the sequence number of its change, and its index
among the happenings of that change. A change that the stream brings again finds its events by
their places. So the chain is read from its end backwards until the event is found, or is certain
not to be there.

A PROG item holds failed units by number only. Before such an event is added, the units' symbols,
timeframes and windows are read, so that the trail names them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalicelib.audit.chain import AuditEvent, canonical, sealed
from chalicelib.audit.table import AuditTable, keep_days
from chalicelib.aws.stream import Change
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.core.times import iso
from chalicelib.events.happening import Happening
from chalicelib.tasks.table import TaskTable

#: How often another invocation may add to the same chain in between.
_RACES = 12
#: Events that are read at once where a change may have been recorded some time ago.
_LOOK_BACK = 50
#: DynamoDB holds 400 KB an item. An event that needs more is a bug, and not to be tried for a day.
_MOST_BYTES = 300_000


class Trail:
    """The chains that one batch of a stream adds to. The end of each is read once."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        #: subject -> its newest events, newest first, and whether the chain begins with the last.
        self._ends: dict[str, tuple[list[AuditEvent], bool]] = {}

    async def record(self, change: Change, index: int, happening: Happening) -> AuditEvent:
        """The event of a happening, which is the `index`th (from 0) of its change.

        It is added to its chain unless it is there already. Raises CallFailed; ValueError for an
        event that is too large.
        """
        backend, subject = self._backend, happening.subject
        place = (int(change.sequence), index)
        for _ in range(_RACES):
            found, late = await self._find(subject, place)
            if found is not None:
                return found
            end = self._ends[subject][0]
            last = end[0] if end else None
            fields = _fields(await named(backend, happening), change, place, last)
            now_ms = backend.now_ms()
            event = sealed({**fields, "recorded_at": iso(now_ms), "late": late}, last)
            if len(canonical(event)) > _MOST_BYTES:
                raise ValueError(f"an event of {subject} is too large: {event['action']}")
            keep_seconds = keep_days(subject, backend.settings.audit_retention_days) * 86_400
            try:
                await AuditTable(backend).add(event, now_ms // 1000 + keep_seconds)
            except ConditionFailed:
                # Another invocation's event is there by now, or our own: the client may have sent
                # the write twice.
                del self._ends[subject]
                continue
            end.insert(0, event)
            return event
        raise CallFailed("dynamodb", "PutItem", "Contention", f"the trail of {subject}")

    async def _find(self, subject: str, place: tuple[int, int]) -> tuple[AuditEvent | None, bool]:
        """The event with this place in the stream, and whether the chain has a newer one.

        An event that was not late is newer than all events before it. So a place that is newer
        than such an event need not be looked for any further back. As long as changes come in
        order, only the last event of the chain is read.
        """
        at, late = 0, False
        while True:
            event = await self._back(subject, at)
            if event is None:
                return None, late
            at += 1
            found = _place(event)
            if found is None:
                continue
            if found == place:
                return event, late
            if found < place and not event["late"]:
                return None, late
            late = late or found > place

    async def _back(self, subject: str, at: int) -> AuditEvent | None:
        """The event `at` places before the chain's end; None before its beginning."""
        events, whole = self._ends.get(subject, ([], False))
        if at >= len(events) and not whole:
            most = _LOOK_BACK if events else 1
            before = events[-1]["seq"] if events else None
            more = await AuditTable(self._backend).newest(subject, most, before)
            events = [*events, *more]
            whole = not more or events[-1]["seq"] == 1
            self._ends[subject] = events, whole
        return events[at] if at < len(events) else None


async def named(backend: Backend, happening: Happening) -> Happening:
    """The happening with its failed units' symbols, timeframes and windows, and their task's owner.

    Takes two reads where units failed, none otherwise. Where the task is gone by now, its units
    are known by number only.
    """
    if happening.action != "task.unit_failed":
        return happening
    task = await TaskTable(backend).read(happening.subject.removeprefix("task:"))
    if task is None or task.plan_id is None:
        return happening
    data = happening.data
    units = await TaskTable(backend).read_units(task, data["prog"])
    named_units = []
    for failed in data["units"]:
        if failed["number"] < len(units):
            unit = units[failed["number"]]
            window = {"start": iso(unit.start_ms), "end": iso(unit.end_ms)}
            failed = {"symbol": unit.symbol, "timeframe": unit.timeframe, **window, **failed}
        named_units.append(failed)
    return replace(happening, data={**data, "units": named_units}, owner=task.owner)


def _fields(
    happening: Happening, change: Change, place: tuple[int, int], last: AuditEvent | None
) -> dict[str, Any]:
    """The fields of an event that do not depend on when it is recorded."""
    event = dict(vars(happening))
    if event["owner"] is None and last is not None:
        event["owner"] = last["owner"]
    return {**event, "at": iso(change.at_ms), "stream": f"{place[0]}:{place[1]}"}


def _place(event: AuditEvent) -> tuple[int, int] | None:
    """An event's place in the stream; None where somebody altered it.

    An altered event must not keep later events from being recorded.
    """
    sequence, _, index = str(event["stream"]).partition(":")
    try:
        return int(sequence), int(index)
    except ValueError:
        return None
