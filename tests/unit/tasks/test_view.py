"""What a task looks like to the people who asked for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.wire import to_wire
from chalicelib.collecting.plan import plan_task
from chalicelib.core.backend import Backend
from chalicelib.core.errors import TaskExpired, TaskNotFound
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger
from chalicelib.monitoring.status import collector_status, task_stats
from chalicelib.tasks import states
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.named_units import MOST_FAILURES, named_units
from chalicelib.tasks.part import Tally
from chalicelib.tasks.progress import MOST_REJECTIONS, Progress
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import (
    count_tasks,
    list_active,
    list_tasks,
    summary,
    view_task,
)
from chalicelib.work.messages import PlanMessage
from chalicelib.work.units import PlannedUnit
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.clock import NOW
from tests.doubles.faults import Meanwhile, named
from tests.doubles.ledger import take_weight
from tests.doubles.tasks import task_of

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}


def running(total: int, done: set[int], failed: set[int], **more: object) -> dict[str, object]:
    fields = {"state": states.RUNNING, "created_at": NOW, "started_at": NOW, "message": "Planned"}
    task = task_of(total_units=total, **{**fields, **more})
    prog = Progress(
        number=0,
        attempt=1,
        state="RUNNING",
        done=done | failed,
        failed={"WHY": failed},
        candles=5,
        rejected=0,
        unit_count=total,
    )
    return summary(task, Tally((), (prog,)), NOW + 10_000)


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)), st.integers(0, 20))
def test_units_add_up_and_an_unfinished_task_is_never_at_a_hundred(
    done: set[int], failed: set[int], more: int
) -> None:
    counted = len(done | failed)
    view = running(counted + more, done, failed)
    units = view["units"]
    assert units["succeeded"] + units["failed"] + units["remaining"] == units["total"]
    assert units["remaining"] == more
    assert 0 <= view["progress"] < 100


def test_the_rest_is_expected_to_take_as_long_per_unit_as_what_was_done() -> None:
    assert running(10, set(range(5)), set())["eta_seconds"] == 10
    assert running(10, set(), set())["eta_seconds"] is None
    assert running(10, set(range(10)), set())["eta_seconds"] == 0
    assert running(10, {1}, set(), state=states.PENDING)["eta_seconds"] is None
    assert running(10, {1}, set(), started_at=None)["eta_seconds"] is None


def test_what_an_earlier_attempt_did_does_not_make_the_rest_look_quick() -> None:
    assert running(10, set(range(6)), set(), kept_units=5)["eta_seconds"] == 40


def test_progress_only_rises_while_a_task_is_collected(run, worker, aws: Aws, fleet) -> None:
    task_id = run(submit_collection(worker, {**BODY, "timeframes": ["1m", "1h", "1d"]}, "me", "r"))
    seen: list[int] = []
    watching = False

    class Watch(Hook):
        async def after(self, called: Called) -> None:
            nonlocal watching
            if called.operation in ("UpdateItem", "TransactWriteItems") and not watching:
                watching = True
                seen.append((await view_task(worker, task_id))["progress"])
                watching = False

    aws.hooks.append(Watch())
    run(fleet.settle())
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, 100)
    assert len(set(seen)) > 2


def test_a_finished_task_expires_for_every_reader_though_it_is_still_stored(
    run, backend, fleet, clock, settings, aws
) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    clock.advance(settings.retention_seconds * 1000 - 1000)
    assert run(view_task(backend, task_id))["status"] == "completed"
    clock.advance(1000)
    with pytest.raises(TaskExpired):
        run(view_task(backend, task_id))
    assert run(list_tasks(backend, ["me"], 10)) == ([], None)
    assert run(list_active(backend, None, 20)) == ([], None)
    assert sum(run(count_tasks(backend, ["me"])).values()) == 0
    assert aws.items(settings.tasks_table)


def test_a_task_that_dynamodb_deleted_is_still_known_to_have_expired(
    run, backend, fleet, clock, settings, aws
) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    run(record_task_changes(backend, aws.stream_event(settings.tasks_table)["Records"]))
    clock.advance(settings.retention_seconds * 1000)
    assert aws.dynamodb.expire(settings.tasks_table) == 1
    with pytest.raises(TaskExpired):
        run(view_task(backend, task_id))


@pytest.mark.parametrize("task_id", ["unknown", "é", "META"])
def test_a_task_that_never_was_is_not_found(run, backend, task_id) -> None:
    with pytest.raises(TaskNotFound):
        run(view_task(backend, task_id))


def test_failures_are_listed_up_to_a_hundred_and_all_are_counted(run, worker, fleet) -> None:
    symbols = [f"NOPE{number}" for number in range(60)]
    body = {"symbols": symbols, "timeframes": ["1h", "1d"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (len(view["failures"]), view["units"]["failed"]) == (100, 120)
    failure = view["failures"][0]
    assert (failure["symbol"], failure["timeframe"], failure["reason"]) == (
        "NOPE0",
        "1h",
        "INVALID_SYMBOL",
    )


def test_tasks_are_listed_newest_first_page_by_page(run, backend, clock) -> None:
    made = []
    for _ in range(5):
        made.append(run(submit_collection(backend, {**BODY, "force": True}, "me", "r")))
        clock.advance(1)
    run(submit_collection(backend, {**BODY, "force": True}, "you", "r"))
    listed, following = run(list_tasks(backend, ["me"], 2))
    while following:
        more, following = run(list_tasks(backend, ["me"], 2, before=following))
        assert len(more) <= 2
        listed += more
    assert [view["task_id"] for view in listed] == made[::-1]


@pytest.mark.parametrize(
    ("mine", "yours", "pages"),
    [
        (3, 0, [2, 1]),
        (0, 3, [2, 1]),
        (2, 0, [2]),
        (1, 1, [2]),
        (2, 1, [2, 1]),
        (2, 2, [2, 2]),
        (0, 0, [0]),
    ],
)
def test_a_list_of_several_owners_ends_with_the_last_task_of_any(
    run, backend, clock, mine, yours, pages
) -> None:
    made = []
    for owner in ["me"] * mine + ["you"] * yours:
        made.append(run(submit_collection(backend, {**BODY, "force": True}, owner, "r")))
        clock.advance(1)
    listed, before = [], None
    for length in pages:
        assert (before is None) is (not listed)
        views, before = run(list_tasks(backend, ["me", "you"], 2, before=before))
        assert len(views) == length
        listed += views
    assert before is None
    assert [view["task_id"] for view in listed] == made[::-1]


def test_a_filtered_list_is_whole_though_the_store_answers_in_small_pages(
    run, backend, clock, aws, settings, fleet
) -> None:
    first = run(submit_collection(backend, {**BODY, "force": True}, "me", "r"))
    run(fleet.settle())
    for _ in range(6):
        clock.advance(1)
        run(submit_collection(backend, {**BODY, "force": True}, "me", "r"))
    aws.dynamodb.tables[settings.tasks_table].page_items = 2
    listed, following = run(list_tasks(backend, ["me"], 5, state="completed"))
    assert ([view["task_id"] for view in listed], following) == ([first], None)
    counts = run(count_tasks(backend, ["me"]))
    assert (counts["pending"], counts["completed"]) == (6, 1)
    assert set(counts) == set(states.STATES)


def test_a_list_shows_of_an_ended_task_what_the_task_itself_shows(run, worker, fleet) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    ((listed,), _) = run(list_tasks(worker, ["me"], 5))
    assert listed == {name: view[name] for name in listed}


def test_the_active_list_holds_what_has_not_ended_oldest_first(run, worker, fleet, clock) -> None:
    run(submit_collection(worker, {**BODY, "force": True}, "me", "r"))
    run(fleet.settle())
    active = []
    for _ in range(2):
        clock.advance(1)
        active.append(run(submit_collection(worker, {**BODY, "force": True}, "me", "r")))
    run(plan_task(worker, PlanMessage(active[0], 1)))
    listed, _ = run(list_active(worker, None, 20))
    assert [view["task_id"] for view in listed] == active
    assert [view["status"] for view in listed] == ["running", "pending"]


@pytest.mark.parametrize("planned", [False, True])
def test_a_paused_task_says_the_same_wherever_it_is_shown(run, worker, clock, planned) -> None:
    task_id = run(submit_collection(worker, {**BODY, "timeout_seconds": 60}, "me", "r"))
    if planned:
        run(plan_task(worker, PlanMessage(task_id, 1)))
    run(Ledger(worker).pause(clock() + 3_600_000, "HTTP 418"))
    message = run(view_task(worker, task_id))["message"]
    assert message.startswith("Waiting for the exchange until ")
    assert "the task fails at" in message
    assert run(list_tasks(worker, ["me"], 1))[0][0]["message"] == message
    assert run(list_active(worker, None, 20))[0][0]["message"] == message


def test_the_status_tells_of_queues_budget_and_breaker(run, worker, clock) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    assert run(collector_status(worker, "me", ["me"], True))["queues"]["plan"]["visible"] == 1
    run(plan_task(worker, PlanMessage(task_id, 1)))
    status = run(collector_status(worker, "me", ["me"], True))
    assert (status["status"], status["breaker"]["open"]) == ("collecting", False)
    assert status["queues"]["work"]["visible"] == 2
    run(Ledger(worker).pause(clock() + 5000, "HTTP 429"))
    status = run(collector_status(worker, "me", ["me"], True))
    assert (status["status"], status["breaker"]["reason"]) == ("waiting", "HTTP 429")
    assert run(take_weight(Ledger(worker), 100, 4800, clock() + 6000)) == 0
    clock.advance(6000)
    status = run(collector_status(worker, "me", ["me"], True))
    assert (status["rate_budget"]["used"], status["rate_budget"]["left"]) == (100, 4700)


def test_statistics_name_every_state_and_the_known_symbols(run, worker, exchange, clock) -> None:
    run(CatalogueTable(worker).write_catalogue(exchange.symbols, 6000, clock()))
    run(submit_collection(worker, BODY, "me", "r"))
    stats = run(task_stats(worker, "me"))
    assert (stats["active_tasks_count"], set(stats["task_counts"])) == (1, set(states.STATES))
    market = stats["data_collector_status"]
    assert market["available_symbols"] == sorted(exchange.symbols)
    assert (market["trading_symbols_count"], market["symbols_count"]) == (2, 3)
    assert market["default_symbols"] is None
    few = replace(worker, settings=replace(worker.settings, default_symbols=("BTCUSDT",)))
    stats = run(task_stats(few, "me"))
    assert stats["data_collector_status"]["default_symbols"] == ["BTCUSDT"]


def test_many_readers_change_nothing(run, backend, aws, settings) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    before = len(aws.dynamodb.tables[settings.tasks_table].stream)

    async def read() -> None:
        views = (view_task(backend, task_id) for _ in range(5))
        await asyncio.gather(*views, list_active(backend, None, 20))

    run(read())
    assert len(aws.dynamodb.tables[settings.tasks_table].stream) == before


@pytest.mark.parametrize(
    ("authentication", "caller", "seen"),
    [
        ("iam", "me", True),
        ("iam", "you", False),
        ("iam", None, True),
        ("none", "you", True),
        ("none", None, True),
    ],
)
def test_a_task_is_its_owners_where_callers_are_known(
    run, backend, clock, authentication, caller, seen
) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    backend = Backend(backend.call, replace(backend.settings, authentication=authentication), clock)
    assert len(run(list_active(backend, caller, 20))[0]) == seen
    if seen:
        shown = run(view_task(backend, task_id, caller))
        assert (shown["task_id"], shown["webhook"]) == (task_id, None)
    else:
        with pytest.raises(TaskNotFound):
            run(view_task(backend, task_id, caller))


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
@pytest.mark.parametrize("caller", [None, "me"])
def test_a_task_that_ends_while_the_active_list_is_read_is_not_in_it(
    run, backend, aws, settings, how, caller
) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))

    async def end() -> None:
        if how == "cancelled":
            await cancel_task(backend, task_id)
        else:
            aws.dynamodb.tables[settings.tasks_table].items.clear()

    aws.hooks.append(Meanwhile(named("dynamodb.BatchGetItem"), end))
    assert run(list_active(backend, caller, 20)) == ([], None)


def test_a_list_reads_no_counts_of_tasks_that_have_ended_and_their_requests_at_once(
    run, worker, aws, fleet
) -> None:
    run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.settle())
    aws.counts.clear()
    assert len(run(list_tasks(worker, ["me"], 5))[0]) == 1
    assert aws.counts == {"dynamodb.Query": 1, "dynamodb.BatchGetItem": 1}


ASKED = [f"S{number:04}USDT" for number in range(3000)]
RANGE = {"start": "2026-01-01", "end": "2026-01-02T12:00:00Z"}


@pytest.mark.parametrize(
    ("body", "shown", "count"),
    [
        (BODY, BODY["symbols"], 2),
        ({"timeframes": ["1h", "1d"]}, None, None),
        ({**BODY, "symbols": ["*USDT", "!BTC*", "top=2"]}, ["*USDT", "!BTC*", "top=2"], None),
        ({**BODY, "symbols": ASKED, **RANGE}, ASKED, 3000),
    ],
)
def test_a_task_shows_what_was_asked_for(run, worker, body, shown, count) -> None:
    task_id = run(submit_collection(worker, body, "me", "r"))
    view = run(view_task(worker, task_id))
    assert view["request"] == {
        "symbols": shown,
        "timeframes": ["1h", "1d"],
        "start": "2026-01-01T00:00:00.000Z" if "start" in body else None,
        "end": "2026-01-02T12:00:00.000Z" if "end" in body else None,
    }
    assert view["symbols_count"] == count
    for listed in (run(list_tasks(worker, ["me"], 5))[0], run(list_active(worker, None, 20))[0]):
        (row,) = listed
        assert row["request"] == {**view["request"], "symbols": shown and shown[:20]}
        assert row["symbols_count"] == count


def test_what_a_selector_has_selected_is_counted_once_it_is_planned(run, worker, fleet) -> None:
    body = {**BODY, "symbols": ["*USDT", "!BTC*"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    ((listed,), _) = run(list_tasks(worker, ["me"], 5))
    for view in (listed, run(view_task(worker, task_id))):
        assert (view["status"], view["symbols_count"]) == ("completed", 1)
        assert view["request"]["symbols"] == ["*USDT", "!BTC*"]


def test_a_refresh_and_a_request_that_nobody_can_read_are_shown_without_one(
    run, worker, fleet, aws, settings
) -> None:
    refresh = run(submit_symbol_refresh(worker, "me", "r"))
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    items = aws.dynamodb.tables[settings.tasks_table].items
    items[f"TASK#{task_id}", "META"]["request"] = to_wire(b"of newer code")
    for each in (refresh, task_id):
        view = run(view_task(worker, each))
        assert (view["request"], view["symbols_count"]) == (None, None)
    assert [row["request"] for row in run(list_tasks(worker, ["me"], 5))[0]] == [None, None]


@pytest.mark.parametrize(
    ("failed", "rejected", "read"),
    [
        ((0, 0), (0, 0), 0),
        ((1, 0), (0, 0), 1),
        ((0, 0), (0, 1), 1),
        ((MOST_FAILURES, 1), (0, 0), 1),
        ((MOST_FAILURES - 1, 2), (0, 0), 2),
        ((0, 0), (MOST_REJECTIONS, 1), 1),
        ((0, 0), (MOST_REJECTIONS - 1, 2), 2),
    ],
)
def test_units_are_read_only_of_items_whose_failures_or_rejections_are_shown(
    run, backend, aws, failed, rejected, read
) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    run(TaskTable(backend).move(task_id, 1, states.RUNNING, plan_id="p", progs_total=2))
    planned = [PlannedUnit("BTCUSDT", "1h", NOW, NOW + 3_600_000)] * 150
    run(TaskTable(backend).write_units(task_id, "p", [(0, planned), (1, planned)], NOW))
    progs = [
        Progress(
            number=number,
            attempt=1,
            state="RUNNING",
            unit_count=150,
            failed={"WHY": set(range(failed[number]))},
            rejections={0: set(range(rejected[number]))} if rejected[number] else {},
        )
        for number in (0, 1)
    ]
    task = run(TaskTable(backend).read(task_id))
    calls = len(aws.calls)
    shown = run(named_units(backend, task, Tally((), tuple(progs))))
    keys = [len(each.parameters["RequestItems"]["tasks"]["Keys"]) for each in aws.calls[calls:]]
    assert keys == ([read] if read else [])
    assert len(shown["failures"]) == min(sum(failed), MOST_FAILURES)
    assert len(shown["rejections"]) == min(sum(rejected), MOST_REJECTIONS)
