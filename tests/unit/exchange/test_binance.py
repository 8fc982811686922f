"""The client: every request is permitted before it leaves, and one odd value costs that value."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from chalicelib.core.connection import BrokenAnswer
from chalicelib.core.errors import (
    CollectorError,
    ExchangeRefused,
    ExchangeThrottled,
    ExchangeUnavailable,
)
from chalicelib.exchange import binance
from chalicelib.exchange.binance import ALL_VOLUMES_WEIGHT, KLINES_WEIGHT, PING_WEIGHT, Binance
from tests.doubles.http import ScriptedHttp
from tests.unit.exchange.test_rows import PAGE, kline

HEADERS = {"date": "Wed, 04 Mar 2026 06:00:00 GMT", "x-mbx-used-weight-1m": "40"}
Answers = Callable[[httpx.Request], httpx.Response]


class Gate:
    """Lets `most` requests pass, and remembers their weights."""

    def __init__(self, most: int = 100) -> None:
        self.most, self.weights = most, list[int]()

    async def permit(self, weight: int) -> None:
        if len(self.weights) == self.most:
            raise CollectorError("no more")
        self.weights.append(weight)


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance, "_BACKOFF_SECONDS", 0)


def asking(answers: Answers, ask: Callable[[Binance], Any]) -> Any:
    async def work() -> Any:
        client = Binance("http://exchange.test", ScriptedHttp(answers))
        try:
            return await ask(client)
        finally:
            await client.aclose()

    return asyncio.run(work())


def klines(answers: Answers, gate: Gate) -> Any:
    return asking(answers, lambda client: client.klines("AUSDT", "1m", 0, 300_000, gate.permit))


def good(content: Any) -> Answers:
    return lambda request: httpx.Response(200, headers=HEADERS, content=json.dumps(content))


def test_a_page_comes_with_the_exchanges_clock_and_count() -> None:
    gate, seen = Gate(), list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return good(PAGE)(request)

    page = klines(answer, gate)
    assert (len(page.rows), page.unusable, page.used_weight) == (5, (), 40)
    assert page.server_ms == 1_772_604_000_000
    assert gate.weights == [KLINES_WEIGHT]
    assert dict(seen[0].url.params) == {
        "symbol": "AUSDT",
        "interval": "1m",
        "startTime": "0",
        "endTime": "299999",
        "limit": "1000",
    }


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_retry_is_permitted_like_every_request_and_not_sent_where_it_is_not(most: int) -> None:
    gate, sent = Gate(most), list[int]()

    def answer(_: httpx.Request) -> httpx.Response:
        sent.append(1)
        return httpx.Response(502)

    with pytest.raises(CollectorError, match="no more"):
        klines(answer, gate)
    assert len(sent) == len(gate.weights) == most


def test_trouble_is_tried_again_and_then_told() -> None:
    gate, left = Gate(), [httpx.Response(502), httpx.Response(200, content=b"[[1,")]
    asked_ms = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked_ms.append(time.time_ns() // 1_000_000)
        return left.pop() if left else good(PAGE)(request)

    page = klines(answer, gate)
    assert (len(page.rows), len(gate.weights)) == (5, 3)
    assert asked_ms[1] <= page.sent_ms <= asked_ms[2]  # when the request left that was answered
    with pytest.raises(ExchangeUnavailable, match="malformed"):
        klines(lambda request: httpx.Response(200, content=b"[[1,"), Gate())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(429, headers={"retry-after": "1"}), ExchangeThrottled),
        (httpx.Response(302, headers={"location": "/maintenance"}), ExchangeThrottled),
        (httpx.Response(202), ExchangeThrottled),
        (httpx.Response(200, content=b'{"code": -1003, "msg": "slow"}'), ExchangeThrottled),
        (httpx.Response(400, content=b'{"code": -1121, "msg": "Invalid."}'), ExchangeRefused),
    ],
)
def test_what_need_not_be_tried_again_is_asked_once(answer: Any, error: Any) -> None:
    gate = Gate()
    with pytest.raises(error):
        klines(lambda request: answer, gate)
    assert len(gate.weights) == 1


def broken(status: int, **headers: str) -> Answers:
    """Answers that begin so, and whose content does not come whole."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise BrokenAnswer("cut off", status, headers)

    return answer


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (418, ExchangeThrottled, 1),
        (429, ExchangeThrottled, 1),
        (403, ExchangeThrottled, 1),
        (451, ExchangeRefused, 1),
        (500, ExchangeUnavailable, 4),
        (200, ExchangeUnavailable, 4),
    ],
)
def test_what_an_answer_begins_with_counts_though_its_content_is_lost(
    status: int, error: Any, requests: int
) -> None:
    gate = Gate()
    with pytest.raises(error) as raised:
        klines(broken(status), gate)
    assert len(gate.weights) == requests
    if status == 418:
        with pytest.raises(ExchangeThrottled) as raised:
            klines(broken(status, **{"retry-after": "3600"}), gate)
        assert raised.value.until_ms > time.time() * 1000 + 3_500_000


def test_a_ban_that_a_ping_meets_is_told() -> None:
    for answers in (lambda request: httpx.Response(418), broken(429)):
        with pytest.raises(ExchangeThrottled):
            asking(answers, lambda client: client.is_up(Gate().permit))
    assert asking(broken(200), lambda client: client.is_up(Gate().permit)) is False


def test_a_page_of_far_too_many_bytes_is_not_read() -> None:
    with pytest.raises(ExchangeUnavailable, match="too much"):
        klines(lambda request: httpx.Response(200, content=b" " * (1 << 20) + b"[]"), Gate())


@pytest.mark.parametrize("count", ["9" * 10, "9" * 5000, "-1", "1.5", "", "²"])
def test_a_count_of_weight_that_is_none_is_passed_over(count: str) -> None:
    headers = {"X-MBX-USED-WEIGHT-1M": count.encode()}
    page = klines(lambda request: httpx.Response(200, headers=headers, content=b"[]"), Gate())
    assert page.used_weight is None


def test_a_row_that_cannot_be_read_is_named_and_the_others_stand() -> None:
    page = klines(good([*PAGE[:2], kline(120_000, c4=None), *PAGE[3:]]), Gate())
    assert ([row[0] for row in page.rows], page.unusable) == (
        [0, 60_000, 180_000, 240_000],
        (120_000,),
    )


def test_a_page_of_which_nothing_can_be_read_says_so() -> None:
    page = klines(good([{"open_time": 1}, {"open_time": 2}]), Gate())
    assert (page.rows, page.unusable) == ([], (-1, -1))
    assert klines(good([]), Gate()).rows == []


def test_listing_prices_and_volumes_pass_over_what_names_nothing() -> None:
    entries = [{"symbol": "AUSDT", "status": "TRADING"}, {"symbol": "BUSDT"}]
    listing = asking(good({"symbols": entries}), lambda client: client.listing(Gate().permit))
    assert (listing.symbols, listing.unusable) == ({"AUSDT": "TRADING"}, ["BUSDT"])
    quoted = [{"symbol": "AUSDT", "price": "1.5"}, {"symbol": "BUSDT", "price": ""}]
    prices, server_ms = asking(good(quoted), lambda client: client.prices(Gate().permit))
    assert (prices.prices, prices.unusable) == ({"AUSDT": "1.5"}, ["BUSDT"])
    assert server_ms == 1_772_604_000_000
    traded = [{"symbol": "AUSDT", "quoteVolume": "9.5"}, {"symbol": "BUSDT"}]
    gate = Gate()
    volumes = asking(good(traded), lambda client: client.volumes(gate.permit))
    assert (volumes.volumes, volumes.unusable) == ({"AUSDT": 9.5}, ["BUSDT"])
    assert gate.weights == [ALL_VOLUMES_WEIGHT]


def test_what_a_ping_says_of_itself_alone_stops_nobody() -> None:
    """A firewall that lets no ping through, or a server that has none."""
    for status in (404, 403, 302):
        answer = httpx.Response(status, content=b"<html>")
        assert asking(lambda _, answer=answer: answer, lambda client: client.is_up(Gate().permit))


def test_trouble_that_says_when_to_come_back_is_not_tried_again_at_once() -> None:
    gate = Gate()
    with pytest.raises(ExchangeUnavailable):
        klines(lambda request: httpx.Response(503, headers={"retry-after": "300"}), gate)
    assert len(gate.weights) == 1


@pytest.mark.parametrize(("status", "up"), [(200, True), (400, True), (500, False)])
def test_a_ping_is_paid_for_too(status: int, up: bool) -> None:
    gate = Gate()
    found = asking(lambda request: httpx.Response(status), lambda client: client.is_up(gate.permit))
    assert (found, gate.weights) == (up, [PING_WEIGHT])
