"""What somebody else left in the tables and queues stops nothing, and what is lost is found."""

from __future__ import annotations

import time
from typing import Any

import pytest

from chalicelib.aws.wire import item_to_wire
from chalicelib.core.task_keys import item_key, prog_key
from chalicelib.work.messages import CollectMessage, Unit
from infra.names import stack_name
from local.aws import DUMMY_CREDENTIALS
from market_data_collector.client import Client
from tests.cli.running import run as run_client
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import ExchangeControl
from tests.e2e.test_main_job import lift_pause
from tests.e2e.waiting import ended, until


def test_lost_messages_are_found_beside_a_busy_queue_and_an_item_that_cannot_be_read(
    cloud: Cloud, api: Client
) -> None:
    sqs, tasks = cloud.client("sqs"), cloud.outputs["TasksTable"]
    queue, database = cloud.outputs["WorkQueue"], cloud.client("dynamodb")
    control = ExchangeControl(cloud.exchange_url)
    rule = {"status": 429, "code": -1003, "msg": "held", "retry_after": 600}
    with control.fault(kind="status", match={"path": "/api/v3/klines"}, **rule):
        task_id = api.start(force=True, symbols=["ZECUSDT"], timeframes=["1h"]).task_id
        prog = {"TableName": tasks, "Key": item_key(task_id, prog_key(0))}
        until(lambda: database.get_item(**prog).get("Item", {}), lambda seen: "attempt" in seen)
        # Another test's may wait beside it.
        until(lambda: api.status()["queues"]["work"], lambda seen: seen["delayed"] >= 1)
        sqs.purge_queue(QueueUrl=queue)
    control.reset()
    control.close()
    lift_pause(cloud)
    busy = CollectMessage("nobody's", 1, 0, "normal", "ZECUSDT", (Unit(0, "1h", 0, 3_600_000),))
    sqs.send_message(QueueUrl=queue, MessageBody=busy.encode(), DelaySeconds=300)
    odd = {"pk": "TASK#odd", "sk": "META", "active": "1", "created_key": "0", "state": "paused"}
    database.put_item(TableName=tasks, Item=item_to_wire(odd))
    database.update_item(  # as if an hour had passed
        **prog,
        UpdateExpression="SET sent_at = :then",
        ExpressionAttributeValues=item_to_wire({":then": int(time.time() - 3600) * 1000}),
    )
    swept = cloud.invoke("Sweep", {})
    task = ended(api, task_id)
    database.delete_item(TableName=tasks, Key=item_key("odd", "META"))
    sqs.purge_queue(QueueUrl=queue)
    assert swept["failed"] == 1
    assert task["status"] == "completed"


def test_a_message_that_cannot_be_read_is_set_aside_whole_and_replayed_or_dropped(
    cloud: Cloud, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in DUMMY_CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.endpoint_url)
    monkeypatch.setenv("DATA_COLLECTOR_STACK", stack_name("local"))
    body = '{"v": 7, "kind": "of another version", "name": "币"}'

    def mine() -> list[dict[str, Any]]:
        listed = run_client("dead-letters", "list", "--json").json["messages"]
        return [each for each in listed if each["message"]["body"] == body]

    cloud.client("sqs").send_message(
        QueueUrl=cloud.outputs["WorkQueue"],
        MessageBody=body,
        MessageAttributes={"Sender": {"DataType": "String", "StringValue": "somebody"}},
    )
    [kept] = until(mine, lambda seen: len(seen) == 1)
    shown = run_client("dead-letters", "show", kept["id"]).json
    assert (shown["source"], shown["message"]["body"]) == ("work", body)
    assert shown["message"]["attributes"]["ApproximateReceiveCount"] == "1"
    assert shown["message"]["messageAttributes"]["Sender"]["stringValue"] == "somebody"

    assert run_client("dead-letters", "replay", kept["id"]).code == 0
    [again] = until(mine, lambda seen: [each["id"] for each in seen] not in ([], [kept["id"]]))
    assert again["message"]["messageAttributes"] == shown["message"]["messageAttributes"]

    assert run_client("dead-letters", "drop", again["id"]).code == 0
    assert mine() == []
