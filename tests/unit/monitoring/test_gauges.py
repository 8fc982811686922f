"""What is measured of the whole, of tasks' ends, and of what is too rare to wait for."""

from __future__ import annotations

from collections import defaultdict

import pytest

from chalicelib.aws.stream import change_of
from chalicelib.collecting.sweep import sweep
from chalicelib.core import metrics
from chalicelib.events.measures import measure_changes, measure_stream
from chalicelib.events.publish import publish
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.functions.batches import collect_batch, plan_batch
from chalicelib.functions.webhooks import deliver_batch
from chalicelib.live.announce import announce
from chalicelib.live.connections import ConnectionTable
from chalicelib.monitoring.gauges import measure_state
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from chalicelib.webhooks.retry import Answer
from chalicelib.work.messages import PlanMessage
from local.emf import data_of
from tests.doubles.faults import Refuse
from tests.doubles.ledger import take_weight
from tests.doubles.senders import Sender
from tests.unit.exchange.test_binance import Gate, good, klines
from tests.unit.exchange.test_rows import kline

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1h", "1d"]}


@pytest.fixture
def measured(monkeypatch, capsys):
    """(metric, value of its own dimension or "") -> the values measured since the last time."""
    monkeypatch.setenv("STACK", "s")
    monkeypatch.setenv("FUNCTION", "f")
    metrics.flush()
    capsys.readouterr()

    def measured():
        metrics.flush()
        found = defaultdict(list)
        for line in capsys.readouterr().err.splitlines():
            for datum in data_of(line):
                own = [value for name, value in datum.dimensions if name != "Stack"]
                if own or not metrics.METRICS[datum.name].dimensions:
                    found[datum.name, *own] += datum.values
        return found

    yield measured
    metrics.flush()


@pytest.fixture
def changes(aws, settings):
    return lambda: [
        change_of(record) for record in aws.stream_event(settings.tasks_table)["Records"]
    ]


def test_the_state_of_an_idle_collector_is_measured_too(run, backend, measured) -> None:
    run(measure_state(backend))
    found = measured()
    assert found["SweepsDone",] == [1]
    for gauge in ("BreakerOpen", "ExchangeWeightUsed", "TasksActive", "OldestTaskSeconds"):
        assert found[gauge,] == [0]
    assert found["QueueDepth", "work"] == [0]


def test_queues_brakes_and_active_tasks_are_measured(run, backend, clock, measured) -> None:
    run(submit_collection(backend, {**BODY, "force": True}, "me", "r"))
    clock.advance(9_000)
    run(submit_collection(backend, {**BODY, "force": True}, "me", "r"))
    run(take_weight(Ledger(backend), 60, 4800, clock()))
    run(Ledger(backend).pause(clock() + 60_000, "429"))
    clock.advance(1_000)
    measured()
    run(measure_state(backend))
    found = measured()
    assert found["QueueDepth", "plan"] == [2]
    assert (found["TasksActive",], found["OldestTaskSeconds",]) == ([2], [10])
    assert (found["ExchangeWeightUsed",], found["BreakerOpen",]) == ([60], [1])


def test_weight_of_a_minute_that_is_over_is_not_used_weight(run, backend, clock, measured) -> None:
    run(take_weight(Ledger(backend), 60, 4800, clock()))
    clock.advance(60_000)
    run(measure_state(backend))
    assert measured()["ExchangeWeightUsed",] == [0]


def test_a_pause_is_counted_when_it_begins_and_not_when_a_longer_one_stands(
    run, backend, clock, measured
) -> None:
    for seconds in (60, 30, 90):
        run(Ledger(backend).pause(clock() + seconds * 1000, "429"))
    assert measured()["BreakerOpened",] == [2]


def test_tasks_are_measured_when_they_start_and_end(
    run, backend, fleet, exchange, clock, changes, measured
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    cancelled = run(submit_collection(backend, BODY, "me", "r"))
    run(cancel_task(backend, cancelled))
    measured()
    measure_changes(changes())
    found = measured()
    assert found["TasksStarted",] == [1]
    assert found["TasksEnded", "completed"] == [1]
    assert found["TasksEnded", "cancelled"] == [1]
    [seconds] = found["TaskSeconds",]  # the cancelled one never started
    assert seconds >= 0


def test_a_retry_is_measured_as_another_start_and_end(
    run, backend, fleet, exchange, changes, measured
) -> None:
    task_id = run(submit_collection(backend, {**BODY, "symbols": ["NOPEUSDT"]}, "me", "r"))
    run(fleet.settle())
    run(retry_task(backend, task_id))
    run(fleet.settle())
    measured()
    measure_changes(changes())
    found = measured()
    assert (found["TasksStarted",], found["TasksEnded", "failed"]) == ([2], [2])


def test_a_streams_lag_is_the_age_of_its_newest_record(measured) -> None:
    records = [{"dynamodb": {"ApproximateCreationDateTime": at}} for at in (100.0, 103.5)]
    measure_stream(records, 104_000)
    measure_stream([], 104_000)
    measure_stream([{"dynamodb": {}}], 104_000)
    assert measured()["StreamLag", "f"] == [500]


def test_units_candles_and_deliveries_of_a_batch_are_measured(
    run, worker, aws, settings, exchange, measured
) -> None:
    body = {"symbols": ["BTCUSDT", "NOPEUSDT"], "timeframes": ["1h", "1d"]}
    run(submit_collection(worker, body, "me", "r"))
    run(plan_batch(worker, event(aws, settings.plan_queue_url)))
    measured()
    batch = event(aws, settings.work_queue_url)
    batch["Records"][0]["attributes"]["ApproximateReceiveCount"] = "2"
    run(collect_batch(worker, Budget(worker), batch, lambda: 60_000))
    found = measured()
    assert found["UnitsSucceeded", "1h"] == found["UnitsSucceeded", "1d"] == [1]
    assert found["UnitsFailed", "INVALID_SYMBOL"] == [2]
    assert found["CandlesStored", "1h"] == [1000]
    assert found["Retries", "f"] == [1]
    assert found["CandleLag", "1h"][0] >= 0
    assert len(found["QueueWait", "other"]) == 1  # the double's records have no ARN


def event(aws, url: str) -> dict[str, list[dict[str, object]]]:
    return {"Records": aws.sqs.receive(url, 10)}


def test_a_message_that_comes_back_is_counted_as_failed(run, worker, aws, measured) -> None:
    record = {"messageId": "m", "body": PlanMessage("task", 1).encode(), "attributes": {}}
    aws.hooks.append(Refuse("dynamodb.Query"))
    aws.hooks.append(Refuse("dynamodb.GetItem"))
    run(plan_batch(worker, {"Records": [record]}))
    found = measured()
    assert found["MessagesFailed", "f"] == found["ErrorsLogged", "f"] == [1]


def test_a_message_that_cannot_be_read_is_counted_as_such(run, worker, measured) -> None:
    record = {"messageId": "m", "body": "no message", "attributes": {}}
    run(plan_batch(worker, {"Records": [record]}))
    found = measured()
    assert found["MessagesUnreadable",] == found["ErrorsLogged", "f"] == [1]
    assert ("MessagesFailed", "f") not in found


def test_what_sweep_does_again_is_counted_by_what_it_was(
    run, backend, aws, settings, clock, measured
):
    run(submit_collection(backend, BODY, "me", "r"))
    aws.sqs.queues[settings.plan_queue_url].messages.clear()
    clock.advance(90_000)
    run(sweep(backend))
    assert measured()["SweepRepairs", "plan"] == [1]


def test_items_that_a_sweep_cannot_read_are_counted(run, backend, aws, settings, measured):
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    del aws.dynamodb.tables[settings.tasks_table].items[f"TASK#{task_id}", "META"]["deadline_at"]
    run(sweep(backend))
    found = measured()
    assert (found["SweepFailures",], found["ErrorsLogged", "f"]) == ([1], [1])


# --- too rare for a run of the whole ------------------------------------------------------------


def test_a_record_that_breaks_our_code_is_counted(run, backend, measured) -> None:
    run(record_task_changes(backend, [{"dynamodb": {}}]))
    assert measured()["StreamRecordsFailed", "tasks"] == [1]


def test_values_that_cannot_be_read_are_counted(measured) -> None:
    klines(good([kline(0), kline(60_000, c1="")]), Gate())
    assert measured()["ExchangeValuesUnusable",] == [1]


def test_pages_that_cannot_be_read_at_all_are_counted(
    run, worker, fleet, exchange, clock, measured
) -> None:
    exchange.drifted = True
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    (failure,) = run(view_task(worker, task_id))["failures"]
    assert failure["reason"] == "EXCHANGE_SCHEMA_DRIFT"
    assert measured()["ExchangeSchemaDrift",] == [1]


def test_candles_that_a_later_answer_changed_are_counted(
    run, worker, aws, settings, exchange, clock, measured
) -> None:
    for revision in (0, 1):
        exchange.revision = revision
        body = {**BODY, "start": "2026-03-01", "force": True}
        run(submit_collection(worker, body, "me", "r"))
        run(plan_batch(worker, event(aws, settings.plan_queue_url)))
        run(collect_batch(worker, Budget(worker), event(aws, settings.work_queue_url), _a_minute))
        clock.advance(1_000)
    assert measured()["CandlesRevised",][0] > 0


def _a_minute() -> int:
    return 60_000


def test_updates_that_cannot_be_queued_are_counted(
    run, backend, aws, clock, changes, measured
) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    run(ConnectionTable(backend).enlist("c", ["tasks"], clock()))
    aws.hooks.append(Refuse("sqs.SendMessageBatch", 9))
    run(announce(backend, changes()))
    assert sum(measured()["UpdatesNotAnnounced",]) >= 1


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "delivered"), (503, "retried"), (404, "failed")]
)
def test_webhooks_are_counted_by_what_became_of_them(
    run, backend, aws, settings, measured, status: int, outcome: str
) -> None:
    hook = {"url": "https://hooks.acme.com/in", "secret": "a-secret-of-thirty-two-letters-!"}
    task_id = run(submit_collection(backend, {**BODY, "webhook": hook}, "me", "r"))
    happened = {
        "id": f"task:{task_id}:4",
        "subject": f"task:{task_id}",
        "seq": 4,
        "action": "task.completed",
        "at": "2026-03-04T05:06:07.000Z",
        "by": "system",
        "detail": "",
    }
    run(publish(backend, [happened]))
    measured()
    run(deliver_batch(backend, Sender(Answer(status)), event(aws, settings.webhook_queue_url)))
    assert measured()["WebhookDeliveries", outcome] == [1]
