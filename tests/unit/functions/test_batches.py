"""Batches of queue messages: one that cannot be read is set aside at once, whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ExchangeUnavailable
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.functions.batches import bury_batch, collect_batch, plan_batch
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import CollectMessage, PlanMessage, Unit
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.faults import Refuse
from tests.doubles.settings import doubled_settings

ARN = "arn:aws:sqs:us-east-1:123456789012:stack-{}-1A2B3C"
Batched = Callable[[Worker, dict[str, Any]], Any]
COLLECT = CollectMessage("task", 1, 0, "normal", "BTCUSDT", (Unit(0, "1h", 0, 3_600_000),)).encode()


def _collect(worker: Worker, batch: dict[str, Any]) -> Any:
    return collect_batch(worker, Budget(worker), batch, lambda: 60_000)


#: Function, its queue, the queue's name, and a message that it never reads.
FUNCTIONS = [
    pytest.param(plan_batch, "PlanQueue", "plan", COLLECT, id="plan"),
    pytest.param(_collect, "WorkQueue", "work", PlanMessage("task", 1).encode(), id="collect"),
    pytest.param(_collect, "UrgentQueue", "urgent", "{}", id="collect urgent"),
    pytest.param(bury_batch, "DeadLetterQueue", "dead_letters", "{}", id="bury"),
]
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1)
ATTRIBUTES = st.dictionaries(
    TEXTS, TEXTS.map(lambda text: {"stringValue": text, "dataType": "String"}), max_size=3
)


def record_of(body: str, queue: str = "PlanQueue", **more: Any) -> dict[str, Any]:
    return {
        "messageId": "m",
        "receiptHandle": "r",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "0"},
        "messageAttributes": {},
        "eventSourceARN": ARN.format(queue),
        **more,
    }


def _set_aside(aws: Aws) -> list[dict[str, Any]]:
    return [json.loads(body) for body in aws.sqs.bodies(doubled_settings().unreadable_queue_url)]


@pytest.mark.parametrize(("function", "queue", "source", "wrong"), FUNCTIONS)
def test_a_message_that_cannot_be_read_is_set_aside_at_its_first_delivery(
    run, worker, aws, function, queue, source, wrong
) -> None:
    record = record_of(wrong, queue)
    assert run(function(worker, {"Records": [record]})) == {"batchItemFailures": []}
    [kept] = _set_aside(aws)
    assert (kept["source"], kept["record"]) == (source, record)
    assert kept["error"]


@settings(deadline=None)
@given(body=TEXTS, attributes=ATTRIBUTES, function=st.sampled_from(FUNCTIONS))
def test_whatever_was_sent_is_set_aside_as_it_was(
    body: str, attributes: dict[str, Any], function: Any
) -> None:
    work, queue, source, _ = function.values
    loop, clock = SimulatedLoop(Clock()), Clock()
    aws = Aws.for_settings(clock, doubled_settings())
    worker = Worker(aws, doubled_settings(), clock, Exchange(clock))  # type: ignore[arg-type]
    record = record_of(body, queue, messageAttributes=attributes)
    try:
        answer = loop.run_until_complete(work(worker, {"Records": [record]}))
    finally:
        loop.close()
    assert answer == {"batchItemFailures": []}
    assert [(kept["source"], kept["record"]) for kept in _set_aside(aws)] == [(source, record)]


def test_the_others_of_its_batch_go_on(run, worker, aws) -> None:
    task_id = run(submit_collection(worker, {"symbols": ["BTCUSDT"]}, "me", "r"))
    records = [
        record_of("nonsense"),
        record_of(PlanMessage(task_id, 1).encode(), messageId="good"),
    ]
    assert run(plan_batch(worker, {"Records": records})) == {"batchItemFailures": []}
    assert len(_set_aside(aws)) == 1
    assert aws.sqs.bodies(worker.settings.work_queue_url)


def test_where_it_cannot_be_set_aside_it_comes_back(run, worker, aws) -> None:
    aws.hooks.append(Refuse("sqs.SendMessage"))
    batch = {"Records": [record_of("nonsense")]}
    failed = {"batchItemFailures": [{"itemIdentifier": "m"}]}
    assert run(plan_batch(worker, batch)) == failed
    assert _set_aside(aws) == []


def test_a_dead_letter_is_set_aside_under_the_queue_that_gave_it_up(
    run, backend: Backend, aws
) -> None:
    record = record_of("nonsense", "DeadLetterQueue")
    record["attributes"]["DeadLetterQueueSourceArn"] = ARN.format("UrgentQueue")
    run(bury_batch(backend, {"Records": [record]}))
    assert [kept["source"] for kept in _set_aside(aws)] == ["urgent"]


@pytest.mark.parametrize(
    ("named_ms", "waits"),
    [(0, [5, 10, 20]), (7_500, [8, 10, 20]), (90_000, [90] * 3), (10**8, [300] * 3)],
)
def test_trouble_that_says_when_to_come_back_is_one_units_alone(
    run, worker, aws, exchange, clock, named_ms: int, waits: list[int]
) -> None:
    """A 503 of one timeframe, with Retry-After: the others go on, and nobody else waits."""

    async def overloaded(asked: Any) -> None:
        if asked[1] == "1h":
            trouble = ExchangeUnavailable("HTTP 503")
            trouble.until_ms = clock() + named_ms
            raise trouble

    exchange.on_request = overloaded
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1h", "4h"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(plan_batch(worker, {"Records": aws.sqs.receive(worker.settings.plan_queue_url)}))
    found = []
    while records := aws.sqs.receive(worker.settings.work_queue_url):
        answer = run(_collect(worker, {"Records": records}))
        assert run(Ledger(worker).read()).paused_until == 0
        if not answer["batchItemFailures"]:
            break
        [message] = aws.sqs.queues[worker.settings.work_queue_url].messages
        found.append((message.visible_at - clock()) // 1000)
        clock.advance_to(message.visible_at)
    assert found == waits
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", 1)
    assert [each["reason"] for each in view["failures"]] == ["EXCHANGE_UNAVAILABLE"]
