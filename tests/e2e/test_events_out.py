"""Events out of the packaged application: the bus, webhooks and /metrics."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.package import ROOT
from local.aws import REGION
from market_data_collector.client import Client
from market_data_collector.errors import Rejected
from tests.doubles.receiver import Receiver
from tests.e2e.conftest import Cloud
from tests.e2e.exchange_control import held_exchange
from tests.e2e.waiting import ended, until
from tests.event_schemas import problems

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: Collected by no other test of this stack: what is stored already would be no news.
BODY = {"symbols": ["MAGICUSDT", "ZENUSDT"], "timeframes": ["1h", "1d"]}
LIFE = ["task.submitted", "task.planned", "task.started", "task.completed"]


@pytest.fixture(autouse=True)
def quiet(receiver: Receiver) -> Iterator[None]:
    """Whatever a test has the receiver answer ends with it."""
    yield
    receiver.answers.clear()
    receiver.seen.clear()


def example(page: str) -> dict[str, Any]:
    """The names that a document's one Python example defines."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```", text, flags=re.S | re.M)
    names: dict[str, Any] = {"__name__": "example"}
    exec(code, names)
    return names


def test_a_rule_on_the_bus_hears_a_tasks_whole_life_in_events_as_their_schemas_say(
    cloud: Cloud, api: Client
) -> None:
    listening = example("EVENTS.md")
    session = boto3.Session("test", "test", region_name=REGION)
    endpoint = {"endpoint_url": cloud.endpoint_url}
    queue = listening["listen"](session, cloud.outputs["EventBus"], **endpoint)
    task_id = api.start(**{**BODY, "force": True}).task_id
    heard: list[dict[str, Any]] = []

    def listen() -> list[dict[str, Any]]:
        heard.extend(listening["received"](session, queue, **endpoint))
        return [event for event in heard if event["subject"] == f"task:{task_id}"]

    until(listen, lambda seen: {event["action"] for event in seen} >= set(LIFE))
    stored = until(
        lambda: listen() and [event for event in heard if event["action"] == "candles.stored"],
        lambda seen: {event["data"]["symbol"] for event in seen} >= {"MAGICUSDT", "ZENUSDT"},
    )
    assert [problem for event in heard for problem in problems(event)] == []
    mine = {event["id"]: event for event in listen()}
    in_order = sorted(mine.values(), key=lambda event: event["seq"])
    assert [event["action"] for event in in_order] == LIFE
    assert [event["seq"] for event in in_order] == [1, 2, 3, 4]
    assert in_order[-1]["data"]["units"] == 4
    assert {timeframe for event in stored for timeframe in event["data"]["timeframes"]} >= {"1h"}


def test_a_webhook_is_told_again_after_a_failure_and_its_signature_holds(
    cloud: Cloud, api: Client, receiver: Receiver
) -> None:
    verify = example("WEBHOOKS.md")["verify"]
    receiver.answers = [(500, {})]
    url = f"http://127.0.0.1:{receiver.port}/candles?token=t"
    task_id = api.start(
        **{"force": True, **BODY, "webhook": {"url": url, "secret": SECRET}}
    ).task_id
    until(lambda: list(receiver.seen), lambda seen: len(seen) == 2)
    first, second = receiver.seen
    for request in (first, second):
        assert request.path == "/candles?token=t"
        assert verify(SECRET, request.headers, request.body)
        assert not verify(SECRET[:-1] + "x", request.headers, request.body)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    sent = json.loads(second.body)
    assert sent["type"] == "task.completed"
    assert sent["data"]["subject"] == f"task:{task_id}"
    assert problems(sent["data"]) == []
    shown = until(lambda: api.task(task_id)["webhook"], lambda seen: seen["delivered"])
    assert shown == {
        "url_host": f"127.0.0.1:{receiver.port}",
        "delivered": 1,
        "failed": 0,
        "pending": 0,
        "last_error": None,
    }


def test_a_webhook_to_an_address_that_is_refused_is_never_sent_and_shown_as_failed(
    cloud: Cloud, api: Client, receiver: Receiver
) -> None:
    for url in ("https://127.0.0.1/in", "https://169.254.169.254/latest", "http://hooks.acme.com/"):
        with pytest.raises(Rejected):
            api.start(**{"force": True, **BODY, "webhook": {"url": url, "secret": SECRET}})
    hook = {"url": f"http://127.0.0.1:{receiver.port}/", "secret": SECRET}
    wanted = {**hook, "events": ["task.cancelled"]}
    with held_exchange(cloud):
        task_id = api.start(
            **{"force": True, **BODY, "start": "2026-01-01", "webhook": wanted}
        ).task_id
        # As a name would that was public when it was given, and resolves to this machine now.
        cloud.client("dynamodb").update_item(
            TableName=cloud.outputs["TasksTable"],
            Key={"pk": {"S": f"TASK#{task_id}"}, "sk": {"S": "HOOK"}},
            UpdateExpression="SET #url = :url",
            ExpressionAttributeNames={"#url": "url"},
            ExpressionAttributeValues={":url": {"S": f"https://127.0.0.2:{receiver.port}/"}},
        )
        api.cancel(task_id)
    shown = until(lambda: api.task(task_id)["webhook"], lambda seen: seen["failed"])
    assert shown["last_error"] == "resolves to a loopback address"
    assert (shown["delivered"], shown["pending"]) == (0, 0)
    assert receiver.seen == []
    depth = until(
        lambda: api.status()["queues"]["webhook_dead_letters"], lambda seen: seen["visible"] > 0
    )
    assert depth["visible"] >= 1


def test_metrics_are_scraped_and_parsed_and_count_what_happened(cloud: Cloud, api: Client) -> None:
    def scrape() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        url = f"{cloud.api_url}/api/v1/data-collector/metrics"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=30) as answer:
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            text = answer.read().decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    completed = ("data_collector_task_events_total", (("event", "completed"),))
    submitted = ("data_collector_task_events_total", (("event", "submitted"),))
    before = scrape()
    ended(api, api.start(**{**BODY, "force": True}).task_id)
    after = until(scrape, lambda seen: seen[completed] > before[completed])
    assert after[submitted] > before[submitted]
    assert set(before) <= set(after)
    assert after["data_collector_catalogue_symbols", ()] > 100
    assert after["data_collector_exchange_weight_limit", ()] > 0
    dead = (("queue", "webhook_dead_letters"), ("state", "visible"))
    assert ("data_collector_queue_messages", dead) in after
    assert after["data_collector_build_info", _labels(after)] == 1


def _labels(scraped: dict[Any, float]) -> tuple[tuple[str, str], ...]:
    [labels] = [labels for name, labels in scraped if name == "data_collector_build_info"]
    return tuple(labels)
