"""What of a group is stored where the gate closes half way, and how its trouble is judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.candles.intervals import Interval
from chalicelib.collecting.group import MOST_DELIVERIES, Group, collect_units, judged
from chalicelib.core.errors import ExchangeUnavailable
from chalicelib.core.times import DAY, HOUR, MINUTE
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.work.messages import NEW, Unit
from tests.doubles.faults import Meanwhile, named

#: One unit takes one page, the other three.
UNITS = [Unit(0, "1h", 0, 10 * HOUR), Unit(1, "1m", 10 * DAY, 10 * DAY + 1440 * MINUTE)]


@pytest.mark.parametrize("why", ["stopped", "out of time", "paused", None])
def test_what_is_whole_is_stored_unless_the_task_is_over_or_no_time_is_left(
    run, worker, aws, clock, exchange, why
) -> None:
    checks = []

    async def authorised() -> bool:
        checks.append("wanted")
        return why != "stopped" or len(checks) < 2

    def remaining_ms() -> int:
        return 60_000 if why != "out of time" or not checks else 0

    async def pause(_: object) -> None:
        if why == "paused":
            await Ledger(worker).pause(clock() + 60_000, "HTTP 429")

    exchange.on_request = pause
    group = run(
        collect_units(
            worker,
            Budget(worker),
            "BTCUSDT",
            UNITS,
            fill=NEW,
            task_id="t",
            authorised=authorised,
            remaining_ms=remaining_ms,
        )
    )
    stored = {None: {0, 1}, "paused": {0}}.get(why, set())
    assert group.results.keys() == stored
    assert len(aws.s3.buckets["candles"].objects) == len(stored)
    assert group.stopped is (why == "stopped")
    assert bool(group.wait_until_ms) is (why in ("paused", "out of time"))


@pytest.mark.parametrize(("timeframe", "reads"), [("1h", 1), ("1d", 0)])
def test_after_a_race_only_objects_of_which_something_else_is_said_are_read_again(
    run, worker, aws, timeframe, reads
) -> None:
    """Another worker has stored candles of the same symbol meanwhile: of one of the objects."""

    async def collect(units: list[Unit]) -> None:
        await collect_units(
            worker,
            Budget(worker),
            "BTCUSDT",
            units,
            fill=NEW,
            task_id="t",
            authorised=wanted,
            remaining_ms=lambda: 60_000,
        )

    async def wanted() -> bool:
        return True

    async def others() -> None:
        await collect([Unit(0, timeframe, 20 * DAY, 21 * DAY)])
        aws.counts.clear()

    aws.hooks.append(Meanwhile(named("dynamodb.PutItem", "COVER#"), others))
    run(collect(UNITS))
    assert aws.counts["s3.GetObject"] == reads
    after = run(CoverageTable(worker).read("BTCUSDT")).summaries
    expected = {"1h": [Interval(0, 10 * HOUR)], "1m": [Interval(*UNITS[1][2:4])]}
    expected.setdefault(timeframe, []).append(Interval(20 * DAY, 21 * DAY))
    assert {each: [*summary.covered] for each, summary in after.items()} == expected


@pytest.mark.parametrize("deliveries", [MOST_DELIVERIES - 1, MOST_DELIVERIES])
def test_trouble_is_a_failure_at_the_last_delivery(run, worker, deliveries) -> None:
    async def permit(_: int) -> None:
        return

    trouble = {1: ExchangeUnavailable("not now")}
    group = Group({}, trouble, stopped=False, wait_until_ms=0, permit=permit)
    after = run(judged(worker, group, deliveries))
    if deliveries < MOST_DELIVERIES:
        assert after == group
    else:
        assert (after.unavailable, after.results[1].detail) == ({}, "not now")
    worker.exchange.throttled_until = worker.now_ms() + 5_000
    assert run(judged(worker, group, deliveries)) == replace(
        group, unavailable={}, wait_until_ms=worker.now_ms() + 5_000
    )
    assert run(Ledger(worker).read()).paused_until == worker.now_ms() + 5_000
    calm = replace(group, unavailable={})
    asked = len(worker.exchange.asked)
    assert run(judged(worker, calm, deliveries)) == calm
    assert len(worker.exchange.asked) == asked
