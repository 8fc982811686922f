"""Pages of tasks: what is on them, and that their cost does not grow with the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from chalicelib.core.backend import Backend
from chalicelib.core.task_keys import META, part_key, prog_key, task_pk
from chalicelib.tasks import states
from chalicelib.tasks.lists import Page, Row, TaskLists, merged
from chalicelib.tasks.progress import Collected
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import count_active, list_active, list_tasks, view_task
from tests.doubles.aws import Aws
from tests.doubles.clock import NOW
from tests.doubles.tasks import task_of

SECOND = NOW // 1000
KINDS = (states.DATA_COLLECTION, states.SYMBOL_REFRESH)


@pytest.fixture
def table(backend) -> TaskTable:
    return TaskTable(backend)


@pytest.fixture
def lists(backend) -> TaskLists:
    return TaskLists(backend)


@pytest.fixture
def known(backend, clock) -> Backend:
    """Where each caller is known."""
    return Backend(backend.call, replace(backend.settings, authentication="keys"), clock)


@pytest.fixture
def pages(run) -> Callable[..., list[list[str]]]:
    """The ids on each page, followed to the end."""

    def follow(page_after: Callable[[str | None], Page]) -> list[list[str]]:
        found, token = [], None
        for _ in range(100):
            rows, token = run(page_after(token))
            found.append([row.task_id for row in rows])
            if token is None:
                return found
        raise AssertionError("no end")

    return follow


def fill(run, table: TaskTable, count: int, **fields: object) -> list[str]:
    """Store `count` tasks, a millisecond apart; their ids, oldest first."""
    first = len(table._call.items("tasks"))
    tasks = [
        task_of(**{"task_id": f"{first + at:07}", "created_at": NOW + first + at, **fields})
        for at in range(count)
    ]
    for task in tasks:
        run(table.create(task))
    return [task.task_id for task in tasks]


def test_a_page_holds_live_tasks_of_the_kind_and_state_that_is_asked_for(run, table, lists) -> None:
    for at, kind in enumerate(KINDS):
        for state in (states.PENDING, states.FAILED):
            of = {"task_id": f"{kind} {state}", "task_type": kind, "state": state}
            run(table.create(task_of(created_at=NOW + at, **of)))
    for ttl in (SECOND, SECOND + 1):
        run(table.create(task_of(task_id=f"{ttl}", ttl=ttl, created_at=NOW + 9)))

    def page(limit: int = 9, **asked: str) -> set[str]:
        rows, following = run(lists.newest("me", limit, **asked))
        assert following is None
        return {row.task_id for row in rows}

    live = f"{SECOND + 1}"
    every = {f"{kind} {state}" for kind in KINDS for state in ("pending", "failed")} | {live}
    assert page() == page(5) == every
    assert page(state="failed") == {f"{kind} failed" for kind in KINDS}
    refreshes = {f"symbol_refresh {state}" for state in ("pending", "failed")}
    assert page(task_type="symbol_refresh") == refreshes
    assert page(before=f"{NOW:013d}#~") == {"data_collection pending", "data_collection failed"}


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
def test_every_task_is_on_one_page(pages, run, table, lists, limit) -> None:
    ids = fill(run, table, 7)
    newest = pages(lambda token: lists.newest("me", limit, token))
    assert [task_id for page in newest for task_id in page] == ids[::-1]
    assert [len(page) for page in newest[:-1]] == [limit] * (len(newest) - 1)
    for at in (1, 4):
        run(table.move(ids[at], 1, states.RUNNING))
    run(table.move(ids[2], 1, states.CANCELLED))
    for owner in (None, "me"):
        active = pages(lambda token, owner=owner: lists.active(owner, limit, token))
        assert [task_id for page in active for task_id in page] == [*ids[:2], *ids[3:]]
    assert pages(lambda token: lists.active("you", limit, token)) == [[]]


def test_a_page_ends_before_it_is_full_where_much_is_left_out(pages, run, table, lists, aws):
    (oldest,) = fill(run, table, 1)
    fill(run, table, 500, ttl=SECOND)
    (newest,) = fill(run, table, 1)
    aws.counts.clear()
    page = run(lists.newest("me", 2))
    assert [row.task_id for row in page.rows] == [newest]
    assert page.following is not None
    assert aws.counts == {"dynamodb.Query": 4}
    found = pages(lambda token: lists.newest("me", 2, token))
    assert [task_id for page in found for task_id in page] == [newest, oldest]


@pytest.mark.parametrize("oldest_first", [False, True])
def test_lists_that_stop_at_different_places_lose_nothing_when_merged(oldest_first) -> None:
    random = Random(7)
    for _ in range(300):
        keys = [f"{at:02}" for at in random.sample(range(60), 30)]
        lists = [sorted(keys[at::3], reverse=not oldest_first) for at in range(3)]
        found: list[str] = []
        token, limit = None, random.randint(1, 9)
        while True:
            pages = [_page(each, token, random.randint(1, limit), oldest_first) for each in lists]
            rows, token = merged(pages, limit, oldest_first=oldest_first)
            assert len(rows) <= limit
            found += [row.created_key for row in rows]
            if token is None:
                break
        assert found == sorted(keys, reverse=not oldest_first)


def _page(keys: list[str], after: str | None, most: int, oldest_first: bool) -> Page:
    """A first page of a list that stops wherever it likes."""
    left = [
        key for key in keys if after is None or (key != after and (key > after) == oldest_first)
    ]
    rows = [Row(key, key, states.RUNNING) for key in left[:most]]
    return Page(rows, rows[-1].created_key if len(left) > most else None)


def test_what_moved_on_since_the_index_was_written_is_not_listed_as_it_was(
    run, backend, table, aws
) -> None:
    (task_id,) = fill(run, table, 1)
    aws.dynamodb.tables["tasks"].items[task_pk(task_id), META]["state"] = {"S": "running"}
    assert run(list_tasks(backend, ["me"], 5, state=states.PENDING)) == ([], None)


def test_a_task_that_cannot_be_read_costs_no_list_its_others(run, backend, table, aws) -> None:
    ids = fill(run, table, 3)
    aws.dynamodb.tables["tasks"].items[task_pk(ids[1]), META]["priority"] = {"N": "7"}
    seen, before = [], None
    for _ in range(3):
        views, before = run(list_tasks(backend, ["me"], 1, before=before))
        seen.append([view["task_id"] for view in views])
    assert seen == [[ids[2]], [], [ids[0]]]
    assert set(run(table.read_all(ids))) == {ids[0], ids[2]}


@pytest.mark.parametrize("progs", [1, 2, 3, 120])
def test_a_list_shows_what_a_look_at_the_task_shows(run, backend, table, progs, aws: Aws) -> None:
    """Whatever its size, wherever its counts are."""
    (task_id,) = fill(run, table, 1)
    run(table.move(task_id, 1, states.RUNNING, progs_total=progs, total_units=progs * 200))
    for part in range(-(-progs // 50)):
        size = min(50, progs - part * 50)
        run(table.open_part(task_id, 1, part, size, size, SECOND + 99))
    for number in (0, progs - 1):
        item = {"pk": {"S": task_pk(task_id)}, "sk": {"S": prog_key(number)}}
        values = {"attempt": "1", "unit_count": "200", "rev": "0", "candles": "0", "revised": "0"}
        item |= {name: {"N": text} for name, text in values.items()}
        item |= {"state": {"S": "RUNNING"}, "rejected": {"N": "0"}, "from_store": {"N": "0"}}
        aws.dynamodb.tables["tasks"].items[task_pk(task_id), prog_key(number)] = item
        ok = {unit: Collected(candles=10) for unit in range(number % 7 + 1)}
        labels = dict.fromkeys(ok, "AUSDT 1h")
        run(table.count(task_id, 1, number, ok=ok, bad={}, labels=labels, now_ms=NOW))
    assert (task_pk(task_id), part_key(0)) in aws.dynamodb.tables["tasks"].items
    view = run(view_task(backend, task_id))
    assert view["units"]["succeeded"] == sum(
        {number: number % 7 + 1 for number in (0, progs - 1)}.values()
    )
    for listed, _ in (run(list_tasks(backend, ["me"], 5)), run(list_active(backend, None, 5))):
        assert listed == [{name: view[name] for name in listed[0]}]


def test_how_many_are_active_is_known_for_an_owner_and_for_all(run, known, table) -> None:
    ids = fill(run, table, 4)
    fill(run, table, 1, owner="you")
    run(table.move(ids[0], 1, states.CANCELLED))
    counts = [run(count_active(known, caller)) for caller in ("me", "you", None)]
    assert counts == [3, 1, 4]
    nobody_asked = replace(known, settings=replace(known.settings, authentication="none"))
    assert run(count_active(nobody_asked, "you")) == 4


def test_a_task_that_has_expired_is_not_listed_though_it_is_still_there(
    run, known, table, clock
) -> None:
    first, second = fill(run, table, 2)
    run(table.move(first, 1, states.CANCELLED, ttl=clock() // 1000 + 300))

    def shown() -> list[str]:
        return [view["task_id"] for view in run(list_tasks(known, ["me"], 5))[0]]

    assert {*shown()} == {first, second}
    clock.advance(300_000)
    assert shown() == [second]
