"""What a listener gets when it comes: the topics checked, its place in line, and a snapshot.

The order of the steps is what leaves no gap between the snapshot and the first update; the
Connections table says why.
"""

from __future__ import annotations

from typing import Any, Protocol

from chalicelib.candles.candles import COLUMNS, Candles
from chalicelib.core.errors import InvalidRequest, ObjectDamaged, RequestRejected
from chalicelib.core.logs import log
from chalicelib.core.times import iso
from chalicelib.live import topics
from chalicelib.live.connections import MOST_TOPICS, Connection
from chalicelib.live.topics import Topic, stream_of
from chalicelib.tasks.view import find_task, list_active, view_task
from chalicelib.wiring import Desk

#: API Gateway sends at most 128 KB in a message; a task takes about one.
MOST_TASKS = 80
_TIMES = ("open_time", "close_time")

View = dict[str, Any]


class CandleReader(Protocol):
    async def read(self, symbol: str, timeframe: str, open_ms: int) -> Candles: ...


async def subscribe(desk: Desk, connection: Connection, wanted: list[Topic]) -> None:
    """Make a connection a listener of all `wanted` topics, or of none. Raises RequestRejected."""
    await _check(desk, connection, wanted)
    streams = {stream_for(desk, connection, topic) for topic in wanted}

    def added(held: frozenset[str]) -> frozenset[str]:
        if len(held | streams) > MOST_TOPICS:
            raise InvalidRequest(
                f"a connection may hold {MOST_TOPICS} topics", reason="TOO_MANY_TOPICS"
            )
        return held | streams

    await desk.connections.change_topics(connection.id, added)
    await desk.connections.enlist(connection.id, sorted(streams), desk.now_ms())


async def unsubscribe(desk: Desk, connection: Connection, unwanted: list[Topic]) -> None:
    streams = {stream_for(desk, connection, topic) for topic in unwanted}
    await desk.connections.unlist(connection.id, sorted(streams))
    await desk.connections.change_topics(connection.id, lambda held: held - streams)


async def snapshot(desk: Desk, candles: CandleReader, connection: Connection, topic: Topic) -> View:
    """What a topic's listeners know by now; the next update has `sequence` + 1.

    It may be newer than `sequence` says, and say what the next updates are still going to say.
    Raises RequestRejected where the task has gone meanwhile, CallFailed.
    """
    stream = stream_for(desk, connection, topic)
    sequence = await desk.connections.sequence(stream, desk.now_ms())
    told = await _content(desk, candles, connection, topic)
    return {"topic": str(topic), "sequence": sequence, "at": iso(desk.now_ms()), **told}


async def newest_candle(
    desk: Desk, candles: CandleReader, symbol: str, timeframe: str
) -> View | None:
    """The newest stored candle, times in ISO 8601; None where there is none that can be read."""
    entry = (await desk.market.coverage_of([symbol])).get(symbol, {}).get(timeframe)
    if entry is None or entry["last"] is None:
        return None
    try:
        stored = (await candles.read(symbol, timeframe, entry["last"])).columns
    except ObjectDamaged as error:  # who listens to other topics shall not suffer for it
        log("object_damaged", level="error", detail=error.detail)
        return None
    if not stored["open_time"]:
        return None
    return {name: iso(stored[name][-1]) if name in _TIMES else stored[name][-1] for name in COLUMNS}


def stream_for(desk: Desk, connection: Connection, topic: Topic) -> str:
    return stream_of(topic, _told_apart(desk, connection))


def shortened(views: list[View], count: int) -> View:
    """A list of tasks that fits into a message, and how many there are."""
    return {"tasks": views[:MOST_TASKS], "count": count}


async def _content(desk: Desk, candles: CandleReader, connection: Connection, topic: Topic) -> View:
    if topic.kind == topics.TASK:
        return {"task": await view_task(desk, topic.subject, connection.owner)}
    if topic.kind == topics.TASKS:
        return shortened(*await list_active(desk, connection.owner, MOST_TASKS))
    if topic.kind == topics.PRICES:
        stored = await desk.market.read_prices()
        price = stored["prices"].get(topic.subject) if stored else None
        if stored is None or price is None:
            return {"price": None, "time": None}
        return {"price": float(price), "time": iso(stored["priced_at"])}
    candle = await newest_candle(desk, candles, topic.subject, topic.timeframe)
    return {"candle": candle, "covered": None}


async def _check(desk: Desk, connection: Connection, wanted: list[Topic]) -> None:
    """Raises RequestRejected for the first topic that there is nothing to hear of."""
    known: dict[str, str] | None = None
    for topic in wanted:
        if topic.kind == topics.TASK:
            await find_task(desk, topic.subject, connection.owner)
        elif topic.kind in (topics.PRICES, topics.CANDLES):
            if known is None:
                catalogue = await desk.market.read_catalogue()
                known = catalogue["symbols"] if catalogue else {}
            if topic.subject not in known:
                raise _unknown(topic, known)


def _unknown(topic: Topic, known: dict[str, str]) -> RequestRejected:
    if not known:
        return RequestRejected(
            "no symbols are known yet: POST /refresh-symbols first", reason="NO_SYMBOLS_YET"
        )
    symbol, upper = topic.subject, topic.subject.upper()
    hint = f"; did you mean {upper}?" if upper in known else ""
    return InvalidRequest(f"{topic}: unknown symbol {symbol}{hint}", reason="UNKNOWN_SYMBOL")


def _told_apart(desk: Desk, connection: Connection) -> str | None:
    """Whose tasks are listened to; None where nobody is told apart."""
    return None if desk.settings.authentication == "none" else connection.owner
