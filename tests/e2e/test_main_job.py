"""The main job on the packaged application: HTTP, plan, collect, cancel, retry, expiry."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from market_data_collector.client import Client
from market_data_collector.errors import Expired, Rejected
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.waiting import ENDED, ended, until

SYMBOLS = ["BTCUSDT", "ETHUSDT", "ADAUSDT"]
TIMEFRAMES = ["1m", "5m", "15m", "1h", "4h", "1d"]


@pytest.fixture
def exchange(cloud: Cloud) -> Iterator[ExchangeControl]:
    control = ExchangeControl(cloud.exchange_url)
    yield control
    control.reset()
    control.close()
    lift_pause(cloud)


def lift_pause(cloud: Cloud) -> None:
    """Forget the ledger and the breaker, which a test may have left shut for minutes."""
    cloud.client("dynamodb").delete_item(
        TableName=cloud.outputs["MarketTable"],
        Key={"pk": {"S": "LIMIT#local"}, "sk": {"S": "LIMIT"}},
    )


def stored(candles_dir: Path, symbol: str, timeframe: str) -> list[tuple[Any, ...]]:
    """Every stored candle as DuckDB reads it, in the row order of Binance's klines."""
    files = f"{candles_dir}/candles/exchange=local/timeframe={timeframe}/symbol={symbol}/*.parquet"
    return duckdb.sql(
        "SELECT epoch_ms(open_time), open, high, low, close, volume, epoch_ms(close_time), "
        "quote_volume, trades, taker_buy_volume, taker_buy_quote_volume "
        f"FROM read_parquet('{files}') ORDER BY open_time"
    ).fetchall()


def as_sent(row: list[Any]) -> tuple[Any, ...]:
    return (
        row[0],
        *(float(value) for value in row[1:6]),
        row[6],
        float(row[7]),
        row[8],
        float(row[9]),
        float(row[10]),
    )


def test_every_stored_candle_is_the_one_the_exchange_serves(
    cloud: Cloud, api: Client, exchange: ExchangeControl
) -> None:
    task = ended(api, api.start(force=True, symbols=SYMBOLS, timeframes=TIMEFRAMES).task_id)
    assert task["status"] == "completed"
    assert task["progress"] == 100
    assert task["units"] == {
        "total": 18,
        "succeeded": 18,
        "failed": 0,
        "remaining": 0,
        "from_store": 0,
    }
    compared = 0
    for symbol in SYMBOLS:
        for timeframe in TIMEFRAMES:
            candles = stored(cloud.candles_dir, symbol, timeframe)
            served = exchange.klines(symbol, timeframe, candles[0][0], candles[-1][0] + 1)
            assert candles == [as_sent(row) for row in served]
            compared += len(candles)
    assert compared >= task["candles"] == 18_000


def test_a_second_run_asks_only_for_what_is_new(api: Client) -> None:
    body = {"symbols": ["CHZUSDT"], "timeframes": ["1h", "1d"]}
    assert ended(api, api.start(**body).task_id)["candles"] == 2000
    again = ended(api, api.start(**body).task_id)
    assert again["units"]["succeeded"] == 2
    assert again["candles"] <= 4  # the last stored one of each, and what closed meanwhile


def test_a_long_range_is_cut_into_units_and_lands_whole(
    cloud: Cloud, api: Client, exchange: ExchangeControl
) -> None:
    body = {
        "symbols": ["SOLUSDT"],
        "timeframes": ["1m"],
        "start": "2026-03-01",
        "end": "2026-05-15T12:34:00Z",
        "priority": "high",
    }
    task = ended(api, api.start(**{**body, "force": True}).task_id)
    assert task["status"] == "completed"
    assert task["units"]["total"] > 1
    low, high = 1_772_323_200_000, 1_778_848_440_000
    candles = [row for row in stored(cloud.candles_dir, "SOLUSDT", "1m") if row[0] < high]
    assert candles == [as_sent(row) for row in exchange.klines("SOLUSDT", "1m", low, high)]


def test_one_failing_symbol_does_not_stop_the_others(
    api: Client, exchange: ExchangeControl
) -> None:
    body = {"symbols": ["XRPUSDT", "DOGEUSDT", "LTCUSDT"], "timeframes": ["5m", "1h"]}
    with exchange.fault(kind="delisted", match={"symbol": "DOGEUSDT"}):
        task = ended(api, api.start(**{**body, "force": True}).task_id)
    assert task["status"] == "completed"
    assert task["units"] == {
        "total": 6,
        "succeeded": 4,
        "failed": 2,
        "remaining": 0,
        "from_store": 0,
    }
    assert {(fail["symbol"], fail["reason"]) for fail in task["failures"]} == {
        ("DOGEUSDT", "INVALID_SYMBOL")
    }
    assert {fail["timeframe"] for fail in task["failures"]} == {"5m", "1h"}


def test_a_task_says_what_it_retries_what_failed_and_what_was_rejected(
    api: Client, exchange: ExchangeControl
) -> None:
    messages: list[str] = []

    def look() -> dict[str, Any]:
        task = api.task(task_id)
        messages.append(task["message"])
        return task

    klines = {"path": "/api/v3/klines"}
    with (
        exchange.fault(kind="status", status=502, match={**klines, "symbol": "ARUSDT"}),
        exchange.fault(kind="delisted", match={"symbol": "MAGICUSDT"}),
        exchange.fault(kind="invalid_candle", match={**klines, "symbol": "ZECUSDT"}, remaining=1),
    ):
        body = {"symbols": ["ARUSDT", "MAGICUSDT", "ZECUSDT"], "timeframes": ["1h"]}
        task_id = api.start(**{**body, "force": True}).task_id
        retrying = "Retrying ARUSDT 1h: HTTP 502: An error occurred. (2/3)"
        until(look, lambda task: task["message"] == retrying)
    task = until(look, lambda task: task["status"] in ENDED)
    assert task["units"] == {
        "total": 3,
        "succeeded": 2,
        "failed": 1,
        "remaining": 0,
        "from_store": 0,
    }
    assert not [said for said in messages if "Collected data for MAGICUSDT" in said]
    assert task["message"].endswith("candles; 1 rejected; 1 units failed")
    assert task["rejected_candles"] == task["result"]["rejected_candles"] == 1
    (rejection,) = task["rejections"]
    assert (rejection["symbol"], rejection["timeframe"]) == ("ZECUSDT", "1h")


def test_retry_runs_only_what_failed(api: Client, exchange: ExchangeControl) -> None:
    body = {"symbols": ["DOTUSDT", "LINKUSDT"], "timeframes": ["15m", "4h"]}
    with exchange.fault(kind="delisted", match={"symbol": "DOTUSDT"}):
        task_id = api.start(**{**body, "force": True}).task_id
        assert ended(api, task_id)["units"]["failed"] == 2
    before = exchange.requests()
    api.retry(task_id)
    task = ended(api, task_id)
    assert task["status"] == "completed"
    assert task["attempt"] == 2
    assert task["units"] == {
        "total": 4,
        "succeeded": 4,
        "failed": 0,
        "remaining": 0,
        "from_store": 0,
    }
    # Two pages; prices may have been refreshed meanwhile.
    assert 2 <= exchange.requests() - before <= 4
    with pytest.raises(Rejected) as rejected:
        api.retry(task_id)
    assert rejected.value.problem["reason"] == "NOTHING_TO_RETRY"


def test_one_workers_429_stops_the_fleet_and_the_task_still_completes(
    api: Client, exchange: ExchangeControl
) -> None:
    symbols = [name for name in known(api) if name.endswith("BTC")][:30]
    rule = {"status": 429, "code": -1003, "msg": "Too much request weight", "retry_after": 8}
    with exchange.fault(kind="status", match={"path": "/api/v3/klines"}, remaining=1, **rule):
        task_id = api.start(force=True, symbols=symbols, timeframes=["1h"]).task_id
        status = until(api.status, lambda seen: seen["breaker"]["open"])
        assert "Too much request weight" in status["breaker"]["reason"]
        time.sleep(1.5)  # requests in flight may end
        held = exchange.requests()
        assert "Waiting for the exchange" in api.task(task_id)["message"]
        time.sleep(2)
        assert exchange.requests() - held <= 1  # the prices' own schedule may look in once
    task = ended(api, task_id)
    assert task["units"]["succeeded"] == 30


def test_cancel_freezes_the_count_and_stops_the_requests(
    api: Client, exchange: ExchangeControl
) -> None:
    with exchange.fault(kind="latency", match={"path": "/api/v3/klines"}, delay_ms=400):
        task_id = api.start(force=True, symbols=known(api)[:120], timeframes=["1h", "4h"]).task_id
        until(lambda: api.task(task_id), lambda task: task["units"]["succeeded"] > 0)
        receipt = api.cancel(task_id)
        at_cancel = api.task(task_id)
        assert at_cancel["status"] == "cancelled"
        landed = receipt["units"]["succeeded"] + receipt["units"]["failed"]
        assert 0 < landed < 240
        time.sleep(2)  # requests already in flight
        quiet = exchange.requests()
        time.sleep(3)
        assert exchange.requests() - quiet <= 1  # the prices' own schedule may look in once
    assert api.task(task_id)["units"] == at_cancel["units"]
    assert api.cancel(task_id)["units"] == receipt["units"]
    api.retry(task_id)
    assert ended(api, task_id)["units"]["succeeded"] == 240


def test_an_expired_task_is_gone_though_dynamodb_still_has_it(cloud: Cloud, api: Client) -> None:
    task_id = api.start(force=True, symbols=["BTCUSDT"], timeframes=["1d"]).task_id
    ended(api, task_id)
    cloud.client("dynamodb").update_item(
        TableName=cloud.outputs["TasksTable"],
        Key={"pk": {"S": f"TASK#{task_id}"}, "sk": {"S": "META"}},
        UpdateExpression="SET #ttl = :past",
        ExpressionAttributeNames={"#ttl": "ttl"},
        ExpressionAttributeValues={":past": {"N": str(int(time.time()) - 1)}},
    )
    with pytest.raises(Expired):
        api.task(task_id)
    with pytest.raises(Expired):
        api.retry(task_id)
    assert task_id not in [task["task_id"] for task in api.tasks_page(page_size=100)["tasks"]]
    with pytest.raises(Rejected) as rejected:
        api.task("00000000-0000-4000-8000-000000000000")
    assert rejected.value.problem["status"] == 404


def test_at_most_five_collectors_run_at_once(
    cloud: Cloud, api: Client, exchange: ExchangeControl
) -> None:
    symbols = known(api)[:160]
    most = 0
    # Slow answers keep every collector busy, whatever the speed of this machine.
    with exchange.fault(kind="latency", match={"path": "/api/v3/klines"}, delay_ms=600):
        left = [
            api.start(force=True, symbols=part, timeframes=["1h", "1d"], priority=priority).task_id
            for part, priority in ((symbols[:80], "normal"), (symbols[80:], "high"))
        ]
        while left:
            most = max(most, collect_processes(cloud))
            left = [task_id for task_id in left if api.task(task_id)["status"] not in ENDED]
            time.sleep(0.05)
    assert most == 5


def collect_processes(cloud: Cloud) -> int:
    """Worker processes of `collect` that live below this test's embedded cloud."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == cloud.cloud_process.pid and "-Collect-" in command:
            count += 1
    return count


def known(api: Client) -> list[str]:
    return [
        name for name in api.stats()["data_collector_status"]["available_symbols"] if name.isascii()
    ]
