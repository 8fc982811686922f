"""An exchange that errs in ordinary ways, and what then reaches it and the bucket."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from chalicelib.aws.wire import item_from_wire
from chalicelib.core.times import HOUR, MINUTE, parse_time
from chalicelib.exchange.binance import IN_FLIGHT, KLINES_WEIGHT
from chalicelib.exchange.budget import BLOCK_WEIGHT
from market_data_collector.cli.api import Api
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.test_main_job import api, as_sent, ended, exchange, known, lift_pause, stored
from tests.e2e.waiting import until

__all__ = ["api", "exchange"]  # fixtures

COLLECTORS = 5
KLINES = {"path": "/api/v3/klines"}
#: Longer than the waits between the tries of a request.
QUIET_SECONDS = 8
BAD_GATEWAY = {"kind": "status", "status": 502, "code": -1000, "msg": "Bad gateway"}
#: Far back, so that an exchange that answers its newest page answers another question.
START, END = parse_time("2026-03-03T00:00:00Z"), parse_time("2026-03-05T00:00:00Z")


@pytest.mark.parametrize(
    "rules",
    [
        [{"kind": "ignored_times"}],
        [{"kind": "ignored_times", "mode": "both"}],
        [{"kind": "latency", "delay_ms": 1500}],
        [BAD_GATEWAY],
        [{"kind": "latency", "delay_ms": 300}, {"kind": "truncated_json"}],
    ],
    ids=["ignores-the-start", "same-page-again", "slow", "bad-gateway", "half-answers"],
)
def test_after_a_cancel_only_what_was_in_flight_reaches_the_exchange(
    cloud: Cloud, api: Api, exchange: ExchangeControl, rules: list[dict[str, Any]]
) -> None:
    exchange.reset()
    lift_pause(cloud)
    body = {"symbols": known(api)[100:200], "timeframes": ["1m"], "start": "2026-01-01"}
    for rule in rules:
        exchange.add_fault(match=KLINES, **rule)
    task_id = api.start(body)["task_id"]
    until(lambda: api.task(task_id), lambda task: task["status"] == "running")
    until(exchange.arrivals, lambda seen: len(seen) >= COLLECTORS * IN_FLIGHT)
    receipt = api.cancel(task_id)
    assert receipt["units"]["total"] > 1000  # it had far more to ask for
    stopped_at = parse_time(receipt["stopped_at"])
    time.sleep(QUIET_SECONDS)
    late = [at - stopped_at for at in exchange.arrivals() if at > stopped_at]
    assert len(late) <= COLLECTORS * IN_FLIGHT, late


def test_an_exchange_that_answers_another_question_fails_the_unit_and_every_request_is_paid_for(
    cloud: Cloud, api: Api, exchange: ExchangeControl
) -> None:
    while time.time() % 60 > 30:  # the ledger counts by the minute
        time.sleep(0.5)
    exchange.reset()
    lift_pause(cloud)
    body = {"symbols": ["ATOMUSDT"], "timeframes": ["1m"], "start": START, "end": END}
    with exchange.fault(kind="ignored_times", match=KLINES, mode="both"):
        task = ended(api, api.start(body)["task_id"])
    assert task["status"] == "failed"
    assert [each["reason"] for each in task["failures"]] == ["EXCHANGE_INCONSISTENT_ANSWER"]
    sent = len(exchange.arrivals())
    assert sent >= 1
    # Two tickers: the prices' own schedule may have looked in.
    weight = sent * KLINES_WEIGHT + 4 * len(exchange.arrivals("/api/v3/ticker/price"))
    assert weight <= spent(cloud) <= weight + COLLECTORS * BLOCK_WEIGHT


def spent(cloud: Cloud) -> int:
    """The weight in the ledger's running minute."""
    found = cloud.client("dynamodb").get_item(
        TableName=cloud.outputs["MarketTable"],
        Key={"pk": {"S": "LIMIT#binance"}, "sk": {"S": "LIMIT"}},
        ConsistentRead=True,
    )
    return int(item_from_wire(found["Item"])["used"])


def test_a_maintenance_page_is_waited_for(
    cloud: Cloud, api: Api, exchange: ExchangeControl
) -> None:
    body = {"symbols": ["ARUSDT"], "timeframes": ["1h"], "start": START, "end": END}
    with exchange.fault(kind="html200", match=KLINES, remaining=1):
        task_id = api.start(body)["task_id"]
        status = until(api.status, lambda seen: seen["breaker"]["open"])
        assert "maintenance page" in status["breaker"]["reason"]
        assert api.task(task_id)["units"]["failed"] == 0
        lift_pause(cloud)
        task = ended(api, task_id)
    assert (task["status"], task["candles"]) == ("completed", 48)


@pytest.mark.parametrize(("symbol", "mode"), [("ZECUSDT", "newest_first"), ("ZENUSDT", "shuffled")])
def test_rows_in_another_order_are_stored_in_theirs(
    cloud: Cloud, api: Api, exchange: ExchangeControl, symbol: str, mode: str
) -> None:
    body = {"symbols": [symbol], "timeframes": ["1m"], "start": START, "end": END}
    with exchange.fault(kind="reordered_rows", match={**KLINES, "symbol": symbol}, mode=mode):
        task = ended(api, api.start(body)["task_id"])
    assert task["status"] == "completed"
    served = exchange.klines(symbol, "1m", START, END)
    assert len(served) > 1000  # more than a page
    assert stored(cloud.candles_dir, symbol, "1m") == [as_sent(row) for row in served]


def test_a_row_with_a_null_costs_one_candle(
    cloud: Cloud, api: Api, exchange: ExchangeControl
) -> None:
    at = START + 5 * HOUR + MINUTE
    body = {"symbols": ["MAGICUSDT"], "timeframes": ["1m"], "start": START, "end": END}
    rule = {"match": {**KLINES, "symbol": "MAGICUSDT"}, "open_time": at}
    served = exchange.klines("MAGICUSDT", "1m", START, END)
    assert at in [row[0] for row in served]
    with exchange.fault(kind="null_value", **rule):
        task = ended(api, api.start(body)["task_id"])
    assert (task["status"], task["units"]["failed"]) == ("completed", 0)
    assert stored(cloud.candles_dir, "MAGICUSDT", "1m") == [
        as_sent(row) for row in served if row[0] != at
    ]


def test_odd_input_is_refused_with_what_was_meant(cloud: Cloud) -> None:
    prefix = "/api/v1/data-collector"
    asked: list[tuple[str, str, dict[str, Any] | None, str]] = [
        ("POST", "/start", {"start": 1_767_225_600}, "did you mean 2026-01-01T00:00:00.000Z?"),
        ("POST", "/start", {"timeframes": ["1s"], "start": 0}, "shorter range"),
        ("GET", "/audit?from=1767225600", None, "did you mean 2026-01-01T00:00:00.000Z?"),
        ("GET", "/tasks?page_size=1&page_size=2", None, "/page_size: is given more than once"),
        ("GET", "/tasks/active?page_size=1", None, "/page_size: unknown parameter"),
        (
            "POST",
            "/schedules",
            {"expression": "cron(0 6 * * ? *)", "timezone": "europe/berlin"},
            "did you mean Europe/Berlin?",
        ),
        (
            "POST",
            "/schedules",
            {"expression": "cron(0 6 * * ? *)", "timezone": "localtime"},
            "is no time zone",
        ),
    ]
    with httpx.Client(base_url=cloud.api_url, trust_env=False, timeout=30) as http:
        for method, path, body, detail in asked:
            answer = http.request(method, prefix + path, json=body)
            assert answer.status_code == 400, path
            assert answer.headers["content-type"] == "application/problem+json"
            assert detail in answer.json()["detail"]
