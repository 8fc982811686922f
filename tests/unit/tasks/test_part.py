"""What parts and open PROG items tell of a task is what all its PROG items hold, and takes
few reads."""

from __future__ import annotations

import json
import zlib
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.wire import item_to_wire
from chalicelib.collecting.dispatch import dispatch
from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.sweep import sweep
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.live.push import _view
from chalicelib.live.updates import PROGRESS, Update
from chalicelib.tasks import part as parts_of_tasks
from chalicelib.tasks import states
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.finish import finish_prog
from chalicelib.tasks.part import Part, Tally, begun_again, part_of, part_sizes, part_start, totals
from chalicelib.tasks.progress import (
    CLOSED,
    DETAIL,
    FAILED,
    MOST_REJECTIONS,
    OPEN,
    REJECTED,
    TROUBLE,
    Collected,
    Progress,
)
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import item_of
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import PlanMessage
from chalicelib.work.request import CollectionRequest
from chalicelib.work.units import PROG_UNITS, PlannedUnit, packs
from chalicelib.work.window import Claim
from tests.doubles.clock import NOW
from tests.doubles.tasks import progs_of, task_of
from tests.doubles.values import size
from tests.simulation.small import small_plans

UNITS = 4


@st.composite
def progs_of_two_attempts(draw: st.DrawFn, number: int) -> tuple[Progress, Progress | None]:
    """A PROG item as the first attempt left it, and as the second, that reopened it, has it now."""
    some = st.sets(st.integers(0, UNITS - 1))
    done = draw(some)
    failed = done & draw(some)
    counts = {name: draw(st.integers(0, 9)) for name in ("candles", "revised", "rejected")}
    first = Progress(number, 1, CLOSED, UNITS, done, {"WHY": failed} if failed else {}, **counts)
    if not draw(st.booleans()) or len(first.succeeded) == UNITS:
        return first, None
    kept = first.succeeded
    fresh = draw(some) - kept
    bad = fresh & draw(some)
    second = first._replace(
        attempt=2,
        state=OPEN,
        done=kept | fresh,
        failed={"WHY": bad} if bad else {},
        candles=first.candles + draw(st.integers(0, 9)),
        kept=len(kept),
        kept_candles=first.candles,
        kept_revised=first.revised,
        kept_rejected=first.rejected,
    )
    return first, second


@given(st.data(), st.integers(1, 7))
def test_a_retry_is_told_as_all_of_its_items_hold_it(data: st.DataObject, count: int) -> None:
    pairs = [data.draw(progs_of_two_attempts(number)) for number in range(count)]
    with patch.object(parts_of_tasks, "PART_PROGS", 3):
        parts, opened = [], []
        for number, length in enumerate(part_sizes(count)):
            mine = pairs[part_start(number) : part_start(number) + length]
            part = begun_again(number, 2, length, [first for first, _ in mine])
            parts.append(part._replace(opened=length))
            opened += [last or first for first, last in mine if first.number not in part.finished]
        told = totals(2, count * UNITS, Tally(tuple(parts), tuple(opened)))
    whole = [
        (last or first)._replace(kept=0, kept_candles=0, kept_revised=0, kept_rejected=0)
        for first, last in pairs
    ]
    assert told == totals(2, count * UNITS, Tally((), tuple(whole)))


@given(st.integers(0, 1200))
def test_each_item_belongs_to_one_part(count: int) -> None:
    sizes = part_sizes(count)
    assert sum(sizes) == count
    places = [
        (number, at)
        for number, length in enumerate(sizes)
        for at in range(part_start(number), part_start(number) + length)
    ]
    assert [at for _, at in places] == list(range(count))
    assert all(part_of(at) == number for number, at in places)


def test_a_part_knows_what_may_be_open_in_it() -> None:
    part = Part(1, 1, size=3, opened=2, finished={50})
    assert (part.open_numbers, part.is_whole) == ([51], False)
    assert part._replace(finished={50, 51, 52}).is_whole


def test_a_task_is_finished_when_its_own_attempt_has_finished_all() -> None:
    parts = (Part(0, 1, size=50, finished=set(range(50))), Part(1, 1, size=1, finished={50}))
    task = task_of(progs_total=51)
    assert Tally(parts).is_finished(task)
    assert not Tally(parts).is_finished(task._replace(attempt=2))
    assert not Tally(parts[:1]).is_finished(task)


def test_the_largest_items_of_200_000_units_stay_far_below_400_kb(run, backend, aws) -> None:
    """Each as large as its limits allow; DynamoDB takes 400 KB."""
    symbol, detail = "Ж" * 20, "ж" * 200
    units = [
        PlannedUnit(f"{symbol}{at}", "15m", NOW + at * 7919, NOW + at * 104_729)
        for at in range(PROG_UNITS)
    ]
    assert len([*packs(units)]) == 1
    reasons = [f"{'REASON_' * 4}{at}" for at in range(20)]
    every = set(range(PROG_UNITS))
    prog = {
        "pk": "TASK#t",
        "sk": "PROG#1000",
        "done": every,
        **{f"{FAILED}{reason}": every for reason in reasons},
        **{f"{DETAIL}{reason}": detail for reason in reasons},
        **{f"{TROUBLE}{unit}": (NOW, detail[:120]) for unit in every},
        **{f"{REJECTED}{unit}": {NOW} for unit in range(MOST_REJECTIONS)},
    }
    packed = zlib.compress(json.dumps(units, ensure_ascii=False).encode(), 6)
    symbols = tuple(f"{at:05d}{symbol}" for at in range(backend.settings.max_symbols))
    request = CollectionRequest(symbols, ("1m", "5m", "15m", "1h")).pack()
    meta = item_of(task_of(task_id="t", request=request, error=detail * 20))
    items = {
        "META": meta,
        "PROG": prog,
        "UNITS": {"pk": "TASK#t", "sk": "UNITS#p#1000", "units": packed},
    }
    sizes = {kind: size({"M": item_to_wire(item)}) for kind, item in items.items()}
    table = TaskTable(backend)
    count = -(-200_000 // PROG_UNITS)
    for number, length in enumerate(part_sizes(count)):
        run(table.open_part("t", 1, number, length, length, 9_999_999_999))
        for at in range(part_start(number), part_start(number) + length):
            run(table.add_finished_prog("t", 1, _full(at, reasons, detail)))
    _, parts = run(table.read_with_parts("t"))
    assert sum(len(part.finished) for part in parts) == count
    found = [item for item in aws.items("tasks") if item["sk"]["S"].startswith("PART#")]
    sizes["PART"] = max(size({"M": item}) for item in found)
    assert sizes["PART"] <= 2_048, "two write units each time that an item is full"
    assert max(sizes.values()) < 100_000, sizes


def _full(number: int, reasons: list[str], detail: str) -> Progress:
    every = set(range(PROG_UNITS))
    return Progress(
        number,
        1,
        OPEN,
        PROG_UNITS,
        every,
        {reason: {at} for at, reason in enumerate(reasons)},
        candles=10**7,
        revised=10**7,
        rejected=10**7,
        rejections={0: {NOW}},
        last_label=detail[:30],
        last_at=NOW,
        last_reason=reasons[0],
    )


PROGS = 1000
PLANNED = [PlannedUnit("AUSDT", "1h", NOW, NOW + 3_600_000)] * PROG_UNITS
TTL = NOW // 1000 + 86_400


@pytest.fixture
def large(run, backend) -> TaskTable:
    """Task t, of which all is counted but the last two PROG items: they are open."""
    table = TaskTable(backend)
    last = (PROGS - 2, PROGS - 1)

    async def make() -> None:
        fields = {"state": states.RUNNING, "started_at": NOW, "plan_id": "p"}
        units = PROGS * PROG_UNITS
        await table.create(task_of(total_units=units, progs_total=PROGS, **fields))
        await table.write_units("t", "p", [(number, PLANNED) for number in last], TTL)
        for number, length in enumerate(part_sizes(PROGS)):
            numbers = range(part_start(number), part_start(number) + length)
            finished = {at for at in numbers if at not in last}
            counted = len(finished) * PROG_UNITS
            await table.begin_part(
                "t", Part(number, 1, length, 0, finished, succeeded=counted), TTL
            )
        await table.open_part("t", 1, number, length, length, TTL)
        for at in last:
            await table.open_prog("t", 1, at, PROG_UNITS, TTL, Claim("c", NOW, more=False))
            await table.mark_sent("t", 1, at, NOW)

    run(make())
    return table


def count(run, table: TaskTable, number: int, units: range) -> None:
    for some in (units[at : at + 10] for at in range(0, len(units), 10)):
        counted = {unit: Collected(candles=1) for unit in some}
        labels = dict.fromkeys(some, "AUSDT 1h")
        run(table.count("t", 1, number, ok=counted, bad={}, labels=labels, now_ms=NOW))


def test_a_look_takes_two_calls_and_is_exact(run, backend, aws, large) -> None:
    count(run, large, PROGS - 2, range(7))
    aws.counts.clear()
    view = run(view_task(backend, "t"))
    assert view["units"]["remaining"] == 2 * PROG_UNITS - 7
    assert view["message"] == "Collected data for AUSDT 1h (199607/200000)"
    # And what the exchange's limit is.
    assert aws.counts == {"dynamodb.Query": 1, "dynamodb.BatchGetItem": 1, "dynamodb.GetItem": 1}


def test_an_update_for_websocket_clients_takes_as_few(run, backend, aws, large) -> None:
    aws.counts.clear()
    update = Update("tasks", PROGRESS, "t", NOW, "1", {"attempt": 1})
    assert run(_view(backend, update))["units"]["remaining"] == 2 * PROG_UNITS
    assert aws.counts == {"dynamodb.Query": 1, "dynamodb.BatchGetItem": 1, "dynamodb.GetItem": 1}


def test_a_sweep_takes_three_calls(run, backend, aws, large) -> None:
    aws.counts.clear()
    assert run(sweep(backend)) == {"seen": 1, "failed": 0}
    assert aws.counts == {"dynamodb.Query": 2, "dynamodb.BatchGetItem": 1}


def test_a_dispatch_that_finds_all_sent_takes_two_calls(run, backend, aws, large) -> None:
    task = run(large.read("t"))
    aws.counts.clear()
    run(dispatch(backend, task))
    assert aws.counts == {"dynamodb.Query": 1, "dynamodb.BatchGetItem": 1}


def test_a_cancel_closes_what_is_open_alone(run, backend, aws, large) -> None:
    count(run, large, PROGS - 1, range(5))
    aws.counts.clear()
    _, receipt = run(cancel_task(backend, "t"))
    assert receipt.counts["succeeded"] == 998 * PROG_UNITS + 5
    # Moved, two items closed, the result stored; read once for the caller, and for each move.
    assert aws.counts == {
        "dynamodb.GetItem": 3,
        "dynamodb.TransactWriteItems": 2,
        "dynamodb.UpdateItem": 2,
        "dynamodb.Query": 1,
    }


def test_the_end_reads_the_parts_alone(run, backend, aws, large) -> None:
    for number in (PROGS - 2, PROGS - 1):
        count(run, large, number, range(PROG_UNITS))
        prog = run(large.read_prog("t", number))
        aws.counts.clear()
        run(finish_prog(backend, "t", 1, prog))
        if number == PROGS - 2:  # its part is not whole: nothing else is to be read
            assert aws.counts == {"dynamodb.UpdateItem": 1}
    assert run(large.read("t")).result["succeeded"] == PROGS * PROG_UNITS
    assert aws.counts["dynamodb.Query"] == 1
    assert aws.counts["dynamodb.UpdateItem"] == aws.counts["dynamodb.TransactWriteItems"] == 1


def test_what_an_older_attempt_had_rejected_is_named_once(run, worker) -> None:
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1h", "1d"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    odd = Collected(candles=3, rejected=1, rejections={NOW})
    labels = {0: "BTCUSDT 1h", 1: "BTCUSDT 1d"}
    bad = {1: ("INVALID_SYMBOL", "of the attempt before")}
    run(TaskTable(worker).count(task_id, 1, 0, ok={0: odd}, bad=bad, labels=labels, now_ms=NOW))
    run(cancel_task(worker, task_id))
    run(retry_task(worker, task_id))
    for planned in (False, True):  # its item waits to be opened again, and is open again
        if planned:
            run(plan_task(worker, PlanMessage(task_id, 2)))
        view = run(view_task(worker, task_id))
        assert [each["timeframe"] for each in view["rejections"]] == ["1h"]
        assert view["failures"] == []
        assert (view["units"]["succeeded"], view["candles"]) == (1, 3)


def test_what_failed_in_an_older_attempt_is_not_this_ones_failure(
    run, worker, fleet, exchange
) -> None:
    exchange.refused[("BTCUSDT", "1d")] = "INVALID_SYMBOL"
    task_id = run(
        submit_collection(worker, {"symbols": ["BTCUSDT"], "timeframes": ["1h", "1d"]}, "me", "r")
    )
    run(fleet.settle())
    assert len(run(view_task(worker, task_id))["failures"]) == 1
    run(retry_task(worker, task_id))
    for planned in (False, True):  # its item waits to be opened again, and is open again
        if planned:
            run(plan_task(worker, PlanMessage(task_id, 2)))
        assert run(view_task(worker, task_id))["failures"] == []


def test_a_retry_opens_only_items_with_something_left(run, worker, fleet, exchange, clock) -> None:
    symbols = [f"S{at}USDT" for at in range(9)]
    exchange.symbols.update(dict.fromkeys(symbols, "TRADING"))
    run(CatalogueTable(worker).write_catalogue(dict.fromkeys(symbols, "TRADING"), 6000, clock()))
    exchange.refused["S4USDT"] = "INVALID_SYMBOL"
    with small_plans():
        body = {"symbols": symbols, "timeframes": ["1h"]}
        task_id = run(submit_collection(worker, body, "me", "r"))
        run(fleet.settle())
        exchange.refused.clear()
        run(retry_task(worker, task_id))
        before = run(progs_of(worker, task_id))
        run(fleet.settle())
        after = run(progs_of(worker, task_id))
        view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["failed"]) == ("completed", 0)
    opened = {prog.number for prog in after if prog.attempt == 2}
    assert opened == {prog.number for prog in before if prog.failed_units}
    assert len(opened) < len(after)
