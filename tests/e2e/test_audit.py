"""The audit trail on the packaged application: after expiry, verified, tampered with, exported."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from chalicelib.audit.chain import AuditEvent, sealed
from chalicelib.audit.export import PATIENCE_MS
from chalicelib.audit.table import AuditTable, seq_key
from chalicelib.aws.calls import run
from chalicelib.aws.sdk_calls import method_name
from chalicelib.aws.wire import item_to_wire
from market_data_collector.cli.__main__ import main
from market_data_collector.client import Client
from market_data_collector.errors import Expired
from tests.cli.running import Stream
from tests.doubles.settings import backend_of
from tests.e2e.conftest import Cloud
from tests.e2e.waiting import ended, until


def client(*args: str) -> tuple[int, str]:
    """The command-line client in this process: its exit code and what it printed."""
    out, err = Stream(), Stream()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(args)
    return code, out.text()


def trail(api: Client, task_id: str) -> list[AuditEvent]:
    return [*api.audit(task_id=task_id)]


def test_an_expired_tasks_audit_is_read_verified_and_tampering_with_it_is_found(
    cloud: Cloud, api: Client
) -> None:
    task_id = api.start(force=True, symbols=["SHIBUSDT"], timeframes=["1h"]).task_id
    ended(api, task_id)
    until(lambda: trail(api, task_id), lambda seen: len(seen) >= 4)
    cloud.client("dynamodb").update_item(
        TableName=cloud.outputs["TasksTable"],
        Key={"pk": {"S": f"TASK#{task_id}"}, "sk": {"S": "META"}},
        UpdateExpression="SET #ttl = :past",
        ExpressionAttributeNames={"#ttl": "ttl"},
        ExpressionAttributeValues={":past": {"N": str(int(time.time()) - 1)}},
    )
    with pytest.raises(Expired) as expired:
        api.task(task_id)
    assert expired.value.problem["audit"].endswith(f"/audit?task_id={task_id}")

    code, shown = client("audit", "--task", task_id, "--api-url", cloud.api_url)
    assert code == 0
    actions = ["task.submitted", "task.planned", "task.started", "task.completed"]
    assert [line.split()[4] for line in shown.splitlines()[1:]][:4] == actions
    code, verdict = client("audit", "verify", task_id, "--api-url", cloud.api_url)
    assert (code, "no error" in verdict) == (0, True), verdict

    cloud.client("dynamodb").update_item(
        TableName=cloud.outputs["AuditTable"],
        Key={"pk": {"S": f"TASK#{task_id}"}, "sk": {"S": seq_key(3)}},
        UpdateExpression="SET #by = :other",
        ExpressionAttributeNames={"#by": "by"},
        ExpressionAttributeValues={":other": {"S": "somebody else"}},
    )
    code, verdict = client("audit", "verify", task_id, "--api-url", cloud.api_url)
    assert code == 1
    assert f"task:{task_id}: altered: event 3 (task.started) was altered" in verdict


def test_what_the_exchange_lists_is_in_the_markets_trail(cloud: Cloud, api: Client) -> None:
    events = until(lambda: [*api.audit(exchange="local")], len)
    assert events[0]["action"] == "symbols.changed"
    assert events[0]["data"]["added"]["count"] == events[0]["after"] > 0
    code, verdict = client("audit", "verify", "market:local", "--api-url", cloud.api_url)
    assert code == 0, verdict


def yesterdays_events(cloud: Cloud) -> list[AuditEvent]:
    """Two chains as they would have been recorded on a day that is over."""
    dynamodb = cloud.client("dynamodb")

    async def call(_: str, operation: str, **parameters: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(dynamodb, method_name(operation))(**parameters)
        return answer

    table = AuditTable(backend_of(call, audit_table=cloud.outputs["AuditTable"]))
    # A day is over some minutes after its midnight.
    day = (datetime.now(UTC) - timedelta(milliseconds=PATIENCE_MS, days=1)).date()
    events: list[AuditEvent] = []
    for subject in (f"task:{uuid.uuid4()}", f"task:{uuid.uuid4()}"):
        last: AuditEvent | None = None
        for number, action in enumerate(("task.submitted", "task.started", "task.completed")):
            at = f"{day}T12:00:0{number}.000Z"
            last = sealed(
                {
                    "subject": subject,
                    "action": action,
                    "at": at,
                    "recorded_at": at,
                    "owner": "anonymous",
                    "by": "anonymous",
                    "attempt": 1,
                    "data": {"units": 3},
                    "late": False,
                },
                last,
            )
            run(table.add(last, int(time.time()) + 86_400))
            events.append(last)
    return events


def test_a_day_is_exported_read_with_duckdb_and_finds_what_was_cut_off(
    cloud: Cloud, api: Client
) -> None:
    events = yesterdays_events(cloud)
    day = events[0]["recorded_at"][:10]
    assert day in cloud.invoke("ExportAudit", {})["exported"]
    assert cloud.invoke("ExportAudit", {"day": day}) == {"exported": []}
    files = str(cloud.candles_dir / "audit" / "day=*" / "events.parquet")
    rows = duckdb.sql(
        "SELECT subject, max(seq), last(hash ORDER BY seq), sum((data->>'$.units')::int) "
        f"FROM read_parquet('{files}', hive_partitioning = true) "
        f"WHERE day = '{day}' GROUP BY subject ORDER BY subject"
    ).fetchall()
    heads = sorted((event["subject"], 3, event["hash"], 9) for event in events if event["seq"] == 3)
    assert [row for row in rows if row[0] in {head[0] for head in heads}] == heads

    subject = events[0]["subject"]
    exports = ["--exports", str(cloud.candles_dir), "--api-url", cloud.api_url]
    code, verdict = client("audit", "verify", subject, *exports)
    assert code == 0, verdict
    cloud.client("dynamodb").delete_item(
        TableName=cloud.outputs["AuditTable"],
        Key={"pk": {"S": subject.replace("task:", "TASK#")}, "sk": {"S": seq_key(3)}},
    )
    code, verdict = client("audit", "verify", subject, "--api-url", cloud.api_url)
    assert code == 0, "what is cut off at the end cannot be seen without an export"
    code, verdict = client("audit", "verify", subject, *exports)
    assert code == 1
    assert f"{subject}: truncated: " in verdict


def test_a_record_that_breaks_our_code_is_set_aside_whole_and_replayed(
    cloud: Cloud, api: Client
) -> None:
    queue, sqs = cloud.outputs["StreamFailureQueue"], cloud.client("sqs")
    task_id, now = str(uuid.uuid4()), int(time.time())
    meta = {
        "pk": f"TASK#{task_id}",
        "sk": "META",
        "task_id": task_id,
        "task_type": "symbol_refresh",
        "state": "pending",
        "attempt": 1,
        "owner": "anonymous",
        "source": "request",
        "priority": "normal",
        "created_at": now * 1000,
        "plan_sent_at": now * 1000,
        "deadline_at": (now + 86_400) * 1000,
    }
    record = {
        "eventName": "INSERT",
        "dynamodb": {
            "ApproximateCreationDateTime": now,
            "Keys": item_to_wire({"pk": meta["pk"], "sk": "META"}),
            "NewImage": {**item_to_wire(meta), "request": {"B": ""}},
        },
    }
    assert cloud.invoke("OnTaskChange", {"Records": [record]}) == {}  # it has no sequence number

    def received() -> list[dict[str, Any]]:
        found = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)
        messages: list[dict[str, Any]] = found.get("Messages", [])
        return messages

    [message] = until(received, lambda seen: len(seen) == 1)
    body = json.loads(message["Body"])
    assert body["record"] == record
    body["record"]["dynamodb"]["SequenceNumber"] = "1" + "0" * 20  # as if our code were mended
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body))
    answer = cloud.invoke("ReplayChanges", {})
    assert answer == {"replayed": 1, "events": 1, "left": 0}
    assert [event["action"] for event in trail(api, task_id)] == ["task.submitted"]
    assert received() == []
