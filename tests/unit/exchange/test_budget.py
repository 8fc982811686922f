"""The exchange's budget is the whole fleet's, and so is its pause."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.errors import ExchangeRootChanged
from chalicelib.core.settings import Settings
from chalicelib.exchange.binance import Page
from chalicelib.exchange.budget import BLOCK_WEIGHT, Budget
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger, Wanted
from chalicelib.exchange.share import weight_limits
from chalicelib.exchange.worker import Worker
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.ledger import take_weight
from tests.doubles.s3 import Bucket
from tests.doubles.settings import at_another_root
from tests.doubles.tables import Table

MINUTE = 60_000


def answer(clock: Clock, counted: int | None) -> Page:
    """An answer of this moment, with the exchange's own count."""
    return Page([], clock() // 1000 * 1000, counted, sent_ms=clock())


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
    ceiling = max(1, limit * 98 // 100)
    spent: Counter[int] = Counter()

    async def spend() -> None:
        for worker, weight, wait in steps:
            clock.advance(wait)
            until = await budgets[worker].take(weight, high=weight % 2 == 0)
            if not until:
                spent[clock() // MINUTE] += min(weight, limit * 80 // 100)
            else:
                assert until > clock()

    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(clock)) as runner:
        runner.run(spend())
    assert all(used <= ceiling for used in spent.values())


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
    assert run(take_weight(Ledger(worker), 100, 100, clock())) == 0
    until = run(take_weight(Ledger(worker), 1, 100, clock()))
    assert until == (clock() // MINUTE + 1) * MINUTE
    assert run(take_weight(Ledger(worker), 1, 100, until)) == 0


def test_a_minute_can_be_spent_to_the_last(run, worker, clock) -> None:
    taken = [run(take_weight(Ledger(worker), weight, 100, clock())) for weight in (1, 60, 39)]
    assert taken == [0, 0, 0]


def test_the_exchanges_own_higher_count_stands_in_the_ledger(run, worker, clock) -> None:
    budget = Budget(worker)
    run(budget.take(2))
    run(budget.observe(answer(clock, 4700)))
    assert run(Ledger(worker).read()).counted == 4700
    run(Ledger(worker).observe_weight(50, clock()))
    assert run(Ledger(worker).read()).counted == 4700
    other = Budget(worker)
    assert run(other.take(1200)) > clock()


def test_a_worker_whose_clock_is_behind_waits_for_the_minute_that_has_begun(
    run, worker, clock
) -> None:
    """It would be counted in the exchange's old one, most likely."""
    clock.advance_to(clock() // MINUTE * MINUTE + MINUTE - 1_500)
    now = clock()
    assert run(take_weight(Ledger(worker), 90, 100, now + 2_000)) == 0
    assert run(take_weight(Ledger(worker), 5, 100, now)) == now + 1_500
    assert run(take_weight(Ledger(worker), 10, 100, now + 1_500)) == 0


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
            *(take_weight(Ledger(worker), 30, 60, worker.now_ms()) for _ in range(workers))
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
            take_weight(Ledger(worker), 2, 100, now_ms),
            take_weight(Ledger(other), 2, 100, now_ms + ahead_ms),
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


def test_what_was_not_spent_does_not_go_into_the_block_of_another_minute(
    run, worker, clock
) -> None:
    budget = Budget(worker)
    run(budget.take(2))

    class Meanwhile:
        """While the ledger is read, another request begins the next minute, and meets a pause."""

        async def before(self, called) -> None:
            if called.operation == "GetItem":
                worker.call.hooks.remove(self)
                clock.advance(MINUTE)
                assert await budget.take(2) == 0
                await Ledger(worker).pause(clock() + 1_000, "HTTP 429")

        async def after(self, called) -> None:
            return

    worker.call.hooks.append(Meanwhile())
    assert run(budget.take(2)) == clock() + 1_000
    clock.advance(1_000)
    assert run(budget.take(BLOCK_WEIGHT - 2)) == 0
    assert run(Ledger(worker).read()).used == BLOCK_WEIGHT
    assert run(budget.take(2)) == 0
    assert run(Ledger(worker).read()).used == 2 * BLOCK_WEIGHT


def test_what_has_no_room_as_a_block_is_asked_for_alone_once(run, worker, aws) -> None:
    left = BLOCK_WEIGHT - 1
    limit = weight_limits(None, worker.settings)
    first = Wanted(limit.exchange * 80 // 100 - limit.kept(False) - left)
    run(Ledger(worker).take_weight(first, limit, worker.now_ms()))
    budget = Budget(worker)
    assert run(budget.take(left)) == 0
    assert run(Ledger(worker).read()).used == first.weight + left
    for weight in (1, BLOCK_WEIGHT):
        aws.counts.clear()
        assert run(budget.take(weight)) > worker.now_ms()
        assert aws.counts["dynamodb.UpdateItem"] == 1


@pytest.mark.parametrize(("ahead", "noted"), [(60, False), (61, True)])
def test_a_count_that_is_well_ahead_of_ours_goes_to_the_ledger(
    run, worker, clock, aws, ahead, noted
) -> None:
    budget = Budget(worker)
    run(budget.take(1))
    run(budget.observe(answer(clock, None)))
    aws.counts.clear()
    for _ in range(2):  # what the ledger knows already is not told again
        run(budget.observe(answer(clock, BLOCK_WEIGHT + ahead)))
    assert run(Ledger(worker).read()).counted == BLOCK_WEIGHT + (ahead if noted else 0)
    assert aws.counts["dynamodb.UpdateItem"] == noted


@pytest.mark.parametrize("counts", [False, True])
def test_the_ledger_learns_whether_the_exchange_shows_its_count(run, worker, clock, counts) -> None:
    budget = Budget(worker)
    for _ in range(2):
        run(budget.take(1))
        run(budget.observe(answer(clock, 1 if counts else None)))
        run(budget.take(BLOCK_WEIGHT))
        assert run(Ledger(worker).read()).spent.seen is counts
        clock.advance(MINUTE)
    run(budget.take(1))
    assert run(Ledger(worker).read()).fleet_share == (5880 if counts else 4800)


def test_a_count_of_which_minute_nobody_knows_is_passed_over(run, worker, clock) -> None:
    """A slow answer: the exchange counted it before its minute ended, and dated it after."""
    budget = Budget(worker)
    clock.advance_to(clock() // MINUTE * MINUTE + MINUTE - 2_000)
    asked_ms = clock()
    clock.advance(5_000)
    run(budget.take(1))
    run(budget.observe(Page([], clock() // 1000 * 1000, 4_700, sent_ms=asked_ms)))
    assert run(Ledger(worker).read()).counted == BLOCK_WEIGHT
    run(budget.observe(answer(clock, 4_700)))
    assert run(Ledger(worker).read()).counted == 4_700


def test_the_log_says_once_a_minute_that_strangers_ask(run, worker, clock, capsys) -> None:
    budget, other = Budget(worker), Budget(worker)
    run(budget.take(1))
    run(other.take(4_000))
    run(budget.observe(answer(clock, 3_000)))  # the other's
    assert "exchange_shared" not in capsys.readouterr().err
    for counted in (4_500, 4_600):
        run(budget.observe(answer(clock, counted)))
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "exchange_shared" in each]
    assert json.loads(line)["by_others"] == 500 - BLOCK_WEIGHT


@pytest.mark.parametrize("took_before", [False, True])
def test_a_count_is_held_against_what_is_known_of_its_own_minute(
    run, worker, clock, took_before: bool
) -> None:
    budget = Budget(worker)
    if took_before:
        run(budget.take(4_000))
        clock.advance(MINUTE)
    run(Budget(worker).take(1))
    run(budget.observe(answer(clock, 500)))
    assert run(Ledger(worker).read()).counted == 500


@pytest.mark.parametrize("off_ms", [-3_600_000, 3_600_000])
def test_a_count_of_an_exchange_whose_clock_is_far_off_is_passed_over(
    run, worker, clock, aws, off_ms: int
) -> None:
    budget = Budget(worker)
    run(budget.take(1))
    aws.counts.clear()
    run(budget.observe(Page([], (clock() + off_ms) // 1000 * 1000, 4_700, sent_ms=clock())))
    assert not aws.counts
    run(budget.take(BLOCK_WEIGHT))
    assert not run(Ledger(worker).read()).spent.seen


def test_beside_strangers_nothing_is_taken_ahead(run, worker, clock) -> None:
    budget = Budget(worker)
    run(budget.take(BLOCK_WEIGHT))
    run(budget.observe(answer(clock, 1_000)))
    for used in (1, 2):
        assert run(budget.take(1)) == 0
        assert run(Ledger(worker).read()).used == BLOCK_WEIGHT + used


def test_blocks_shrink_as_the_minute_is_used_up(run, worker) -> None:
    budget = Budget(worker)
    run(budget.take(4_680 - 400))  # with five workers, a block of all of them is a quarter of it
    for used in (20, 39, 57):
        assert run(budget.take(1)) == 0
        assert run(Ledger(worker).read()).used == 4_680 - 400 + used
        budget._left = 0


def test_what_is_kept_for_high_is_left_by_all_others(run, worker, aws) -> None:
    normal, high = Budget(worker), Budget(worker)
    assert run(normal.take(4_680)) == 0
    assert run(normal.take(2)) > worker.now_ms()
    assert run(high.take(2, high=True)) == 0
    assert run(Ledger(worker).read()).used == 4_682  # nothing ahead: it may not be needed
    assert run(high.take(118, high=True)) == 0
    assert run(high.take(2, high=True)) > worker.now_ms()


def test_a_request_waits_until_it_is_certain_in_which_minute_it_counts(run, worker, clock) -> None:
    budget = Budget(worker)
    minute = clock() // MINUTE
    clock.advance_to((minute + 1) * MINUTE - 300)
    assert run(budget.take(2)) == 0
    assert clock() == (minute + 1) * MINUTE + 500
    assert run(Ledger(worker).read()).window_minute == minute + 1


class Address:
    """One address at the exchange, with its own clock and its own count of each minute."""

    def __init__(self, clock: Clock, limit: int, ahead_ms: int) -> None:
        self.clock, self.limit, self.ahead_ms = clock, limit, ahead_ms
        self.counted: Counter[int] = Counter()
        self.ours: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()

    def ask(self, weight: int, by_stranger: bool = False) -> tuple[int, int]:
        """(the count of the minute with this request, the exchange's time)."""
        now_ms = self.clock() + self.ahead_ms
        minute = now_ms // MINUTE
        self.counted[minute] += weight
        self.ours[minute] += 0 if by_stranger else weight
        if self.counted[minute] > self.limit and not by_stranger:
            self.refused[minute] += 1
        return self.counted[minute], now_ms // 1000 * 1000


class Crowd:
    """Workers of one fleet, whose clocks differ, and strangers at the same address."""

    def __init__(self, limit: int, ahead_ms: int, skews: list[int]) -> None:
        self.clock, self.worker, _ = small_fleet(limit, 0)
        self.address = Address(self.clock, limit, ahead_ms)
        self.skews = skews
        self.strangers_per_second = 0

    def play(self, minutes: int) -> list[int]:
        """The exchange's minutes that were played in full."""
        first = self.clock() // MINUTE + 1
        self.end_ms = (first + minutes) * MINUTE + 2_000
        with asyncio.Runner(loop_factory=lambda: SimulatedLoop(self.clock)) as runner:
            runner.run(self._play())
        return [*range(first, first + minutes)]

    async def _play(self) -> None:
        working = [self._work(skew, at) for at, skew in enumerate(self.skews)]
        await asyncio.gather(*working, self._strangers())

    async def _work(self, skew_ms: int, number: int) -> None:
        def now_ms() -> int:
            return self.clock() + skew_ms

        worker = dataclasses.replace(self.worker, now_ms=now_ms)
        budget = Budget(worker)
        await asyncio.gather(*(self._ask(budget, now_ms, number * 2 + at) for at in range(2)))

    async def _ask(self, budget: Budget, now_ms, number: int) -> None:
        while self.clock() < self.end_ms:
            until_ms = await budget.take(2)
            if until_ms:
                await asyncio.sleep((until_ms - now_ms()) / 1000)
                continue
            sent_ms = now_ms()
            await asyncio.sleep(0.033 + number / 1000)
            counted, server_ms = self.address.ask(2)
            await asyncio.sleep(0.04)
            await budget.observe(Page([], server_ms, counted, sent_ms=sent_ms))

    async def _strangers(self) -> None:
        while self.clock() < self.end_ms:
            await asyncio.sleep(1)
            self.address.ask(self.strangers_per_second, by_stranger=True)


@pytest.mark.parametrize(
    ("ahead_ms", "skews"),
    [(0, [0] * 5), (700, [0, 30, -30, 10, 0]), (-1_300, [1_500, -1_500, 0, 400, -4_000])],
)
def test_a_fleet_uses_all_but_a_twentieth_of_the_limit_and_is_never_refused(
    ahead_ms: int, skews: list[int]
) -> None:
    crowd = Crowd(2_000, ahead_ms, skews)
    first, second, *rest = crowd.play(4)
    assert crowd.address.refused == {}
    assert all(1_900 <= crowd.address.ours[minute] <= 1_960 for minute in rest)
    assert crowd.address.ours[first] <= crowd.address.ours[second] <= 1_960


def test_strangers_are_given_way_and_what_they_leave_is_taken_again() -> None:
    crowd = Crowd(2_000, 200, [0, 100, -100, 0, 0])
    crowd.play(3)
    crowd.strangers_per_second = 15
    shared = crowd.play(4)
    assert all(crowd.address.counted[minute] <= 2_000 for minute in shared[2:])
    assert all(400 <= crowd.address.ours[minute] <= 1_300 for minute in shared[2:])
    crowd.strangers_per_second = 0
    left = crowd.play(9)
    assert crowd.address.ours[left[-1]] >= 1_900
    assert all(crowd.address.ours[minute] <= 1_960 for minute in shared + left)


def test_the_limit_is_read_again_when_it_is_old(run, worker, aws, clock) -> None:
    budget = Budget(worker)
    run(budget.take(1))
    for later_ms, reads in ((300_000, 0), (1, 1)):
        clock.advance(later_ms)
        aws.counts.clear()
        run(budget.observe(answer(clock, 1)))
        assert aws.counts["dynamodb.GetItem"] == reads
