"""Names for what happened to units, which PROG items hold by number only."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.audit.chain import Event, canonical, sealed
from chalicelib.audit.table import AuditTable, keep_days
from chalicelib.aws.stream import Change
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.core.times import iso
from chalicelib.events.happening import Happening
from chalicelib.tasks.table import TaskTable


async def named(backend: Backend, change: Change, happening: Happening) -> Happening:
    """The happening with its units' symbols, timeframes and windows, and its task's owner.

    Two reads, for failed units alone. Where the task is gone since, the numbers have to do.
    """
    if happening.action != "task.unit_failed":
        return happening
    meta = await TaskTable(backend).read(change.pk.removeprefix("TASK#"), backend.now_ms())
    if meta is None or "plan_id" not in meta:
        return happening
    data = happening.data
    units = await TaskTable(backend).read_units(meta["task_id"], meta["plan_id"], data["prog"])
    told = []
    for failed in data["units"]:
        if failed["number"] < len(units):
            symbol, timeframe, start_ms, end_ms = units[failed["number"]]
            window = {"start": iso(start_ms), "end": iso(end_ms)}
            failed = {"symbol": symbol, "timeframe": timeframe, **window, **failed}
        told.append(failed)
    return replace(happening, data={**data, "units": told}, owner=meta.get("owner"))


_RACES = 12


#: Events read at once where a change may have been recorded some time ago.
_LOOK_BACK = 50


#: DynamoDB holds 400 KB an item; what needs more is a bug, and not to be tried for a day.
_MOST_BYTES = 300_000


class Trail:
    """The ends of the chains that one batch touches; each is read once."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        #: subject -> its newest events, newest first, and whether the chain begins with the last.
        self._ends: dict[str, tuple[list[Event], bool]] = {}

    async def record(self, change: Change, index: int, happening: Happening) -> Event:
        """The event of a happening, `index`th of its change: added, or as it was added before.

        Raises CallFailed.
        """
        backend, subject = self._backend, happening.subject
        place = (int(change.sequence), index)
        for _ in range(_RACES):
            found, late = await self._find(subject, place)
            if found is not None:
                return found
            end = self._ends[subject][0]
            last = end[0] if end else None
            event = _event(await named(backend, change, happening), change, place, last)
            now_ms = backend.now_ms()
            event = sealed({**event, "recorded_at": iso(now_ms), "late": late}, last)
            if len(canonical(event)) > _MOST_BYTES:
                raise ValueError(f"an event of {subject} is too large: {event['action']}")
            keep_seconds = keep_days(subject, backend.settings.audit_retention_days) * 86_400
            try:
                await AuditTable(backend).add(event, now_ms // 1000 + keep_seconds)
            except ConditionFailed:
                # Someone else's event is there by now, or our own, sent twice by the client.
                del self._ends[subject]
                continue
            end.insert(0, event)
            return event
        raise CallFailed("dynamodb", "PutItem", "Contention", f"the trail of {subject}")

    async def _find(self, subject: str, place: tuple[int, int]) -> tuple[Event | None, bool]:
        """The event of this place in the stream, and whether the chain has a newer one.

        What is newer than an event that was not late is newer than everything before that one, so
        in order this needs the chain's end alone.
        """
        at, late = 0, False
        while True:
            event = await self._back(subject, at)
            if event is None:
                return None, late
            at += 1
            theirs = _place(event)
            if theirs is None:
                continue
            if theirs == place:
                return event, late
            if theirs < place and not event["late"]:
                return None, late
            late = late or theirs > place

    async def _back(self, subject: str, at: int) -> Event | None:
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


def _event(
    happening: Happening, change: Change, place: tuple[int, int], last: Event | None
) -> Event:
    event = dict(vars(happening))
    if event["owner"] is None and last is not None:
        event["owner"] = last["owner"]
    return {**event, "at": iso(change.at_ms), "stream": f"{place[0]}:{place[1]}"}


def _place(event: Event) -> tuple[int, int] | None:
    """None where somebody altered it: it must not hold up what happens from then on."""
    sequence, _, index = str(event["stream"]).partition(":")
    try:
        return int(sequence), int(index)
    except ValueError:
        return None
