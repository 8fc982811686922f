"""Schedules on the simulated AWS: one firing, one task; whatever breaks off is made good."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chalicelib.access.key_table import KeyTable
from chalicelib.access.keys import CACHED_MS, create_key
from chalicelib.aws.wire import item_from_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import (
    CallFailed,
    ConditionFailed,
    InvalidRequest,
    ItemUnreadable,
    QuotaExceeded,
    ScheduleNotFound,
)
from chalicelib.core.settings import Settings
from chalicelib.core.times import iso
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.refresh import recent_volumes, refresh_catalogue
from chalicelib.exchange.worker import Worker
from chalicelib.schedules import manage
from chalicelib.schedules.firings import PATIENCE_MS, task_id_of
from chalicelib.schedules.schedule import Schedule
from chalicelib.schedules.table import ScheduleTable
from chalicelib.schedules.watch import receive_firing, watch_schedules
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.lists import TaskLists
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.request import CollectionRequest
from infra.package import ROOT
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.clock import Clock
from tests.doubles.error_codes import Always
from tests.doubles.faults import AppliedTwice, CrashAfter, LoseAnswer, Meanwhile, Refuse, named
from tests.doubles.fleet import Crash, Fleet

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ID = "0b8f6c1e-0000-4000-8000-000000000001"
OTHER_ID, THIRD_ID = ID.replace("0001", "0002"), ID.replace("0001", "0003")
OWNER = "me"
HOURLY: dict[str, Any] = {
    "name": "hourly",
    "expression": "cron(0 * * * ? *)",
    "request": {"symbols": ["BTCUSDT"], "timeframes": ["1h"]},
}
HOUR_MS, MINUTE_MS = 3_600_000, 60_000


class Office:
    """A backend with short words for what people, EventBridge and the clock do."""

    def __init__(self, run: Run, backend: Backend, aws: Aws, clock: Clock) -> None:
        self.run, self.backend, self.aws, self.clock = run, backend, aws, clock

    def make(self, schedule_id: str = ID, **fields: Any) -> dict[str, Any]:
        body = {**HOURLY, **fields}
        made = manage.create_schedule(self.backend, body, OWNER, "request-1", schedule_id)
        return self.run(made)

    def change(self, **fields: Any) -> dict[str, Any]:
        return self.run(manage.change_schedule(self.backend, fields, OWNER, "request-2", ID))

    def view(self) -> dict[str, Any]:
        return self.run(manage.view_schedule(self.backend, [OWNER], ID))

    def fire(self, at_ms: int) -> str:
        event = self.aws.scheduler.firing(ID, str(iso(at_ms)))
        return self.run(receive_firing(self.backend, event, "firing"))

    def fire_next(self) -> tuple[int, str]:
        """The clock goes to the next run, and EventBridge fires; (its time, the task's id)."""
        at_ms = self.next_run()
        self.clock.advance_to(at_ms)
        return at_ms, self.fire(at_ms)

    def next_run(self) -> int:
        at_ms = self.stored().next_run_at
        assert at_ms is not None
        return at_ms

    def watch(self) -> dict[str, int]:
        return self.run(watch_schedules(self.backend, "watch"))

    def found(self, schedule_id: str = ID) -> Schedule | None:
        """The schedule as it is stored; None where it is forgotten."""
        return self.run(ScheduleTable(self.backend).read(OWNER, schedule_id))

    def stored(self, schedule_id: str = ID) -> Schedule:
        schedule = self.found(schedule_id)
        assert schedule is not None
        return schedule

    def tasks(self) -> list[str]:
        items = self.aws.items(self.backend.settings.tasks_table)
        return [item["task_id"]["S"] for item in items if item["sk"]["S"] == "META"]

    def trail(self) -> list[dict[str, Any]]:
        """What the audit trail tells of the schedule, in order."""
        records = self.aws.stream_event(self.backend.settings.tasks_table)["Records"]
        self.run(record_task_changes(self.backend, records))
        items = map(item_from_wire, self.aws.items(self.backend.settings.audit_table))
        events = [item for item in items if str(item.get("action")).startswith("schedule.")]
        return sorted(events, key=lambda event: (event["pk"], event["sk"]))

    def actions(self) -> list[str]:
        return [event["action"].removeprefix("schedule.") for event in self.trail()]


@pytest.fixture
def office(run: Run, backend: Backend, aws: Aws, clock: Clock) -> Office:
    return Office(run, backend, aws, clock)


# --- firing -------------------------------------------------------------------------------------


def test_a_firing_makes_a_task_of_its_schedules_owner(
    run: Run, office: Office, fleet: Fleet
) -> None:
    office.make()
    at_ms, task_id = office.fire_next()
    run(fleet.settle())
    view = run(view_task(office.backend, task_id))
    assert view["status"] == "completed"
    assert view["schedule_id"] == ID
    task = run(TaskTable(office.backend).read(task_id))
    assert (task.owner, task.source) == (OWNER, "schedule")
    last = office.view()["last_run"]
    assert last == {
        "at": iso(at_ms),
        "by": "schedule",
        "task_id": task_id,
        "status": "completed",
    }
    assert office.view()["next_run_at"] == iso(at_ms + HOUR_MS)


def test_a_firing_that_arrives_twice_makes_one_task(run: Run, office: Office, fleet: Fleet) -> None:
    office.make()
    at_ms, first = office.fire_next()
    assert office.fire(at_ms) == first
    run(fleet.settle())
    assert office.fire(at_ms) == first
    assert office.tasks() == [first]
    assert office.view()["runs"] == {"started": 1, "skipped": 0, "missed": 0}


def test_an_older_firing_that_arrives_late_makes_no_task(office: Office) -> None:
    office.make()
    late = office.next_run()
    office.clock.advance_to(late + HOUR_MS)
    newer = office.fire(late + HOUR_MS)
    office.fire(late)
    assert office.tasks() == [newer]
    assert office.view()["runs"]["missed"] == 1


def test_a_firing_without_a_time_stands_for_its_minute(office: Office) -> None:
    office.make()
    office.clock.advance_to(office.next_run() + 7_000)
    event = json.loads(office.aws.scheduler.schedules[ID]["Target"]["Input"])
    assert event["scheduled_at"].startswith("<aws.")
    task_id = office.run(receive_firing(office.backend, event, "firing"))
    assert task_id == task_id_of(ID, office.clock() // MINUTE_MS * MINUTE_MS)
    assert office.tasks() == [task_id]


def test_a_disabled_or_deleted_schedules_firing_makes_no_task(run: Run, office: Office) -> None:
    office.make()
    event = office.aws.scheduler.firing(ID, "2026-03-04T06:00:00Z")
    office.change(enabled=False)
    run(receive_firing(office.backend, event, "firing"))
    run(manage.delete_schedule(office.backend, OWNER, "r", ID))
    run(receive_firing(office.backend, event, "firing"))
    assert office.tasks() == []


def test_a_rates_firings_a_little_off_its_time_are_runs_of_their_own(
    run: Run, office: Office, fleet: Fleet
) -> None:
    office.make(expression="rate(5 minutes)")
    started = office.clock()
    for number in (1, 2, 3):
        office.clock.advance_to(started + number * 300_000)
        office.fire(started + number * 300_000 - 700 * number)
        run(fleet.settle())
    assert office.view()["runs"] == {"started": 3, "skipped": 0, "missed": 0}


@pytest.mark.parametrize("number", range(1, 7))
def test_a_firing_that_dies_after_any_call_makes_one_task(
    office: Office, number: int, aws: Aws
) -> None:
    office.make()
    at_ms = office.next_run()
    office.clock.advance_to(at_ms)
    dying = CrashAfter(number)
    aws.hooks.append(dying)
    before = len(aws.calls)
    try:
        office.fire(at_ms)
        died = False
    except Crash:
        died = True
    aws.hooks.remove(dying)
    assert died is (number <= len(aws.calls) - before and dying.left == 0)
    office.clock.advance(MINUTE_MS)
    office.watch()
    if number > 2:  # the decision was stored: the watch alone has to bring the task
        assert office.tasks() == [task_id_of(ID, at_ms)]
    assert office.fire(at_ms) == task_id_of(ID, at_ms)
    assert office.tasks() == [task_id_of(ID, at_ms)]
    assert office.view()["runs"]["started"] == 1
    assert office.stored().starting is None


def test_a_run_that_was_decided_is_started_though_its_schedule_is_paused_then(
    office: Office, aws: Aws
) -> None:
    office.make()
    at_ms = office.next_run()
    office.clock.advance_to(at_ms)
    aws.hooks.append(CrashAfter(2))  # the schedule is read, and replaced
    with pytest.raises(Crash):
        office.fire(at_ms)
    aws.hooks.clear()
    assert office.tasks() == []
    office.change(enabled=False)
    office.watch()
    assert office.tasks() == [task_id_of(ID, at_ms)]
    assert office.watch()["seen"] == 0


@pytest.mark.parametrize(
    "name", ["dynamodb.PutItem", "dynamodb.GetItem", "sqs.SendMessage", "dynamodb.PutItem#2"]
)
def test_a_firing_whose_answers_are_lost_makes_one_task_when_it_is_repeated(
    office: Office, aws: Aws, name: str
) -> None:
    office.make()
    at_ms = office.next_run()
    office.clock.advance_to(at_ms)
    operation, _, number = name.partition("#")
    aws.hooks.append(LoseAnswer(operation, int(number or 1)))
    with suppress(CallFailed):
        office.fire(at_ms)
    assert office.fire(at_ms) == task_id_of(ID, at_ms)
    assert office.tasks() == [task_id_of(ID, at_ms)]
    assert office.view()["runs"]["started"] == 1


class BeforeEach(Hook):
    """Before each write of a schedule, the same firing comes once more, from another container."""

    def __init__(self, office: Office, at_ms: int) -> None:
        self.office, self.at_ms, self.inside = office, at_ms, False

    async def before(self, called: Called) -> None:
        item = called.parameters.get("Item", {})
        if self.inside or called.operation != "PutItem" or "synced_rev" not in item:
            return
        self.inside = True
        event = self.office.aws.scheduler.firing(ID, str(iso(self.at_ms)))
        await receive_firing(self.office.backend, event, "other")
        self.inside = False


def test_two_containers_that_fire_at_once_make_one_task(office: Office, aws: Aws) -> None:
    office.make()
    at_ms = office.next_run()
    office.clock.advance_to(at_ms)
    aws.hooks.append(BeforeEach(office, at_ms))
    assert office.fire(at_ms) == task_id_of(ID, at_ms)
    aws.hooks.clear()
    assert office.tasks() == [task_id_of(ID, at_ms)]
    assert office.view()["runs"] == {"started": 1, "skipped": 0, "missed": 0}
    assert office.actions() == ["created", "fired"]


# --- overlap ------------------------------------------------------------------------------------


def test_a_run_is_skipped_while_the_last_one_has_not_ended(
    run: Run, office: Office, fleet: Fleet
) -> None:
    office.make()
    _, first = office.fire_next()
    second_at, _ = office.fire_next()
    assert office.tasks() == [first]
    assert office.view()["runs"]["skipped"] == 1
    assert office.view()["last_skipped_at"] == iso(second_at)
    run(fleet.settle())
    _, third = office.fire_next()
    assert office.tasks() == [first, third]
    assert office.actions() == ["created", "fired", "skipped", "fired"]


def test_a_queued_run_starts_when_the_last_one_has_ended_and_only_one_waits(
    run: Run, office: Office, fleet: Fleet
) -> None:
    office.make(overlap="queue")
    _, first = office.fire_next()
    second_at, second = office.fire_next()
    office.fire_next()  # one waits already
    office.watch()
    assert office.tasks() == [first]
    assert office.view()["queued_for"] == iso(second_at)
    run(fleet.settle())
    office.watch()
    assert office.tasks() == [first, second]
    assert office.view()["queued_for"] is None
    assert office.view()["runs"] == {"started": 2, "skipped": 1, "missed": 0}
    assert office.actions() == ["created", "fired", "queued", "skipped", "fired"]


def test_a_firing_starts_what_waits_and_waits_itself(
    run: Run, office: Office, fleet: Fleet
) -> None:
    office.make(overlap="queue")
    _, first = office.fire_next()
    _, second = office.fire_next()
    run(fleet.settle())
    third_at, _ = office.fire_next()
    assert office.tasks() == [first, second]
    assert office.view()["queued_for"] == iso(third_at)
    assert office.actions() == ["created", "fired", "queued", "fired", "queued"]


def test_what_waits_is_dropped_by_a_pause(run: Run, office: Office, fleet: Fleet) -> None:
    office.make(overlap="queue")
    _, first = office.fire_next()
    office.fire_next()
    office.change(enabled=False)
    run(fleet.settle())
    office.watch()
    office.change(enabled=True)
    office.watch()
    assert office.tasks() == [first]


def test_a_run_by_hand_starts_at_once_and_later_firings_see_it(
    run: Run, office: Office, fleet: Fleet
) -> None:
    office.make()
    _, first = office.fire_next()
    task_id = run(manage.run_now(office.backend, OWNER, "request-3", ID, "by-hand"))
    assert run(manage.run_now(office.backend, OWNER, "request-3", ID, "by-hand")) == task_id
    assert office.tasks() == [first, "by-hand"]
    run(cancel_task(office.backend, first))
    office.fire_next()  # the one by hand has not ended
    assert office.view()["runs"] == {"started": 2, "skipped": 1, "missed": 0}
    assert office.view()["last_run"]["by"] == OWNER
    fired = [event for event in office.trail() if event["action"] == "schedule.fired"]
    assert [event["by"] for event in fired] == ["schedule", OWNER]
    assert [event.get("request_id") for event in fired] == [None, "request-3"]


def test_a_disabled_schedule_can_be_run_by_hand(run: Run, office: Office) -> None:
    office.make(enabled=False)
    run(manage.run_now(office.backend, OWNER, "r", ID, "by-hand"))
    assert office.tasks() == ["by-hand"]


# --- missed runs --------------------------------------------------------------------------------


def test_runs_that_never_came_are_made_up_for_once(run: Run, office: Office, fleet: Fleet) -> None:
    office.make(catch_up=True)
    first = office.next_run()
    office.clock.advance_to(first + 3 * HOUR_MS + PATIENCE_MS - 1)
    office.watch()
    assert office.tasks() == [task_id_of(ID, first + 2 * HOUR_MS)]
    assert office.view()["runs"] == {"started": 1, "skipped": 0, "missed": 3}
    office.clock.advance(1)
    run(fleet.settle())
    office.watch()
    office.watch()
    assert office.view()["runs"] == {"started": 2, "skipped": 0, "missed": 4}
    office.fire(first + 3 * HOUR_MS)  # EventBridge, late: it has been made up for
    assert len(office.tasks()) == 2
    assert office.actions() == ["created", "missed", "fired", "missed", "fired"]


def test_without_catch_up_missed_runs_are_only_counted(office: Office) -> None:
    office.make()
    office.clock.advance(5 * HOUR_MS)
    office.watch()
    assert office.tasks() == []
    assert office.view()["runs"]["missed"] == 5
    assert office.actions() == ["created", "missed"]
    _, task_id = office.fire_next()
    assert office.tasks() == [task_id]


@pytest.mark.parametrize("catch_up", [True, False])
def test_a_pause_is_made_up_for_where_that_is_wanted(office: Office, catch_up: bool) -> None:
    office.make(catch_up=catch_up)
    office.change(enabled=False)
    assert office.view()["next_run_at"] is None
    office.clock.advance(7 * HOUR_MS)
    office.watch()
    assert office.tasks() == []
    office.change(enabled=True)
    office.watch()
    assert len(office.tasks()) == int(catch_up)
    assert office.view()["runs"]["missed"] == 7


def test_a_year_of_missed_minutes_is_made_up_for_once(office: Office) -> None:
    office.make(expression="cron(* * * * ? *)", catch_up=True)
    office.clock.advance(365 * 24 * HOUR_MS)
    office.watch()
    office.watch()
    assert len(office.tasks()) == 1
    assert office.view()["runs"]["missed"] == 1000  # and more
    assert office.view()["next_run_at"] == iso((office.clock() // MINUTE_MS + 1) * MINUTE_MS)


def test_a_rate_that_was_told_anew_may_begin_anew_without_missing_runs(
    run: Run, office: Office, fleet: Fleet
) -> None:
    office.make(expression="rate(10 minutes)", catch_up=True)
    office.clock.advance(13 * MINUTE_MS)
    office.watch()
    run(fleet.settle())
    told_again = office.clock()
    for _ in range(10):
        office.clock.advance(MINUTE_MS)
        office.watch()
    office.fire(told_again + 10 * MINUTE_MS + 2000)
    assert office.view()["runs"] == {"started": 2, "skipped": 0, "missed": 1}


@pytest.mark.parametrize("expression", ["cron(* * * * ? *)", "rate(1 minute)", "rate(3 minutes)"])
def test_a_run_that_is_lost_between_two_that_come_is_counted(
    office: Office, expression: str
) -> None:
    office.make(expression=expression, overlap="skip")
    every_ms = 3 * MINUTE_MS if "3" in expression else MINUTE_MS
    started = office.clock() // MINUTE_MS * MINUTE_MS if "cron" in expression else office.clock()
    for number in range(2, 21, 2):
        office.clock.advance_to(started + number * every_ms)
        office.fire(office.clock())
    runs = office.view()["runs"]
    assert (runs["missed"], runs["started"] + runs["skipped"]) == (10, 10)


@pytest.mark.parametrize("minutes", [1, 2])
def test_an_outage_of_a_rate_is_counted_up_to_the_moment_it_begins_anew(
    office: Office, minutes: int
) -> None:
    office.make(expression=f"rate({minutes} minute{'s' * (minutes > 1)})")
    office.clock.advance(5000)  # the watch comes just after the runs were due
    for _ in range(60):
        office.clock.advance(MINUTE_MS)
        office.watch()
    assert office.view()["runs"] == {"started": 0, "skipped": 0, "missed": 60 // minutes}


def test_a_firing_that_was_counted_as_missed_makes_no_task_when_it_comes_after_all(
    office: Office,
) -> None:
    office.make(expression="rate(2 minutes)")
    second_ms = office.clock() + 4 * MINUTE_MS
    office.clock.advance_to(second_ms + 1)
    office.watch()  # the first run is missed, so the rate begins anew, after the second
    office.fire(second_ms)
    assert office.tasks() == []
    assert office.view()["runs"] == {"started": 0, "skipped": 0, "missed": 2}
    assert office.view()["next_run_at"] == iso(second_ms + 1 + 2 * MINUTE_MS)


def test_what_eventbridge_lost_is_told_again_when_a_run_is_missed(office: Office) -> None:
    office.make()
    office.aws.scheduler.schedules.clear()
    office.clock.advance_to(office.next_run() + PATIENCE_MS)
    office.watch()
    assert set(office.aws.scheduler.schedules) == {ID}


# --- EventBridge follows ------------------------------------------------------------------------


def known(office: Office) -> dict[str, Any]:
    """What EventBridge knows of the schedule."""
    schedule = office.aws.scheduler.schedules[ID]
    return {
        "expression": schedule["ScheduleExpression"],
        "timezone": schedule["ScheduleExpressionTimezone"],
        "enabled": schedule["State"] == "ENABLED",
    }


def test_eventbridge_is_told_of_a_schedule_and_its_changes(office: Office) -> None:
    view = office.make(timezone="Europe/Berlin")
    assert view["in_sync"] is True
    assert known(office) == {
        "expression": HOURLY["expression"],
        "timezone": "Europe/Berlin",
        "enabled": True,
    }
    assert office.change(enabled=False, expression="rate(2 hours)")["in_sync"] is True
    assert known(office) == {
        "expression": "rate(2 hours)",
        "timezone": "Europe/Berlin",
        "enabled": False,
    }
    before = office.aws.counts["scheduler.UpdateSchedule"]
    office.change(name="another")
    assert office.aws.counts["scheduler.UpdateSchedule"] == before


def test_eventbridge_counts_a_rate_from_the_run_that_people_are_told_of(
    run: Run, office: Office, fleet: Fleet, aws: Aws
) -> None:
    """Without a start EventBridge would fire at once, whenever it is told."""

    def first() -> str | None:
        return iso(aws.scheduler.schedules[ID]["StartDate"] * 1000)

    def shown() -> str:
        return str(office.view()["next_run_at"])[:19] + ".000Z"

    office.make(expression="rate(1 day)")
    assert first() == shown() == iso((office.clock() + 24 * HOUR_MS) // 1000 * 1000)
    office.clock.advance(5 * HOUR_MS)
    office.change(enabled=False)
    office.change(enabled=True)  # a pause moves no run
    assert first() == shown() == iso((office.clock() + 19 * HOUR_MS) // 1000 * 1000)
    office.clock.advance(60 * HOUR_MS)  # two runs never came: told anew, counting from now
    office.watch()
    assert first() == shown() == iso((office.clock() + 24 * HOUR_MS) // 1000 * 1000)
    office.change(expression="cron(0 6 * * ? *)")
    assert "StartDate" not in aws.scheduler.schedules[ID]


def test_a_changed_expression_counts_from_now(office: Office) -> None:
    office.make()
    office.clock.advance(HOUR_MS)
    view = office.change(expression="cron(30 * * * ? *)")
    office.clock.advance(MINUTE_MS)
    office.watch()
    assert view["next_run_at"] == iso(office.next_run())
    assert office.view()["runs"]["missed"] == 0


def _converged(office: Office) -> None:
    office.clock.advance(MINUTE_MS)
    assert office.watch()["failed"] == 0
    schedule = office.found()
    if schedule is None:
        assert ID not in office.aws.scheduler.schedules
        return
    assert schedule.rev == schedule.synced_rev
    assert known(office) == {
        "expression": schedule.expression,
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
    }


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("what", ["make", "change", "delete"])
def test_whatever_dies_after_any_call_the_watch_makes_eventbridge_agree(
    office: Office, aws: Aws, what: str, number: int
) -> None:
    if what != "make":
        office.make()
    work = {
        "make": lambda: office.make(),
        "change": lambda: office.change(enabled=False),
        "delete": lambda: office.run(manage.delete_schedule(office.backend, OWNER, "r", ID)),
    }[what]
    dying = CrashAfter(number)
    aws.hooks.append(dying)
    try:
        work()
    except Crash:
        dying.left = -1
    aws.hooks.clear()
    _converged(office)
    work() if what == "make" else None  # its repetition, with the same key
    _converged(office)


@pytest.mark.parametrize("operation", ["CreateSchedule", "UpdateSchedule", "DeleteSchedule"])
@pytest.mark.parametrize("fault", [Refuse, LoseAnswer])
def test_a_failing_eventbridge_leaves_the_change_stored_and_is_told_a_minute_later(
    office: Office, aws: Aws, operation: str, fault: type[Hook]
) -> None:
    if operation != "CreateSchedule":
        office.make()
    aws.hooks.append(fault(f"scheduler.{operation}"))  # type: ignore[call-arg]
    if operation == "CreateSchedule":
        assert office.make()["in_sync"] is False
    elif operation == "UpdateSchedule":
        assert office.change(enabled=False)["in_sync"] is False
    else:
        office.run(manage.delete_schedule(office.backend, OWNER, "r", ID))
        with pytest.raises(ScheduleNotFound):
            office.view()
    _converged(office)


def test_two_changes_that_race_leave_eventbridge_with_the_last(office: Office, aws: Aws) -> None:
    office.make()

    class Between(Hook):
        done = False

        async def before(self, called: Called) -> None:
            if called.name == "scheduler.UpdateSchedule" and not self.done:
                self.done = True
                change = {"expression": "rate(3 hours)"}
                await manage.change_schedule(office.backend, change, OWNER, "other", ID)

    aws.hooks.append(Between())
    office.change(enabled=False)
    assert known(office)["expression"] == "rate(3 hours)"
    assert known(office)["enabled"] is False
    assert office.view()["in_sync"] is True


def test_a_firing_of_an_outdated_schedule_has_eventbridge_told_again(office: Office) -> None:
    office.make()
    old = dict(office.aws.scheduler.schedules[ID])
    office.change(expression="cron(30 * * * ? *)")
    office.aws.scheduler.schedules[ID] = old  # what a writer that hung for long may leave
    office.fire(office.clock() // HOUR_MS * HOUR_MS)  # decided before the change
    assert office.view()["in_sync"] is False
    assert office.tasks() == []
    _converged(office)
    office.aws.scheduler.schedules[ID] = old
    office.clock.advance(HOUR_MS)
    office.fire(office.clock() // HOUR_MS * HOUR_MS)
    assert office.view()["in_sync"] is False
    _converged(office)


def test_what_eventbridge_refuses_for_good_is_shown_and_can_be_changed(office: Office) -> None:
    office.aws.scheduler.refuse.add("cron(0 * * * ? *)")
    view = office.make()
    assert view["in_sync"] is False
    assert "Invalid Schedule Expression" in view["sync_error"]
    assert office.watch() == {"seen": 1, "failed": 0}
    view = office.change(expression="rate(1 hour)")
    assert (view["in_sync"], view["sync_error"]) == (True, None)


@pytest.mark.parametrize(
    ("symbols", "promised"),
    [
        (["*USDT", "!ETHUSDT"], {"BTCUSDT"}),
        (["status=*"], {"BTCUSDT", "ETHUSDT"}),  # no candles come of what is halted
        (["top=1"], {"ETHUSDT"}),
        (["OLDUSDT", "ETHUSDT"], {"ETHUSDT"}),
    ],
)
def test_a_promise_is_for_the_symbols_that_a_selector_selects(
    run: Run, office: Office, worker: Worker, symbols: list[str], promised: set[str]
) -> None:
    worker.exchange.traded = {"ETHUSDT": 1e9}  # type: ignore[attr-defined]
    run(refresh_catalogue(worker))
    run(recent_volumes(worker))
    request = {"symbols": symbols, "timeframes": ["1h"]}
    office.make(request=request, freshness={"max_lag_seconds": 60})
    office.clock.advance(2 * HOUR_MS)
    office.watch()
    repair = run(TaskTable(office.backend).read(str(office.stored().last_repair_task_id)))
    assert repair is not None
    assert set(CollectionRequest.unpack(repair.request).symbols or ()) == promised


def test_the_largest_symbols_are_promised_once_their_volumes_are_known(
    run: Run, office: Office, worker: Worker
) -> None:
    run(refresh_catalogue(worker))
    request = {"symbols": ["top=1"], "timeframes": ["1h"]}
    office.make(request=request, freshness={"max_lag_seconds": 60})
    office.clock.advance(2 * HOUR_MS)
    office.watch()
    assert office.stored().last_repair_task_id is None
    run(recent_volumes(worker))
    office.watch()
    assert office.stored().last_repair_task_id is not None


def test_a_deleted_schedule_is_gone_everywhere_and_its_tasks_stay(
    run: Run, office: Office, settings: Settings
) -> None:
    office.make(freshness={"max_lag_seconds": 60})
    _, task_id = office.fire_next()
    office.watch()
    run(manage.delete_schedule(office.backend, OWNER, "request-9", ID))
    with pytest.raises(ScheduleNotFound):
        run(manage.delete_schedule(office.backend, OWNER, "request-9", ID))
    assert office.aws.scheduler.schedules == {}
    left = [item["pk"]["S"] for item in office.aws.items(settings.tasks_table)]
    assert not any(pk.startswith("SCHEDULES#") for pk in left)
    assert run(view_task(office.backend, task_id))["status"] == "pending"
    deleted = office.trail()[-1]
    assert (deleted["action"], deleted["by"]) == ("schedule.deleted", OWNER)
    assert deleted["request_id"] == "request-9"


def test_a_deletion_whose_write_was_sent_again_is_done(run: Run, office: Office) -> None:
    """Its first answer was lost: the tombstone that it meets is its own."""
    office.make()
    office.aws.hooks.append(AppliedTwice(office.aws, lambda called: called.operation == "PutItem"))
    run(manage.delete_schedule(office.backend, OWNER, "request-9", ID))
    assert office.aws.scheduler.schedules == {}
    with pytest.raises(ScheduleNotFound):
        run(manage.delete_schedule(office.backend, OWNER, "request-10", ID))


# --- people -------------------------------------------------------------------------------------


def test_a_repeated_creation_makes_one_schedule(run: Run, office: Office) -> None:
    first = office.make()
    office.clock.advance(1000)
    assert office.make() == first
    found, following = run(manage.list_schedules(office.backend, [OWNER], 10, None))
    assert [entry["schedule_id"] for entry in found] == [ID]
    assert following is None


def test_pages_list_every_schedule_of_the_owner_once(run: Run, office: Office, aws: Aws) -> None:
    ids = [ID[:-1] + str(number) for number in range(7)]
    for schedule_id in ids:
        office.make(schedule_id)
    run(manage.create_schedule(office.backend, HOURLY, "somebody", "r", ID[:-1] + "9"))
    run(manage.delete_schedule(office.backend, OWNER, "r", ids.pop(3)))
    aws.dynamodb.tables["tasks"].page_items = 2
    seen: list[str] = []
    after = None
    while True:
        found, after = run(manage.list_schedules(office.backend, [OWNER], 2, after))
        seen += [entry["schedule_id"] for entry in found]
        if after is None:
            break
    assert seen == ids


def test_schedules_are_in_no_list_of_tasks(run: Run, office: Office) -> None:
    office.make()
    backend = office.backend
    assert run(TaskLists(backend).newest(OWNER, 10)).rows == []
    assert run(TaskTable(backend).active()) == []


def test_somebody_elses_schedule_is_not_found(run: Run, office: Office) -> None:
    office.make()
    for work in (
        manage.view_schedule(office.backend, ["somebody"], ID),
        manage.run_now(office.backend, "somebody", "r", ID, "t"),
        manage.delete_schedule(office.backend, "somebody", "r", ID),
    ):
        with pytest.raises(ScheduleNotFound):
            run(work)


def test_changes_are_audited_with_before_and_after_and_by_whom(office: Office) -> None:
    office.make()
    office.change(enabled=False)
    office.change(enabled=True, expression="rate(2 hours)", name="every other")
    office.change(name="every other")  # nothing changes
    events = office.trail()
    assert office.actions() == ["created", "disabled", "changed", "enabled"]
    assert {(event["by"], event["request_id"]) for event in events[1:]} == {(OWNER, "request-2")}
    changed = events[2]
    parts = [json.loads(changed[side]) for side in ("before", "after")]
    assert parts == [
        {"name": "hourly", "expression": "cron(0 * * * ? *)"},
        {"name": "every other", "expression": "rate(2 hours)"},
    ]


def test_a_change_of_many_symbols_is_audited_though_only_some_are_told(
    run: Run, office: Office
) -> None:
    many = {f"S{number:04d}USDT": "TRADING" for number in range(300)}
    run(CatalogueTable(office.backend).write_catalogue(many, 6000, office.clock()))
    names = list(many)
    office.make(request={"symbols": names[:200], "timeframes": ["1h"]})
    office.change(request={"symbols": names[:199] + names[250:251], "timeframes": ["1h"]})
    [_, changed] = office.trail()
    assert changed["action"] == "schedule.changed"
    assert json.loads(changed["after"])["request"]["symbols_count"] == 200


def test_a_change_to_nothing_that_runs_is_refused(office: Office) -> None:
    office.make()
    with pytest.raises(InvalidRequest, match="no run is left"):
        office.change(expression="cron(0 6 * * ? 2020)")


def test_the_watch_goes_on_though_one_schedule_fails(
    run: Run, worker: Worker, office: Office
) -> None:
    other = ID[:-1] + "2"
    office.make(catch_up=True)
    office.make(other, catch_up=True)
    office.clock.advance(2 * HOUR_MS)
    office.aws.hooks.append(Refuse("dynamodb.PutItem"))
    assert office.watch() == {"seen": 2, "failed": 1}
    office.watch()
    assert len(office.tasks()) == 2


def test_a_schedule_that_breaks_our_code_holds_up_no_other(
    run: Run, office: Office, backend: Backend
) -> None:
    other = ID[:-1] + "2"
    office.make(catch_up=True)
    office.make(other, catch_up=True)
    seen = office.stored()
    run(ScheduleTable(backend).replace(seen, replace(seen, timezone="Europe/Atlantis")))
    office.clock.advance(2 * HOUR_MS)
    with pytest.raises(ValueError, match="no time zone"):
        office.watch()
    assert len(office.tasks()) == 1


def test_a_schedules_webhook_is_that_of_its_tasks_and_its_secret_is_shown_to_no_one(
    run: Run, office: Office, aws: Aws
) -> None:
    hook = {"url": "https://hooks.example.com/x?token=hidden", "secret": "s" * 32}
    office.make(request={**HOURLY["request"], "webhook": hook})
    office.change(name="another")
    _, task_id = office.fire_next()
    task = run(TaskTable(office.backend).read(task_id))
    assert task.webhook_host == "hooks.example.com"
    assert office.view()["request"]["webhook_host"] == "hooks.example.com"
    streamed = [
        record
        for record in aws.stream_event("tasks")["Records"]
        if record["dynamodb"]["Keys"]["sk"]["S"].startswith("SCHED#")
    ]
    for shown in (office.view(), office.trail(), office.stored(), streamed):
        assert "hidden" not in str(shown)
        assert "s" * 32 not in str(shown)
    assert run(manage.find_schedule(office.backend, [OWNER], ID)).webhook_host
    office.change(request=HOURLY["request"])
    assert "webhook_host" not in office.view()["request"]
    mine = [item for item in aws.items("tasks") if item["pk"]["S"].startswith("SCHEDULES#")]
    assert mine
    assert "s" * 32 not in str(mine)
    run(manage.delete_schedule(office.backend, OWNER, "r", ID))
    assert not [item for item in aws.items("tasks") if item["pk"]["S"].startswith("SCHEDULES#")]


# --- a webhook's secret is stored and forgotten with its schedule ---------------------------------

HOOK = {"url": "https://hooks.example.com/x", "secret": "s" * 32}
OTHER_HOOK = {"url": "https://other.example.com/y", "secret": "t" * 32}
HOOKED = {**HOURLY["request"], "webhook": HOOK}
REHOOKED = {**HOURLY["request"], "webhook": OTHER_HOOK}
SECRETS = {"hooks.example.com": "s" * 32, "other.example.com": "t" * 32}
TRANSACTION = "dynamodb.TransactWriteItems"


def kept(office: Office) -> tuple[list[str | None], list[str]]:
    """(the webhook hosts that schedules show, the secrets that are stored)."""
    items = [item_from_wire(item) for item in office.aws.items(office.backend.settings.tasks_table)]
    mine = [item for item in items if item["pk"].startswith("SCHEDULES#")]
    hosts = [item["webhook_host"] for item in mine if item["sk"].startswith("SCHED#")]
    return hosts, [item["secret"] for item in mine if "secret" in item]


class RefuseFrom(Hook):
    """The `number`th call (from 1) and all later ones fail without being applied."""

    def __init__(self, number: int) -> None:
        self.left = number

    async def before(self, called: Called) -> None:
        self.left -= 1
        if self.left <= 0:
            raise CallFailed(called.service, called.operation, "InternalServerError", "refused")


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("what", ["make", "give", "replace", "take away", "delete"])
@pytest.mark.parametrize("fault", [CrashAfter, RefuseFrom])
def test_whatever_dies_after_any_call_a_secret_is_stored_only_beside_the_schedule_that_shows_it(
    office: Office, aws: Aws, what: str, number: int, fault: type[Hook]
) -> None:
    if what != "make":
        office.make(request=HOURLY["request"] if what == "give" else HOOKED)
    work = {
        "make": lambda: office.make(request=HOOKED),
        "give": lambda: office.change(request=HOOKED),
        "replace": lambda: office.change(request=REHOOKED),
        "take away": lambda: office.change(request=HOURLY["request"]),
        "delete": lambda: office.run(manage.delete_schedule(office.backend, OWNER, "r", ID)),
    }[what]
    aws.hooks.append(fault(number))  # type: ignore[call-arg]
    with suppress(Crash, CallFailed):
        work()
    aws.hooks.clear()
    hosts, secrets = kept(office)
    assert secrets == [SECRETS[host] for host in hosts if host]


class Once(Hook):
    """Before the first transaction, something else happens."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.work, self.done = work, False

    async def before(self, called: Called) -> None:
        if called.name == TRANSACTION and not self.done:
            self.done = True
            await self.work()


def test_a_schedule_that_is_deleted_while_it_is_given_a_webhook_leaves_no_secret(
    office: Office, aws: Aws
) -> None:
    office.make()
    aws.hooks.append(Once(lambda: manage.delete_schedule(office.backend, OWNER, "r", ID)))
    with pytest.raises(ScheduleNotFound):
        office.change(request=HOOKED)
    assert kept(office) == ([], [])


def test_of_two_webhooks_given_at_once_the_last_stays_whole(office: Office, aws: Aws) -> None:
    office.make()
    first = {"request": HOOKED}
    aws.hooks.append(
        Once(lambda: manage.change_schedule(office.backend, first, OWNER, "other", ID))
    )
    office.change(request=REHOOKED)
    assert kept(office) == (["other.example.com"], ["t" * 32])


def test_a_creation_that_comes_again_keeps_the_webhook_of_the_first(office: Office) -> None:
    first = office.make(request=HOOKED)
    assert office.make(request=REHOOKED) == first
    assert kept(office) == (["hooks.example.com"], ["s" * 32])


def test_a_transaction_that_others_cancelled_is_reported_and_no_change_of_the_schedule(
    office: Office, aws: Aws
) -> None:
    office.make()
    cancelled = "TransactionCanceledException"
    aws.hooks.append(Always(lambda called: called.name == TRANSACTION, cancelled))
    with pytest.raises(CallFailed) as failed:
        office.change(request=HOOKED)
    aws.hooks.clear()
    assert failed.value.code == cancelled
    assert kept(office) == ([None], [])
    office.change(request=HOOKED)
    assert kept(office) == (["hooks.example.com"], ["s" * 32])


def test_forgetting_a_schedule_spares_the_one_that_was_made_under_its_id_since(
    run: Run, office: Office
) -> None:
    """As a watch does that hung while its schedule was forgotten."""
    office.make(request=HOOKED)
    office.aws.hooks.append(Refuse("scheduler.DeleteSchedule"))
    run(manage.delete_schedule(office.backend, OWNER, "r", ID))
    tombstone = office.stored()
    office.watch()
    assert kept(office) == ([], [])
    office.make(request=REHOOKED)
    with pytest.raises(ConditionFailed):
        run(ScheduleTable(office.backend).delete(tombstone))
    assert kept(office) == (["other.example.com"], ["t" * 32])


def test_the_webhook_that_a_schedule_has_already_changes_nothing(office: Office, aws: Aws) -> None:
    office.make(request=HOOKED)
    before = office.stored()
    office.clock.advance(MINUTE_MS)
    office.change(request=HOOKED)
    office.change(name=HOURLY["name"])
    assert office.stored() == before
    assert office.actions() == ["created"]


@pytest.mark.parametrize(
    "other",
    [
        {"secret": "u" * 32},
        {"url": "https://hooks.example.com/elsewhere"},
        {"events": ["task.failed"]},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_webhook_on_the_same_host_is_audited_without_its_secret_and_path(
    office: Office, other: dict[str, Any]
) -> None:
    office.make(request=HOOKED)
    office.clock.advance(MINUTE_MS)
    view = office.change(request={**HOOKED, "webhook": {**HOOK, **other}})
    assert view["updated_at"] == iso(office.clock())
    [created, changed] = office.trail()
    assert json.loads(created["after"])["webhook_rev"] == 1
    assert (changed["action"], changed["by"]) == ("schedule.changed", OWNER)
    assert changed["request_id"] == "request-2"
    assert sides_of(changed) == [{"webhook_rev": 1}, {"webhook_rev": 2}]


def test_a_webhook_that_is_given_moved_or_taken_away_is_audited_with_its_hosts(
    office: Office,
) -> None:
    office.make()
    office.change(request=HOOKED)
    office.change(request=REHOOKED)
    office.change(request=HOURLY["request"])
    hosts, revs = [], []
    for event in office.trail()[1:]:
        assert event["action"] == "schedule.changed"
        before, after = sides_of(event)
        hosts.append((before["request"]["webhook_host"], after["request"]["webhook_host"]))
        revs.append((before["webhook_rev"], after["webhook_rev"]))
    first, second = SECRETS
    assert hosts == [(None, first), (first, second), (second, None)]
    assert revs == [(0, 1), (1, 2), (2, 3)]


def test_a_schedule_that_was_stored_before_webhooks_were_counted_begins_at_none(
    run: Run, office: Office
) -> None:
    office.make(request=HOOKED)
    [item] = [item for item in office.aws.items("tasks") if item["sk"]["S"].startswith("SCHED#")]
    old = {name: value for name, value in item.items() if name != "webhook_rev"}
    run(office.aws("dynamodb", "PutItem", TableName="tasks", Item=old))
    office.change(name="another")
    assert sides_of(office.trail()[-1]) == [{"name": "hourly"}, {"name": "another"}]
    office.change(request=REHOOKED)
    before, after = sides_of(office.trail()[-1])
    assert (before["webhook_rev"], after["webhook_rev"]) == (0, 1)


def sides_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    """What was before and what after a change, each as the event's schema says."""
    [schema] = (ROOT / "docs" / "events").glob(f"{event['action']}.v*.schema.json")
    parts = json.loads(schema.read_text("utf-8"))["properties"]
    sides = {side: json.loads(event[side]) for side in ("before", "after")}
    for side, shown in sides.items():
        Draft202012Validator(parts[side]).validate(shown)
    return list(sides.values())


@pytest.mark.parametrize(
    ("name", "value"), [("rev", "one"), ("request", b"no zlib"), ("request", None)]
)
def test_a_schedule_that_cannot_be_read_stops_neither_the_watch_nor_a_list(
    office: Office, aws: Aws, backend: Backend, run: Run, name: str, value: object
) -> None:
    other = ID[:-1] + "2"
    office.make(freshness={"max_lag_seconds": 5400})
    office.make(other, freshness={"max_lag_seconds": 5400})
    key = (f"SCHEDULES#{OWNER}", f"SCHED#{ID}")
    aws.dynamodb.tables[backend.settings.tasks_table].items[key][name] = to_wire(value)
    with suppress(ItemUnreadable):  # raised when the others have had their turn
        office.watch()
    measured = run(ScheduleTable(backend).first_lags())
    assert len(measured[1]) == 1
    listed, _ = run(manage.list_schedules(backend, [OWNER], 10, None))
    assert other in [each["schedule_id"] for each in listed]


# --- limits of the owner --------------------------------------------------------------------------


def limited(office: Office, **limits: int) -> None:
    settings = replace(office.backend.settings, **limits)
    office.backend = replace(office.backend, settings=settings)


def test_no_more_schedules_are_made_than_an_owner_may_have(office: Office) -> None:
    limited(office, owner_schedules=2)
    office.make()
    office.make(OTHER_ID)
    with pytest.raises(QuotaExceeded) as refused:
        office.make(THIRD_ID)
    assert (refused.value.reason, refused.value.status) == ("QUOTA_SCHEDULES", 429)
    assert office.found(THIRD_ID) is None
    assert office.make(OTHER_ID)["schedule_id"] == OTHER_ID, "the same request again"
    office.run(manage.delete_schedule(office.backend, OWNER, "request", ID))
    hook = {"url": "https://hooks.acme.com/in", "secret": "a-secret-of-thirty-two-letters-!"}
    office.make(THIRD_ID, request={**HOURLY["request"], "webhook": hook})
    assert office.stored(THIRD_ID).webhook_host == "hooks.acme.com"


@pytest.mark.parametrize("most", [1, 2])
def test_of_schedules_made_at_once_at_the_limit_one_gets_the_last_place(
    office: Office, aws: Aws, most: int
) -> None:
    limited(office, owner_schedules=most)
    if most == 2:
        office.make()

    async def another() -> None:
        made = manage.create_schedule(office.backend, HOURLY, OWNER, "request-2", OTHER_ID)
        await made

    aws.hooks.append(Meanwhile(named("dynamodb.TransactWriteItems"), another))
    with pytest.raises(QuotaExceeded):
        office.make(THIRD_ID)
    assert office.found(OTHER_ID)
    assert office.found(THIRD_ID) is None


@pytest.mark.parametrize("number", range(1, 9))
def test_wherever_a_creation_dies_its_repetition_makes_one_schedule(
    office: Office, aws: Aws, number: int
) -> None:
    limited(office, owner_schedules=1)
    aws.hooks.append(CrashAfter(number))
    with suppress(Crash):
        office.make()
    aws.hooks.clear()
    office.make()
    with pytest.raises(QuotaExceeded):
        office.make(OTHER_ID)


def test_a_run_that_finds_no_room_for_its_task_is_missed_with_its_reason(
    office: Office, run: Run
) -> None:
    limited(office, owner_active_tasks=1)
    office.make()
    _, first = office.fire_next()
    run(submit_collection(office.backend, {"symbols": ["BTCUSDT"]}, "another", "request"))
    before = office.stored()
    run(cancel_task(office.backend, first))
    blocking = run(submit_collection(office.backend, {"symbols": ["BTCUSDT"]}, OWNER, "request"))
    at_ms, refused = office.fire_next()
    after = office.stored()
    assert refused not in office.tasks()
    assert (after.runs, after.missed) == (before.runs, before.missed + 1)
    assert (after.last_task_id, after.last_run_at) == (first, before.last_run_at)
    shown = office.view()
    assert (shown["last_refused_at"], shown["refusal"]) == (iso(at_ms), "QUOTA_ACTIVE_TASKS")
    office.fire(at_ms)
    office.watch()
    assert office.stored().missed == before.missed + 1, "it is decided once"
    [missed] = [event for event in office.trail() if event["action"] == "schedule.missed"]
    assert json.loads(missed["data"])["reason"] == "QUOTA_ACTIVE_TASKS"
    run(cancel_task(office.backend, blocking))
    _, third = office.fire_next()
    assert third in office.tasks()


def test_who_runs_a_schedule_by_hand_is_refused_as_for_any_task(office: Office, run: Run) -> None:
    limited(office, owner_active_tasks=1)
    office.make()
    run(submit_collection(office.backend, {"symbols": ["BTCUSDT"]}, OWNER, "request"))
    with pytest.raises(QuotaExceeded):
        run(manage.run_now(office.backend, OWNER, "request", ID, "by-hand"))
    assert (office.stored().runs, office.stored().missed) == (0, 0)


def test_a_repair_that_finds_no_room_is_tried_again_later(
    office: Office, run: Run, clock: Clock
) -> None:
    limited(office, owner_active_tasks=1)
    office.make(freshness={"max_lag_seconds": 60})
    blocking = run(submit_collection(office.backend, {"symbols": ["BTCUSDT"]}, OWNER, "request"))
    clock.advance(7_300_000)
    assert office.watch()["failed"] == 0
    assert office.stored().repairs == 1
    run(cancel_task(office.backend, blocking))
    for _ in range(4):
        clock.advance(60_000)
        office.watch()
    assert office.stored().last_repair_task_id in office.tasks()


# --- the key that made it -------------------------------------------------------------------------


class Keyed:
    """A schedule that was made with a key."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.key_id = self.new_key()
        made = manage.create_schedule(office.backend, HOURLY, OWNER, "r", ID, self.key_id)
        office.run(made)

    def new_key(self, **more: Any) -> str:
        body = {"owner": OWNER, "scopes": ["collect"], **more}
        backend = self.office.backend
        asking = replace(backend, settings=replace(backend.settings, authentication="keys"))
        return str(self.office.run(create_key(asking, body, "boss"))["key_id"])

    def revoke(self) -> None:
        """By another container: it is known here a minute later, at the latest."""
        now_ms = self.office.clock()
        self.office.run(KeyTable(self.office.backend).revoke(self.key_id, now_ms, "boss"))
        self.office.clock.advance(CACHED_MS)

    def change(self, key_id: str, **fields: Any) -> None:
        backend = self.office.backend
        self.office.run(manage.change_schedule(backend, fields, OWNER, "r", ID, key_id))


@pytest.fixture
def keyed(office: Office) -> Keyed:
    return Keyed(office)


def test_while_its_key_works_a_schedule_fires(keyed: Keyed, office: Office) -> None:
    office.watch()
    _, task_id = office.fire_next()
    assert office.tasks() == [task_id]
    assert office.view()["stopped_because"] is None


def test_a_firing_with_a_revoked_key_makes_no_task_and_the_schedule_says_why(
    keyed: Keyed, office: Office
) -> None:
    keyed.revoke()
    office.fire_next()
    assert office.tasks() == []
    view = office.view()
    assert (view["enabled"], view["next_run_at"]) == (False, None)
    assert view["stopped_because"] == (
        f"the key {keyed.key_id} was revoked; enable the schedule with another one"
    )
    assert (office.trail()[-1]["action"], office.trail()[-1]["by"]) == (
        "schedule.disabled",
        "system",
    )


def test_the_watch_stops_it_within_a_minute_and_eventbridge_knows(
    keyed: Keyed, office: Office
) -> None:
    keyed.revoke()
    office.watch()
    stored = office.stored()
    assert not stored.enabled
    assert stored.rev == stored.synced_rev
    office.clock.advance(HOUR_MS)
    office.watch()
    assert office.tasks() == []


@pytest.mark.parametrize("catch_up", [False, True])
def test_neither_a_waiting_nor_a_missed_run_starts_once_the_key_is_revoked(
    keyed: Keyed, office: Office, fleet: Fleet, catch_up: bool
) -> None:
    keyed.change(keyed.key_id, overlap="queue", catch_up=catch_up)
    _, task_id = office.fire_next()
    office.fire_next()
    assert office.stored().queued_for is not None
    keyed.revoke()
    office.run(fleet.settle())
    office.clock.advance(HOUR_MS + PATIENCE_MS)
    office.watch()
    assert office.tasks() == [task_id]


def test_a_promise_is_not_repaired_once_the_key_is_revoked(keyed: Keyed, office: Office) -> None:
    keyed.change(keyed.key_id, freshness={"max_lag_seconds": 60})
    keyed.revoke()
    office.clock.advance(3 * HOUR_MS)
    office.watch()
    assert office.tasks() == []


def test_an_expired_key_stops_its_schedules_too(keyed: Keyed, office: Office) -> None:
    keyed.change(keyed.new_key(expires_at=office.clock() + MINUTE_MS), name="short")
    office.clock.advance(MINUTE_MS)
    office.watch()
    assert "has expired" in office.view()["stopped_because"]


def test_another_key_lets_it_go_on(keyed: Keyed, office: Office) -> None:
    keyed.revoke()
    office.watch()
    other = keyed.new_key()
    keyed.change(other, name="renamed")
    assert office.view()["stopped_because"] is not None
    keyed.change(other, enabled=True)
    office.watch()
    assert (office.view()["enabled"], office.view()["stopped_because"]) == (True, None)
    _, task_id = office.fire_next()
    assert office.tasks() == [task_id]


def test_a_firing_comes_again_where_the_key_cannot_be_read(
    keyed: Keyed, office: Office, aws: Aws, settings: Settings
) -> None:
    class NoKeys(Hook):
        async def before(self, called: Called) -> None:
            if called.parameters.get("TableName") == settings.keys_table:
                raise CallFailed("dynamodb", "GetItem", "InternalServerError", "refused")

    aws.hooks.append(NoKeys())
    office.clock.advance(CACHED_MS)
    with pytest.raises(CallFailed):
        office.fire_next()
    aws.hooks.clear()
    assert office.fire(office.next_run()) in office.tasks()
