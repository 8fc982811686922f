"""A start of what runs already: one task, and never one that has ended."""

from __future__ import annotations

import pytest

from chalicelib.collecting.sweep import sweep
from chalicelib.core.errors import QuotaExceeded
from chalicelib.core.task_keys import META, task_pk
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.deduplicate import digest_of, running_or_new
from chalicelib.tasks.idempotency_keys import ABANDONED_MS
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.work.request import CollectionRequest
from tests.doubles.aws import Called
from tests.doubles.faults import CrashAfter, Meanwhile
from tests.doubles.fleet import Crash
from tests.doubles.settings import doubled_settings

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}
#: The same, said in another way.
ALIKE = {
    "timeframes": ["1d", "1h", "1d"],
    "symbols": ["ETHUSDT", "BTCUSDT"],
    "priority": "normal",
    "tolerated_failure_percentage": 100.0,
    "timeout_seconds": 86_400,
    "force": False,
}


@pytest.fixture
def start(run, backend):
    def start(body=BODY, owner: str = "me", task_id: str | None = None) -> str:
        return run(submit_collection(backend, body, owner, "request", task_id))

    return start


def tasks(aws) -> list[str]:
    return [item["task_id"]["S"] for item in aws.items("tasks") if item["sk"]["S"] == META]


def test_a_start_of_what_runs_is_that_task_however_it_is_said(start, fleet, run, aws) -> None:
    first = start()
    assert start(ALIKE) == first
    run(fleet.plan())  # it runs now
    assert start(ALIKE) == first
    assert tasks(aws) == [first]


@pytest.mark.parametrize(
    "more",
    [
        {"symbols": ["BTCUSDT"]},
        {"timeframes": ["1h"]},
        {"start": "2026-01-01"},
        {"end": "2026-03-01"},
        {"priority": "high"},
        {"tolerated_failure_percentage": 99.5},
        {"timeout_seconds": 600},
        {"webhook": {"url": "https://a.example.com", "secret": "s" * 24}},
        {"force": True},
    ],
    ids=lambda more: next(iter(more)),
)
def test_another_request_is_another_task(start, more) -> None:
    first, other = start(), start({**BODY, **more})
    assert other != first
    assert start() == first


def test_another_owners_start_is_another_task(start) -> None:
    assert start() != start(owner="you")


@pytest.mark.parametrize("end", ["complete", "cancel", "expire", "delete"])
def test_a_task_that_has_ended_is_never_the_answer(
    start, end, run, fleet, backend, clock, aws
) -> None:
    first = start()
    run(cancel_task(backend, first) if end == "cancel" else fleet.settle())
    if end in ("expire", "delete"):
        clock.advance(86_400_000)
    if end == "delete":
        for key in [key for key in aws.dynamodb.tables["tasks"].items if first in key[0]]:
            del aws.dynamodb.tables["tasks"].items[key]
    second = start()
    assert second != first
    assert start() == second


def test_it_takes_the_same_few_calls_whatever_ran_before(start, aws, fleet, run) -> None:
    start()
    aws.counts.clear()
    start()
    assert sum(aws.counts.values()) == 3
    run(fleet.settle())
    aws.counts.clear()
    start()
    assert sum(aws.counts.values()) == 6


def is_put_of(sk: str):
    def chosen(called: Called) -> bool:
        puts = [part.get("Put") for part in called.parameters.get("TransactItems", ())]
        puts += [called.parameters] if called.operation == "PutItem" else []
        return any(put and put["Item"]["sk"]["S"] == sk for put in puts)

    return chosen


@pytest.mark.parametrize("before", ["LAST", META])
@pytest.mark.parametrize("ran", [False, True])
def test_of_two_at_once_one_task_is_made(start, run, backend, aws, fleet, before, ran) -> None:
    if ran:  # the key is there, of a task that has ended
        start()
        run(fleet.settle())
    made: list[str] = []

    async def another() -> None:
        made.append(await submit_collection(backend, ALIKE, "me", "other"))

    earlier = {*tasks(aws)}
    aws.hooks.append(Meanwhile(is_put_of(before), another))
    made.append(start())
    assert made[0] == made[1]
    assert {*tasks(aws)} - earlier == {made[0]}


@pytest.mark.parametrize("calls", [1, 2, 3, 4])
@pytest.mark.parametrize("after_ms", [0, 31_000])
def test_wherever_a_start_dies_the_next_one_is_a_task_that_runs(
    start, run, backend, aws, clock, calls, after_ms
) -> None:
    crash = CrashAfter(calls)
    aws.hooks.append(crash)
    with pytest.raises(Crash):
        start()
    aws.hooks.remove(crash)
    clock.advance(after_ms)
    again = start()
    assert tasks(aws) == [again]
    assert run(TaskTable(backend).read(again)).is_active


def test_a_start_that_was_refused_holds_up_no_later_one(run, worker, aws, clock, fleet) -> None:
    run(refresh_catalogue(worker))
    limited = type(worker)(
        worker.call, doubled_settings(owner_active_tasks=1), worker.now_ms, worker.exchange
    )
    other = run(submit_collection(limited, {**BODY, "timeframes": ["4h"]}, "me", "r"))
    for _ in range(2):
        with pytest.raises(QuotaExceeded):
            run(submit_collection(limited, BODY, "me", "r"))
    run(cancel_task(limited, other))
    assert run(submit_collection(limited, BODY, "me", "r")) != other


def test_a_task_that_cannot_be_read_holds_up_no_start(start, aws, clock, backend, run) -> None:
    first = start()
    aws.dynamodb.tables["tasks"].items[task_pk(first), META]["priority"] = {"N": "7"}
    clock.advance(31_000)
    assert start() != first
    assert run(sweep(backend))["failed"] == 1


@pytest.fixture
def claim(run, backend):
    request = CollectionRequest(("AUSDT",), ("1h",))
    return lambda task_id: run(running_or_new(backend, "me", request, task_id))


def test_a_try_again_of_a_start_is_that_start(claim, aws) -> None:
    assert claim("one") == claim("one") == ("one", False)
    assert set(aws.counts) == {"dynamodb.PutItem"}


@pytest.mark.parametrize(
    ("after_ms", "task_id"), [(ABANDONED_MS - 1, "one"), (ABANDONED_MS, "two")]
)
def test_a_task_that_is_not_there_may_be_on_its_way_for_a_while(
    claim, clock, after_ms, task_id
) -> None:
    claim("one")
    clock.advance(after_ms)
    assert claim("two") == (task_id, False)


def test_numbers_are_the_same_however_written_and_others_are_not() -> None:
    shares = (99, 99.0, 99.5, 99.7)
    digests = [
        digest_of(CollectionRequest(("AUSDT",), ("1h",), tolerated_failure_percentage=share))
        for share in shares
    ]
    assert [digests.index(each) for each in digests] == [0, 0, 2, 3]
