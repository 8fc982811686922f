"""The exchange's budget is the whole fleet's, and so is its pause."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.errors import ExchangeRootChanged
from chalicelib.core.settings import Settings
from chalicelib.exchange.budget import BLOCK_WEIGHT, Budget
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.s3 import Bucket
from tests.doubles.settings import at_another_root
from tests.doubles.tables import Table

MINUTE = 60_000


def small_fleet(limit: int, workers: int) -> tuple[Clock, Worker, list[Budget]]:
    clock = Clock()
    aws = Aws(clock, {"market": Table()}, {}, {"candles": Bucket()})
    worker = Worker(
        aws, Settings(market_table="market", candles_bucket="candles"), clock, Exchange(clock)
    )
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(clock)) as runner:
        runner.run(CatalogueTable(worker).write_catalogue({}, limit, clock()))
    return clock, worker, [Budget(worker) for _ in range(workers)]


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(10, 300),
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 24), st.sampled_from([0, 0, 0, 7_000, 40_000])),
        max_size=80,
    ),
)
def test_all_workers_together_never_spend_more_than_the_share_in_a_minute(
    limit: int, steps: list[tuple[int, int, int]]
) -> None:
    clock, _, budgets = small_fleet(limit, 4)
    share = limit * 80 // 100
    spent: Counter[int] = Counter()

    async def spend() -> None:
        for worker, weight, wait in steps:
            clock.advance(wait)
            until = await budgets[worker].take(weight)
            if not until:
                spent[clock() // MINUTE] += min(weight, share)
            else:
                assert until > clock()

    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(clock)) as runner:
        runner.run(spend())
    assert all(used <= share for used in spent.values())


def test_one_pause_stops_every_worker_until_it_is_over(run, worker, clock) -> None:
    budgets = [Budget(worker) for _ in range(3)]
    for budget in budgets:
        assert run(budget.take(2)) == 0
    until = clock() + 5_000
    run(Ledger(worker).pause(until, "HTTP 429"))
    assert [run(budget.take(2)) for budget in budgets] == [until] * 3
    clock.advance(5_000)
    assert [run(budget.take(2)) for budget in budgets] == [0] * 3


def test_a_longer_pause_stands_against_a_shorter_one(run, worker, clock) -> None:
    run(Ledger(worker).pause(clock() + 60_000, "HTTP 418"))
    run(Ledger(worker).pause(clock() + 1_000, "HTTP 429"))
    limit = run(Ledger(worker).read())
    assert (limit.paused_until, limit.pause_reason) == (clock() + 60_000, "HTTP 418")


def test_a_spent_minute_is_answered_with_the_next_one(run, worker, clock) -> None:
    assert run(Ledger(worker).take_weight(100, 100, clock())) == 0
    until = run(Ledger(worker).take_weight(1, 100, clock()))
    assert until == (clock() // MINUTE + 1) * MINUTE
    assert run(Ledger(worker).take_weight(1, 100, until)) == 0


def test_a_minute_can_be_spent_to_the_last(run, worker, clock) -> None:
    taken = [run(Ledger(worker).take_weight(weight, 100, clock())) for weight in (1, 60, 39)]
    assert taken == [0, 0, 0]


def test_the_exchanges_own_higher_count_stands_in_the_ledger(run, worker, clock) -> None:
    budget = Budget(worker)
    run(budget.take(2))
    run(budget.observe(4700))
    assert run(Ledger(worker).read()).used == 4700
    run(Ledger(worker).observe_weight(50, clock()))
    assert run(Ledger(worker).read()).used == 4700
    other = Budget(worker)
    assert run(other.take(200)) > clock()


def test_a_worker_whose_clock_is_behind_still_shares_the_ledger(run, worker, clock) -> None:
    now = clock()
    assert run(Ledger(worker).take_weight(90, 100, now + MINUTE)) == 0
    assert run(Ledger(worker).take_weight(20, 100, now)) > now
    assert run(Ledger(worker).take_weight(10, 100, now)) == 0


def test_a_group_larger_than_a_tiny_limit_still_gets_through(run, worker, clock) -> None:
    run(CatalogueTable(worker).write_catalogue({}, 10, clock()))
    assert run(Budget(worker).take(24)) == 0


def test_weight_is_taken_ahead_so_that_few_requests_write(run, worker, aws) -> None:
    budget = Budget(worker)
    for _ in range(20):
        assert run(budget.take(2)) == 0
    assert aws.counts["dynamodb.UpdateItem"] <= 3


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_that_open_a_minute_together_share_it(run, worker, workers) -> None:
    async def together() -> list[int]:
        return await asyncio.gather(
            *(Ledger(worker).take_weight(30, 60, worker.now_ms()) for _ in range(workers))
        )

    class Turns:
        async def before(self, called) -> None:
            await asyncio.sleep(0)

        async def after(self, called) -> None:
            await asyncio.sleep(0)

    worker.call.hooks.append(Turns())
    granted = run(together()).count(0)
    assert granted == 2


@pytest.mark.parametrize("collectors", [4, 5, 40, 100])
def test_what_idle_workers_took_ahead_leaves_three_quarters_to_the_others(
    run, worker, collectors: int
) -> None:
    run(CatalogueTable(worker).write_catalogue({}, 6000, worker.now_ms()))
    chosen = dataclasses.replace(worker.settings, collectors=collectors)
    own = dataclasses.replace(worker, settings=chosen)
    for _ in range(collectors):
        assert run(Budget(own).take(2)) == 0
    assert run(Ledger(worker).read()).used <= 6000 * 80 // 100 // 4


@pytest.mark.parametrize("minutes", [0, 1])
@pytest.mark.parametrize("paused", [False, True])
def test_a_name_that_belongs_to_another_root_gets_no_weight(
    run, worker, clock, minutes, paused
) -> None:
    assert run(Budget(worker).take(2)) == 0
    if paused:
        run(Ledger(worker).pause(clock() + 5 * MINUTE, "HTTP 418"))
    clock.advance(minutes * MINUTE)
    before = run(Ledger(worker).read())
    other = at_another_root(worker)
    with pytest.raises(ExchangeRootChanged, match="EXCHANGE=") as refused:
        run(Budget(other).take(2))
    assert "http://exchange.test" in refused.value.detail
    assert "https://other.test" in refused.value.detail
    assert run(Ledger(worker).read()) == before


def test_weight_taken_ahead_is_not_spent_once_the_name_belongs_to_another_root(
    run, worker, aws
) -> None:
    budget = Budget(worker)
    assert run(budget.take(2)) == 0
    [item] = [item for item in aws.items("market") if item["sk"]["S"] == "LIMIT"]
    root = {":root": {"S": "https://other.test"}}
    run(
        worker.call(
            "dynamodb",
            "UpdateItem",
            TableName="market",
            Key={"pk": item["pk"], "sk": item["sk"]},
            UpdateExpression="SET root = :root",
            ExpressionAttributeValues=root,
        )
    )
    with pytest.raises(ExchangeRootChanged):
        run(budget.take(2))


@pytest.mark.parametrize("ahead_ms", [0, MINUTE])
def test_of_two_roots_that_ask_first_at_once_one_gets_the_name(run, worker, ahead_ms) -> None:
    class Turns:
        async def before(self, called) -> None:
            await asyncio.sleep(0)

        async def after(self, called) -> None:
            await asyncio.sleep(0)

    async def together() -> list[object]:
        now_ms, other = worker.now_ms(), at_another_root(worker)
        both = (
            Ledger(worker).take_weight(2, 100, now_ms),
            Ledger(other).take_weight(2, 100, now_ms + ahead_ms),
        )
        return await asyncio.gather(*both, return_exceptions=True)

    worker.call.hooks.append(Turns())
    granted = run(together())
    assert granted.count(0) == 1
    assert sum(isinstance(each, ExchangeRootChanged) for each in granted) == 1


def test_another_spelling_of_the_root_is_the_same_root(run, worker) -> None:
    assert run(Budget(worker).take(2)) == 0
    settings = dataclasses.replace(worker.settings, exchange_url="HTTP://Exchange.TEST:80/")
    spelled = dataclasses.replace(worker, settings=settings)
    assert run(Budget(spelled).take(2)) == 0


def test_a_block_is_spent_to_the_last_before_another_is_taken(run, worker, aws, clock) -> None:
    budget = Budget(worker)
    run(budget.take(1))
    for paused_until in (0, clock()):  # a pause that is over holds nothing up
        run(Ledger(worker).pause(paused_until, "HTTP 429"))
        aws.counts.clear()
        assert run(budget.take((BLOCK_WEIGHT - 1) // 2 + bool(paused_until))) == 0
        assert aws.counts == {"dynamodb.GetItem": 1}
    assert run(Ledger(worker).read()).used == BLOCK_WEIGHT
    assert run(budget.take(1)) == 0
    assert run(Ledger(worker).read()).used == 2 * BLOCK_WEIGHT


def test_what_has_no_room_as_a_block_is_asked_for_alone_once(run, worker, aws) -> None:
    limit = 6000 * worker.settings.budget_percent // 100
    left = BLOCK_WEIGHT - 1
    run(Ledger(worker).take_weight(limit - left, limit, worker.now_ms()))
    budget = Budget(worker)
    assert run(budget.take(left)) == 0
    assert run(Ledger(worker).read()).used == limit
    for weight, writes in ((1, 2), (BLOCK_WEIGHT, 1)):
        aws.counts.clear()
        assert run(budget.take(weight)) > worker.now_ms()
        assert aws.counts["dynamodb.UpdateItem"] == writes


@pytest.mark.parametrize(("ahead", "noted"), [(239, False), (240, True)])
def test_a_count_that_is_well_ahead_of_ours_goes_to_the_ledger(run, worker, ahead, noted) -> None:
    budget = Budget(worker)
    run(budget.take(1))
    run(budget.observe(None))
    run(budget.observe(ahead))
    assert run(Ledger(worker).read()).used == (ahead if noted else BLOCK_WEIGHT)


def test_the_limit_is_read_again_when_it_is_old(run, worker, aws, clock) -> None:
    budget = Budget(worker)
    run(budget.take(1))
    for later_ms, reads in ((300_000, 0), (1, 1)):
        clock.advance(later_ms)
        aws.counts.clear()
        run(budget.observe(1))
        assert aws.counts["dynamodb.GetItem"] == reads
