"""Subscribing: the topics are checked, the listener is listed, and gets a snapshot of each topic.

The order of the steps leaves no gap between the snapshot and the first update;
live/connections.py says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from chalicelib.candles.candles import VALUES
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.core.backend import Backend
from chalicelib.core.errors import InvalidRequest, ObjectDamaged, RequestRejected
from chalicelib.core.logs import log
from chalicelib.core.times import iso
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.prices import kept, shown
from chalicelib.live import topics
from chalicelib.live.connections import MOST_TOPICS, Connection, ConnectionTable
from chalicelib.live.sequence_table import SequenceTable
from chalicelib.live.topics import Topic, stream_of
from chalicelib.tasks.view import count_active, find_task, list_active, view_task

if TYPE_CHECKING:
    from chalicelib.candles.store import Held

#: API Gateway sends at most 128 KB in a message; a task takes about one.
MOST_TASKS = 80
_TIMES = ("open_time", "close_time")

View = dict[str, Any]


class CandleReader(Protocol):
    async def read(self, symbol: str, timeframe: str, open_ms: int) -> Held: ...


async def subscribe(backend: Backend, connection: Connection, wanted: list[Topic]) -> None:
    """Make a connection a listener of all `wanted` topics, or of none. Raises RequestRejected."""
    await _check(backend, connection, wanted)
    streams = {stream_for(connection, topic) for topic in wanted}

    def added(held: frozenset[str]) -> frozenset[str]:
        if len(held | streams) > MOST_TOPICS:
            raise InvalidRequest(
                f"a connection may hold {MOST_TOPICS} topics", reason="TOO_MANY_TOPICS"
            )
        return held | streams

    connections = ConnectionTable(backend)
    await connections.change_topics(connection.id, added)
    key_id = connection.caller.key_id
    await connections.enlist(connection.id, sorted(streams), backend.now_ms(), key_id)


async def unsubscribe(backend: Backend, connection: Connection, unwanted: list[Topic]) -> None:
    streams = {stream_for(connection, topic) for topic in unwanted}
    connections = ConnectionTable(backend)
    await connections.unlist(connection.id, sorted(streams))
    await connections.change_topics(connection.id, lambda held: held - streams)


async def snapshot(
    backend: Backend, candles: CandleReader, connection: Connection, topic: Topic
) -> View:
    """The state of a topic now; the next update has `sequence` + 1.

    The snapshot may be newer than `sequence`: then the next updates repeat what it holds. Raises
    RequestRejected where the task has gone meanwhile, CallFailed.
    """
    stream = stream_for(connection, topic)
    sequence = await SequenceTable(backend).last(stream, backend.now_ms())
    content = await _content(backend, candles, connection, topic)
    return {"topic": str(topic), "sequence": sequence, "at": iso(backend.now_ms()), **content}


async def newest_candle(
    backend: Backend, candles: CandleReader, symbol: str, timeframe: str
) -> View | None:
    """The newest stored candle, times in ISO 8601; None where there is none that can be read."""
    stored = (await CoverageTable(backend).coverage_of([symbol])).get(symbol, {}).get(timeframe)
    if stored is None or stored.last is None:
        return None
    try:
        columns = (await candles.read(symbol, timeframe, stored.last)).candles.columns
    except ObjectDamaged as error:  # the listener's other topics go on
        log("object_damaged", level="error", detail=error.detail)
        return None
    if not columns["open_time"]:
        return None
    last = {name: columns[name][-1] for name in VALUES}
    return last | {name: iso(last[name]) for name in _TIMES}


def stream_for(connection: Connection, topic: Topic) -> str:
    return stream_of(topic, connection.caller.sees)


def shortened(views: list[View], count: int) -> View:
    """A list of tasks that fits into a message, and how many there are."""
    return {"tasks": views[:MOST_TASKS], "count": count}


async def _content(
    backend: Backend, candles: CandleReader, connection: Connection, topic: Topic
) -> View:
    exchange = backend.settings.exchange
    if topic.kind == topics.TASK:
        return {"task": await view_task(backend, topic.subject, connection.caller.sees)}
    if topic.kind == topics.TASKS:
        sees = connection.caller.sees
        views, following = await list_active(backend, sees, MOST_TASKS)
        count = len(views) if following is None else await count_active(backend, sees)
        return shortened(views, count)
    if topic.kind == topics.PRICES:
        now_ms = backend.now_ms()
        price = kept(await CatalogueTable(backend).read_prices(), now_ms).get(topic.subject)
        about = dict.fromkeys(("price", "time", "age_seconds", "stale"))
        return {"exchange": exchange, **(shown(price, now_ms) if price else about)}
    candle = await newest_candle(backend, candles, topic.subject, topic.timeframe)
    return {"exchange": exchange, "candle": candle, "covered": None}


async def _check(backend: Backend, connection: Connection, wanted: list[Topic]) -> None:
    """Raises RequestRejected for the first topic of an unknown task or symbol."""
    known: dict[str, str] | None = None
    for topic in wanted:
        if topic.kind == topics.TASK:
            await find_task(backend, topic.subject, connection.caller.sees)
        elif topic.kind in (topics.PRICES, topics.CANDLES):
            if known is None:
                catalogue = await CatalogueTable(backend).read_catalogue()
                known = catalogue.known if catalogue else {}
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
