"""The endpoints' answers: from checked parameters to a JSON value or text."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from local.exchange import klines, markets, parameters
from local.exchange.archive import Archive
from local.exchange.catalogue import Symbol, list_symbols
from local.exchange.clock import Clock
from local.exchange.errors import ApiError, invalid_symbol, missing
from local.exchange.faults import Faults
from local.exchange.limits import WeightLimiter
from local.exchange.market import Market
from local.exchange.timeframes import INTERVALS

# How many symbols are priced before other requests get their turn.
_TURN = 25


class Exchange:
    """Everything that the server's replies depend on."""

    def __init__(
        self,
        symbols: int = 500,
        weight_limit: int = 6000,
        seed: int = 1,
        clock: Clock | None = None,
        patience: int = 10,
    ) -> None:
        self.symbols = list_symbols(symbols)
        self.market = Market(seed)
        self.clock = clock or Clock()
        self.limiter = WeightLimiter(weight_limit, patience)
        self.faults = Faults(seed)
        self.archive = Archive(seed, self.symbols)
        self._described: dict[tuple[str, str], str] = {}

    def find(self, name: str) -> Symbol:
        """The listed symbol of that name. Raises ApiError -1121."""
        symbol = self.symbols.get(name)
        if symbol is None or symbol.listed > self.clock.now():
            raise invalid_symbol()
        if self.faults.delisted(name) == "gone":
            raise invalid_symbol()
        return symbol

    async def ping(self, query: Mapping[str, str]) -> str:
        """`GET /api/v3/ping`"""
        parameters.read(query, ())
        return "{}"

    async def time(self, query: Mapping[str, str]) -> str:
        """`GET /api/v3/time`"""
        parameters.read(query, ())
        return _dump({"serverTime": self.clock.now()})

    async def klines(self, path: str, query: Mapping[str, str], micros: bool) -> str:
        """`GET /api/v3/klines` and `uiKlines`."""
        names = ("symbol", "interval", "startTime", "endTime", "limit", "timeZone")
        given = parameters.read(query, names)
        name = parameters.symbol_name(given)
        if "interval" not in given:
            raise missing("interval")
        interval = given["interval"]
        start = parameters.whole_number(given, "startTime")
        end = parameters.whole_number(given, "endTime")
        limit = parameters.page_limit(given)
        if interval not in INTERVALS:
            raise ApiError(-1120, "Invalid interval.")
        if given.get("timeZone", "0") != "0":
            # Binance shifts the days; nobody here asks for that.
            raise ApiError(-1100, "Only timeZone 0 is supported by the local exchange.")
        symbol = self.find(name)
        start, end = self.faults.times_of(path, query, start, end)
        shift = self.faults.shift_of(path, query)
        start, end = (at if at is None else at - shift for at in (start, end))
        # A start after the end selects nothing. That the exchange answers [] here, and not an
        # error, is not documented.
        now = self.clock.now() - shift
        left_out = [(a - shift, b - shift) for a, b in self.faults.left_out(path, query)]
        rows = klines.page(self.market, symbol, interval, start, end, limit, now, left_out)
        rows = [row._replace(open_time=row.open_time + shift) for row in rows] if shift else rows
        rows = self.faults.spoil_candles(path, symbol, interval, rows)
        return klines.to_json(symbol, interval, rows, micros)

    async def exchange_info(self, query: Mapping[str, str]) -> str:
        """`GET /api/v3/exchangeInfo`"""
        names = ("symbol", "symbols", "permissions", "symbolStatus", "showPermissionSets")
        given = parameters.read(query, names)
        wanted = parameters.symbol_names(given)
        filters = {"permissions", "symbolStatus"} & set(given)
        if wanted is not None and filters:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        now = self.clock.now()
        found = [self.find(name) for name in wanted or ()]
        if wanted is None:
            found = self.faults.shorten(self._listed())
        if "symbolStatus" in given:
            status = given["symbolStatus"]
            if status not in markets.STATUSES:
                raise ApiError(-1122, "Invalid symbolStatus.")
            found = [symbol for symbol in found if self._status(symbol) == status]
        if "permissions" in given and "SPOT" not in given["permissions"]:
            found = []
        head = _dump(
            {
                "timezone": "UTC",
                "serverTime": now,
                "rateLimits": markets.rate_limits(self.limiter.limit),
                "exchangeFilters": [],
            }
        )
        return f'{head[:-1]},"symbols":[{",".join(self._describe(s) for s in found)}]}}'

    async def ticker_price(self, query: Mapping[str, str]) -> str:
        """`GET /api/v3/ticker/price`"""
        return await self._tickers(query, ("symbolStatus",), markets.price, with_gone=True)

    async def ticker_book(self, query: Mapping[str, str]) -> str:
        """`GET /api/v3/ticker/bookTicker`"""
        return await self._tickers(query, ("symbolStatus",), markets.book)

    async def ticker_day(self, query: Mapping[str, str]) -> str:
        """`GET /api/v3/ticker/24hr`"""
        mini = query.get("type") == "MINI"

        def make(market: Market, symbol: Symbol, now: int) -> dict[str, Any] | None:
            return markets.day_statistics(market, symbol, now, mini)

        return await self._tickers(query, ("type", "symbolStatus"), make)

    async def average_price(self, query: Mapping[str, str]) -> str:
        """`GET /api/v3/avgPrice`"""
        symbol = self.find(parameters.symbol_name(parameters.read(query, ("symbol",))))
        return _dump(markets.average(self.market, symbol, self.clock.now()))

    async def _tickers(
        self,
        query: Mapping[str, str],
        more: tuple[str, ...],
        make: Callable[[Market, Symbol, int], dict[str, Any] | None],
        with_gone: bool = False,
    ) -> str:
        given = parameters.read(query, ("symbol", "symbols", *more))
        wanted = parameters.symbol_names(given)
        now = self.clock.now()
        found = self._listed(with_gone) if wanted is None else [self.find(name) for name in wanted]
        entries = []
        for i, symbol in enumerate(found):
            if i % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            entry = make(self.market, symbol, now)
            if entry is not None:
                entries.append(entry)
        if "symbol" in given:
            if not entries:
                raise invalid_symbol()
            return _dump(entries[0])
        return _dump(entries)

    def _listed(self, with_gone: bool = False) -> list[Symbol]:
        now = self.clock.now()
        return [
            symbol
            for symbol in self.symbols.values()
            if symbol.listed <= now and (with_gone or self.faults.delisted(symbol.name) != "gone")
        ]

    def _status(self, symbol: Symbol) -> str:
        if self.faults.delisted(symbol.name) == "break":
            return "BREAK"
        return markets.status(symbol, self.clock.now())

    def _describe(self, symbol: Symbol) -> str:
        key = (symbol.name, self._status(symbol))
        if key not in self._described:
            self._described[key] = _dump(markets.describe(symbol, key[1]))
        return self._described[key]


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
