"""Everything that a metric is there for, made to happen once on a deployed stack."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import httpx

from chalicelib.work.messages import PlanMessage
from market_data_collector.client import Client
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.stack import Cloud
from tests.e2e.test_main_job import TIMEFRAMES, lift_pause
from tests.e2e.test_triggers import forgotten_task
from tests.e2e.waiting import ended, until

KLINES = {"path": "/api/v3/klines"}
PREFIX = "/api/v1/data-collector"


def cause(cloud: Cloud, api: Client) -> dict[str, str]:
    """Cause it all; returns the tasks by what became of them."""
    control = ExchangeControl(cloud.exchange_url)
    try:
        lost = forgotten_task(cloud)
        schedule_id = _promise(cloud)
        tasks = {
            "completed": _all_timeframes(api),
            "failed": _delisted(api, control),
            "cancelled": _cancelled(api, control),
        }
        _no_listing(api, control)
        _flaky(api, control)
        _bent_candle(api, control)
        _drifted(api, control)
        _archived(api)
        _dead_letters(cloud)
        _ask_wrongly(cloud)
        asyncio.run(_listen(cloud, api))
        _by_hand(cloud)
        _throttled(cloud, api, control)
        # The sweep's and the watch's own minutes: a lost task is found, a promise found broken.
        ended(api, lost, 150)
        _until_watched(cloud, schedule_id)
        return tasks
    finally:
        control.reset()
        control.close()
        lift_pause(cloud)


def _promise(cloud: Cloud) -> str:
    """A schedule that fires each minute, and promises what cannot be kept: a second's candles."""
    body = {
        "name": "watched",
        "expression": "rate(1 minute)",
        "request": {"symbols": ["PEPEUSDT"], "timeframes": [*TIMEFRAMES, "1s"]},
        "freshness": {"max_lag_seconds": 1},
    }
    with httpx.Client(base_url=cloud.api_url, trust_env=False, timeout=30) as http:
        answer = http.post(f"{PREFIX}/schedules", json=body)
        answer.raise_for_status()
        return str(answer.json()["schedule_id"])


def _until_watched(cloud: Cloud, schedule_id: str) -> None:
    with httpx.Client(base_url=cloud.api_url, trust_env=False, timeout=30) as http:

        def seen() -> dict[str, Any]:
            found: dict[str, Any] = http.get(f"{PREFIX}/schedules/{schedule_id}").json()
            return found

        until(
            seen,
            lambda found: found["freshness"].get("breaches", 0) > 0 and bool(found["last_run"]),
            150,
        )
        http.delete(f"{PREFIX}/schedules/{schedule_id}").raise_for_status()


def _all_timeframes(api: Client) -> str:
    task_id = str(api.start(force=True, symbols=["BTCUSDT", "ETHUSDT"]).task_id)
    urgent = api.start(force=True, symbols=["ADAUSDT"], timeframes=["1h"], priority="high").answer
    assert ended(api, task_id)["status"] == "completed"
    assert ended(api, urgent["task_id"])["status"] == "completed"
    return task_id


def _delisted(api: Client, control: ExchangeControl) -> str:
    with control.fault(kind="delisted", match={"symbol": "DOGEUSDT"}):
        body = {"symbols": ["DOGEUSDT"], "timeframes": ["1h", "5m"]}
        task_id = str(api.start(**{**body, "force": True}).task_id)
        assert ended(api, task_id)["status"] == "failed"
    return task_id


def _no_listing(api: Client, control: ExchangeControl) -> None:
    with control.fault(kind="short_listing", percent=100):
        assert ended(api, api.refresh_symbols().task_id)["status"] == "failed"


def _cancelled(api: Client, control: ExchangeControl) -> str:
    with control.fault(kind="latency", match=KLINES, delay_ms=1500):
        body = {"symbols": ["SOLUSDT", "XRPUSDT"], "timeframes": ["1h"], "start": "2026-01-01"}
        task_id = str(api.start(**{**body, "force": True}).task_id)
        until(lambda: api.task(task_id), lambda task: task["status"] == "running")
        api.cancel(task_id)
        time.sleep(2)  # requests in flight
    api.retry(task_id)
    ended(api, task_id)
    return task_id


def _flaky(api: Client, control: ExchangeControl) -> None:
    """One unit fails its whole first delivery, and is collected by the second."""
    rule = {"kind": "status", "status": 500, "remaining": 4}
    with control.fault(match={**KLINES, "symbol": "LTCUSDT"}, **rule):
        task = api.start(force=True, symbols=["LTCUSDT"], timeframes=["1d"]).answer
        assert ended(api, task["task_id"])["status"] == "completed"


def _bent_candle(api: Client, control: ExchangeControl) -> None:
    with control.fault(kind="invalid_candle", match={**KLINES, "symbol": "TRXUSDT"}, remaining=1):
        task = api.start(force=True, symbols=["TRXUSDT"], timeframes=["4h"]).answer
        assert ended(api, task["task_id"])["status"] == "completed"


def _archived(api: Client) -> None:
    """A closed month comes from the bulk archive."""
    month = {"start": "2026-01-01", "end": "2026-02-01"}
    task = api.start(
        **{"force": True, "symbols": ["CHZUSDT"], "timeframes": ["5m"], **month}
    ).answer
    assert ended(api, task["task_id"])["status"] == "completed"


def _drifted(api: Client, control: ExchangeControl) -> None:
    """Rows that nobody can read fail their unit alone."""
    with control.fault(kind="drifted_rows", match={**KLINES, "symbol": "ATOMUSDT"}):
        body = {"symbols": ["ATOMUSDT", "DOTUSDT"], "timeframes": ["1d"]}
        task = ended(api, api.start(**{**body, "force": True}).task_id)
    assert (task["status"], task["units"]["failed"]) == ("completed", 1)
    assert [each["reason"] for each in task["failures"]] == ["EXCHANGE_SCHEMA_DRIFT"]


def _throttled(cloud: Cloud, api: Client, control: ExchangeControl) -> None:
    for status in (429, 418):
        rule = {"status": status, "code": -1003, "retry_after": 3, "remaining": 1}
        with control.fault(kind="status", match=KLINES, msg="too much", **rule):
            task = api.start(
                force=True, symbols=["DOTUSDT"], timeframes=["5m" if status == 429 else "1h"]
            ).answer
            assert ended(api, task["task_id"])["status"] == "completed"


def _dead_letters(cloud: Cloud) -> None:
    sqs = cloud.client("sqs")
    for queue in ("PlanQueue", "WebhookQueue"):
        sqs.send_message(QueueUrl=cloud.outputs[queue], MessageBody="no message of ours")
    dead = PlanMessage("nobody", 1).encode()
    sqs.send_message(QueueUrl=cloud.outputs["DeadLetterQueue"], MessageBody=dead)


def _ask_wrongly(cloud: Cloud) -> None:
    """A 404, and 503s: prices that are not there yet."""
    with httpx.Client(base_url=cloud.api_url, trust_env=False, timeout=30) as http:
        assert http.get(f"{PREFIX}/task/nobody").status_code == 404
        key = {"pk": {"S": "PRICES#local"}, "sk": {"S": "PRICES"}}
        cloud.client("dynamodb").delete_item(TableName=cloud.outputs["MarketTable"], Key=key)
        assert http.get(f"{PREFIX}/latest-prices").status_code == 503


async def _listen(cloud: Cloud, api: Client) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(cloud.ws_url) as socket:
        await socket.send_json({"action": "subscribe", "topics": ["tasks"]})
        await socket.receive_json(timeout=20)
        task_id = api.start(force=True, symbols=["LINKUSDT"], timeframes=["1d"]).task_id
        await socket.receive_json(timeout=20)
    await asyncio.to_thread(ended, api, task_id)


def _by_hand(cloud: Cloud) -> None:
    """The functions that only a day or a person wakes."""
    for function in ("ExportAudit", "ReplayChanges"):
        answer = cloud.client("lambda").invoke(
            FunctionName=cloud.function(function),
            Payload=json.dumps({"time": "2026-11-23T00:20:00Z"}).encode(),
        )
        assert "FunctionError" not in answer, answer["Payload"].read()
