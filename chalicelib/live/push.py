"""From the push queue to the WebSocket clients: numbered, coalesced, at most four a second.

    batch of messages -> one list per stream -> drop what a newer update replaces -> for each step:
    wait until a quarter of a second has passed since the last one -> read progress and candles ->
    take the next number -> read who listens -> send to all of them at once

The queue gives a stream to one invocation at a time, so a stream's numbers go out in order. Data
are read before the number is taken, and the listeners after it: live/connections.py says why.

An update that reached no listener comes again with a new number. An update that reached some does
not come again: the others are disconnected, connect again and get a snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib.access.keys import why_ended
from chalicelib.aws.sqs_batch import Batch, BatchAnswer, Record, answer
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, CollectorError
from chalicelib.core.logs import log
from chalicelib.core.metrics import count, measure
from chalicelib.core.times import iso
from chalicelib.live import topics
from chalicelib.live.connections import ConnectionTable
from chalicelib.live.queue import PushQueue
from chalicelib.live.sequence_table import SequenceTable
from chalicelib.live.subscribe import CandleReader, newest_candle, shortened
from chalicelib.live.topics import topic_of
from chalicelib.live.updates import CANDLE, PRICE, PROGRESS, STATE, Update, coalesced, decode
from chalicelib.tasks.states import RUNNING
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import pause_of, recounted, summary

#: At least this long between two updates of a topic: four a second.
PAUSE_MS = 250
_LONGEST_RETRY_SECONDS = 30

Together = Callable[[Sequence[Coroutine[Any, Any, Any]]], Awaitable[list[Any]]]


@dataclass(frozen=True)
class Means:
    """What pushing needs besides its backend.

    `together`: run coroutines at once and return their results in order; `sleep`: in seconds.
    """

    together: Together
    sleep: Callable[[float], Awaitable[None]]
    candles: CandleReader


async def push_batch(backend: Backend, means: Means, batch: Batch) -> BatchAnswer:
    """Push a batch of the push queue; the answer names the messages that must come again."""
    streams: dict[str, list[tuple[Record, Update]]] = {}
    for record in batch["Records"]:
        try:
            update = decode(record["body"])
            topic_of(update.stream)
        except CollectorError as error:
            # Dropped: in a FIFO queue it would hold up its stream until it expires.
            log("update_dropped", level="error", message_id=record["messageId"], error=error.detail)
            continue
        streams.setdefault(update.stream, []).append((record, update))
    failed = await means.together(
        [_guarded(backend, means, stream, found) for stream, found in streams.items()]
    )
    return answer([each for several in failed for each in several])


async def _guarded(
    backend: Backend, means: Means, stream: str, found: list[tuple[Record, Update]]
) -> list[str]:
    try:
        return await _push_stream(backend, means, stream, found)
    except Exception as error:  # noqa: BLE001 - the edge: else all topics would be pushed again
        log(
            "push_crashed",
            level="error",
            trace=True,
            topic=str(topic_of(stream)),
            error=repr(error),
        )
        return [record["messageId"] for record, _ in found]


async def _push_stream(
    backend: Backend, means: Means, stream: str, found: list[tuple[Record, Update]]
) -> list[str]:
    """Ids of the messages that must come again: all after the last that was pushed, in order."""
    numbers = [update.number for _, update in found]
    done = 0
    for step in _steps(stream, [update for _, update in found]):
        try:
            await _push(backend, means, stream, step)
        except CallFailed as error:
            log("push_failed", level="error", topic=str(topic_of(stream)), error=error.detail)
            # Those that are not in the step, too: the step may stand for them.
            return await _again(backend, [record for record, _ in found[done:]])
        done = 1 + max(numbers.index(update.number) for update in step)
    return []


def _steps(stream: str, updates: list[Update]) -> list[list[Update]]:
    """The updates of each message: for `tasks` all in one, else one update a message."""
    left = coalesced(updates)
    return [left] if topic_of(stream).kind == topics.TASKS else [[update] for update in left]


async def _again(backend: Backend, records: list[Record]) -> list[str]:
    deliveries = int(records[0]["attributes"]["ApproximateReceiveCount"])
    seconds = min(2 ** min(deliveries - 1, 10), _LONGEST_RETRY_SECONDS)
    for record in records:
        await PushQueue(backend).retry_later(record["receiptHandle"], seconds)
    return [record["messageId"] for record in records]


async def _push(backend: Backend, means: Means, stream: str, updates: list[Update]) -> None:
    """Raises CallFailed where the update reached nobody, though somebody listens."""
    sequences = SequenceTable(backend)
    since_ms = backend.now_ms() - await sequences.pushed_at(stream)
    if 0 <= since_ms < PAUSE_MS:
        await means.sleep((PAUSE_MS - since_ms) / 1000)
    content = await _content(backend, means, stream, updates)
    if content is None:
        return
    sequence = await sequences.next(stream, backend.now_ms())
    connections = ConnectionTable(backend)
    listeners = await connections.subscribers(stream, backend.now_ms())
    if not listeners:
        await connections.take_off(stream, backend.now_ms())
        return
    allowed = await _with_live_keys(backend, means, stream, listeners)
    if not allowed:
        return
    message = {
        "type": "update",
        "topic": str(topic_of(stream)),
        "sequence": sequence,
        "at": iso(backend.now_ms()),
        **content,
    }
    await _send_to_all(backend, means, stream, allowed, json.dumps(message))
    kind = topic_of(stream).kind
    count("UpdatesPushed", Kind=kind)
    measure("PushDelay", backend.now_ms() - min(each.changed_at for each in updates), Kind=kind)


async def _with_live_keys(
    backend: Backend, means: Means, stream: str, listeners: dict[str, str | None]
) -> list[str]:
    """The listeners whose key still works, or who have none. The others are disconnected."""
    keys = sorted({key_id for key_id in listeners.values() if key_id is not None})
    why = await means.together([why_ended(backend, key_id) for key_id in keys])
    ended = {key_id for key_id, reason in zip(keys, why, strict=True) if reason is not None}
    if ended:
        log("listeners_lost_their_key", topic=str(topic_of(stream)), keys=sorted(ended))
        closed = [each for each, key_id in listeners.items() if key_id in ended]
        await _hang_up_on(backend, means, stream, closed)
    return [each for each, key_id in listeners.items() if key_id not in ended]


async def _send_to_all(
    backend: Backend, means: Means, stream: str, listeners: list[str], text: str
) -> None:
    connections = ConnectionTable(backend)

    async def send(connection_id: str) -> CallFailed | bool:
        try:
            return await connections.send(connection_id, text, stream)
        except CallFailed as error:
            return error

    outcomes = await means.together([send(listener) for listener in listeners])
    errors = {
        listener: outcome
        for listener, outcome in zip(listeners, outcomes, strict=True)
        if isinstance(outcome, CallFailed)
    }
    count("MessagesSent", outcomes.count(True))
    count("ConnectionsGone", outcomes.count(False))
    count("SendsFailed", len(errors))
    if not errors:
        return
    first = next(iter(errors.values()))
    about: dict[str, Any] = {"topic": str(topic_of(stream)), "of": len(listeners)}
    log("sends_failed", level="warning", failed=len(errors), error=first.detail, **about)
    if len(errors) == len(listeners):
        raise first
    # This may be the topic's last update: without a later number they would never see the gap.
    await _hang_up_on(backend, means, stream, list(errors))


async def _hang_up_on(backend: Backend, means: Means, stream: str, connections: list[str]) -> None:
    async def hang_up(connection_id: str) -> CallFailed | None:
        try:
            await ConnectionTable(backend).hang_up(connection_id, stream)
        except CallFailed as error:
            return error
        return None

    left = [error for error in await means.together(list(map(hang_up, connections))) if error]
    if left:
        log(
            "hang_ups_failed",
            level="warning",
            failed=len(left),
            of=len(connections),
            topic=str(topic_of(stream)),
            error=left[0].detail,
        )


async def _content(
    backend: Backend, means: Means, stream: str, updates: list[Update]
) -> dict[str, Any] | None:
    """What the message holds besides its topic and number; None where that is nothing."""
    topic, newest, exchange = topic_of(stream), updates[-1], backend.settings.exchange
    if newest.kind in (STATE, PROGRESS):
        views = [view for update in updates if (view := await _view(backend, update)) is not None]
        if not views:
            return None
        return shortened(views, len(views)) if topic.kind == topics.TASKS else {"task": views[-1]}
    if newest.kind == PRICE:
        return {"exchange": exchange, **newest.content}
    assert newest.kind == CANDLE
    covered = newest.content["covered"]
    return {
        "exchange": exchange,
        "candle": await newest_candle(backend, means.candles, topic.subject, topic.timeframe),
        "covered": covered and {"start": iso(covered[0]), "end": iso(covered[1])},
    }


async def _view(backend: Backend, update: Update) -> dict[str, Any] | None:
    """The task in the state of the update, with the units counted now.

    None for progress of a task that has moved on since: its new state is an update of its own,
    later in the queue.
    """
    if update.kind == STATE:
        view: dict[str, Any] = update.content["task"]
        if view["result"] is not None or not view["units"]["total"]:
            return view
        return recounted(view, (await TaskTable(backend).read_with_tally(update.about))[1])
    task, tally = await TaskTable(backend).read_with_tally(update.about)
    if task is None or task.state != RUNNING or task.attempt != update.content["attempt"]:
        return None
    return summary(task, tally, backend.now_ms(), await pause_of(backend, [task]))
