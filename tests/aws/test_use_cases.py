"""Whole use cases on the simulated AWS and on an AWS of others at once, every answer compared.

So every expression, batch and conditional write that our gateways send is one that an AWS of
others understands as the double does, through both implementations of the calls.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.candles.store import CandleStore
from chalicelib.collecting.bury import bury_message
from chalicelib.collecting.collect import Outcome, collect_message
from chalicelib.collecting.dispatch import dispatch_task
from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.sweep import sweep
from chalicelib.core.errors import (
    CallFailed,
    CatalogueRefused,
    ConditionFailed,
    InvalidRequest,
    QuotaExceeded,
)
from chalicelib.core.settings import Settings
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.prices import latest_prices
from chalicelib.exchange.refresh import recent_volumes, refresh_catalogue, refresh_prices
from chalicelib.exchange.worker import Worker
from chalicelib.live.receive import connect, disconnect, receive
from chalicelib.monitoring.prometheus import metrics_text
from chalicelib.monitoring.status import collector_status, task_stats
from chalicelib.schedules.definition import parse_new
from chalicelib.schedules.edits import made
from chalicelib.schedules.table import ScheduleTable
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from chalicelib.tasks.view import list_active, list_tasks, view_task
from chalicelib.webhooks import message as webhook_message
from chalicelib.webhooks.deliver import deliver
from chalicelib.webhooks.delivery import DELIVERED
from chalicelib.webhooks.items import WebhookItems
from chalicelib.webhooks.queue import WebhookQueue
from chalicelib.webhooks.retry import Answer
from chalicelib.work.messages import CollectMessage, DispatchMessage, PlanMessage, decode
from tests.aws.endpoint import TRANSACTIONS, Endpoint
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
from tests.doubles.exchange import Exchange
from tests.doubles.senders import Sender
from tests.doubles.values import ordinal

QUEUES = (
    *("plan_queue_url", "urgent_queue_url", "work_queue_url", "dead_letter_queue_url"),
    *("webhook_queue_url", "webhook_dead_letter_queue_url", "stream_failure_queue_url"),
    "unreadable_queue_url",
)
HOURLY = {"expression": "rate(1 hour)", "request": {"symbols": ["BTCUSDT"]}}


class Both:
    """`call` that asks the double and the endpoint, compares, and answers as the double does.

    Of what the endpoint lacks, the double answers alone; what a transaction leaves is copied.
    """

    def __init__(self, double: Aws, settings: Settings, endpoint: Endpoint, signed: bool) -> None:
        self.double = double
        self.worker = Worker(self, settings, double.clock, Exchange(double.clock))  # type: ignore[arg-type]
        self._endpoint = endpoint
        self._signed = signed
        self._turn = asyncio.Lock()

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        if service == "apigatewaymanagementapi" or service in self._endpoint.lacking:
            return await self.double(service, operation, **parameters)
        async with self._turn:  # both must see concurrent calls in one order
            signed = self._signed and service != "s3"
            real = self._endpoint.signed if signed else self._endpoint.pooled
            if operation == "TransactWriteItems" and TRANSACTIONS in self._endpoint.lacking:
                return await self._transact(real, parameters["TransactItems"])
            asked = self._endpoint.without_old_items(parameters)
            theirs = await _outcome(real(service, operation, **asked))
            ours = await _outcome(self.double(service, operation, **parameters))
        old_items = asked == parameters
        assert _comparable(ours, old_items) == _comparable(theirs, old_items), (
            operation,
            parameters,
        )
        if isinstance(ours, CallFailed):
            raise ours
        return ours

    async def _transact(self, real: Any, parts: list[dict[str, Any]]) -> dict[str, Any]:
        try:
            return await self.double("dynamodb", "TransactWriteItems", TransactItems=parts)
        finally:
            for part in parts:
                [asked] = part.values()
                item = asked.get("Key") or asked["Item"]
                at = {"TableName": asked["TableName"]}
                key = {name: item[name] for name in ("pk", "sk")}
                left = (await self.double("dynamodb", "GetItem", Key=key, **at)).get("Item")
                if left:
                    await real("dynamodb", "PutItem", Item=left, **at)
                else:
                    await real("dynamodb", "DeleteItem", Key=key, **at)


async def _outcome(call: Any) -> Any:
    try:
        return await call
    except CallFailed as failed:
        return failed


def _comparable(outcome: Any, old_items: bool) -> Any:
    if isinstance(outcome, ConditionFailed):
        return "condition", old_items and outcome.item and ordinal({"M": outcome.item})
    if isinstance(outcome, CallFailed):
        return outcome.code
    found: dict[str, Any] = {}
    for name in ("Item", "LastEvaluatedKey"):
        if name in outcome:
            found[name] = ordinal({"M": outcome[name]})
    if "Items" in outcome:
        found["Items"] = [ordinal({"M": item}) for item in outcome["Items"]]
    if "Attributes" in outcome and all(isinstance(v, dict) for v in outcome["Attributes"].values()):
        found["Attributes"] = ordinal({"M": outcome["Attributes"]})
    for table, items in outcome.get("Responses", {}).items():
        found[f"of {table}"] = sorted(str(ordinal({"M": item})) for item in items)
    found["failed entries"] = len(outcome.get("Failed", ())), outcome.get("FailedEntryCount")
    found["body"] = outcome.get("Body"), outcome.get("ETag")
    return found


def limited(settings: Settings) -> Settings:
    """With limits of an owner that nothing reaches. To count towards them takes transactions."""
    return replace(
        settings,
        owner_active_tasks=50,
        owner_units_per_day=10_000,
        owner_connections=50,
        owner_webhooks_per_minute=50,
    )


@pytest.fixture(params=["signed", "pooled"])
def both(
    request: pytest.FixtureRequest, endpoint: Endpoint, settings: Settings, clock: Clock
) -> Both:
    own: dict[str, Any] = {}
    if "dynamodb" not in endpoint.lacking:
        for name in ("Tasks", "Market", "Connections", "Audit"):
            own[f"{name.lower()}_table"] = endpoint.new_table(f"{name}Table")
    if "sqs" not in endpoint.lacking:
        own |= {name: endpoint.new_queue() for name in QUEUES}
    if "s3" not in endpoint.lacking:
        own["candles_bucket"] = endpoint.new_bucket()
    if "events" not in endpoint.lacking:
        own["event_bus"] = endpoint.new_bus()
    settings = replace(settings, **own)
    if TRANSACTIONS not in endpoint.lacking:
        settings = limited(settings)
    return Both(Aws.for_settings(clock, settings), settings, endpoint, request.param == "signed")


async def _plan(worker: Worker, body: str) -> None:
    message = decode(body)
    if isinstance(message, DispatchMessage):
        await dispatch_task(worker, message)
    else:
        assert isinstance(message, PlanMessage)
        await plan_task(worker, message)


async def _work_off(both: Both, worker: Worker, budget: Budget) -> None:
    """Deliver what the double's queues hold, as the functions would."""
    settings, sqs = worker.settings, both.double.sqs
    for record in sqs.receive(settings.plan_queue_url):
        await _plan(worker, record["body"])
        sqs.delete(settings.plan_queue_url, record["receiptHandle"])
    for url in (settings.urgent_queue_url, settings.work_queue_url):
        for record in sqs.receive(url):
            message = decode(record["body"])
            assert isinstance(message, CollectMessage)
            handled = await collect_message(worker, budget, message, 1, lambda: 60_000)
            if handled.outcome is Outcome.DONE:
                sqs.delete(url, record["receiptHandle"])


async def _live_through(both: Both, worker: Worker, clock: Clock) -> None:
    budget, exchange = Budget(worker), worker.exchange
    tables, sqs = both.double.dynamodb.tables, both.double.sqs
    await refresh_catalogue(worker)
    await refresh_prices(worker)
    for _ in range(2):  # claimed and written, then read
        assert await recent_volumes(worker)
    await latest_prices(worker, ["BTCUSDT", "NOPE"])
    for _ in range(2):  # the first one has the list read again
        with pytest.raises(InvalidRequest):
            await submit_collection(worker, {"symbols": ["NOPE"]}, "me", "request-0")
    clock.advance(1000)
    listed, exchange.symbols = exchange.symbols, {}  # type: ignore[attr-defined]
    with pytest.raises(CatalogueRefused):
        await refresh_catalogue(worker)
    exchange.symbols = listed  # type: ignore[attr-defined]

    exchange.refused[("ETHUSDT", "1h")] = "INVALID_SYMBOL"  # type: ignore[attr-defined]
    body = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1m", "1h"], "priority": "high"}
    first = await submit_collection(worker, body, "me", "request-1")
    await connect(worker, "socket-1")
    for action in ("subscribe", "unsubscribe", "subscribe"):
        text = f'{{"action": "{action}", "topics": ["task:{first}", "tasks"]}}'
        await receive(worker, CandleStore(worker), "socket-1", text)
    await _work_off(both, worker, budget)
    assert (await view_task(worker, first))["result"]["failed"] == 1

    clock.advance(60_000)
    exchange.refused.clear()  # type: ignore[attr-defined]
    await retry_task(worker, first)
    await _work_off(both, worker, budget)
    view = await view_task(worker, first)
    assert (view["status"], view["result"]["failed"]) == ("completed", 0)

    second = await submit_collection(worker, {"timeframes": ["1d"]}, "me", "request-2")
    for record in sqs.receive(worker.settings.plan_queue_url):
        await _plan(worker, record["body"])
    await cancel_task(worker, second)
    await cancel_task(worker, second)
    await _work_off(both, worker, budget)
    await retry_task(worker, second)
    await list_active(worker, None, 20)
    clock.advance(61_000)
    await sweep(worker)
    await _work_off(both, worker, budget)

    third = await submit_collection(worker, {"timeframes": ["4h"]}, "me", "request-3")
    await plan_task(worker, PlanMessage(third, 1))
    for text in sqs.bodies(worker.settings.work_queue_url):
        if third in text:
            await bury_message(worker, text)
    await submit_symbol_refresh(worker, "me", "request-4")
    await _work_off(both, worker, budget)
    await Ledger(worker).pause(clock() + 1000, "HTTP 429")
    await collector_status(worker, "me", ["me"], True)
    await task_stats(worker, "me")
    page, following = await list_tasks(worker, ["me"], 2, task_type="data_collection")
    assert len(page) == 2
    await list_tasks(worker, ["me"], 2, before=following, state="completed")

    stream = tables[worker.settings.tasks_table].stream
    await record_task_changes(worker, stream)
    await record_task_changes(worker, stream)
    await disconnect(worker, "socket-1")
    for condition in ({"IfNoneMatch": "*"}, {"IfNoneMatch": "*"}, {"IfMatch": '"other"'}, {}):
        await _outcome(
            both(
                "s3",
                "PutObject",
                Bucket=worker.settings.candles_bucket,
                Key="raced",
                Body=b"",
                **condition,
            )
        )


async def _tell_a_webhook(both: Both, worker: Worker, clock: Clock) -> None:
    """Events out: published, told to a webhook, counted; and all of it repeated."""
    hook = {"url": "https://hooks.acme.com/in", "secret": "x" * 24, "events": ["task.cancelled"]}
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1h"], "webhook": hook}
    task_id = await submit_collection(worker, body, "me", "request")
    await cancel_task(worker, task_id)
    stream = both.double.dynamodb.tables[worker.settings.tasks_table].stream
    clock.advance(5 * 86_400_000)  # so that the webhook is given its whole time again
    for _ in range(2):
        await record_task_changes(worker, stream)
    for answer in (Answer(404), Answer(204), Answer(204)):  # given up, put back, and a duplicate
        [record, *_] = both.double.sqs.receive(worker.settings.webhook_queue_url)
        assert await deliver(worker, Sender(answer), record)
        await WebhookQueue(worker).send([webhook_message.decode(record["body"])])
    await metrics_text(worker)
    [delivery] = await WebhookItems(worker).deliveries(task_id)
    assert delivery.state == DELIVERED


def test_events_out_read_the_same_on_the_double_and_on_the_store(
    endpoint: Endpoint, both: Both, clock: Clock
) -> None:
    endpoint.runner.run(_tell_a_webhook(both, both.worker, clock))
    counts = both.double.counts
    assert counts["events.PutEvents"]
    assert counts["dynamodb.TransactWriteItems"] >= 4


def test_a_life_of_tasks_reads_the_same_on_the_double_and_on_the_store(
    endpoint: Endpoint, both: Both, clock: Clock
) -> None:
    endpoint.runner.run(_live_through(both, both.worker, clock))
    for operation in ("dynamodb.UpdateItem", "dynamodb.Query", "dynamodb.BatchWriteItem"):
        assert both.double.counts[operation]


async def _use_up(worker: Worker, clock: Clock) -> None:
    """Reach each limit, and make room again."""
    limited = replace(
        worker,
        settings=replace(
            worker.settings,
            **dict.fromkeys(("owner_active_tasks", "owner_schedules", "owner_connections"), 1),
            owner_units_per_day=1,
        ),
    )
    await refresh_catalogue(limited)
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1d", "1h"]}
    task_id = await submit_collection(limited, body, "me", "r")
    with pytest.raises(QuotaExceeded):
        await submit_collection(limited, {**body, "force": True}, "me", "r")
    await plan_task(limited, PlanMessage(task_id, 1))
    assert (await view_task(limited, task_id))["error"].startswith("QUOTA_UNITS_PER_DAY")
    one_unit = {"symbols": ["BTCUSDT"], "timeframes": ["1d"]}
    task_id = await submit_collection(limited, one_unit, "me", "r")
    await plan_task(limited, PlanMessage(task_id, 1))
    assert (await view_task(limited, task_id))["status"] == "running"
    assert (await collector_status(limited, "me", ["me"], True))["limits"]["units_per_day"][
        "used"
    ] == 1
    await connect(limited, "one")
    with pytest.raises(QuotaExceeded):
        await connect(limited, "two")
    await disconnect(limited, "one")
    await connect(limited, "two")
    one, two = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
    schedule = made(one, parse_new(HOURLY, None, limited.settings, clock()), clock(), "me", "r")
    assert await ScheduleTable(limited).create(schedule, None, 1)
    assert await ScheduleTable(limited).create(replace(schedule, schedule_id=two), None, 1) is None
    assert await ScheduleTable(limited).create(replace(schedule, schedule_id=two), None, 2)


def test_limits_are_reached_alike_on_the_double_and_on_the_store(
    endpoint: Endpoint, both: Both, clock: Clock
) -> None:
    endpoint.runner.run(_use_up(both.worker, clock))
    assert both.double.counts["dynamodb.TransactWriteItems"] >= 3
