"""Whatever a crash left half done is done again, and every task ends without a person."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise

import pytest

from chalicelib.aws.wire import item_to_wire, to_wire
from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.sweep import (
    ASK_PATIENCE_MS,
    PLAN_PATIENCE_MS,
    _is_quiet,
    _is_stalled,
    _note_asking,
    sweep,
)
from chalicelib.core.task_keys import META, task_pk
from chalicelib.core.times import FOREVER_MS, iso
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.pause import Pauses
from chalicelib.monitoring.gauges import measure_state
from chalicelib.tasks import states
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.part import Part, Tally
from chalicelib.tasks.progress import CLOSED, OPEN, Progress
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import CollectMessage, PlanMessage, Unit
from chalicelib.work.queue import MOST_DELAY_SECONDS, WorkQueue
from chalicelib.work.window import Claim
from tests.doubles.clock import NOW
from tests.doubles.faults import CrashAfter, Meanwhile, Refuse, is_update_of, named
from tests.doubles.fleet import Crash
from tests.doubles.tasks import task_of

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}


HOUR_MS = 3_600_000


@pytest.fixture
def sweeps(run, worker, clock) -> Callable[[int], None]:
    """So many minutes pass, each with its sweep; nobody works off the queues."""

    def sweeps(minutes: int) -> None:
        for _ in range(minutes):
            clock.advance(60_000)
            run(sweep(worker))

    return sweeps


@pytest.fixture
def queued(aws, settings) -> Callable[[], list[str]]:
    """The task ids of the messages in the work queue."""
    return lambda: [json.loads(body)["task"] for body in aws.sqs.bodies(settings.work_queue_url)]


def test_a_sweep_over_nothing_is_one_read(run, backend, aws) -> None:
    assert run(sweep(backend)) == {"seen": 0, "failed": 0}
    assert aws.counts == {"dynamodb.Query": 1}


def test_a_healthy_task_is_left_alone(run, worker, aws, settings) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    before = aws.sqs.bodies(settings.work_queue_url), aws.items(settings.tasks_table)
    run(sweep(worker))
    assert (aws.sqs.bodies(settings.work_queue_url), aws.items(settings.tasks_table)) == before


@pytest.fixture
def lost(run, worker, aws, settings) -> str:
    """A task that was planned, and whose messages are gone."""
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    for url in (settings.plan_queue_url, settings.work_queue_url):
        aws.sqs.queues[url].messages.clear()
    return task_id


def test_messages_that_vanished_are_sent_again(run, worker, lost, fleet) -> None:
    run(fleet.settle_and_sweep(25))
    view = run(view_task(worker, lost))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", 4)


def test_messages_that_vanished_are_sent_again_while_others_keep_the_queues_busy(
    run, worker, queued, lost, sweeps
) -> None:
    other = CollectMessage("another", 1, 0, "normal", "BTCUSDT", (Unit(0, "1h", 0, HOUR_MS),))
    run(WorkQueue(worker).send_collect([other]))
    sweeps(25)
    assert queued().count(lost) == 2


def test_messages_that_still_wait_are_sent_again_ever_more_seldom(
    run, worker, aws, settings, lost, sweeps
) -> None:
    sent = []
    for _ in range(24 * 60 - 1):
        before = aws.counts["sqs.SendMessageBatch"]
        sweeps(1)
        sent += [worker.now_ms()] * (aws.counts["sqs.SendMessageBatch"] - before)
    pauses = [later - sooner for sooner, later in pairwise(sent)]
    assert len(sent) == 6
    assert all(later >= 2 * sooner - 60_000 for sooner, later in pairwise(pauses))


def test_a_retry_waits_for_its_messages_as_the_first_attempt_did(
    run, worker, queued, lost, sweeps
) -> None:
    sweeps(60)
    run(cancel_task(worker, lost))
    run(retry_task(worker, lost))
    run(plan_task(worker, PlanMessage(lost, 2)))
    before = len(queued())
    sweeps(25)
    assert len(queued()) == before + 2


def test_two_sweeps_at_once_send_what_vanished_once(
    run, worker, aws, queued, lost, clock, sweeps
) -> None:
    sweeps(22)
    clock.advance(60_000)

    async def another() -> None:
        clock.advance(1)
        await sweep(worker)

    aws.hooks.append(Meanwhile(is_update_of("PROG"), another))
    run(sweep(worker))
    assert queued() == [lost] * 2


def test_the_note_that_messages_are_sent_again_may_be_written_twice(
    run, worker, settings, lost, sweeps
) -> None:
    seen = run(TaskTable(worker).read_prog(lost, 0))
    now_ms = worker.now_ms() + 5
    for _ in range(2):  # the second time as the client does whose answer was lost
        assert run(TaskTable(worker).mark_sent_again(lost, seen, now_ms))
    assert run(TaskTable(worker).read_prog(lost, 0)).sent_again == 1


def test_what_was_counted_since_it_was_seen_is_not_sent_again(
    run, worker, aws, settings, clock, fleet
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    clock.advance(HOUR_MS)
    aws.hooks.append(Meanwhile(is_update_of("PROG"), fleet.collect))
    aws.counts.clear()
    run(sweep(worker))
    assert aws.counts["sqs.SendMessageBatch"] == 0
    assert run(view_task(worker, task_id))["status"] == "completed"


def test_nothing_is_sent_again_while_the_exchange_is_paused(
    run, worker, queued, clock, lost, sweeps
) -> None:
    run(Ledger(worker).pause(clock() + HOUR_MS, "banned"))
    sweeps(59)
    assert queued() == []
    sweeps(2)
    assert queued() == [lost] * 2


def test_a_tasks_time_stands_still_while_a_person_pauses_and_runs_on_after_it(
    run, worker, clock, fleet, settings
) -> None:
    timeout_ms = settings.task_timeout_seconds * 1000
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(Pauses(worker).begin(FOREVER_MS, "anna", "", "r", clock()))
    clock.advance(2 * timeout_ms)
    run(sweep(worker))
    assert run(view_task(worker, task_id))["status"] == "running"
    run(Pauses(worker).end("anna", "r", clock()))
    clock.advance(timeout_ms - 1)
    run(sweep(worker))
    assert run(view_task(worker, task_id))["status"] == "running"
    clock.advance(1)
    run(sweep(worker))
    assert run(view_task(worker, task_id))["error"].startswith("DEADLINE_EXCEEDED")


def test_after_a_persons_pause_messages_have_their_time_again_before_they_count_as_lost(
    run, worker, queued, clock, lost, sweeps
) -> None:
    run(Pauses(worker).begin(FOREVER_MS, "anna", "", "r", clock()))
    sweeps(59)
    run(Pauses(worker).end("anna", "r", clock()))
    sweeps(10)
    assert queued() == []
    sweeps(40)
    assert queued()[:1] == [lost]


def test_a_task_out_of_time_fails_with_what_landed(run, worker, clock, fleet, settings) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(fleet.collect(1))
    clock.advance(settings.task_timeout_seconds * 1000)
    run(sweep(worker))
    view = run(view_task(worker, task_id))
    assert (view["status"], view["result"]["succeeded"]) == ("failed", 2)
    assert view["error"].startswith("DEADLINE_EXCEEDED")
    run(fleet.settle())
    assert run(view_task(worker, task_id)) == view


@pytest.mark.parametrize("cause", ["throttled", "in trouble"])
def test_a_task_out_of_time_says_what_it_waited_for(
    run, worker, clock, fleet, exchange, cause
) -> None:
    task_id = run(submit_collection(worker, {**BODY, "timeout_seconds": 60}, "me", "r"))
    run(fleet.plan())
    if cause == "throttled":
        exchange.throttled_until = clock() + 3_600_000
    else:
        exchange.unavailable.add(("ETHUSDT", "1h"))
    run(fleet.collect())
    clock.advance(60_000)
    run(sweep(worker))
    why = {
        "throttled": f"it waited for the exchange until {iso(exchange.throttled_until)} "
        "(HTTP 429: Too many requests)",
        "in trouble": "the last trouble was ETHUSDT 1h: no answer from the exchange",
    }[cause]
    error = run(view_task(worker, task_id))["error"]
    assert error == f"DEADLINE_EXCEEDED: the task's time ran out; {why}"


def test_what_was_counted_as_a_task_ran_out_of_time_stays_counted(
    run, worker, aws, clock, fleet, settings
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    clock.advance(settings.task_timeout_seconds * 1000)
    seen = []

    async def count_one_more() -> None:
        await fleet.collect(1)
        seen.append((await view_task(worker, task_id))["progress"])

    aws.hooks.append(Meanwhile(is_update_of("META"), count_one_more))
    run(sweep(worker))
    seen.append(run(view_task(worker, task_id))["progress"])
    assert seen == sorted(seen), "progress went back as the task failed"


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_task_fails_wholly_though_the_sweep_that_fails_it_dies(
    run, worker, aws, clock, fleet, settings, number
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    clock.advance(settings.task_timeout_seconds * 1000)
    aws.hooks.append(CrashAfter(number))
    with pytest.raises(Crash):
        run(sweep(worker))
    aws.hooks.clear()
    run(sweep(worker))
    view = run(view_task(worker, task_id))
    assert view["status"] == "failed"
    run(fleet.settle())
    assert run(view_task(worker, task_id)) == view


def test_one_task_that_cannot_be_swept_does_not_stop_the_others(run, backend, aws, clock) -> None:
    for _ in range(2):
        run(submit_collection(backend, {**BODY, "force": True}, "me", "r"))
    clock.advance(90_000)
    aws.hooks.append(Refuse("dynamodb.UpdateItem"))
    aws.counts.clear()
    assert run(sweep(backend)) == {"seen": 2, "failed": 1}
    assert aws.counts["sqs.SendMessage"] == 1


@pytest.mark.parametrize(
    "harm",
    [
        {"deadline_at": None},
        {"state": None},
        {"state": "paused"},
        {"state": "paused", "completed_at": 1},
        {"state": 7},
        {"attempt": "first"},
        {"attempt": None, "priority": None},
        {"request": "text"},
        {"plan_sent_at": "soon"},
    ],
    ids=str,
)
def test_an_item_that_cannot_be_read_stops_no_sweep(
    run, worker, aws, settings, clock, harm
) -> None:
    first, second = (
        run(submit_collection(worker, {**BODY, "force": True}, "me", "r")) for _ in range(2)
    )
    harmed = aws.dynamodb.tables[settings.tasks_table].items[task_pk(first), META]
    for name, value in harm.items():
        harmed.pop(name, None)
        if value is not None:
            harmed[name] = to_wire(value)
    before = dict(harmed)
    clock.advance(90_000)
    aws.counts.clear()
    assert run(sweep(worker)) == {"seen": 2, "failed": 1}
    assert aws.counts["sqs.SendMessage"] == 1
    assert run(TaskTable(worker).read(second)).plan_sent_at == clock()
    assert aws.dynamodb.tables[settings.tasks_table].items[task_pk(first), META] == before
    run(measure_state(worker))  # goes with each sweep


def test_a_progress_item_that_cannot_be_read_stops_no_sweep(
    run, worker, aws, settings, clock
) -> None:
    first, _ = (
        run(submit_collection(worker, {**BODY, "force": True}, "me", "r")) for _ in range(2)
    )
    run(plan_task(worker, PlanMessage(first, 1)))
    del aws.dynamodb.tables[settings.tasks_table].items[task_pk(first), "PROG#000"]["attempt"]
    clock.advance(90_000)
    assert run(sweep(worker)) == {"seen": 2, "failed": 1}


def test_an_item_of_another_kind_in_the_index_stops_no_sweep(run, worker, aws, settings) -> None:
    odd = {"pk": "ODD", "sk": META, "active": "1", "created_key": "0"}
    run(aws("dynamodb", "PutItem", TableName=settings.tasks_table, Item=item_to_wire(odd)))
    assert run(sweep(worker)) == {"seen": 1, "failed": 1}


def test_a_low_task_is_dispatched_beside_an_item_that_cannot_be_read(
    run, worker, aws, settings, queued
) -> None:
    first = run(submit_collection(worker, BODY, "me", "r"))
    del aws.dynamodb.tables[settings.tasks_table].items[task_pk(first), META]["priority"]
    low = run(submit_collection(worker, {**BODY, "priority": "low"}, "me", "r"))
    run(plan_task(worker, PlanMessage(low, 1)))
    assert queued() == [low] * 2


def test_two_sweeps_in_a_row_send_one_plan_message(run, backend, aws, clock) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    clock.advance(61_000)
    aws.counts.clear()
    for _ in range(2):
        run(sweep(backend))
    assert aws.counts["sqs.SendMessage"] == 1


@pytest.mark.parametrize("number", range(1, 40, 3))
def test_a_task_ends_by_itself_wherever_its_functions_die(run, worker, aws, fleet, number) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    aws.hooks.append(CrashAfter(number))
    run(fleet.settle_and_sweep(12))
    task = run(TaskTable(worker).read(task_id))
    assert task.state == "completed"
    assert (task.result["succeeded"], task.result["candles"]) == (4, 4000)


@pytest.mark.parametrize("name", ["last_at", "claimed_at"])
def test_items_are_quiet_when_nothing_was_sent_or_counted_for_a_while(name) -> None:
    part = Part(number=0, attempt=1, size=2)
    prog = Progress(number=0, attempt=1, state=OPEN, unit_count=4)
    for at_ms, quiet in ((NOW - ASK_PATIENCE_MS, True), (NOW - ASK_PATIENCE_MS + 1, False)):
        progs = prog, prog._replace(**{name: at_ms})
        assert _is_quiet(Tally((part,), progs), 1, NOW) is quiet
        assert _is_quiet(Tally((part._replace(last_at=at_ms),)), 1, NOW) is quiet
    assert _is_quiet(Tally(), 1, NOW)


def test_an_item_is_stalled_when_its_messages_cannot_be_hidden_any_more(backend, settings) -> None:
    patience_ms = (settings.collect_timeout_seconds * 6 + MOST_DELAY_SECONDS) * 1000
    patience_ms += PLAN_PATIENCE_MS
    long_ago = NOW - patience_ms - 1
    prog = Progress(0, 1, OPEN, unit_count=4, done={0}, sent_at=long_ago)
    assert _is_stalled(backend, prog, NOW)
    for moved in (
        {"state": CLOSED},
        {"done": {0, 1, 2, 3}},
        {"sent_at": None},
        {"sent_at": long_ago + 1},
        {"last_at": long_ago + 1},
        {"sent_again": 1},
    ):
        assert not _is_stalled(backend, prog._replace(**moved), NOW)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"plan_sent_at": NOW - PLAN_PATIENCE_MS}, True),
        ({"plan_sent_at": NOW - PLAN_PATIENCE_MS + 1}, False),
        ({"plan_sent_at": 0, "yielded_at": NOW - PLAN_PATIENCE_MS}, True),
        ({"plan_sent_at": 0, "yielded_at": NOW - PLAN_PATIENCE_MS + 1}, False),
    ],
)
def test_a_task_is_asked_for_when_nobody_has_for_a_minute(run, backend, fields, asked) -> None:
    task = task_of(**fields)
    run(TaskTable(backend).create(task))
    assert run(_note_asking(backend, task, NOW)) is asked
    assert run(_note_asking(backend, task._replace(attempt=2), NOW)) is False


@pytest.fixture
def running(run, backend):
    """A task that runs, with these fields, of which the first of two items is open and sent."""

    def running(claimed_at: int = NOW, **fields: object) -> TaskTable:
        table = TaskTable(backend)
        of = {"state": states.RUNNING, "progs_total": 2, "plan_sent_at": 0, **fields}
        run(table.create(task_of(**of)))
        run(table.open_part("t", 1, 0, of["progs_total"], 1, NOW))
        run(table.open_prog("t", 1, 0, 4, NOW, Claim("c", claimed_at, more=True)))
        run(table.mark_sent("t", 1, 0, claimed_at))
        return table

    return running


@pytest.mark.parametrize(("ago_ms", "asked"), [(ASK_PATIENCE_MS, 1), (ASK_PATIENCE_MS - 1, 0)])
def test_more_is_asked_for_where_nobody_sends_or_counts(
    run, backend, aws, settings, running, ago_ms, asked
) -> None:
    running(NOW - ago_ms)
    aws.counts.clear()
    assert run(sweep(backend)) == {"seen": 1, "failed": 0}
    assert len(aws.sqs.bodies(settings.plan_queue_url)) == asked
    assert aws.counts["dynamodb.GetItem"] == 0, "the ledger is read where something is stalled"


def test_a_task_whose_items_are_all_finished_is_ended(run, backend, running) -> None:
    table = running(progs_total=1)
    prog = run(table.read_prog("t", 0))
    full = prog._replace(done={0, 1, 2, 3}, last_label="A", last_at=9)
    run(table.add_finished_prog("t", 1, full))
    run(sweep(backend))
    assert run(table.read("t")).state == states.COMPLETED


def test_a_refresh_that_was_begun_is_asked_for_again_and_not_ended(
    run, backend, aws, settings
) -> None:
    refresh = task_of(task_type=states.SYMBOL_REFRESH, state=states.RUNNING, plan_sent_at=0)
    run(TaskTable(backend).create(refresh))
    run(sweep(backend))
    assert run(TaskTable(backend).read("t")).state == states.RUNNING
    assert len(aws.sqs.bodies(settings.plan_queue_url)) == 1


def test_a_task_that_is_deleted_once_it_was_seen_is_no_failure(
    run, backend, aws, settings, running
) -> None:
    running()

    async def delete() -> None:
        aws.dynamodb.tables[settings.tasks_table].items.clear()

    aws.hooks.append(Meanwhile(named("dynamodb.Query", "ConsistentRead"), delete))
    assert run(sweep(backend)) == {"seen": 1, "failed": 0}
