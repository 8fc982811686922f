"""Operations that read: candles, coverage, prices, and what the collector does."""

import time
from collections.abc import Callable, Container, Mapping
from typing import Literal, cast

import httpx

from market_data_collector.answers import (
    CandleFile,
    CoveragePage,
    GapPage,
    Prices,
    Stats,
    Status,
    Ticket,
)
from market_data_collector.calls import Pages, When, answered, entries, get, listed, once
from market_data_collector.candles import CandlePages, Candles, page
from market_data_collector.described import Described, J, Names, names
from market_data_collector.effects import Flow, Item, Plan
from market_data_collector.joining import joined
from market_data_collector.listening import Message, listen
from market_data_collector.operation import operation, stream

Fill = Literal["none", "previous"]
Order = Literal["asc", "desc"]
Form = Literal["arrow", "csv", "json", "parquet"]
Resolution = Literal["object", "day", "month", "year", "all"]


class Reading(Described[J]):
    @operation
    def candles(
        self,
        symbol: str,
        timeframe: str,
        start: When = None,
        end: When = None,
        *,
        fill: Fill = "none",
        order: Order = "asc",
    ) -> Plan[Candles]:
        """What is stored of a symbol and timeframe, page by page, as one Arrow table.

        `fill="previous"`: a row for each missing candle, with the close before it and `filled`. Of
        a history that does not fit into memory take `candle_pages`, or `candle_files`.

        >>> candles = Client().candles("BTCUSDT", "1h", "2026-11-22", "2026-11-23")
        >>> len(candles), candles.table.schema.names[:3]
        (24, ['open_time', 'close_time', 'open'])
        """
        asked = {"symbol": symbol, "timeframe": timeframe, "start": start, "end": end}
        pages = []
        walk = CandlePages(self._site, "arrow", {**asked, "fill": fill, "order": order})
        while walk.more:
            pages.append(page((yield from walk.next())))
        return Candles.joined(pages)

    @stream
    def candle_pages(
        self,
        symbol: str,
        timeframe: str,
        start: When = None,
        end: When = None,
        *,
        fill: Fill = "none",
        order: Order = "asc",
        limit: int | None = None,
    ) -> Flow[Candles]:
        """The same, one page of at most `limit` rows at a time."""
        asked = {"symbol": symbol, "timeframe": timeframe, "start": start, "end": end}
        asked |= {"fill": fill, "order": order} | ({"limit": limit} if limit else {})
        walk = CandlePages(self._site, "arrow", asked)
        while walk.more:
            yield Item(page((yield from walk.next())))

    @stream
    def candle_answers(self, form: Form, asked: Mapping[str, object]) -> Flow[httpx.Response]:
        """The same as the API answers it: its bytes in the format `form`. `asked` as GET /candles
        takes it."""
        walk = CandlePages(self._site, form, asked)
        while walk.more:
            yield Item((yield from walk.next()))

    @stream
    def candle_files(
        self,
        symbols: Names,
        timeframe: str,
        start: When = None,
        end: When = None,
        page_size: int | None = None,
    ) -> Flow[CandleFile]:
        """The Parquet files, each with a URL that is good for 15 minutes, and its size and rows.

        >>> [file["rows"] for file in Client().candle_files("BTCUSDT", "1h")]
        [24]
        """
        asked: dict[str, object] = {"symbol": names(symbols, "symbols"), "timeframe": timeframe}
        asked |= {"start": start, "end": end, "page_size": page_size}
        return entries(self._site, "/candles/files", "files", asked)

    @operation
    def coverage(
        self,
        symbols: Names | None = None,
        timeframes: Names | None = None,
        start: When = None,
        end: When = None,
        *,
        resolution: Resolution = "month",
        explain: bool = True,
        page_size: int | None = None,
    ) -> Plan[CoveragePage]:
        """How much is held, explained and missing: all pages as one.

        With `explain=False` no file is read, which is quick for many symbols: reasons are known in
        part only, and `uncertain` says of how many candles.

        >>> [row] = Client().coverage("BTCUSDT", "1h", "2026-11-22", "2026-11-23")["coverage"]
        >>> row["held"], row["missing"], row["percent"]
        (24, 0, 100)
        """
        asked: dict[str, object] = {"symbols": names(symbols, "symbols")}
        asked |= {"timeframes": names(timeframes, "timeframes"), "start": start, "end": end}
        asked |= {"resolution": resolution, "page_size": page_size}
        asked |= {} if explain else {"explain": "false"}
        pages, found = Pages(self._site, "/coverage", asked), []
        while pages.more:
            found.append((yield from pages.next()))
        return cast(CoveragePage, joined(found))

    @operation
    def gaps(
        self,
        symbol: str,
        timeframe: str,
        start: When = None,
        end: When = None,
        page_size: int | None = None,
    ) -> Plan[GapPage]:
        """Where no candle is held, and why: all pages as one."""
        asked = {"symbol": symbol, "timeframe": timeframe, "start": start, "end": end}
        pages = Pages(self._site, "/coverage/gaps", {**asked, "page_size": page_size})
        found = []
        while pages.more:
            found.append((yield from pages.next()))
        ends = {"start": found[0].get("start"), "end": found[-1].get("end")}
        gaps = [gap for each in found for gap in listed(each, "gaps")]
        return cast(GapPage, {**found[-1], **ends, "gaps": gaps, "next_page_token": None})

    @operation
    def latest_prices(self, symbols: Names | None = None) -> Plan[Prices]:
        """The latest prices of `symbols`; None: of every symbol that the collector knows.

        >>> Client().latest_prices(["BTCUSDT", "NOPE"])["unreachable"]
        ['NOPE']
        """
        return get(self._site, "/latest-prices", symbols=names(symbols, "symbols"))

    @operation
    def stats(self) -> Plan[Stats]:
        """Counts of tasks by state, and the symbols and timeframes that are known."""
        return get(self._site, "/tasks/stats")

    @operation
    def status(self) -> Plan[Status]:
        """What the collector does: queues, rate budget, breaker, pause, limits."""
        return get(self._site, "/status")

    @operation
    def metrics(self) -> Plan[str]:
        """The collector's state in Prometheus's text format."""
        headers = {"Accept": "text/plain"}
        return (yield from answered(self._site, "GET", "/metrics", headers=headers)).text

    @operation
    def ws_ticket(self) -> Plan[Ticket]:
        """A new ticket, good for one connection within a minute: `ticket`, `expires_at`, `url`."""
        return once(self._site, "POST", "/ws-ticket")

    @stream
    def watch(
        self,
        *topics: str,
        ended: Container[str] = frozenset(),
        ws_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Flow[Message]:
        """Snapshots and updates over the WebSocket, for as long as you listen.

        `topics`: `tasks`, `task:ID`, `prices:BTCUSDT`, `candles:BTCUSDT:1m`. A connection that ends
        is made again, and what was lost meanwhile is asked for. Of a task that has expired the last
        that comes is a message of the type `error`. `ended`: topics of tasks whose end you have
        seen. Raises Unheard where there is no WebSocket, Rejected for a topic that is refused.
        """
        return listen(self._site, [*topics], ended=ended, url=ws_url, clock=clock)
