"""The gateways to queues, objects, events and schedules, both ways to each."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.aws.sqs_queue import SqsQueue
from chalicelib.candles.candles import Candles
from chalicelib.candles.footers import Footers
from chalicelib.candles.objects import HeldObjects, folder_of
from chalicelib.candles.store import CandleStore
from chalicelib.core.backend import Backend, Call
from chalicelib.core.errors import CallFailed
from chalicelib.events.bus import EventBus
from chalicelib.events.event import PublishedEvent
from chalicelib.schedules.definition import parse_new
from chalicelib.schedules.edits import made
from chalicelib.schedules.eventbridge import Scheduler, firing_of
from chalicelib.schedules.schedule import Schedule
from chalicelib.work.messages import CollectMessage, PlanMessage, decode
from chalicelib.work.priorities import NORMAL
from chalicelib.work.queue import WorkQueue
from chalicelib.work.units import Unit
from tests.aws.endpoint import Endpoint
from tests.doubles.clock import NOW
from tests.doubles.coverage import hold
from tests.doubles.settings import backend_of
from tests.unit.candles.test_candles import candles_of

Drive = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["signed", "pooled"])
def call(request: pytest.FixtureRequest, endpoint: Endpoint) -> Call:
    calls: Call = getattr(endpoint, request.param)
    return calls


@pytest.fixture
def drive(endpoint: Endpoint) -> Drive:
    return endpoint.runner.run


def received(endpoint: Endpoint, url: str, *attributes: str) -> list[dict[str, Any]]:
    answer = endpoint(
        "sqs",
        "ReceiveMessage",
        QueueUrl=url,
        MaxNumberOfMessages=10,
        AttributeNames=list(attributes),
        WaitTimeSeconds=1,
    )
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def test_messages_are_sent_in_batches_counted_and_come_back(
    endpoint: Endpoint, call: Call, drive: Drive
) -> None:
    names = ("plan_queue_url", "urgent_queue_url", "work_queue_url", "dead_letter_queue_url")
    urls = {name: endpoint.new_queue() for name in names}
    queue, url = WorkQueue(backend_of(call, **urls)), urls["work_queue_url"]
    units = (Unit(0, "1m", 0, 60_000),)
    sent = [CollectMessage(f"task-{at % 2}", 1, at, NORMAL, "BTCUSDT", units) for at in range(12)]
    assert drive(queue.send_collect(sent)) == []
    drive(queue.send_plan(PlanMessage("later", 1), delay_seconds=900))
    found: list[dict[str, Any]] = []
    while len(found) < len(sent):
        found += received(endpoint, url)
    assert {decode(message["Body"]) for message in found} == set(sent)
    depths = drive(queue.depths())
    assert depths["work"] == {"visible": 0, "in_flight": 12, "delayed": 0}
    assert depths["plan"] == {"visible": 0, "in_flight": 0, "delayed": 1}
    for message in found[1:]:
        endpoint("sqs", "DeleteMessage", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    drive(queue.retry_later(NORMAL, found[0]["ReceiptHandle"], 0))
    [again] = received(endpoint, url, "ApproximateReceiveCount")
    assert again["Body"] == found[0]["Body"]
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"


def test_a_receipt_that_is_none_changes_nothing(
    endpoint: Endpoint, call: Call, drive: Drive
) -> None:
    drive(SqsQueue(call, endpoint.new_queue()).retry_later("no receipt", 5))


def test_a_queue_that_is_not_there_is_an_error(
    endpoint: Endpoint, call: Call, drive: Drive
) -> None:
    gone = endpoint.new_queue() + "-gone"
    with pytest.raises(CallFailed) as failed:
        drive(SqsQueue(call, gone).depth())
    assert failed.value.code in ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")


def test_an_object_is_merged_and_whoever_comes_too_late_is_refused(
    endpoint: Endpoint, drive: Drive
) -> None:
    bucket = endpoint.new_bucket()
    backend = backend_of(endpoint.pooled, candles_bucket=bucket)
    store = CandleStore(backend)

    def merge(candles: Candles) -> tuple[int, int]:
        whole = drive(hold(backend, "币USDT", "1m", candles))
        return whole.added, whole.revised

    first, second = candles_of({1: 0, 2: 0}), candles_of({2: 1, 3: 1})
    assert drive(store.read("币USDT", "1m", 0)).etag is None
    assert merge(first) == (2, 0)
    assert merge(first) == (0, 0)
    key = store.key("币USDT", "1m", 0)
    before = drive(endpoint.pooled("s3", "GetObject", Bucket=bucket, Key=key))
    assert merge(second) == (1, 1)
    held = drive(store.read("币USDT", "1m", 0))
    assert held == drive(store.read("币USDT", "1m", held.candles.open_times[-1]))
    assert len(held.candles) == 3
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": before["ETag"]}):
        with pytest.raises(CallFailed) as late:
            drive(endpoint.pooled("s3", "PutObject", Bucket=bucket, Key=key, Body=b"", **condition))
        assert late.value.code == "PreconditionFailed"
    assert drive(store.read("币USDT", "1m", 0)) == held
    footer = drive(Footers(backend).read("币USDT", "1m", 0))
    assert footer == (held.coverage, 3, sum(held.candles.columns["trades"]))


def test_objects_are_listed_and_read_without_an_sdk(endpoint: Endpoint, drive: Drive) -> None:
    bucket = endpoint.new_bucket()
    writing = backend_of(endpoint.pooled, candles_bucket=bucket, exchange="a")
    reading = HeldObjects(backend_of(endpoint.signed, candles_bucket=bucket, exchange="a"))
    for symbol in ("币&USDT", "币&USDTX"):
        for year in (0, 1, 2):
            candles = candles_of({each + year * 366 * 24 * 60: 0 for each in (1, 2)})
            drive(hold(writing, symbol, "1h", candles))

    async def listed(call: Call, **more: Any) -> list[tuple[str, int, str]]:
        prefix = folder_of("a", "币&USDT", "1h")
        answer = await call("s3", "ListObjectsV2", Bucket=bucket, Prefix=prefix, **more)
        found = [(each["Key"], each["Size"], each["ETag"]) for each in answer.get("Contents", ())]
        if not answer["IsTruncated"]:
            return found
        token = answer["NextContinuationToken"]
        return found + await listed(call, **{**more, "ContinuationToken": token})

    whole = drive(listed(endpoint.pooled))
    assert len(whole) == 3
    for more in ({}, {"MaxKeys": 1}, {"MaxKeys": 2}):
        assert drive(listed(endpoint.signed, **more)) == whole
    assert drive(listed(endpoint.signed, StartAfter=whole[0][0])) == whole[1:]
    held = drive(reading.between("币&USDT", "1h", 0, NOW))
    assert [each[:3] for each in held] == whole
    for each in held:
        assert len(drive(reading.candles_in(each))) == 2
        footer = 8 + int.from_bytes(drive(reading.tail(each.key, 10**6))[-8:-4], "little")
        assert len(drive(reading.tail(each.key, footer))) == footer
        for size in (4, footer - 1, 10**6):
            assert len(drive(reading.tail(each.key, size))) == each.size
    assert len(drive(reading.candles_in(held[0]._replace(key="nothing")))) == 0


def test_events_are_put_on_the_bus_and_reach_a_rule(
    endpoint: Endpoint, call: Call, drive: Drive
) -> None:
    bus, url = endpoint.new_bus(), endpoint.new_queue()
    sqs, events = endpoint.client("sqs"), endpoint.client("events")
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    rule = {"Name": "all", "EventBusName": bus}
    events.put_rule(**rule, EventPattern=json.dumps({"source": ["market-data-collector"]}))
    endpoint.made.callback(events.delete_rule, **rule)
    target = {"Id": "queue", "Arn": attributes["QueueArn"]}
    events.put_targets(Rule="all", EventBusName=bus, Targets=[target])
    endpoint.made.callback(events.remove_targets, Rule="all", EventBusName=bus, Ids=["queue"])
    published = [
        PublishedEvent(
            version=1,
            id=str(uuid.uuid4()),
            action="task.started",
            at="2026-11-23T12:00:00Z",
            subject=f"task:{at}",
            by="Zoë",
            detail="币",
        )
        for at in range(12)
    ]
    drive(EventBus(backend_of(call, event_bus=bus)).put(published))
    found: list[dict[str, Any]] = []
    while len(found) < len(published):
        found += [json.loads(message["Body"]) for message in received(endpoint, url)]
    assert {event["detail-type"] for event in found} == {"task.started"}
    details = sorted((event["detail"] for event in found), key=lambda each: each["id"])
    assert details == sorted(published, key=lambda each: each["id"])


@pytest.fixture
def backend(endpoint: Endpoint, call: Call) -> Backend:
    account = "arn:aws:{}:us-east-1:000000000000:{}"
    return backend_of(
        call,
        schedule_group=endpoint.new_schedule_group(),
        schedule_function_arn=account.format("lambda", "function:run"),
        schedule_role_arn="arn:aws:iam::000000000000:role/run",
        schedule_dead_letter_arn=account.format("sqs", "dead"),
    )


@pytest.fixture
def schedule(backend: Backend) -> Schedule:
    body = {
        "name": "hourly",
        "expression": "rate(1 hour)",
        "request": {"symbols": ["BTCUSDT"]},
        "timezone": "Europe/Berlin",
    }
    definition = parse_new(body, None, backend.settings, NOW)
    return made(str(uuid.uuid4()), definition, NOW, "me", "request")


def test_a_schedule_is_made_changed_and_forgotten_however_often(
    endpoint: Endpoint, backend: Backend, drive: Drive, schedule: Schedule
) -> None:
    scheduler, client = Scheduler(backend), endpoint.client("scheduler")
    name = {"Name": schedule.schedule_id, "GroupName": backend.settings.schedule_group}

    def kept() -> dict[str, Any]:
        found: dict[str, Any] = client.get_schedule(**name)
        return found

    drive(scheduler.put(schedule, NOW + 3_600_000))
    assert kept()["ScheduleExpression"] == "rate(1 hour)"
    assert kept()["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert kept()["State"] == "ENABLED"
    assert kept()["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 4
    event = json.loads(kept()["Target"]["Input"])
    assert firing_of(event).schedule_id == schedule.schedule_id
    drive(scheduler.put(schedule, None))  # made already: its answer was lost
    known = replace(schedule, synced_rev=1, enabled=False, expression="cron(0 6 * * ? *)")
    drive(scheduler.put(known, None))
    assert (kept()["ScheduleExpression"], kept()["State"]) == (known.expression, "DISABLED")
    for _ in range(2):
        drive(scheduler.remove(schedule.schedule_id))
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        kept()
    drive(scheduler.put(known, None))  # somebody deleted it: it is made again
    assert kept()["State"] == "DISABLED"
    drive(scheduler.remove(schedule.schedule_id))


@pytest.mark.parametrize(
    "wrong", [{"expression": "cron(no hour)"}, {"timezone": "Europe/Atlantis"}], ids=str
)
def test_a_schedule_that_eventbridge_refuses_is_refused_for_good(
    endpoint: Endpoint, backend: Backend, drive: Drive, schedule: Schedule, wrong: dict[str, str]
) -> None:
    code = ""
    try:
        drive(Scheduler(backend).put(replace(schedule, **wrong), None))
        drive(Scheduler(backend).remove(schedule.schedule_id))
    except CallFailed as failed:
        code = failed.code
    [what] = wrong
    endpoint.refuses(f"a schedule with a wrong {what}", code == "ValidationException")
