"""What is said of the stored candles is true: every gap, its reason, and what filling it asks for.

The truth is made from what the exchange serves and from what was done to it, not from our code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import httpx

from chalicelib.core.times import parse_time as time_of
from market_data_collector.client import Client
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import ExchangeControl, controlled
from tests.e2e.test_main_job import as_sent
from tests.e2e.waiting import ended

MINUTE = 60_000
HOUR = 60 * MINUTE
TIMEFRAME, LENGTH = "5m", 5 * MINUTE
#: Across the end of a month, so in two objects; too short in each for the archive.
START = 1_693_353_600_000  # 2023-08-30
MONTH = START + 48 * HOUR
END = START + 96 * HOUR
#: The two tasks: all of it, and twice what lies between.
FIRST, SECOND = (START, START + 70 * HOUR), (START + 30 * HOUR, END)

#: Ten of them make an outage. They trade in each five minutes, but for the last four.
BUSY = ["ACHUSDC", "ADABNB", "ADABTC", "ADAETH", "ADAUSDC", "AGLDUSDT", "ALICEBNB", "ASTRUSDT"]
BUSY += ["AVAXBNB", "AVAXETH"]
QUIET, NEW, SHIFTED = "ATOMBTC", "AVAXFDUSD", "AVAXUSDC"
SYMBOLS = sorted([*BUSY, QUIET, NEW, SHIFTED])
#: Two that are asked for once, one of them by two requests at once.
TWICE, ONCE = "BELUSDC", "BLURETH"

#: When no symbol has candles; the second one reaches into both objects.
OUTAGES = [(START + 10 * HOUR, START + 12 * HOUR), (MONTH - 2 * HOUR, MONTH + 90 * MINUTE)]
#: When one symbol alone has none, and nobody knows why.
HALTED = "AGLDUSDT"
HALTS = [(START + hour * HOUR, START + hour * HOUR + 25 * MINUTE) for hour in (3, 15, 20)]
#: A candle that cannot be one.
BROKEN, BROKEN_AT = "ADAETH", START + 60 * HOUR
SHIFT = 2 * MINUTE + 17_000

COLUMNS = ("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume")
COLUMNS += ("trades", "taker_buy_volume", "taker_buy_quote_volume")
KLINES = {"path": "/api/v3/klines", "interval": TIMEFRAME}


class Gap(NamedTuple):
    """`start`, `end`: epoch ms."""

    start: int
    end: int
    reason: str
    candles: int


def test_what_is_said_of_the_candles_is_what_the_exchange_did(cloud: Cloud, api: Client) -> None:
    with controlled(cloud) as exchange:
        exchange.reset()  # or its log may be full
    with controlled(cloud) as exchange, troubled(exchange):
        first, second = body(FIRST), {**body(SECOND), "fill": "all"}
        tasks = [api.start(**each).task_id for each in (first, second)]
        assert [ended(api, task)["status"] for task in tasks] == ["completed"] * 2
        for symbol in SYMBOLS:
            assert candles_of(api, symbol) == [as_sent(row) for row in sound(exchange, symbol)]
            assert gaps_of(cloud, symbol) == truth(exchange, symbol)
        counts_add_up(cloud, exchange)

        before = exchange.asked_of_each(SYMBOLS)
        again = ended(api, api.start(**first).task_id)
        assert again["units"]["from_store"] == again["units"]["total"] > 0
        assert exchange.asked_of_each(SYMBOLS) == before

    # The exchange fills all of the halts but one.
    with controlled(cloud) as exchange, troubled(exchange, HALTS[1:2]):
        left = [each for each in truth(exchange, HALTED) if each.reason == "unexplained"]
        assert [each[:2] for each in left] == HALTS[1:2]
        before = exchange.asked_of_each(SYMBOLS)
        filling = httpx.post(route(cloud, "coverage/fill"), json=body((START, END)))
        assert ended(api, filling.json()["task_id"])["status"] == "completed"
        # The halts are in one page, and no other symbol misses anything.
        assert exchange.asked_of_each(SYMBOLS) - before == {HALTED: 1}
        for symbol in SYMBOLS:
            assert gaps_of(cloud, symbol) == truth(exchange, symbol)
        assert candles_of(api, HALTED) == [as_sent(row) for row in sound(exchange, HALTED)]


def test_two_identical_starts_at_once_ask_the_exchange_once(cloud: Cloud, api: Client) -> None:
    with controlled(cloud) as exchange:
        with exchange.fault(kind="latency", match=KLINES, delay_ms=1500):
            task, again = (api.start(**body(FIRST, TWICE)).answer for _ in range(2))
            assert (again["task_id"], again["deduplicated"]) == (task["task_id"], True)
            other = api.start(**body(FIRST, ONCE)).answer
            assert other["deduplicated"] is False
            for each in (task, other):
                assert ended(api, each["task_id"])["status"] == "completed"
        assert exchange.asked_of(TWICE) == exchange.asked_of(ONCE) != []


def body(between: tuple[int, int], *symbols: str) -> dict[str, Any]:
    return {
        "symbols": [*symbols] or SYMBOLS,
        "timeframes": [TIMEFRAME],
        "start": between[0],
        "end": between[1],
    }


@contextmanager
def troubled(exchange: ExchangeControl, halts: list[tuple[int, int]] = HALTS) -> Iterator[None]:
    """The exchange with everything that is wrong with its history."""
    of = {symbol: {**KLINES, "symbol": symbol} for symbol in SYMBOLS}
    with exchange.fault(kind="shifted_grid", match=of[SHIFTED], shift_ms=SHIFT):
        for symbol, match in of.items():
            for low, high in [*OUTAGES, *(halts if symbol == HALTED else ())]:
                exchange.add_fault(kind="left_out", match=match, open_time=low, until=high)
        exchange.add_fault(kind="invalid_candle", match=of[BROKEN], open_time=BROKEN_AT)
        yield


def sound(exchange: ExchangeControl, symbol: str) -> list[list[Any]]:
    """The rows that can be candles."""
    rows = exchange.klines(symbol, TIMEFRAME, START, END)
    return [row for row in rows if (symbol, row[0]) != (BROKEN, BROKEN_AT)]


def truth(exchange: ExchangeControl, symbol: str) -> list[Gap]:
    """Every stretch without a candle, on the symbol's grid, and why."""
    held = {row[0] for row in sound(exchange, symbol)}
    listed = exchange.listed(symbol, TIMEFRAME)
    shift = SHIFT if symbol == SHIFTED else 0

    def reason(at: int) -> str:
        if at < listed:
            return "before_listing"
        if any(low <= at < high for low, high in OUTAGES):
            return "exchange_outage"
        if (symbol, at) == (BROKEN, BROKEN_AT):
            return "invalid"
        halted = symbol == HALTED and any(low <= at < high for low, high in HALTS)
        return "unexplained" if halted else "no_trades"

    places = range(START + shift, END - LENGTH + 1, LENGTH)
    absent = [(at, reason(at)) for at in places if at not in held]
    found = []
    numbered = ((at - index * LENGTH, why, at) for index, (at, why) in enumerate(absent))
    for (_, why), run in groupby(numbered, key=lambda each: each[:2]):
        opens = [at for *_, at in run]
        found.append(Gap(opens[0], opens[-1] + LENGTH, why, len(opens)))
    return found


def route(cloud: Cloud, path: str) -> str:
    return f"{cloud.api_url}/api/v1/data-collector/{path}"


def read(cloud: Cloud, path: str, **query: Any) -> dict[str, Any]:
    answer = httpx.get(route(cloud, path), params=query, timeout=30)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def gaps_of(cloud: Cloud, symbol: str) -> list[Gap]:
    """All of its pages, as the truth has them."""
    asked: dict[str, Any] = {"symbol": symbol, "timeframe": TIMEFRAME, "start": START, "end": END}
    found: list[Gap] = []
    while True:
        page = read(cloud, "coverage/gaps", page_size=100, **asked)
        found += [
            Gap(time_of(gap["start"]), time_of(gap["end"]), gap["reason"], gap["candles"])
            for gap in page["gaps"]
        ]
        if page["next_page_token"] is None:
            return found
        asked["page_token"] = page["next_page_token"]


def counts_add_up(cloud: Cloud, exchange: ExchangeControl) -> None:
    """The counts are those of the truth, and the same however time is cut."""
    asked = {"symbols": ",".join(SYMBOLS), "timeframes": TIMEFRAME, "start": START, "end": END}
    for resolution in ("object", "day", "all"):
        page = read(cloud, "coverage", resolution=resolution, page_size=100, **asked)
        rows = {row["symbol"]: row for row in page["coverage"]}
        assert [*rows] == SYMBOLS
        assert page["next_page_token"] is None
        for symbol, row in rows.items():
            absent: Counter[str] = Counter()
            for gap in truth(exchange, symbol):
                absent[gap.reason] += gap.candles
            missing, held = absent.pop("unexplained", 0), len(sound(exchange, symbol))
            assert (row["held"], row["missing"], row["explained"]) == (held, missing, absent)
            assert row["expected"] == held + missing + absent.total()
            for name in ("expected", "held", "missing"):
                assert row[name] == sum(cell[name] for cell in row["cells"])


def candles_of(api: Client, symbol: str) -> list[tuple[Any, ...]]:
    """What GET /candles answers, in the row order of the exchange's klines."""
    query = {"symbol": symbol, "timeframe": TIMEFRAME, "start": str(START), "end": str(END)}
    rows = (
        row
        for page in api.candle_answers("json", {**query, "limit": "700"})
        for row in page.json()["candles"]
    )
    times = ("open_time", "close_time")
    return [
        tuple(time_of(row[name]) if name in times else row[name] for name in COLUMNS)
        for row in rows
    ]
