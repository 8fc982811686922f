"""An exchange in memory, with the methods of exchange.binance.Binance.

Candles are a function of symbol, timeframe, open time and revision, so that a test can say what
must have been stored. Faults are switched on by setting fields.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any

from chalicelib.candles.answers import sound_rows
from chalicelib.core import timeframes, times
from chalicelib.core.errors import ExchangeRefused, ExchangeThrottled, ExchangeUnavailable
from chalicelib.exchange.binance import (
    ALL_PRICES_WEIGHT,
    ALL_VOLUMES_WEIGHT,
    EXCHANGE_INFO_WEIGHT,
    KLINES_WEIGHT,
    PAGE_LIMIT,
    PING_WEIGHT,
    Page,
    Permit,
)
from chalicelib.exchange.rows import Listing, Prices, Volumes
from tests.doubles.clock import Clock

Row = tuple[Any, ...]
Asked = tuple[str, str, int, int]


@dataclass
class Exchange:
    """The fields below are the switches; `asked` lists (symbol, timeframe, start, end)."""

    clock: Clock
    symbols: dict[str, str] = field(
        default_factory=lambda: {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING", "OLDUSDT": "BREAK"}
    )
    weight_limit: int | None = 6000
    #: No candle opens before this (epoch ms).
    listed_ms: int = 0
    #: Nothing that opens from then on is served: the symbol is halted (epoch ms).
    unserved_since: int = times.FOREVER_MS
    #: Where a timeframe's candles open, ascending, instead of on the usual grid.
    own_grid: dict[str, list[int]] = field(default_factory=dict)
    #: Open times at which the exchange has no candle.
    outage: set[int] = field(default_factory=set)
    #: Open time -> [from, until) in epoch ms in which the exchange does not serve that candle: an
    #: outage that is filled later, or history that it drops.
    unserved: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: Open times of candles whose prices contradict each other.
    broken: set[int] = field(default_factory=set)
    #: symbol or (symbol, timeframe) -> reason of a permanent refusal.
    refused: dict[Any, str] = field(default_factory=dict)
    #: symbol, (symbol, timeframe), or "volumes", of which requests get no answer, or a malformed
    #: one.
    unavailable: set[Any] = field(default_factory=set)
    malformed: set[Any] = field(default_factory=set)
    #: Symbols whose price is unusable, or missing, in the answer of all prices.
    unpriced: set[str] = field(default_factory=set)
    #: Quote volumes of 24 hours, of symbols that have another than `volumes` gives them.
    traded: dict[str, float] = field(default_factory=dict)
    #: Symbols whose volume is unusable.
    untraded: set[str] = field(default_factory=set)
    #: Symbol -> base and quote asset, where the list says them.
    assets: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: Epoch ms until which every request is throttled, as 429 with Retry-After.
    throttled_until: int = 0
    #: Whether requests above the weight limit are throttled until the next minute.
    enforces_limit: bool = False
    #: Rows come in a form that nobody can read.
    drifted: bool = False
    #: Open times of candles whose rows come as null.
    null: set[int] = field(default_factory=set)
    #: Nothing answers, not even a ping.
    down: bool = False
    #: Raising it revises every candle.
    revision: int = 0
    #: Open time -> when the exchange revises that candle, in epoch ms, whole seconds.
    revised_at: dict[int, int] = field(default_factory=dict)
    #: Whether the page's last row may be the running candle, as on Binance.
    shows_running: bool = True
    #: Awaited at the start of every request: for races, crashes and lost time.
    on_request: Callable[[Asked], Awaitable[None]] | None = None
    asked: list[Asked] = field(default_factory=list)
    weight_by_minute: Counter[int] = field(default_factory=Counter)

    async def klines(
        self, symbol: str, timeframe: str, start_ms: int, end_ms: int, permit: Permit
    ) -> Page:
        await permit(KLINES_WEIGHT)
        sent_ms = self.clock()
        asked = (symbol, timeframe, start_ms, end_ms)
        self.asked.append(asked)
        if self.on_request is not None:
            await self.on_request(asked)
        self._answer(KLINES_WEIGHT, symbol, timeframe)
        if symbol not in self.symbols:
            raise ExchangeRefused("Invalid symbol.", reason="INVALID_SYMBOL")
        sent = self.rows(symbol, timeframe, start_ms, end_ms)
        rows = [row for row in sent if not self.drifted and row[0] not in self.null]
        unusable = (-1,) * (len(sent) - len(rows))
        # The Date header, from which the server's clock is read, has whole seconds.
        server_ms = self.clock() // 1000 * 1000
        used = self.weight_by_minute[self.clock() // times.MINUTE]
        return Page(sound_rows(rows) or rows, server_ms, used, unusable, sent_ms)

    async def listing(self, permit: Permit) -> Listing:
        await permit(EXCHANGE_INFO_WEIGHT)
        self._answer(EXCHANGE_INFO_WEIGHT)
        return Listing(dict(self.symbols), self.weight_limit, (), dict(self.assets))

    async def prices(self, permit: Permit) -> tuple[Prices, int]:
        await permit(ALL_PRICES_WEIGHT)
        self._answer(ALL_PRICES_WEIGHT)
        prices = {symbol: f"{_noise(symbol) % 90_000 + 1}.50" for symbol in self.symbols}
        for symbol in self.unpriced:
            prices.pop(symbol, None)
        return Prices(prices, sorted(self.unpriced)), self.clock() // 1000 * 1000

    async def volumes(self, permit: Permit) -> Volumes:
        await permit(ALL_VOLUMES_WEIGHT)
        self._answer(ALL_VOLUMES_WEIGHT, "volumes")
        volumes = {symbol: float(_noise(symbol) % 90_000) for symbol in self.symbols} | self.traded
        for symbol in self.untraded:
            volumes.pop(symbol, None)
        return Volumes(volumes, sorted(self.untraded))

    async def is_up(self, permit: Permit) -> bool:
        await permit(PING_WEIGHT)
        try:
            self._answer(PING_WEIGHT)
        except ExchangeUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        return

    def rows(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> list[Row]:
        """What klines answers for [start, end): at most PAGE_LIMIT rows, the running one last."""
        now_ms = self.clock()
        last = now_ms if self.shows_running else timeframes.floor(timeframe, now_ms) - 1
        last = min(last, end_ms - 1, self.unserved_since - 1)
        inside = takewhile(lambda at_ms: at_ms <= last, self._opens(timeframe, start_ms))
        served = (at_ms for at_ms in inside if not self._is_unserved(at_ms, now_ms))
        return [self.row(symbol, timeframe, at_ms, now_ms) for at_ms in islice(served, PAGE_LIMIT)]

    def closed_opens(self, timeframe: str, start_ms: int, end_ms: int) -> list[int]:
        """Open times of valid candles in [start, end), closed by now, served or not."""
        now_ms = self.clock() // 1000 * 1000
        return [
            at_ms
            for at_ms in takewhile(
                lambda at_ms: at_ms < end_ms and next_open(timeframe, at_ms) <= now_ms,
                self._opens(timeframe, start_ms),
            )
            if at_ms not in self.broken
        ]

    def broken_opens(self, timeframe: str, start_ms: int, end_ms: int) -> set[int]:
        """Open times in [start, end) of the candles that contradict themselves, served or not."""
        inside = takewhile(lambda at_ms: at_ms < end_ms, self._opens(timeframe, start_ms))
        return self.broken & set(inside)

    def _opens(self, timeframe: str, start_ms: int) -> Iterator[int]:
        """When the exchange's candles open, from `start_ms` on, without end on the usual grid."""
        first_ms = max(start_ms, self.listed_ms)
        opens: Iterable[int] | None = self.own_grid.get(timeframe)
        if opens is None:
            opens = _grid(timeframe, first_ms)
        return (at_ms for at_ms in opens if at_ms >= first_ms and at_ms not in self.outage)

    def _is_unserved(self, open_ms: int, now_ms: int) -> bool:
        low, high = self.unserved.get(open_ms, (0, 0))
        return low <= now_ms < high

    def row(self, symbol: str, timeframe: str, open_ms: int, now_ms: int) -> Row:
        """The row of the candle that opens then, as the exchange gives it at `now_ms`."""
        after_ms = next_open(timeframe, open_ms)
        revision = self.revision + (now_ms >= self.revised_at.get(open_ms, times.FOREVER_MS))
        noise = _noise(symbol, timeframe, open_ms, revision)
        low = 100 + noise % 1000 / 8
        high = low + noise % 97 / 4
        if open_ms in self.broken:
            low, high = high + 1, low
        return (
            open_ms,
            low,
            high,
            low,
            high,
            float(noise % 5000),
            after_ms - 1,
            float(noise % 70_000),
            noise % 300,
            float(noise % 2500),
            float(noise % 35_000),
            b"0",
        )

    def _answer(self, weight: int, symbol: str = "", timeframe: str = "") -> None:
        """Count the request and raise the fault that stands for it."""
        keys = {symbol, (symbol, timeframe)}
        if self.down or keys & self.unavailable:
            raise ExchangeUnavailable("no answer from the exchange", reason="EXCHANGE_NO_ANSWER")
        self.weight_by_minute[self.clock() // times.MINUTE] += weight
        if self.throttled_until > self.clock():
            raise ExchangeThrottled("HTTP 429: Too many requests", self.throttled_until)
        minute = self.clock() // times.MINUTE
        if self.enforces_limit and self.weight_by_minute[minute] > (self.weight_limit or 0):
            raise ExchangeThrottled("HTTP 429: Too much weight", (minute + 1) * times.MINUTE)
        if keys & self.malformed:
            raise ExchangeUnavailable("malformed answer", reason="EXCHANGE_MALFORMED_ANSWER")
        for key in keys & self.refused.keys():
            raise ExchangeRefused("refused", reason=self.refused[key])


def next_open(timeframe: str, open_ms: int) -> int:
    """When the candle that opens then has closed."""
    if timeframe == "1M":
        return timeframes.floor("1M", open_ms + 32 * times.DAY)
    return open_ms + timeframes.LENGTH_MS[timeframe]


def _grid(timeframe: str, start_ms: int) -> Iterator[int]:
    """The usual grid, without end, from the candle that runs at `start_ms` on."""
    at_ms = timeframes.floor(timeframe, start_ms)
    while True:
        yield at_ms
        at_ms = next_open(timeframe, at_ms)


def _noise(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())
