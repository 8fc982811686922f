"""One path through every trigger that is no HTTP request, on the packaged application."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import aiohttp

from chalicelib.aws.wire import item_from_wire, item_to_wire
from chalicelib.work.messages import CollectMessage, Unit
from chalicelib.work.request import CollectionRequest
from market_data_collector.client import Client
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.test_main_job import lift_pause
from tests.e2e.waiting import ENDED, ended, until


def audit_of(cloud: Cloud, task_id: str) -> list[dict[str, Any]]:
    found = cloud.client("dynamodb").query(
        TableName=cloud.outputs["AuditTable"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"TASK#{task_id}"}},
    )
    return [item_from_wire(item) for item in found["Items"]]


def test_a_dead_letter_fails_its_units_by_name(cloud: Cloud, api: Client) -> None:
    control = ExchangeControl(cloud.exchange_url)
    rule = {"status": 429, "code": -1003, "msg": "held", "retry_after": 600}
    with control.fault(kind="status", match={"path": "/api/v3/klines"}, **rule):
        task_id = api.start(force=True, symbols=["AVAXUSDT"], timeframes=["1h"]).task_id
        until(api.status, lambda seen: seen["breaker"]["open"])
        dead = CollectMessage(task_id, 1, 0, "normal", "AVAXUSDT", (Unit(0, "1h", 0, 1),))
        queue = cloud.outputs["DeadLetterQueue"]
        cloud.client("sqs").send_message(QueueUrl=queue, MessageBody="no message of ours")
        cloud.client("sqs").send_message(QueueUrl=queue, MessageBody=dead.encode())
        task = ended(api, task_id)
    control.reset()
    control.close()
    lift_pause(cloud)
    assert task["status"] == "failed"
    assert [fail["reason"] for fail in task["failures"]] == ["WORKER_GAVE_UP"]
    until(api.status, lambda seen: not any(seen["queues"]["dead_letters"].values()))


def test_the_stream_writes_the_audit_trail_and_tells_who_listens(cloud: Cloud, api: Client) -> None:
    async def listen() -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []
        async with aiohttp.ClientSession() as session, session.ws_connect(cloud.ws_url) as socket:
            await socket.send_json({"action": "subscribe", "topics": ["tasks"]})
            assert (await socket.receive_json(timeout=10))["type"] == "subscribed"
            task_id = api.start(force=True, symbols=["BTCUSDT"], timeframes=["1h"]).task_id
            while not heard or heard[-1]["status"] not in ENDED:
                message = await socket.receive_json(timeout=30)
                heard += [task for task in message["tasks"] if task["task_id"] == task_id]
        return heard

    heard = asyncio.run(listen())
    progress = [task["progress"] for task in heard]
    assert progress == sorted(progress)
    assert heard[-1]["status"] == "completed"
    task_id = heard[-1]["task_id"]
    events = until(lambda: audit_of(cloud, task_id), lambda seen: len(seen) >= 4)
    assert [event["action"] for event in events] == [
        "task.submitted",
        "task.planned",
        "task.started",
        "task.completed",
    ]


def test_the_schedules_sweep_and_refresh_by_themselves(cloud: Cloud, api: Client) -> None:
    before = api.latest_prices(["BTCUSDT"])["as_of"]
    lost = forgotten_task(cloud)
    fired = cloud.client("events").list_rules()["Rules"]
    assert len([rule for rule in fired if "minute" in rule.get("ScheduleExpression", "")]) >= 2
    until(lambda: api.latest_prices(["BTCUSDT"])["as_of"], lambda seen: seen > before, 130)
    task = ended(api, lost, 130)
    assert task["status"] == "completed"
    assert task["candles"] > 0


def forgotten_task(cloud: Cloud) -> str:
    """A task whose plan message was never sent, as a crash after storing it leaves it."""
    task_id, now_ms = str(uuid.uuid4()), int(time.time() * 1000)
    meta = {
        "pk": f"TASK#{task_id}",
        "sk": "META",
        "task_id": task_id,
        "task_type": "data_collection",
        "state": "pending",
        "attempt": 1,
        "request": CollectionRequest(("ETHUSDT",), ("1d",), fill="all").pack(),
        "priority": "normal",
        "owner": "anonymous",
        "source": "request",
        "request_id": "test",
        "created_at": now_ms,
        "created_key": f"{now_ms:013d}#{task_id}",
        "plan_sent_at": now_ms - 60_000,  # the next sweep need not wait
        "deadline_at": now_ms + 86_400_000,
        "message": "",
        "active": "1",
    }
    cloud.client("dynamodb").put_item(
        TableName=cloud.outputs["TasksTable"], Item=item_to_wire(meta)
    )
    return task_id


def test_the_api_is_reached_through_its_own_stage_alone(cloud: Cloud) -> None:
    gateway = cloud.client("apigateway")
    stages = [
        (api["name"], stage["stageName"])
        for api in gateway.get_rest_apis()["items"]
        for stage in gateway.get_stages(restApiId=api["id"])["item"]
    ]
    assert [stage for _, stage in stages] == ["api"], stages
