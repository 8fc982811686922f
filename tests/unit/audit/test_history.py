"""How tasks ended, newest first, in bounded reads, whatever else the trail holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.audit import history
from chalicelib.audit.history import HistoryQuery, page_of_history
from chalicelib.core.errors import InvalidRequest
from chalicelib.core.task_keys import META, task_pk
from chalicelib.core.times import DAY
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.finish import fail_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from chalicelib.tasks.table import TaskTable

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h"], "start": "2026-01-01"}


@pytest.fixture
def recorded(run, worker, aws):
    """Record what the Tasks stream has brought since the last time."""
    seen = 0

    def recorded() -> None:
        nonlocal seen
        records = aws.stream_event("tasks")["Records"][seen:]
        seen += len(records)
        run(record_task_changes(worker, records))

    return recorded


@pytest.fixture
def ended(run, worker, recorded, clock, fleet):
    """End a task in one of the ways; its id."""

    def ended(how: str = "completed", owner: str = "me", body=BODY) -> str:
        task_id = run(submit_collection(worker, {**body, "force": True}, owner, "r"))
        if how == "cancelled":
            run(cancel_task(worker, task_id, by="somebody"))
        elif how == "failed":
            task = run(TaskTable(worker).read(task_id))
            run(fail_task(worker, task, "DEADLINE_EXCEEDED", "its time ran out"))
        else:
            run(fleet.settle())
        recorded()
        clock.advance(1000)
        return task_id

    return ended


@pytest.fixture
def pages(run, backend):
    """All entries that a question is answered with, page by page, and how many pages."""

    def pages(page_size: int = 100, owner: str | None = None, **more):
        token, found, count = None, [], 0
        while True:
            query = HistoryQuery(owner, page_size, token=token, **more)
            entries, token = run(page_of_history(backend, query))
            assert len(entries) <= page_size
            found, count = found + entries, count + 1
            if token is None:
                return found, count

    return pages


def test_an_end_says_what_was_asked_for_and_what_came_of_it(ended, pages) -> None:
    task_id = ended("completed")
    ((entry,), _) = pages()
    assert entry["task_id"] == task_id
    assert (entry["status"], entry["attempt"], entry["owner"]) == ("completed", 1, "me")
    assert (entry["task_type"], entry["source"]) == ("data_collection", "request")
    assert entry["asked"] == {
        "symbols": 2,
        "symbol_names": ["BTCUSDT", "ETHUSDT"],
        "timeframes": ["1h"],
        "start": "2026-01-01T00:00:00.000Z",
        "end": None,
        "priority": "normal",
    }
    assert entry["units"]["total"] == entry["units"]["succeeded"] > 0
    assert entry["units"]["failed"] == 0
    assert entry["candles"] > 0
    assert entry["created_at"] <= entry["started_at"] <= entry["completed_at"]


def test_a_cancelled_and_a_failed_task_are_listed_once_with_who_and_why(ended, pages) -> None:
    cancelled, failed = ended("cancelled"), ended("failed")
    entries, _ = pages()
    assert [(entry["task_id"], entry["status"]) for entry in entries] == [
        (failed, "failed"),
        (cancelled, "cancelled"),
    ]
    assert entries[0]["error"] == "DEADLINE_EXCEEDED: its time ran out"
    assert entries[1]["cancelled_by"] == "somebody"


def test_what_has_expired_is_still_there(ended, pages, clock, aws) -> None:
    task_id = ended()
    del aws.dynamodb.tables["tasks"].items[task_pk(task_id), META]
    clock.advance(9 * DAY)
    ((entry,), _) = pages()
    assert entry["task_id"] == task_id


def test_each_attempt_that_ended_has_an_entry(run, worker, ended, pages, recorded, fleet) -> None:
    task_id = ended("failed")
    run(retry_task(worker, task_id))
    run(fleet.settle())
    recorded()
    entries, _ = pages()
    assert [(entry["attempt"], entry["status"]) for entry in entries] == [
        (2, "completed"),
        (1, "failed"),
    ]


def test_a_symbol_refresh_is_listed_too(run, worker, fleet, recorded, pages) -> None:
    run(refresh_catalogue(worker))
    task_id = run(submit_symbol_refresh(worker, "me", "r"))
    run(fleet.settle())
    recorded()
    ((entry,), _) = pages(task_type="symbol_refresh")
    assert (entry["task_id"], entry["task_type"]) == (task_id, "symbol_refresh")
    assert pages(task_type="data_collection")[0] == []


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
def test_pages_bring_each_end_once_newest_first_over_days(
    ended, pages, clock, page_size, monkeypatch
) -> None:
    monkeypatch.setattr(history, "_PAGE", 3)
    ids = []
    for days in (0, 0, 1, 40, 0):
        clock.advance(days * DAY)
        ids.append(ended("cancelled"))
    entries, count = pages(page_size)
    assert [entry["task_id"] for entry in entries] == ids[::-1]
    assert count >= len(ids) // page_size


def test_a_page_makes_a_bounded_number_of_reads(ended, run, backend, clock, aws) -> None:
    ended("cancelled")
    clock.advance(300 * DAY)
    aws.counts.clear()
    entries, token = run(page_of_history(backend, HistoryQuery(None, 20)))
    assert (entries, token is None) == ([], False)
    assert aws.counts == {"dynamodb.Query": 31}


def test_filters_choose_by_state_owner_and_time(ended, pages, clock) -> None:
    first = ended("cancelled")
    clock.advance(DAY)
    between = clock()
    second = ended("completed", owner="you")
    everything = [entry["task_id"] for entry in pages()[0]]
    assert everything == [second, first]
    for more, wanted in (
        ({"status": "completed"}, [second]),
        ({"status": "cancelled"}, [first]),
        ({"status": "failed"}, []),
        ({"owner": "you"}, [second]),
        ({"owner": "nobody"}, []),
        ({"since_ms": between}, [second]),
        ({"until_ms": between}, [first]),
        ({"since_ms": between + DAY}, []),
        ({"until_ms": 0}, []),
    ):
        assert [entry["task_id"] for entry in pages(**more)[0]] == wanted, more


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_a_token_of_elsewhere_is_refused(token: str) -> None:
    with pytest.raises(InvalidRequest):
        history.key_of(token)


def test_an_altered_end_is_shown_and_stops_no_page(ended, pages, aws, backend) -> None:
    first, second = ended("cancelled"), ended("cancelled")
    for item in aws.dynamodb.tables[backend.settings.audit_table].items.values():
        if item["pk"]["S"] == task_pk(second) and item["action"]["S"] == "task.stopped":
            item["data"] = {"S": "7"}
            item["attempt"] = {"S": "x"}
    entries, _ = pages()
    assert [entry["task_id"] for entry in entries] == [second, first]
    assert entries[0]["units"] == {"total": None, "succeeded": None, "failed": None}
