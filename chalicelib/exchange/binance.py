"""Binance's public spot market data over HTTP, and any exchange with the same API.

Source of rules and codes: Binance Spot API documentation (rest-api, errors, filters). Every answer
becomes typed values or one of three errors: refused (permanent), throttled (stop the fleet),
unavailable (try again).
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

from chalicelib.candles.candles import Row
from chalicelib.core import metrics
from chalicelib.core.errors import ExchangeRefused, ExchangeThrottled, ExchangeUnavailable
from chalicelib.core.logs import log

KLINES_WEIGHT = 2
EXCHANGE_INFO_WEIGHT = 20
ALL_PRICES_WEIGHT = 4
PAGE_LIMIT = 1000

IN_FLIGHT = 8  # four or five saturate the weight limit at 80 ms latency
_TRIES = 4
_BACKOFF_SECONDS = 0.2
#: An answer that takes longer is logged by itself.
_SLOW_MS = 1000
#: The firewall (HTTP 403) does not say for how long; to go on asking makes it a ban.
_FIREWALL_PAUSE_MS = 60_000
#: For a 429 or 418 without Retry-After.
_DEFAULT_PAUSE_MS = 60_000

_REFUSALS = {
    -1121: "INVALID_SYMBOL",
    -1120: "INVALID_TIMEFRAME",
    -1130: "INVALID_PARAMETER",
    -1151: "INVALID_PARAMETER",
    **dict.fromkeys(range(-1106, -1099), "INVALID_PARAMETER"),
}
_BANNED_UNTIL = re.compile(r"until (\d{13})")

_KlineRow = tuple[
    int, float, float, float, float, float, int, float, int, float, float, msgspec.Raw
]
_KLINES = msgspec.json.Decoder(list[_KlineRow], strict=False)


class _Symbol(msgspec.Struct):
    symbol: str
    status: str


class _RateLimit(msgspec.Struct):
    rateLimitType: str
    interval: str
    limit: int
    intervalNum: int = 1


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]
    rateLimits: list[_RateLimit] = []


class _Price(msgspec.Struct):
    symbol: str
    price: str


class _ErrorBody(msgspec.Struct):
    code: int = 0
    msg: str = ""


_EXCHANGE_INFO = msgspec.json.Decoder(_ExchangeInfo)
_PRICES = msgspec.json.Decoder(list[_Price])
_ERROR = msgspec.json.Decoder(_ErrorBody)


@dataclass(frozen=True)
class Page:
    """One klines answer.

    `rows`: ascending by open time; `server_ms`: the exchange's clock, epoch ms; `used_weight`: the
    request weight that it counted in this minute, where it says so.
    """

    rows: list[Row]
    server_ms: int
    used_weight: int | None


@dataclass(frozen=True)
class Listing:
    """The exchange's symbols with their status, and its limit of request weight per minute."""

    symbols: dict[str, str]
    weight_limit: int | None


class Binance:
    """One client and one TLS context per container; all calls on one event loop."""

    def __init__(self, root_url: str) -> None:
        self._root = root_url.rstrip("/")
        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(
                limits=httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
            ),
            timeout=httpx.Timeout(10, connect=5, pool=None),
            headers={"Accept-Encoding": "gzip", "User-Agent": "market-data-collector"},
        )
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def klines(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Page:
        """Candles that open in [start, end), at most PAGE_LIMIT, with the running one.

        Raises ExchangeRefused, ExchangeThrottled or ExchangeUnavailable, as all calls here do.
        """
        rows, headers = await self._get(
            "/api/v3/klines",
            {
                "symbol": symbol,
                "interval": timeframe,
                "startTime": start_ms,
                "endTime": end_ms - 1,
                "limit": PAGE_LIMIT,
            },
            _KLINES,
        )
        weight = headers.get("x-mbx-used-weight-1m", "")
        return Page(rows, _server_ms(headers), int(weight) if weight.isdecimal() else None)

    async def listing(self) -> Listing:
        info, _ = await self._get("/api/v3/exchangeInfo", {}, _EXCHANGE_INFO)
        minute = [
            rule.limit
            for rule in info.rateLimits
            if rule.rateLimitType == "REQUEST_WEIGHT"
            and rule.interval == "MINUTE"
            and rule.intervalNum == 1
        ]
        return Listing(
            {symbol.symbol: symbol.status for symbol in info.symbols},
            min(minute) if minute else None,
        )

    async def prices(self) -> tuple[dict[str, str], int]:
        """Every symbol's last price as sent, and the server's time in epoch ms."""
        rows, headers = await self._get("/api/v3/ticker/price", {}, _PRICES)
        return {row.symbol: row.price for row in rows}, _server_ms(headers)

    async def is_up(self) -> bool:
        """Whether the exchange answers at all: one request, no retry."""
        try:
            answer = await self._client.get(f"{self._root}/api/v3/ping")
        except httpx.HTTPError:
            return False
        return answer.status_code < 500

    async def _get(
        self, path: str, query: dict[str, Any], decoder: msgspec.json.Decoder[Any]
    ) -> tuple[Any, httpx.Headers]:
        for attempt in range(1, _TRIES + 1):
            try:
                async with self._in_flight:
                    return await self._get_once(path, query, decoder)
            except ExchangeUnavailable:
                if attempt == _TRIES:
                    raise
            # Full jitter: workers that failed together must not come back together.
            await asyncio.sleep(random.uniform(0.3, 1) * _BACKOFF_SECONDS * 2**attempt)
        raise AssertionError("unreachable")

    async def _get_once(
        self, path: str, query: dict[str, Any], decoder: msgspec.json.Decoder[Any]
    ) -> tuple[Any, httpx.Headers]:
        started = time.monotonic()
        try:
            answer = await self._client.get(self._root + path, params=query)
        except httpx.HTTPError as error:
            metrics.count("ExchangeRequests", Outcome="unavailable")
            raise ExchangeUnavailable(
                f"no answer from the exchange: {type(error).__name__} {error}".strip(),
                reason="EXCHANGE_NO_ANSWER",
            ) from error
        took_ms = (time.monotonic() - started) * 1000
        metrics.measure("ExchangeLatency", round(took_ms, 1))
        metrics.count("ExchangeRequests", Outcome=_outcome(answer.status_code))
        if took_ms > _SLOW_MS:
            log("exchange_slow", path=path, ms=round(took_ms), **_asked(query))
        if answer.status_code != 200:
            raise _error(answer)
        try:
            return decoder.decode(answer.content), answer.headers
        except msgspec.DecodeError as error:
            raise ExchangeUnavailable(
                f"malformed answer: {error}", reason="EXCHANGE_MALFORMED_ANSWER"
            ) from error


def _asked(query: dict[str, Any]) -> dict[str, Any]:
    """The symbol and timeframe of a request, named as in other log lines."""
    named = {"symbol": query.get("symbol"), "timeframe": query.get("interval")}
    return {name: value for name, value in named.items() if value}


def _outcome(status: int) -> str:
    """The Outcome of a status in the metric ExchangeRequests."""
    if status == 200:
        return "ok"
    if status == 418:
        return "banned"
    if status in (403, 429):
        return "throttled"
    return "refused" if status < 500 else "unavailable"


def _error(answer: httpx.Response) -> Exception:
    status = answer.status_code
    if status == 418:
        metrics.count("ExchangeBanned")
    try:
        body = _ERROR.decode(answer.content)
    except msgspec.DecodeError:
        body = _ErrorBody(msg=f"HTTP {status}")
    if status in (418, 429) or body.code == -1003:
        return ExchangeThrottled(f"HTTP {status}: {body.msg}", _pause_until(answer, body.msg))
    if status == 403:
        return ExchangeThrottled(
            "HTTP 403 from the exchange's firewall", _now_ms() + _FIREWALL_PAUSE_MS
        )
    if status == 451:
        return ExchangeRefused(
            "the exchange does not serve this location (HTTP 451)", reason="RESTRICTED_LOCATION"
        )
    if body.code in _REFUSALS:
        return ExchangeRefused(body.msg, reason=_REFUSALS[body.code])
    if status < 500 and body.code not in (-1000, -1001, -1006, -1007, -1008):
        return ExchangeRefused(f"HTTP {status}: {body.code} {body.msg}")
    return ExchangeUnavailable(f"HTTP {status}: {body.msg}")


def _pause_until(answer: httpx.Response, message: str) -> int:
    """When the exchange may be asked again, from Retry-After and the text of a ban."""
    until = _now_ms() + _DEFAULT_PAUSE_MS
    wait = answer.headers.get("retry-after", "")
    if wait.isdecimal():
        until = _now_ms() + int(wait) * 1000
    banned = _BANNED_UNTIL.search(message)
    if banned:
        until = max(until, int(banned[1]))
    return until


def _server_ms(headers: httpx.Headers) -> int:
    """The server's clock from the Date header, in whole seconds; without one, our own clock."""
    date = headers.get("date")
    if date is None:
        return _now_ms()
    try:
        return int(parsedate_to_datetime(date).timestamp()) * 1000
    except ValueError:
        return _now_ms()


def _now_ms() -> int:
    return int(time.time() * 1000)
