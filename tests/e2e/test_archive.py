"""Closed months come from the exchange's bulk archive, on the packaged application."""

from __future__ import annotations

from market_data_collector.client import Client
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import controlled
from tests.e2e.test_main_job import as_sent, stored
from tests.e2e.waiting import ended

SYMBOL = "OGNUSDT"
BODY = {"symbols": [SYMBOL], "timeframes": ["1m"], "start": "2025-03-01", "end": "2025-05-01"}
SOUND, STALE = f"{SYMBOL}-1m-2025-03.zip", f"{SYMBOL}-1m-2025-04.zip"
APRIL = 1_743_465_600_000


def test_a_month_comes_from_its_file_and_from_rest_where_the_file_is_stale(
    cloud: Cloud, api: Client
) -> None:
    spoiled = {"path": f"*/{STALE}*"}
    with controlled(cloud) as exchange:
        with exchange.fault(kind="archive", mode="revised", match=spoiled):
            task = ended(api, api.start(**BODY).task_id)
        asked = exchange.asked_of(SYMBOL)
        pages = [
            exchange.klines(SYMBOL, "1m", at, at + 60_000_000)
            for at in (APRIL - 30_000_000, APRIL + 30_000_000)
        ]
    assert (task["status"], task["candles"]) == ("completed", 61 * 1440)
    assert task["passed_over"] == [{"file": STALE, "reason": "ARCHIVE_FILE_STALE"}]
    files = [path.rpartition("/")[2] for path in asked if path.startswith("/data/")]
    assert sorted(files) == sorted(
        f"{file}{kind}" for file in (SOUND, STALE) for kind in ("", ".CHECKSUM")
    )
    # A page of each file as a sample, the first candle ever, and the 44 pages of April.
    assert 45 <= len(asked) - len(files) <= 52
    held = {row[0]: row for row in stored(cloud.candles_dir, SYMBOL, "1m")}
    assert len(held) == 61 * 1440
    for page in pages:
        assert [held.get(row[0]) for row in page] == [as_sent(row) for row in page]
        assert len(page) == 1000
