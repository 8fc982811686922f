"""From changes of the tables to the push queue: what somebody listens to, one message per topic.

Runs behind the streams, after the audit trail, and must never hold that up: one read of who listens
(with owners, one more for each task whose progress is told) and a send for every ten topics.
Trouble with AWS is logged and counted. An update that is lost here leaves no gap in the numbers of
its topic, since numbers are given when it is pushed; but every update says all there is to say, so
the next one, or a snapshot, makes up for it.
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.candles.coverage_table import entries_in
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, InvalidRequest
from chalicelib.core.logs import log
from chalicelib.core.metrics import count
from chalicelib.core.times import iso
from chalicelib.exchange.catalogue_table import prices_in
from chalicelib.live import topics
from chalicelib.live.connections import MARKET_TABLE, TASKS_TABLE, ConnectionTable
from chalicelib.live.queue import PushQueue
from chalicelib.live.topics import Topic, stream_of, topic_of
from chalicelib.live.updates import CANDLE, PRICE, PROGRESS, STATE, Update, coalesced, newly_covered
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import summary

_TASK, _PROG = "META", "PROG#"


async def announce(backend: Backend, changes: list[Change]) -> None:
    """Queue what changed for those who listen to it; what AWS does not take is only logged."""
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
    told = [
        change
        for change in changes
        if change.new
        and change.pk.startswith("TASK#")
        and (change.sk == _TASK or change.sk.startswith(_PROG))
    ]
    if not told:
        return []
    listened = await ConnectionTable(backend).listened(TASKS_TABLE, backend.now_ms())
    owned = any(stream.startswith(f"{topics.TASKS}@") for stream in listened)
    owners: dict[str, str] = {}
    updates = []
    for change in told:
        task_id = change.pk.removeprefix("TASK#")
        streams = {str(Topic(topics.TASK, task_id)), topics.TASKS}
        if owned:
            streams.add(await _owned_stream(backend, change, task_id, owners))
        for stream in sorted(streams & listened):
            updates.append(_task_update(change, task_id, stream))
    return updates


async def _owned_stream(
    backend: Backend, change: Change, task_id: str, owners: dict[str, str]
) -> str:
    """The stream of the task's owner, who stands on META only."""
    if task_id not in owners:
        item = change.new
        if change.sk != _TASK:
            item = await TaskTable(backend).read(task_id, backend.now_ms()) or {}
        owners[task_id] = str(item.get("owner", ""))
    return stream_of(Topic(topics.TASKS), owners[task_id])


def _task_update(change: Change, task_id: str, stream: str) -> Update:
    old, new = change.old, change.new
    # What was stopped has its result later than its state.
    moved = change.sk == _TASK and (
        any(old.get(name) != new[name] for name in ("state", "attempt"))
        or ("result" in new and "result" not in old)
    )
    content: dict[str, Any] = {"attempt": new.get("attempt")}
    if moved:
        content = {"task": summary(new, [], change.at_ms)}
    kind = STATE if moved else PROGRESS
    return Update(stream, kind, task_id, change.at_ms, change.sequence, content)


async def _of_market(backend: Backend, changes: list[Change]) -> list[Update]:
    told = [
        change for change in changes if change.new and change.pk.startswith(("PRICES#", "COVER#"))
    ]
    if not told:
        return []
    listened = [
        (stream, topic)
        for stream in sorted(
            await ConnectionTable(backend).listened(MARKET_TABLE, backend.now_ms())
        )
        if (topic := _topic_of(stream)) is not None
    ]
    updates = []
    for change in told:
        if change.pk.startswith("PRICES#"):
            updates += _price_updates(change, listened)
        else:
            updates += _candle_updates(change, listened)
    return updates


def _price_updates(change: Change, listened: list[tuple[str, Topic]]) -> list[Update]:
    prices, priced_at = prices_in(change.new)
    return [
        Update(
            stream,
            PRICE,
            topic.subject,
            change.at_ms,
            change.sequence,
            {"price": float(prices[topic.subject]), "time": iso(priced_at)},
        )
        for stream, topic in listened
        if topic.kind == topics.PRICES and topic.subject in prices
    ]


def _candle_updates(change: Change, listened: list[tuple[str, Topic]]) -> list[Update]:
    mine = [
        (stream, topic)
        for stream, topic in listened
        if topic.kind == topics.CANDLES and topic.subject == change.sk
    ]
    if not mine:
        return []
    before, after = entries_in(change.old), entries_in(change.new)
    updates = []
    for stream, topic in mine:
        old, new = before.get(topic.timeframe), after.get(topic.timeframe)
        if new is not None and new != old:
            about = f"{topic.subject}:{topic.timeframe}"
            content = {"covered": newly_covered(old, new)}
            updates.append(Update(stream, CANDLE, about, change.at_ms, change.sequence, content))
    return updates


def _topic_of(stream: str) -> Topic | None:
    try:
        return topic_of(stream)
    except InvalidRequest:  # of another version of ours
        return None
