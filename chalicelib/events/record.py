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

from chalicelib.audit.chain import Event
from chalicelib.aws.stream import Change, change_of
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.core.logs import log
from chalicelib.core.metrics import count
from chalicelib.events.happenings import of_change
from chalicelib.events.market_happenings import of_coverage
from chalicelib.events.measures import measure_changes
from chalicelib.events.publish import publish
from chalicelib.events.set_aside import FailureQueue
from chalicelib.events.trail import Trail
from chalicelib.live.announce import announce

TASKS, MARKET = "tasks", "market"

Record = dict[str, Any]


async def record_task_changes(backend: Backend, records: list[Record]) -> None:
    """Audit what happened in a batch of the Tasks stream, then tell those who listen.

    Safe to repeat. Raises CallFailed where the trail could not be written or published, so that
    the batch comes again.
    """
    await _record_batch(backend, TASKS, records)


async def record_market_changes(backend: Backend, records: list[Record]) -> None:
    """The same for the Market stream; candles that were stored are published, but not audited."""
    await _record_batch(backend, MARKET, records)


async def record_one(backend: Backend, record: Record) -> list[Event]:
    """Audit and publish one record by itself; returns its events. Raises whatever is wrong."""
    events = await events_of(Trail(backend), change_of(record))
    await publish(backend, events)
    return events


async def events_of(trail: Trail, change: Change) -> list[Event]:
    """What a change brings to publish: its events of the trail, recorded now or before, in order,
    and those that are not audited."""
    events = []
    for index, happening in enumerate(of_change(change)):
        events.append(await trail.record(change, index, happening))
    return events + of_coverage(change)


async def _record_batch(backend: Backend, table: str, records: list[Record]) -> None:
    trail = Trail(backend)
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
            await _set_aside(backend, table, record, error)
    error = await _trouble(lambda: publish(backend, events))
    if error:
        for record in telling:
            await _set_aside(backend, table, record, error)
    error = await _trouble(lambda: announce(backend, changes))
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


async def _set_aside(backend: Backend, table: str, record: Record, error: str) -> None:
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
    await FailureQueue(backend).put(table, record, error)
