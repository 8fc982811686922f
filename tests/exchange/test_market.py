"""The synthetic history: exact aggregation, determinism, gaps."""

import subprocess
import sys
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.exchange.catalogue import OUTAGES, Symbol, list_symbols
from local.exchange.klines import opening, page, to_json
from local.exchange.market import LEVELS, Market
from local.exchange.splitting import Candle, merge
from local.exchange.timeframes import DAY, HOUR, INTERVALS, MINUTE, period_start, utc_ms

SYMBOLS = list_symbols(500)
MARKET = Market(1)
NOW = utc_ms("2026-03-04T05:06:07.890")
BUSY = SYMBOLS["BTCUSDT"]
THIN = min(
    (symbol for symbol in SYMBOLS.values() if symbol.stopped is None),
    key=lambda symbol: (symbol.daily_trades, symbol.listed),
)


def every(symbol: Symbol, interval: str, first: int, last: int) -> list[Candle]:
    return list(opening(MARKET, symbol, interval, first, last, NOW))


def grouped(interval: str, candles: list[Candle]) -> list[Candle]:
    groups = groupby(candles, key=lambda candle: period_start(interval, candle.open_time))
    return [merge(list(group), opened) for opened, group in groups]


@pytest.mark.parametrize("interval", [i for i in INTERVALS if i not in ("1s", "1m")])
@pytest.mark.parametrize("symbol", [BUSY, THIN, SYMBOLS["ETHBTC"]], ids=lambda s: s.name)
def test_every_timeframe_is_the_exact_sum_of_its_minutes(symbol, interval):
    begin = utc_ms("2025-09-29") if interval == "1w" else utc_ms("2025-10-01")
    start = period_start(interval, begin)
    end = utc_ms("2025-11-01") if interval in ("1M", "1w") else start + 6 * DAY
    coarse = every(symbol, interval, start, end - 1)
    end = period_start(interval, end) if interval == "1w" else end
    minutes = every(symbol, "1m", start, end - 1)
    assert grouped(interval, minutes) == [c for c in coarse if c.open_time < end]


@pytest.mark.parametrize("symbol", [BUSY, THIN], ids=lambda s: s.name)
def test_minutes_are_the_exact_sum_of_their_seconds(symbol):
    start = utc_ms("2025-10-01T11:00")
    seconds = every(symbol, "1s", start, start + 6 * HOUR - 1)
    assert grouped("1m", seconds) == every(symbol, "1m", start, start + 6 * HOUR - 1)


def test_months_are_the_exact_sum_of_their_days_over_the_whole_history():
    days = every(BUSY, "1d", 0, NOW)
    assert grouped("1M", days) == every(BUSY, "1M", 0, NOW)
    assert grouped("1w", days) == every(BUSY, "1w", 0, NOW)


@settings(max_examples=40, deadline=None)
@given(
    symbol=st.sampled_from([s for s in SYMBOLS.values() if s.stopped is None]),
    level=st.sampled_from(range(len(LEVELS))),
    share=st.floats(0, 1),
)
def test_candles_are_valid_and_follow_on_from_each_other(symbol, level, share):
    length = LEVELS[level]
    start = symbol.listed + int(share * (NOW - symbol.listed))
    previous = None
    for candle in MARKET.candles(symbol, level, start, start + 200 * length):
        assert candle.open_time % length == 0
        assert 0 < candle.low <= min(candle.open, candle.close)
        assert candle.high >= max(candle.open, candle.close)
        assert 0 < candle.trades <= candle.volume
        assert 0 <= candle.taker_base <= candle.volume
        assert 0 <= candle.taker_quote <= candle.quote_volume
        assert candle.trades > 1 or candle.low == candle.high
        mean = candle.quote_volume / candle.volume
        assert candle.low * 0.95 <= mean <= candle.high * 1.05
        adjacent = previous is not None and candle.open_time == previous.open_time + length
        # A quiet market jumps between its few trades.
        if adjacent and min(candle.trades, previous.trades) >= 6:
            assert candle.open == previous.close
        previous = candle


def test_what_was_asked_before_does_not_change_the_answer():
    start, end = utc_ms("2024-02-28T22:00"), utc_ms("2024-03-02T01:00")
    fresh = Market(1)
    asked = to_json(BUSY, "5m", opening(fresh, BUSY, "5m", start, end, NOW), False)
    other = Market(1)
    for interval in reversed(INTERVALS):
        page(other, BUSY, interval, None, end + DAY, 50, NOW)
        page(other, THIN, interval, None, None, 50, NOW)
    assert to_json(BUSY, "5m", opening(other, BUSY, "5m", start, end, NOW), False) == asked


def test_another_process_gives_the_same_bytes_and_another_seed_others():
    program = (
        "import sys\n"
        "from local.exchange.catalogue import list_symbols\n"
        "from local.exchange.klines import page, to_json\n"
        "from local.exchange.market import Market\n"
        "for name, s in list_symbols(30).items():\n"
        f"    rows = page(Market(int(sys.argv[1])), s, '3m', {NOW - 9 * DAY}, None, 40, {NOW})\n"
        "    print(name.encode(), to_json(s, '3m', rows, False))\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program, seed], capture_output=True, check=True
        ).stdout
        for seed in ("1", "1", "2")
    ]
    assert outputs[0] == outputs[1] != outputs[2]


def test_a_longer_catalogue_changes_no_symbol():
    few, many = list_symbols(60), list_symbols(900)
    assert len(many) == 900
    assert few == {name: many[name] for name in list(many)[:60]}


def test_the_catalogue_has_majors_stopped_and_non_ascii_symbols():
    assert {"BTCUSDT", "ETHUSDT", "ADAUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT"} < set(SYMBOLS)
    assert len(SYMBOLS) == 500
    assert {"TRADING", "BREAK", "HALT"} == {symbol.status for symbol in SYMBOLS.values()}
    assert any(not name.isascii() for name in SYMBOLS)
    assert {"USDT", "BTC", "ETH", "FDUSD"} <= {symbol.quote for symbol in SYMBOLS.values()}


def test_an_outage_has_no_candle_and_a_day_inside_it_neither():
    for start, end in OUTAGES:
        assert every(BUSY, "1m", start, end - 1) == []
        assert every(BUSY, "1m", start - MINUTE, end)[0].open_time == start - MINUTE
        assert every(BUSY, "1m", start - MINUTE, end)[-1].open_time == end
    days = [c.open_time for c in every(BUSY, "1d", utc_ms("2018-02-06"), utc_ms("2018-02-10"))]
    expected = ["2018-02-06", "2018-02-07", "2018-02-09", "2018-02-10"]
    assert days == [utc_ms(day) for day in expected]


def test_thin_markets_miss_minutes():
    day = THIN.listed - THIN.listed % DAY + 10 * DAY
    minutes = every(THIN, "1m", day, day + DAY - 1)
    assert 0 < len(minutes) < 200


def test_no_candle_opens_before_the_listing_or_after_the_end():
    for symbol in SYMBOLS.values():
        first = page(MARKET, symbol, "1m", 0, None, 1, NOW)[0]
        assert symbol.listed <= first.open_time < symbol.listed + DAY
        last = page(MARKET, symbol, "1m", None, None, 1, NOW)[0]
        assert last.open_time <= (symbol.stopped or NOW)
