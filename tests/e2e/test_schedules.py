"""Schedules on the packaged application: they fire by themselves, once, and keep their promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib.aws.wire import item_from_wire
from infra.package import ROOT
from market_data_collector.client import Client
from tests.e2e.conftest import Cloud
from tests.e2e.waiting import ended, until

EXAMPLES = re.findall(
    r"^```sh\n(.*?)^```", (ROOT / "docs" / "SCHEDULES.md").read_text("utf-8"), flags=re.S | re.M
)


@dataclass(frozen=True)
class Begun:
    """Schedules made at the beginning, which wait for EventBridge's minutes at the same time."""

    fires: str
    promises: str


@pytest.fixture(scope="module")
def begun(knowing: Cloud) -> Iterator[Begun]:
    with Client(knowing.api_url) as api:
        request = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}
        fires = api.create_schedule(expression="rate(1 minute)", request=request)
        assert fires["in_sync"] is True
        promises = promise_that_is_broken(knowing, api)
        yield Begun(fires["schedule_id"], promises)
        for schedule_id in (fires["schedule_id"], promises):
            api.delete_schedule(schedule_id)


def promise_that_is_broken(cloud: Cloud, api: Client) -> str:
    """A schedule of two symbols, of one of which two days are missing; its id."""
    ended(
        api,
        api.start(force=True, symbols=["BNBUSDT"], timeframes=["1h", "1d"]).task_id,
    )
    body = {
        "expression": "rate(1 day)",
        "request": {"symbols": ["BNBUSDT", "XRPUSDT"], "timeframes": ["1h", "1d"]},
        "freshness": {"max_lag_seconds": 5400},
    }
    schedule_id = str(api.create_schedule(**body)["schedule_id"])
    # Two days of BNBUSDT's hours were never stored, as far as the table knows.
    forget_hours(cloud, "BNBUSDT", 48)
    ended(
        api,
        api.start(force=True, symbols=["XRPUSDT"], timeframes=["1h", "1d"]).task_id,
    )
    return schedule_id


def forget_hours(cloud: Cloud, symbol: str, hours: int) -> None:
    """Take the newest hours out of a symbol's coverage."""
    table, key = cloud.outputs["MarketTable"], {"pk": {"S": "COVER#local"}, "sk": {"S": symbol}}
    client = cloud.client("dynamodb")
    entry = json.loads(client.get_item(TableName=table, Key=key)["Item"]["tf_1h"]["S"])
    covered, _, last, *_ = entry
    covered[-1][1] -= hours * 3_600_000
    entry[2] = last - hours * 3_600_000
    client.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET tf_1h = :entry",
        ExpressionAttributeValues={":entry": {"S": json.dumps(entry)}},
    )


@pytest.fixture
def api(cloud: Cloud, begun: Begun) -> Iterator[Client]:
    """A client of a stack that knows its symbols; the schedules that a test made are deleted."""
    with Client(cloud.api_url) as api:
        yield api
        for schedule_id in made_since(api, begun):
            api.delete_schedule(schedule_id)


def made_since(api: Client, begun: Begun) -> dict[str, str]:
    """Schedules beside those of the beginning: id -> name."""
    found = {each["schedule_id"]: each["name"] for each in api.schedules()}
    return {key: name for key, name in found.items() if key not in (begun.fires, begun.promises)}


def trail(cloud: Cloud, schedule_id: str) -> list[dict[str, Any]]:
    """The audit trail of a schedule, in order."""
    found = cloud.client("dynamodb").query(
        TableName=cloud.outputs["AuditTable"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"SCHEDULE#{schedule_id}"}},
    )
    events = [item_from_wire(item) for item in found["Items"]]
    return [event for event in events if "action" in event]


def firing(cloud: Cloud, schedule_id: str, at: str) -> dict[str, Any]:
    """What EventBridge Scheduler on AWS sends, with the time in the placeholder's place."""
    group = cloud.outputs["ScheduleGroup"]
    known = cloud.client("scheduler").get_schedule(Name=schedule_id, GroupName=group)
    event: dict[str, Any] = json.loads(
        known["Target"]["Input"].replace("<aws.scheduler.scheduled-time>", at)
    )
    return event


def test_a_schedule_that_fires_twice_makes_one_task(cloud: Cloud, api: Client) -> None:
    request = {"symbols": ["ETHUSDT"], "timeframes": ["1h"]}
    # Never due while the tests run, whatever day they run on.
    made = api.create_schedule(expression="cron(0 0 29 2 ? *)", request=request)
    event = firing(cloud, made["schedule_id"], "2028-02-29T00:00:00Z")
    answers = [cloud.invoke("RunSchedule", event) for _ in range(2)]
    assert answers[0] == answers[1]
    task_id = answers[0]["task_id"]
    assert ended(api, task_id)["units"]["total"] == 1
    mine = [task for task in api.tasks_page(page_size=100)["tasks"] if task["task_id"] == task_id]
    assert [task["schedule_id"] for task in mine] == [made["schedule_id"]]
    assert api.schedule(made["schedule_id"])["runs"]["started"] == 1


def test_eventbridge_follows_a_schedules_changes_and_its_end(cloud: Cloud, api: Client) -> None:
    scheduler, group = cloud.client("scheduler"), cloud.outputs["ScheduleGroup"]
    schedule_id = api.create_schedule(expression="rate(1 day)")["schedule_id"]
    api.change_schedule(schedule_id, enabled=False, timezone="Asia/Tokyo")
    known = scheduler.get_schedule(Name=schedule_id, GroupName=group)
    assert (known["State"], known["ScheduleExpressionTimezone"]) == ("DISABLED", "Asia/Tokyo")
    api.delete_schedule(schedule_id)
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name=schedule_id, GroupName=group)


def test_the_examples_of_the_page_do_what_it_says(cloud: Cloud, api: Client, begun: Begun) -> None:
    script = (
        f'data-collector() {{ "{sys.executable}" -m market_data_collector.cli "$@"; }}\n'
        + "\n".join(EXAMPLES)
    )
    script = script.replace("http://localhost:8000", cloud.api_url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("curl ", "curl --silent --fail ")],
        cwd=ROOT,
        env={**os.environ, "DATA_COLLECTOR_URL": cloud.api_url, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("mornings", "enabled", "disabled", "Completed", "cron(30 6 ? * MON-FRI *)"):
        assert said in done.stdout
    assert list(made_since(api, begun).values()) == ["every minute"]


def test_a_schedule_fires_by_itself_and_shows_its_task_and_its_trail(
    cloud: Cloud, api: Client, begun: Begun
) -> None:
    path = begun.fires
    shown = until(lambda: api.schedule(path), lambda seen: seen["last_run"] is not None, 150)
    task = ended(api, shown["last_run"]["task_id"])
    assert (task["status"], task["schedule_id"]) == ("completed", path)
    assert shown["last_run"]["by"] == "schedule"
    assert api.schedule(path)["last_run"]["status"] == "completed"
    assert shown["next_run_at"] > shown["last_run"]["at"]
    events = until(lambda: trail(cloud, path), lambda seen: len(seen) >= 2)
    assert [event["action"] for event in events[:2]] == ["schedule.created", "schedule.fired"]
    assert task["task_id"] in json.dumps(events[1], default=str)


def test_a_breach_of_freshness_collects_just_what_is_missing(api: Client, begun: Begun) -> None:
    schedule_id = begun.promises
    shown = until(
        lambda: api.schedule(schedule_id)["freshness"],
        lambda seen: seen["last_repair_task_id"] is not None,
        150,
    )
    assert shown["breaches"] == 1
    task = ended(api, shown["last_repair_task_id"])
    assert (task["status"], task["priority"], task["units"]["total"]) == ("completed", "high", 1)
    assert task["candles"] >= 48
    kept = until(
        lambda: api.schedule(schedule_id)["freshness"],
        # An hour or a day may end while this test runs: its candle is late by minutes then.
        lambda seen: seen["breached_since"] is None and seen["lag_seconds"] < 3600,
        150,
    )
    assert set(kept["timeframes"]) == {"1h", "1d"}
    assert (kept["behind"], kept["breaches"]) == (0, 1)
