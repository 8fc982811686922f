"""Paging rules, the running candle and the errors of the REST endpoints."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.exchange.catalogue import list_symbols
from local.exchange.klines import opening, page
from local.exchange.market import Market
from local.exchange.timeframes import DAY, HOUR, INTERVALS, MINUTE, length_ms, utc_ms

from .conftest import NOW, Server

SYMBOLS = list_symbols(500)
MARKET = Market(1)
T0 = utc_ms("2024-05-01")


def times(rows):
    return [row[0] for row in rows]


def test_rows_have_twelve_columns_of_the_right_types(server: Server):
    for interval in INTERVALS:
        for row in server.klines("BTCUSDT", interval, startTime=T0, limit=3):
            kinds = [int, str, str, str, str, str, int, str, int, str, str, str]
            assert [type(value) for value in row] == kinds
            assert all(len(value.split(".")[1]) == 8 for value in row[1:6])
            assert row[11] == "0"


def test_without_times_the_newest_candles_are_returned(server: Server):
    rows = server.klines("BTCUSDT", "1h")
    assert len(rows) == 500
    assert times(rows) == sorted(times(rows))
    assert rows[-1][0] <= NOW <= rows[-1][6]


def test_with_a_start_alone_the_oldest_from_there_on_are_returned(server: Server):
    rows = server.klines("BTCUSDT", "1h", startTime=T0, limit=10)
    assert times(rows) == [T0 + i * HOUR for i in range(10)]


def test_with_an_end_alone_the_newest_up_to_it_are_returned(server: Server):
    rows = server.klines("BTCUSDT", "1h", endTime=T0, limit=10)
    assert times(rows) == [T0 - (9 - i) * HOUR for i in range(10)]


def test_both_bounds_are_inclusive_on_the_open_time(server: Server):
    rows = server.klines("BTCUSDT", "1h", startTime=T0, endTime=T0 + 3 * HOUR)
    assert times(rows) == [T0, T0 + HOUR, T0 + 2 * HOUR, T0 + 3 * HOUR]
    rows = server.klines("BTCUSDT", "1h", startTime=T0 + 1, endTime=T0 + 3 * HOUR - 1)
    assert times(rows) == [T0 + HOUR, T0 + 2 * HOUR]


def test_a_start_before_the_listing_jumps_to_the_first_candle(server: Server):
    rows = server.klines("BTCUSDT", "1m", startTime=0, limit=1)
    assert times(rows) == [utc_ms("2017-08-17T04:00")]
    rows = server.klines("BTCUSDT", "1d", startTime=0, limit=1)
    assert times(rows) == [utc_ms("2017-08-17")]


def test_limits_above_a_thousand_count_as_a_thousand(server: Server):
    assert len(server.klines("BTCUSDT", "1m", startTime=T0, limit=5000)) == 1000


def test_an_empty_range_gives_an_empty_list(server: Server):
    assert server.klines("BTCUSDT", "1m", startTime=T0 + 1, endTime=T0 + 2) == []
    assert server.klines("BTCUSDT", "1m", startTime=NOW + DAY) == []
    assert server.klines("BTCUSDT", "1m", endTime=1) == []
    assert server.klines("BTCUSDT", "1m", startTime=T0, endTime=T0 - 1) == []
    inside = utc_ms("2018-02-08T03:00")
    assert server.klines("BTCUSDT", "1m", startTime=inside, endTime=inside + HOUR) == []


def test_a_page_reaches_over_an_outage(server: Server):
    rows = server.klines("BTCUSDT", "1h", startTime=utc_ms("2018-02-07T20:00"), limit=4)
    hours = ["2018-02-07T20:00", "2018-02-07T21:00", "2018-02-09T10:00", "2018-02-09T11:00"]
    assert times(rows) == [utc_ms(hour) for hour in hours]


def test_months_and_weeks_follow_the_calendar(server: Server):
    rows = server.klines("BTCUSDT", "1M", startTime=utc_ms("2024-01-31"), limit=2)
    assert [(row[0], row[6]) for row in rows] == [
        (utc_ms("2024-02-01"), utc_ms("2024-03-01") - 1),
        (utc_ms("2024-03-01"), utc_ms("2024-04-01") - 1),
    ]
    rows = server.klines("BTCUSDT", "1w", startTime=utc_ms("2024-01-02"), limit=1)
    assert times(rows) == [utc_ms("2024-01-08")]


def test_a_stopped_symbol_keeps_its_history(server: Server):
    rows = server.klines("BCCUSDT", "1h", limit=3)
    assert times(rows)[-1] == utc_ms("2018-11-16T01:00")


def test_a_non_ascii_symbol_can_be_asked_for(server: Server):
    assert len(server.klines("币安人生USDT", "1h", limit=3)) == 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    symbol=st.sampled_from(list(SYMBOLS.values())[:60]),
    interval=st.sampled_from(INTERVALS),
    share=st.floats(0, 1.02),
    periods=st.integers(0, 260),
    off=st.integers(0, 10**6),
    limit=st.integers(1, 90),
)
def test_paging_gives_the_whole_range_once_and_in_order(
    symbol, interval, share, periods, off, limit
):
    start = symbol.listed - DAY + int(share * (NOW - symbol.listed)) + off
    end = start + periods * length_ms(interval)
    whole = list(
        opening(MARKET, symbol, interval, max(start, symbol.listed - 31 * DAY), end, NOW)
        if start <= NOW
        else []
    )
    whole = [c for c in whole if start <= c.open_time <= min(end, NOW)]
    assert [c.open_time for c in whole] == sorted({c.open_time for c in whole})

    forward, position = [], start
    while rows := page(MARKET, symbol, interval, position, end, limit, NOW):
        assert len(rows) <= limit
        forward += rows
        position = rows[-1].open_time + 1
    assert forward == whole

    backward, position = [], end
    while rows := page(MARKET, symbol, interval, None, position, limit, NOW):
        backward = rows + backward
        position = rows[0].open_time - 1
        if position < start:
            break
    assert [c for c in backward if c.open_time >= start] == whole


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_running_candle_is_what_traded_so_far(server: Server, interval):
    row = server.klines("BTCUSDT", interval, limit=1)[0]
    assert row[0] <= NOW <= row[6]
    seconds = list(opening(MARKET, SYMBOLS["BTCUSDT"], "1s", max(row[0], NOW - HOUR), NOW, NOW))
    assert float(row[4]) == seconds[-1].close / 100
    if row[0] >= NOW - HOUR:
        assert row[8] == sum(candle.trades for candle in seconds)


def test_the_running_candle_grows_with_the_clock_until_it_closes(server: Server):
    minute = NOW - NOW % MINUTE
    seen = []
    for second in (0, 1, 20, 59, 60, 3600):
        server.send("PUT", "/_local/clock", {"now": minute + second * 1000})
        rows = server.klines("BTCUSDT", "1m", startTime=minute, endTime=minute)
        seen.append(rows[0])
    trades = [row[8] for row in seen]
    assert trades == sorted(trades)
    assert trades[0] < trades[2] < trades[3]
    assert seen[3] == seen[4] == seen[5]


def test_ui_klines_are_the_same(server: Server):
    query = {"symbol": "ADAUSDT", "interval": "4h", "startTime": T0, "limit": 7}
    ours, theirs = (server.get(f"/api/v3/{name}", **query) for name in ("klines", "uiKlines"))
    assert ours.body == theirs.body


def test_times_are_in_microseconds_when_the_header_asks(server: Server):
    query = {"symbol": "ADAUSDT", "interval": "1m", "startTime": T0, "limit": 1}
    row = server.get("/api/v3/klines", {"X-MBX-TIME-UNIT": "MICROSECOND"}, **query).json[0]
    assert (row[0], row[6]) == (T0 * 1000, (T0 + MINUTE) * 1000 - 1)


BASE = "symbol=BTCUSDT&interval=1m"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("interval=1m", -1102),
        ("symbol=&interval=1m", -1102),
        ("symbol=BTCUSDT", -1102),
        ("symbol=NOSUCHUSDT&interval=1m", -1121),
        ("symbol=btcusdt&interval=1m", -1100),
        ("symbol=BTC%2FUSDT&interval=1m", -1100),
        ("symbol=BTCUSDT&interval=7m", -1120),
        ("symbol=BTCUSDT&interval=1H", -1120),
        (BASE + "&limit=abc", -1100),
        (BASE + "&limit=-1", -1100),
        (BASE + "&limit=0", -1130),
        (BASE + "&startTime=1.5", -1100),
        (BASE + "&startTime=", -1105),
        (BASE + "&timeZone=8", -1100),
        (BASE + "&foo=1", -1104),
        (BASE + "&symbol=ETHUSDT", -1101),
    ],
)
def test_a_wrong_query_is_refused_with_its_code(server: Server, query, code):
    reply = server.send("GET", f"/api/v3/klines?{query}")
    assert reply.status == 400
    assert reply.json["code"] == code
    assert reply.json["msg"]
    assert "X-MBX-USED-WEIGHT-1M" in reply.headers


def test_unread_parameters_are_counted_in_the_message(server: Server):
    reply = server.send("GET", f"/api/v3/klines?{BASE}&foo=1")
    expected = "Not all sent parameters were read; read '2' parameter(s) but was sent '3'."
    assert reply.json == {"code": -1104, "msg": expected}


def test_a_symbol_does_not_exist_before_its_listing(server: Server):
    server.send("PUT", "/_local/clock", {"now": "2019-01-01"})
    query = {"symbol": "SOLUSDT", "interval": "1d"}
    assert server.get("/api/v3/klines", **query).json["code"] == -1121
    names = [row["symbol"] for row in server.get("/api/v3/exchangeInfo").json["symbols"]]
    assert "SOLUSDT" not in names
    assert "BTCUSDT" in names
