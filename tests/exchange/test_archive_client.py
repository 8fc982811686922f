"""Our client of the archive against the local exchange's, with each of its faults."""

from __future__ import annotations

import asyncio

import pytest

from chalicelib.candles.candles import Candles
from chalicelib.exchange import archive
from chalicelib.exchange.archive import MISSING, UNAVAILABLE, Archive
from chalicelib.exchange.archive_file import daily_file, monthly_file
from chalicelib.exchange.archive_rows import DAMAGED, FileUnusable
from local.exchange.timeframes import utc_ms

from .conftest import Server

FILE = daily_file("BTCUSDT", "1m", utc_ms("2025-06-01"))


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch):
    monkeypatch.setattr(archive, "_BACKOFF_SECONDS", 0)


def read(server: Server, file=FILE) -> Candles | str:
    """The file's candles, or why it cannot be used."""

    async def free(weight: int) -> None:
        assert not weight

    async def work() -> Candles | str:
        client, whole = Archive(server.url), Candles()
        try:
            async with client.candles(file, free) as parts:
                for part in parts:
                    whole.extend(part)
        except FileUnusable as error:
            return error.reason
        finally:
            await client.aclose()
        return whole

    return asyncio.run(work())


@pytest.mark.parametrize("timeframe", ["1m", "15m", "1M"])
@pytest.mark.parametrize("month", ["2024-12-01", "2025-01-01"])
def test_a_file_says_what_rest_says(server: Server, timeframe, month):
    found = read(server, monthly_file("BTCUSDT", timeframe, utc_ms(month)))
    start = utc_ms(month)
    rows = server.klines("BTCUSDT", timeframe, startTime=start, endTime=start + 1)
    rows += server.klines("BTCUSDT", timeframe, startTime=start + 1, limit=999)
    rows = [row for row in rows if row[0] < found.open_times[-1] + 1]
    order = (0, 6, 1, 2, 3, 4, 5, 7, 9, 10, 8)
    for at, row in enumerate(rows):
        assert found.values_at(at)[1:] == tuple(float(row[column]) for column in order)


@pytest.mark.parametrize("mode", ["header", "other_unit", "garbage"])
def test_an_odd_form_costs_no_candle(server: Server, mode):
    sound = read(server)
    server.fault(kind="archive", mode=mode)
    assert read(server) == sound
    assert len(sound) == 1440


def test_a_short_file_is_read_as_far_as_it_goes(server: Server):
    server.fault(kind="archive", mode="short")
    assert len(read(server)) == 1080


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "archive", "mode": "missing"}, MISSING),
        ({"kind": "archive", "mode": "checksum"}, DAMAGED),
        ({"kind": "archive", "mode": "truncated"}, DAMAGED),
        ({"kind": "archive", "mode": "other_name"}, DAMAGED),
        ({"kind": "archive", "mode": "bomb"}, DAMAGED),
        ({"kind": "status", "status": 503}, UNAVAILABLE),
        ({"kind": "status", "status": 429}, UNAVAILABLE),
        ({"kind": "outage"}, UNAVAILABLE),
        ({"kind": "html403"}, UNAVAILABLE),
        ({"kind": "html200"}, DAMAGED),
    ],
)
def test_a_file_in_trouble_says_which(server: Server, fault, reason):
    server.fault(match={"path": "/data/*"}, **fault)
    assert read(server) == reason


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "archive", "mode": "checksum"},
        {"kind": "archive", "mode": "truncated"},
        {"kind": "status", "status": 500},
        {"kind": "outage"},
    ],
)
def test_trouble_that_passes_costs_requests_alone(server: Server, fault):
    server.fault(remaining=1, **fault)
    assert len(read(server)) == 1440


def test_a_slow_file_is_not_waited_for(server: Server, monkeypatch):
    monkeypatch.setattr(archive, "_REQUEST_SECONDS", 0.05)
    server.fault(kind="latency", delay_ms=300, match={"path": "*.zip"})
    assert read(server) == UNAVAILABLE


def test_a_day_that_has_not_closed_is_missing(server: Server):
    assert read(server, daily_file("BTCUSDT", "1m", server.exchange.clock.now())) == MISSING
