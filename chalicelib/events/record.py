"""Record what the streams bring: in the audit trail first, then for all who listen.

A stream brings batches at least once, and mostly in order. An event is known by its place in the
stream, so an event that is in its chain is not added again. A conditional write at the end of the
chain keeps two invocations from adding it at once. Neither depends on order: a change that comes
late is added late.

A failing AWS call fails the batch, which then comes again until it works or is 24 hours old. A
record that breaks our own code would hold up its shard for as long. So it is set aside whole in
StreamFailureQueue, from where events/replay.py takes it up again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chalicelib.aws.set_aside import SetAsideQueue
from chalicelib.aws.stream import Change, StreamRecord, change_of
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.core.logs import log
from chalicelib.core.metrics import count
from chalicelib.events.event import Event
from chalicelib.events.happenings import of_change
from chalicelib.events.last_candles import collect_last_candles
from chalicelib.events.market_happenings import of_coverage
from chalicelib.events.measures import measure_changes
from chalicelib.events.publish import publish
from chalicelib.events.trail import Trail
from chalicelib.live.announce import announce

TASKS, MARKET = "tasks", "market"


async def record_task_changes(backend: Backend, records: list[StreamRecord]) -> None:
    """Audit what happened in a batch of the Tasks stream, publish it, and announce it to clients.

    Safe to repeat. Raises CallFailed where the trail could not be written or published, so that
    the batch comes again.
    """
    await _record_batch(backend, TASKS, records)


async def record_market_changes(backend: Backend, records: list[StreamRecord]) -> None:
    """The same for the Market stream. Stored candles are published, but not audited. Where symbols
    have stopped trading, their last candles are collected."""
    await _record_batch(backend, MARKET, records)


async def record_one(backend: Backend, record: StreamRecord) -> list[Event]:
    """Audit and publish one record by itself, and start what follows from it; returns its events.
    Raises whatever goes wrong."""
    change = change_of(record)
    events = await events_of(Trail(backend), change)
    await publish(backend, events)
    await collect_last_candles(backend, change)
    return events


async def events_of(trail: Trail, change: Change) -> list[Event]:
    """The events that a change brings: those of the trail in order, then those not audited.

    Events that are not in the trail yet are added to it.
    """
    events: list[Event] = []
    for index, happening in enumerate(of_change(change)):
        events.append(await trail.record(change, index, happening))
    return events + of_coverage(change)


async def _record_batch(backend: Backend, table: str, records: list[StreamRecord]) -> None:
    trail = Trail(backend)
    changes: list[Change] = []
    events: list[Event] = []
    eventful: list[StreamRecord] = []

    async def recorded(record: StreamRecord) -> None:
        change = change_of(record)
        brought = await events_of(trail, change)
        await collect_last_candles(backend, change)
        changes.append(change)
        events.extend(brought)
        if brought:
            eventful.append(record)

    for record in records:
        error = await _bug_in(lambda record=record: recorded(record))  # type: ignore[misc]
        if error:
            await _set_aside(backend, table, record, error)
    error = await _bug_in(lambda: publish(backend, events))
    if error:
        for record in eventful:
            await _set_aside(backend, table, record, error)
    error = await _bug_in(lambda: announce(backend, changes))
    if error:
        log("announcing_failed", level="error", error=error)
    measure_changes(changes)
    for event in events:
        _log_event(event)


def _log_event(event: Event) -> None:
    """Without the owner: more people read the logs than the trail."""
    kind, _, name = str(event.get("subject", "")).partition(":")
    if kind == "task":
        log("happened", task_id=name, attempt=event.get("attempt"), action=event.get("action"))


async def _bug_in(work: Callable[[], Awaitable[None]]) -> str | None:
    """The error that our own code ends with, as text; None where it ends well.

    Raises CallFailed, which is no bug: the batch is to come again.
    """
    try:
        await work()
    except CallFailed:
        raise
    except Exception as error:  # noqa: BLE001 - the edge: one record's bug fails that record alone
        log("stream_record_crashed", level="error", trace=True, error=repr(error))
        return repr(error)
    return None


async def _set_aside(backend: Backend, table: str, record: StreamRecord, error: str) -> None:
    content = record.get("dynamodb", {})
    log(
        "stream_record_set_aside",
        level="error",
        table=table,
        keys=content.get("Keys"),
        sequence=content.get("SequenceNumber"),
        error=error,
    )
    count("StreamRecordsFailed", Table=table)
    await stream_failures(backend).put(table, record, error)


def stream_failures(backend: Backend) -> SetAsideQueue:
    """Where records wait that broke our code."""
    return SetAsideQueue(backend.call, backend.settings.stream_failure_queue_url)
