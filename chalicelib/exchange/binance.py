"""Binance's public spot market data over HTTP, and whatever speaks like it.

Every answer becomes typed values (rows.py) or one of three errors (verdict.py): refused
(permanent), throttled (everybody waits), unavailable (try again). Every request, retries included,
is permitted right before it leaves: `permit` knows whether it is still wanted, and pays its weight.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from chalicelib.candles.answers import Row
from chalicelib.core import metrics
from chalicelib.core.backend import wall_clock_ms
from chalicelib.core.connection import BrokenAnswer
from chalicelib.core.errors import (
    ExchangeError,
    ExchangeUnavailable,
    NoAnswer,
)
from chalicelib.core.http import MOST_CONTENT, Http, HttpAnswer
from chalicelib.core.logs import log
from chalicelib.exchange.rows import (
    Listing,
    Prices,
    Unreadable,
    Volumes,
    klines_in,
    listing_in,
    prices_in,
    volumes_in,
)
from chalicelib.exchange.verdict import date_ms, error_of, outcome_of
from chalicelib.exchange.weights import (
    ALL_PRICES_WEIGHT,
    ALL_VOLUMES_WEIGHT,
    EXCHANGE_INFO_WEIGHT,
    IN_FLIGHT,
    KLINES_WEIGHT,
    PING_WEIGHT,
)

PAGE_LIMIT = 1000
#: No request takes longer: it must end before the invocation that was permitted to begin it.
_REQUEST_SECONDS = 10.0
_HEADERS = {"Accept-Encoding": "gzip", "User-Agent": "market-data-collector"}
_TRIES = 4
_BACKOFF_SECONDS = 0.2
#: Bytes of a page of candles, inflated: four times what the longest values take.
_MOST_PAGE = 1 << 20
#: Digits of a count of weight that is one.
_MOST_DIGITS = 9
#: An answer that takes longer is logged by itself.
_SLOW_MS = 1000
#: Unusable values that one log line names.
_MOST_NAMED = 20

#: Takes a request's weight; raises where the request must not be sent.
Permit = Callable[[int], Awaitable[None]]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Page:
    """One klines answer, in the order it came.

    `unusable`: open times (epoch ms, -1 where unknown) of rows that cannot be read; `server_ms`:
    the exchange's clock; `used_weight`: the weight that it has counted in this minute; `sent_ms`:
    when the request left, by our clock.
    """

    rows: Sequence[Row]
    server_ms: int
    used_weight: int | None
    unusable: tuple[int, ...] = ()
    sent_ms: int = 0


class Binance:
    """One client and one TLS context per container; all calls on one event loop."""

    def __init__(
        self,
        root_url: str,
        http: Http | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """`http`: for tests; `now_ms`: the clock that the exchange's is compared with."""
        self._root = root_url.rstrip("/")
        self._now_ms = now_ms
        self._http = http or Http(IN_FLIGHT, _REQUEST_SECONDS)
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def klines(
        self, symbol: str, timeframe: str, start_ms: int, end_ms: int, permit: Permit
    ) -> Page:
        """Candles that open in [start, end), at most PAGE_LIMIT, the running one included.

        What the exchange answers is not checked against the question. Raises ExchangeError, and
        what `permit` raises.
        """
        query = {
            "symbol": symbol,
            "interval": timeframe,
            "startTime": start_ms,
            "endTime": end_ms - 1,
            "limit": PAGE_LIMIT,
        }
        found, headers, sent_ms = await self._get(
            "klines", query, KLINES_WEIGHT, permit, klines_in, _MOST_PAGE
        )
        if found.unusable:
            about = f"{symbol} {timeframe}"
            _note_unusable("klines", [f"{about} {at}" for at in found.unusable])
        weight = headers.get("x-mbx-used-weight-1m", "")
        used = int(weight) if weight.isdecimal() and len(weight) <= _MOST_DIGITS else None
        return Page(found.rows, self._server_ms(headers), used, tuple(found.unusable), sent_ms)

    async def listing(self, permit: Permit) -> Listing:
        found, *_ = await self._get("exchangeInfo", {}, EXCHANGE_INFO_WEIGHT, permit, listing_in)
        if found.unusable:
            _note_unusable("exchangeInfo", found.unusable)
        return found

    async def prices(self, permit: Permit) -> tuple[Prices, int]:
        """Every symbol's last price, and the server's time in epoch ms."""
        found, headers, _ = await self._get(
            "ticker/price", {}, ALL_PRICES_WEIGHT, permit, prices_in
        )
        if found.unusable:
            _note_unusable("ticker/price", found.unusable)
        return found, self._server_ms(headers)

    async def volumes(self, permit: Permit) -> Volumes:
        """Every symbol's quote volume of the last 24 hours."""
        found, *_ = await self._get("ticker/24hr", {}, ALL_VOLUMES_WEIGHT, permit, volumes_in)
        if found.unusable:
            _note_unusable("ticker/24hr", found.unusable)
        return found

    async def is_up(self, permit: Permit) -> bool:
        """Whether the exchange answers at all: one request, no retry. Raises ExchangeThrottled, and
        what `permit` raises."""
        async with self._in_flight:
            await permit(PING_WEIGHT)
            try:
                answer = await self._answered("ping", {}, MOST_CONTENT)
            except NoAnswer:
                return False
        if answer.status in (418, 429) and (error := self._error_of(answer)) is not None:
            raise error
        return answer.status < 500

    async def _get(
        self,
        endpoint: str,
        query: dict[str, Any],
        weight: int,
        permit: Permit,
        read: Callable[[bytes], Value],
        most: int = MOST_CONTENT,
    ) -> tuple[Value, Mapping[str, str], int]:
        """What was answered, and when the request for it left."""
        for attempt in range(1, _TRIES + 1):
            try:
                async with self._in_flight:
                    await permit(weight)
                    sent_ms = self._now_ms()
                    answer = await self._ask(endpoint, query, most)
                return _read(answer, read), answer.headers, sent_ms
            except ExchangeUnavailable as error:
                if attempt == _TRIES or error.until_ms > self._now_ms():
                    raise
            # Full jitter: workers that failed together must not come back together.
            await asyncio.sleep(random.uniform(0.3, 1) * _BACKOFF_SECONDS * 2**attempt)
        raise AssertionError("unreachable")

    async def _ask(self, endpoint: str, query: dict[str, Any], most: int) -> HttpAnswer:
        """One request. Raises ExchangeError for whatever is no good answer."""
        started = time.monotonic()
        try:
            answer = await self._answered(endpoint, query, most)
        except NoAnswer as problem:
            metrics.count("ExchangeRequests", Outcome="unavailable")
            raise ExchangeUnavailable(
                f"no answer from the exchange: {problem}", reason="EXCHANGE_NO_ANSWER"
            ) from problem
        took_ms = (time.monotonic() - started) * 1000
        error = self._error_of(answer)
        metrics.measure("ExchangeLatency", round(took_ms, 1))
        metrics.count("ExchangeRequests", Outcome=outcome_of(answer.status, error))
        if answer.status == 418:
            metrics.count("ExchangeBanned")
        if took_ms > _SLOW_MS:
            log("exchange_slow", path=f"/api/v3/{endpoint}", ms=round(took_ms), **_asked(query))
        if error is not None:
            raise error
        return answer

    async def _answered(self, endpoint: str, query: dict[str, Any], most: int) -> HttpAnswer:
        """The answer to one request. Raises NoAnswer."""
        url = f"{self._root}/api/v3/{endpoint}"
        try:
            return await self._http.get(url, query, _HEADERS, most)
        except BrokenAnswer as broken:
            if broken.status == 200:
                raise
            # What it says is in its head: a ban is one whatever became of its text.
            return HttpAnswer(broken.status, broken.headers, b"")

    def _error_of(self, answer: HttpAnswer) -> ExchangeError | None:
        return error_of(answer.status, answer.headers, answer.content, self._now_ms())

    def _server_ms(self, headers: Mapping[str, str]) -> int:
        """The server's clock from the Date header, whole seconds rounded down; ours without one."""
        try:
            return date_ms(headers["date"])
        except (KeyError, ValueError, OverflowError):
            return self._now_ms()


def _read(answer: HttpAnswer, read: Callable[[bytes], Value]) -> Value:
    try:
        return read(answer.content)
    except Unreadable as problem:
        raise ExchangeUnavailable(
            f"malformed answer: {problem}", reason="EXCHANGE_MALFORMED_ANSWER"
        ) from problem


def _note_unusable(endpoint: str, names: Sequence[str]) -> None:
    """Count and log values that were passed over, by name."""
    metrics.count("ExchangeValuesUnusable", len(names))
    log(
        "exchange_values_unusable",
        level="warning",
        endpoint=endpoint,
        count=len(names),
        names=list(names[:_MOST_NAMED]),
    )


def _asked(query: dict[str, Any]) -> dict[str, Any]:
    """Of a request, what a log line names as everywhere else."""
    named = {"symbol": query.get("symbol"), "timeframe": query.get("interval")}
    return {name: value for name, value in named.items() if value}
