"""From changes of the tables to the push queue: one message per topic that somebody listens to.

This runs behind the streams, after the audit trail, and must not delay it. It reads once who
listens (with owners, once more for each task that made progress) and sends once for every ten
topics. Trouble with AWS is logged and counted.

An update that is lost here leaves no gap in the numbers of its topic, because an update gets its
number when it is pushed. The next update, or a snapshot, holds everything that the lost one said.
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.candles.coverage_table import CoverageChange, coverage_change
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, InvalidRequest
from chalicelib.core.logs import log
from chalicelib.core.metrics import count
from chalicelib.exchange.catalogue_table import Prices, changed_prices
from chalicelib.exchange.prices import shown
from chalicelib.live import topics
from chalicelib.live.connections import MARKET_TABLE, TASKS_TABLE, ConnectionTable
from chalicelib.live.queue import PushQueue
from chalicelib.live.topics import Topic, stream_of, topic_of
from chalicelib.live.updates import CANDLE, PRICE, PROGRESS, STATE, Update, coalesced, newly_covered
from chalicelib.tasks.changes import ProgChange, TaskChange, prog_change, task_change
from chalicelib.tasks.part import Tally
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import summary


async def announce(backend: Backend, changes: list[Change]) -> None:
    """Queue the updates that somebody listens to; what AWS does not take is only logged."""
    lost: list[Update] = []
    updates: list[Update] = []
    try:
        updates += coalesced(await _of_tasks(backend, changes))
        updates += coalesced(await _of_market(backend, changes))
        if updates:
            lost = await PushQueue(backend).send(updates)
    except CallFailed as error:
        log("updates_not_announced", level="warning", changes=len(changes), error=error.detail)
        count("UpdatesNotAnnounced", max(1, len(updates)))
    if lost:
        log("updates_not_announced", level="warning", updates=len(lost), error="refused by SQS")
        count("UpdatesNotAnnounced", len(lost))


async def _of_tasks(backend: Backend, changes: list[Change]) -> list[Update]:
    found = [(change, of) for change in changes if (of := _task_or_prog(change)) is not None]
    if not found:
        return []
    listened = await ConnectionTable(backend).listened(TASKS_TABLE, backend.now_ms())
    owned = any(stream.startswith(f"{topics.TASKS}@") for stream in listened)
    owners: dict[str, str] = {}
    updates = []
    for change, of in found:
        streams = {str(Topic(topics.TASK, of.task_id)), topics.TASKS}
        if owned:
            streams.add(await _owned_stream(backend, of, owners))
        for stream in sorted(streams & listened):
            updates.append(_task_update(change, of, stream))
    return updates


def _task_or_prog(change: Change) -> TaskChange | ProgChange | None:
    """The change of a task or of its progress; None where it is gone, or something else changed."""
    changed = task_change(change)
    if changed is None:
        return prog_change(change)
    return changed if changed.new else None


async def _owned_stream(
    backend: Backend, of: TaskChange | ProgChange, owners: dict[str, str]
) -> str:
    """The stream of the task's owner, whom a PROG item does not name."""
    if of.task_id not in owners:
        task = of.new if isinstance(of, TaskChange) else await TaskTable(backend).read(of.task_id)
        owners[of.task_id] = task.owner if task else ""
    return stream_of(Topic(topics.TASKS), owners[of.task_id])


def _task_update(change: Change, of: TaskChange | ProgChange, stream: str) -> Update:
    content: dict[str, Any]
    if isinstance(of, TaskChange) and _has_moved(of):
        kind, content = STATE, {"task": summary(of.task, Tally(), change.at_ms)}
    else:
        attempt = of.task.attempt if isinstance(of, TaskChange) else of.new.attempt
        kind, content = PROGRESS, {"attempt": attempt}
    return Update(stream, kind, of.task_id, change.at_ms, change.sequence, content)


def _has_moved(changed: TaskChange) -> bool:
    old, new = changed.old, changed.task
    if old is None or (old.state, old.attempt) != (new.state, new.attempt):
        return True
    return old.result is None and new.result is not None  # a stopped task gets its result later


async def _of_market(backend: Backend, changes: list[Change]) -> list[Update]:
    shown = [
        (change, stored)
        for change in changes
        if (stored := changed_prices(change) or coverage_change(change))
    ]
    if not shown:
        return []
    listened = [
        (stream, topic)
        for stream in sorted(
            await ConnectionTable(backend).listened(MARKET_TABLE, backend.now_ms())
        )
        if (topic := _topic_of(stream)) is not None
    ]
    updates = []
    for change, stored in shown:
        if isinstance(stored, Prices):
            updates += _price_updates(change, stored, listened)
        else:
            updates += _candle_updates(change, stored, listened)
    return updates


def _price_updates(
    change: Change, stored: Prices, listened: list[tuple[str, Topic]]
) -> list[Update]:
    return [
        Update(
            stream,
            PRICE,
            topic.subject,
            change.at_ms,
            change.sequence,
            shown(stored.prices[topic.subject], change.at_ms),
        )
        for stream, topic in listened
        if topic.kind == topics.PRICES and topic.subject in stored.prices
    ]


def _candle_updates(
    change: Change, changed: CoverageChange, listened: list[tuple[str, Topic]]
) -> list[Update]:
    wanted = [
        (stream, topic)
        for stream, topic in listened
        if topic.kind == topics.CANDLES and topic.subject == changed.symbol
    ]
    if not wanted:
        return []
    before, after = changed.before(), changed.after()
    updates = []
    for stream, topic in wanted:
        old, new = before.get(topic.timeframe), after.get(topic.timeframe)
        if new is not None and new.holds_more_than(old):
            about = f"{topic.subject}:{topic.timeframe}"
            content = {"covered": newly_covered(old, new)}
            updates.append(Update(stream, CANDLE, about, change.at_ms, change.sequence, content))
    return updates


def _topic_of(stream: str) -> Topic | None:
    try:
        return topic_of(stream)
    except InvalidRequest:  # written by another version of this code
        return None
