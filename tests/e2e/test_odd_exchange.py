"""An exchange that errs in ordinary ways, and what then reaches it and the bucket."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from chalicelib.aws.wire import item_from_wire, to_wire
from chalicelib.candles.candles import Candles
from chalicelib.candles.codec import decode, encode
from chalicelib.candles.coverage import Coverage
from chalicelib.candles.gaps import NO_CANDLE
from chalicelib.candles.summary import Summary, seen
from chalicelib.core.settings import Settings
from chalicelib.core.times import HOUR, MINUTE, parse_time
from chalicelib.exchange.binance import IN_FLIGHT, KLINES_WEIGHT
from chalicelib.exchange.budget import BLOCK_WEIGHT
from market_data_collector.client import Client
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.test_main_job import as_sent, exchange, known, lift_pause, stored
from tests.e2e.waiting import ended, until

__all__ = ["exchange"]  # a fixture

COLLECTORS = Settings().collectors
KLINES = {"path": "/api/v3/klines"}
#: Longer than the waits between the tries of a request.
QUIET_SECONDS = 8
BAD_GATEWAY = {"kind": "status", "status": 502, "code": -1000, "msg": "Bad gateway"}
#: Far back, so that an exchange that answers its newest page answers another question.
#: More than a page of minutes, but no whole day: the archive has no file of it.
START, END = parse_time("2026-03-03T12:00:00Z"), parse_time("2026-03-04T12:00:00Z")


@pytest.mark.parametrize(
    "rules",
    [
        [{"kind": "ignored_times", "mode": "both"}],
        [BAD_GATEWAY],
        [{"kind": "latency", "delay_ms": 500}, {"kind": "truncated_json"}],
    ],
    ids=["same-page-again", "bad-gateway", "slow-half-answers"],
)
def test_after_a_cancel_only_what_was_in_flight_reaches_the_exchange(
    cloud: Cloud, api: Client, exchange: ExchangeControl, rules: list[dict[str, Any]]
) -> None:
    exchange.reset()
    lift_pause(cloud)
    body = {"symbols": known(api)[100:200], "timeframes": ["1m"], "start": "2026-01-01"}
    for rule in rules:
        exchange.add_fault(match=KLINES, **rule)
    task_id = api.start(**body).task_id
    until(lambda: api.task(task_id), lambda task: task["status"] == "running")
    until(exchange.arrivals, lambda seen: len(seen) >= COLLECTORS * IN_FLIGHT)
    receipt = api.cancel(task_id)
    assert receipt["units"]["total"] > 1000  # it had far more to ask for
    stopped_at = parse_time(receipt["stopped_at"])
    time.sleep(QUIET_SECONDS)
    late = [at - stopped_at for at in exchange.arrivals() if at > stopped_at]
    assert len(late) <= COLLECTORS * IN_FLIGHT, late


def test_an_exchange_that_answers_another_question_fails_the_unit_and_every_request_is_paid_for(
    cloud: Cloud, api: Client, exchange: ExchangeControl
) -> None:
    lift_pause(cloud)
    while time.time() % 60 > 30:  # the ledger counts by the minute
        time.sleep(0.5)
    exchange.reset()
    before = spent(cloud)
    body = {"symbols": known(api)[:300], "timeframes": ["1m"], "start": START, "end": END}
    with exchange.fault(kind="ignored_times", match=KLINES, mode="both"):
        task = ended(api, api.start(**body).task_id)
    assert task["status"] == "failed"
    reasons = {each["reason"] for each in task["failures"]}
    assert reasons == {"EXCHANGE_INCONSISTENT_ANSWER"}
    sent = len(exchange.arrivals())
    assert sent >= task["units"]["failed"] == task["units"]["total"]
    # Two tickers: the prices' own schedule may have looked in.
    weight = sent * KLINES_WEIGHT + 4 * len(exchange.arrivals("/api/v3/ticker/price"))
    # A worker takes weight in blocks: one may be left from before, and one is afterwards.
    blocks = COLLECTORS * BLOCK_WEIGHT
    assert weight >= 2 * blocks
    assert weight - blocks <= spent(cloud) - before <= weight + blocks


def spent(cloud: Cloud) -> int:
    """The weight in the ledger's running minute."""
    found = cloud.client("dynamodb").get_item(
        TableName=cloud.outputs["MarketTable"],
        Key={"pk": {"S": "LIMIT#local"}, "sk": {"S": "LIMIT"}},
        ConsistentRead=True,
    )
    now = item_from_wire(found.get("Item", {}))
    return int(now["used"]) if now.get("window_minute") == int(time.time() // 60) else 0


def test_a_maintenance_page_is_waited_for(
    cloud: Cloud, api: Client, exchange: ExchangeControl
) -> None:
    body = {"symbols": ["ARUSDT"], "timeframes": ["1h"], "start": START, "end": END}
    with exchange.fault(kind="html200", match=KLINES, remaining=1):
        task_id = api.start(**body).task_id
        status = until(api.status, lambda seen: seen["breaker"]["open"])
        assert "maintenance page" in status["breaker"]["reason"]
        assert api.task(task_id)["units"]["failed"] == 0
        # It would go on a minute later, which is left to unit/collecting/test_collect.py.
        api.cancel(task_id)
    until(lambda: api.status()["queues"]["work"]["delayed"], lambda seen: seen == 1)
    cloud.client("sqs").purge_queue(QueueUrl=cloud.outputs["WorkQueue"])


@pytest.mark.parametrize(("symbol", "mode"), [("FOTUSDT", "newest_first"), ("ZENUSDT", "shuffled")])
def test_rows_in_another_order_are_stored_in_theirs(
    cloud: Cloud, api: Client, exchange: ExchangeControl, symbol: str, mode: str
) -> None:
    body = {"symbols": [symbol], "timeframes": ["1m"], "start": START, "end": END}
    with exchange.fault(kind="reordered_rows", match={**KLINES, "symbol": symbol}, mode=mode):
        task = ended(api, api.start(**body).task_id)
    assert task["status"] == "completed"
    served = exchange.klines(symbol, "1m", START, END)
    assert len(served) > 1000  # more than a page
    assert stored(cloud.candles_dir, symbol, "1m") == [as_sent(row) for row in served]


def test_a_row_with_a_null_costs_one_candle(
    cloud: Cloud, api: Client, exchange: ExchangeControl
) -> None:
    at = START + 5 * HOUR + MINUTE
    body = {"symbols": ["MAGICUSDT"], "timeframes": ["1m"], "start": START, "end": END}
    rule = {"match": {**KLINES, "symbol": "MAGICUSDT"}, "open_time": at}
    served = exchange.klines("MAGICUSDT", "1m", START, END)
    assert at in [row[0] for row in served]
    with exchange.fault(kind="null_value", **rule):
        task = ended(api, api.start(**body).task_id)
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
        ("GET", "/tasks/active?status=failed", None, "/status: unknown parameter"),
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


def test_an_outage_that_is_filled_later_is_found_and_what_is_dropped_is_kept(
    cloud: Cloud, api: Client, exchange: ExchangeControl
) -> None:
    symbol = "OXTUSDT"
    at = int(time.time() * 1000) // HOUR * HOUR - 100 * HOUR
    left_out = {"kind": "left_out", "match": {**KLINES, "symbol": symbol}, "open_time": at}

    def collect(**more: Any) -> tuple[bool, bool]:
        """Whether the candle is stored then, and whether it is a gap."""
        body = {"symbols": [symbol], "timeframes": ["1h"], **more}
        assert ended(api, api.start(**body).task_id)["status"] == "completed"
        opens = [row[0] for row in stored(cloud.candles_dir, symbol, "1h")]
        return at in opens, (at, HOUR, NO_CANDLE) in gaps(cloud, symbol)

    with exchange.fault(**left_out):
        assert collect() == (False, True)
    assert collect() == (False, True)  # too soon to ask again
    an_hour_later(cloud, symbol)
    assert collect() == (True, False)
    with exchange.fault(**left_out):
        assert collect(start=at - 5 * HOUR, end=at + 5 * HOUR) == (True, False)


def test_a_year_before_the_listing_is_known_after_two_requests(
    cloud: Cloud, api: Client, exchange: ExchangeControl
) -> None:
    exchange.reset()
    body = {
        "symbols": ["BTCUSDT"],
        "timeframes": ["1m"],
        "start": "2012-01-01",
        "end": "2013-01-01",
    }
    task = ended(api, api.start(**body).task_id)
    assert (task["status"], task["units"]["total"]) == ("completed", 0)
    assert "the exchange has no candles of BTCUSDT before" in task["notice"]
    assert len(exchange.arrivals()) == 2


def test_candles_on_a_grid_of_their_own_make_no_gap(
    cloud: Cloud, api: Client, exchange: ExchangeControl
) -> None:
    start = parse_time("2026-01-01T00:00:00Z")
    cuts = [start, start + 40 * HOUR + 7 * MINUTE, start + 100 * HOUR, start + 200 * HOUR]
    off = {"match": {**KLINES, "symbol": "RLCUSDT", "interval": "1h"}, "shift_ms": 1_694_789}
    with exchange.fault(kind="shifted_grid", **off):
        for low, high in [(1, 2), (0, 1), (2, 3)]:
            body = {
                "symbols": ["RLCUSDT"],
                "timeframes": ["1h"],
                "start": cuts[low],
                "end": cuts[high],
            }
            assert ended(api, api.start(**body).task_id)["status"] == "completed"
        served = exchange.klines("RLCUSDT", "1h", start, cuts[-1])
    assert served[0][0] == start + 1_694_789
    assert stored(cloud.candles_dir, "RLCUSDT", "1h") == [as_sent(row) for row in served]
    assert [gap for gap in gaps(cloud, "RLCUSDT") if gap[1] >= HOUR] == []


def gaps(cloud: Cloud, symbol: str) -> list[tuple[int, int, str]]:
    """(start, length, reason) of each gap that the objects of the symbol's hours name."""
    return [
        (gap.start_ms, gap.end_ms - gap.start_ms, gap.reason)
        for key in _keys(cloud, symbol)
        for gap in _held(cloud, key)[2].gaps
    ]


def an_hour_later(cloud: Cloud, symbol: str) -> None:
    """As if all that is known of the symbol's hours had been asked for an hour earlier."""
    summary = Summary()
    for key in _keys(cloud, symbol):
        candles, metadata, known = _held(cloud, key)
        earlier = (
            gap._replace(first_ms=gap.first_ms - HOUR, last_ms=gap.last_ms - HOUR)
            for gap in known.gaps
        )
        coverage = replace(known, gaps=tuple(earlier))
        cloud.client("s3").put_object(
            Bucket=cloud.bucket,
            Key=key,
            Body=encode(candles, {**metadata, "coverage": coverage.to_json()}),
        )
        summary = summary.with_object(seen("1h", candles.open_times[0], candles, coverage))
    cloud.client("dynamodb").update_item(
        TableName=cloud.outputs["MarketTable"],
        Key={"pk": {"S": "COVER#local"}, "sk": {"S": symbol}},
        UpdateExpression="SET tf_1h = :known",
        ExpressionAttributeValues={":known": to_wire(summary.packed("1h"))},
    )


def _keys(cloud: Cloud, symbol: str) -> list[str]:
    prefix = f"candles/exchange=local/timeframe=1h/symbol={symbol}/"
    found = cloud.client("s3").list_objects_v2(Bucket=cloud.bucket, Prefix=prefix)
    return [each["Key"] for each in found["Contents"]]


def _held(cloud: Cloud, key: str) -> tuple[Candles, dict[str, str], Coverage]:
    body = cloud.client("s3").get_object(Bucket=cloud.bucket, Key=key)["Body"].read()
    candles, metadata = decode(body)
    return candles, metadata, Coverage.from_json(metadata["coverage"])
