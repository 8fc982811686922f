"""From the streams: the audit trail, then whoever listens, outside and over WebSockets.

Batches come at least once, mostly in order. An event is known by its place in the stream, so one
that is in its chain is not added again, and a conditional write at the chain's end keeps two
invocations from adding it at once. Neither depends on order: what comes late is added late.

A failing AWS call fails the batch, which comes again until it works or its 24 hours are over. A
record that breaks our own code would hold up its shard for as long; it is set aside in
StreamFailureQueue instead, whole, from where events/replay.py takes it up again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chalicelib.audit.chain import Event, canonical, sealed
from chalicelib.audit.table import keep_days
from chalicelib.aws.stream import Change, change_of
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.core.logs import log
from chalicelib.core.metrics import count
from chalicelib.core.timeframes import iso
from chalicelib.events.happening import Happening
from chalicelib.events.happenings import of_change
from chalicelib.events.market_happenings import of_coverage
from chalicelib.events.publish import publish
from chalicelib.events.trail import named
from chalicelib.live.announce import announce
from chalicelib.monitoring.gauges import measure_changes
from chalicelib.wiring import Desk

TASKS, MARKET = "tasks", "market"
_RACES = 12
#: Events read at once where a change may have been recorded some time ago.
_LOOK_BACK = 50
#: DynamoDB holds 400 KB an item; what needs more is a bug, and not to be tried for a day.
_MOST_BYTES = 300_000

Record = dict[str, Any]


async def record_task_changes(desk: Desk, records: list[Record]) -> None:
    """Audit what happened in a batch of the Tasks stream, then tell those who listen.

    Safe to repeat. Raises CallFailed where the trail could not be written or published, so that
    the batch comes again.
    """
    await _record_batch(desk, TASKS, records)


async def record_market_changes(desk: Desk, records: list[Record]) -> None:
    """The same for the Market stream; candles that were stored are published, but not audited."""
    await _record_batch(desk, MARKET, records)


async def record_one(desk: Desk, record: Record) -> list[Event]:
    """Audit and publish one record by itself; returns its events. Raises whatever is wrong."""
    events = await events_of(Trail(desk), change_of(record))
    await publish(desk, events)
    return events


async def events_of(trail: Trail, change: Change) -> list[Event]:
    """What a change brings to publish: its events of the trail, recorded now or before, in order,
    and those that are not audited."""
    events = []
    for index, happening in enumerate(of_change(change)):
        events.append(await trail.record(change, index, happening))
    return events + of_coverage(change)


async def _record_batch(desk: Desk, table: str, records: list[Record]) -> None:
    trail = Trail(desk)
    changes: list[Change] = []
    events: list[Event] = []
    telling: list[Record] = []

    async def recorded(record: Record) -> None:
        change = change_of(record)
        brought = await events_of(trail, change)
        changes.append(change)
        events.extend(brought)
        if brought:
            telling.append(record)

    for record in records:
        error = await _trouble(lambda record=record: recorded(record))  # type: ignore[misc]
        if error:
            await _set_aside(desk, table, record, error)
    error = await _trouble(lambda: publish(desk, events))
    if error:
        for record in telling:
            await _set_aside(desk, table, record, error)
    error = await _trouble(lambda: announce(desk, changes))
    if error:
        log("announcing_failed", level="error", error=error)
    measure_changes(changes)
    for event in events:
        kind, _, subject = str(event.get("subject", "")).partition(":")
        if kind == "task":  # the owner is in the trail; logs are read by more people
            log(
                "happened",
                task_id=subject,
                attempt=event.get("attempt"),
                action=event.get("action"),
            )


async def _trouble(work: Callable[[], Awaitable[None]]) -> str | None:
    """What is wrong with our own code, as text; None where nothing is. Raises CallFailed."""
    try:
        await work()
    except CallFailed:
        raise
    except Exception as error:  # noqa: BLE001 - the edge: one record's bug is its own
        log("stream_record_crashed", level="error", trace=True, error=repr(error))
        return repr(error)
    return None


async def _set_aside(desk: Desk, table: str, record: Record, error: str) -> None:
    told = record.get("dynamodb", {})
    log(
        "stream_record_set_aside",
        level="error",
        table=table,
        keys=told.get("Keys"),
        sequence=told.get("SequenceNumber"),
        error=error,
    )
    count("StreamRecordsFailed", Table=table)
    await desk.failures.put(table, record, error)


class Trail:
    """The ends of the chains that one batch touches; each is read once."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        #: subject -> its newest events, newest first, and whether the chain begins with the last.
        self._ends: dict[str, tuple[list[Event], bool]] = {}

    async def record(self, change: Change, index: int, happening: Happening) -> Event:
        """The event of a happening, `index`th of its change: added, or as it was added before.

        Raises CallFailed.
        """
        desk, subject = self._desk, happening.subject
        place = (int(change.sequence), index)
        for _ in range(_RACES):
            found, late = await self._find(subject, place)
            if found is not None:
                return found
            end = self._ends[subject][0]
            last = end[0] if end else None
            event = _event(await named(desk, change, happening), change, place, last)
            now_ms = desk.now_ms()
            event = sealed({**event, "recorded_at": iso(now_ms), "late": late}, last)
            if len(canonical(event)) > _MOST_BYTES:
                raise ValueError(f"an event of {subject} is too large: {event['action']}")
            keep_seconds = keep_days(subject, desk.settings.audit_retention_days) * 86_400
            try:
                await desk.audit.add(event, now_ms // 1000 + keep_seconds)
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
            more = await self._desk.audit.newest(subject, most, before)
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
