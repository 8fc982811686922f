"""A quote is what the plan then cuts and the task then takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.aws import prices
from chalicelib.collecting.cost import Ahead, seconds_of, used_by
from chalicelib.collecting.load import Load, progs_of
from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.quote import quote
from chalicelib.core import timeframes, times
from chalicelib.core.errors import InvalidRequest, PlanTooLarge
from chalicelib.core.times import DAY, HOUR, MINUTE, iso
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.pause import Pauses
from chalicelib.exchange.share import Allowance, Spent, WeightLimits
from chalicelib.exchange.volume_table import VolumeTable
from chalicelib.exchange.weights import KLINES_WEIGHT
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import FILLS, PlanMessage
from tests.doubles.aws import Aws
from tests.doubles.clock import NOW, Clock, SimulatedLoop
from tests.doubles.coverage import Part, cover
from tests.doubles.exchange import Exchange
from tests.doubles.fleet import Fleet
from tests.doubles.settings import doubled_settings

SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")
LISTED = times.parse_time("2010-01-01")
FRAMES = ("1s", "1m", "5m", "15m", "1h", "4h", "1d", "3d", "1w", "1M")
#: Of these, 1,000 candles back lie behind the listing.
SINCE_LISTING = FRAMES[:7]
BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1m", "1h"]}
generated = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Stack:
    """An AWS in memory with an exchange whose candles have no gap, and a fleet."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.exchange = Exchange(self.clock, dict.fromkeys(SYMBOLS, "TRADING"))
        self.exchange.listed_ms = LISTED
        aws = Aws.for_settings(self.clock, doubled_settings())
        aws.dynamodb.careful = False
        self.worker = Worker(aws, doubled_settings(), self.clock, self.exchange)  # type: ignore[arg-type]
        self.fleet = Fleet(aws, self.worker)
        self._loop = SimulatedLoop(self.clock)
        self.run(CatalogueTable(self.worker).write_catalogue(self.exchange.symbols, 60_000, NOW))

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.close()

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def collect(self, body: dict[str, Any]) -> dict[str, Any]:
        task_id = self.run(submit_collection(self.worker, body, "me", "r"))
        self.run(self.fleet.settle())
        view: dict[str, Any] = self.run(view_task(self.worker, task_id))
        assert (view["status"], view["units"]["failed"]) == ("completed", 0)
        return view


@st.composite
def bodies(draw: st.DrawFn, most_candles: int, among: tuple[str, ...] = FRAMES) -> dict[str, Any]:
    """A request of one or two timeframes whose range holds at most so many candles."""
    frames = draw(st.lists(st.sampled_from(among), min_size=1, max_size=2, unique=True))
    body: dict[str, Any] = {
        "symbols": draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True)),
        "timeframes": frames,
        "fill": draw(st.sampled_from(FILLS)),
    }
    reach = min(
        most_candles * min(timeframes.LENGTH_MS[each] for each in frames), NOW - LISTED - DAY
    )
    if draw(st.booleans()):
        start = NOW - draw(st.integers(1, reach))
        body["start"] = iso(start)
        if draw(st.booleans()):
            body["end"] = iso(start + draw(st.integers(1, reach)))
    return body


@st.composite
def parts(draw: st.DrawFn) -> list[tuple[str, Part]]:
    """What is said to be stored of some symbols."""
    found = []
    for symbol in draw(st.lists(st.sampled_from(SYMBOLS), max_size=3)):
        timeframe = draw(st.sampled_from(FRAMES))
        length = timeframes.LENGTH_MS[timeframe]
        start = timeframes.back(timeframe, NOW, draw(st.integers(1, 5000)))
        end = min(start + draw(st.integers(1, 3000)) * length, timeframes.floor(timeframe, NOW))
        last = timeframes.floor(timeframe, end - 1) if draw(st.booleans()) else None
        if start < end:
            found.append((symbol, Part(timeframe, start, end, last)))
    return found


@generated
@given(bodies(50_000), parts())
def test_a_quote_has_the_units_and_prog_items_of_the_plan(body, stored) -> None:
    with Stack() as stack:
        for symbol, part in stored:
            stack.run(cover(stack.worker, symbol, part))
        said = stack.run(quote(stack.worker, body, True))
        # The first candle is known to the plan when it has looked it up, before it cuts.
        stack.exchange.listed_ms = 0
        task_id = stack.run(submit_collection(stack.worker, body, "me", "r"))
        stack.run(plan_task(stack.worker, PlanMessage(task_id, 1)))
        task = stack.run(TaskTable(stack.worker).read(task_id))
        assert said["units"]["total"] == task.total_units
        assert said["symbols"] == len(body["symbols"])


@generated
@given(bodies(3000, SINCE_LISTING), bodies(5000, SINCE_LISTING), st.integers(0, 3 * HOUR))
def test_a_quote_has_the_requests_and_candles_of_the_task(before, body, pause_ms) -> None:
    with Stack() as stack:
        stack.collect(before)
        stack.clock.advance(pause_ms)
        said = stack.run(quote(stack.worker, body, True))
        asked = len(stack.exchange.asked)
        view = stack.collect(body)
        assert said["units"] == {
            "total": view["units"]["total"],
            "from_store": view["units"]["from_store"],
        }
        assert said["requests"] == len(stack.exchange.asked) - asked
        assert said["candles"] == view["candles"]


def test_what_is_held_takes_no_requests_and_is_counted_so() -> None:
    with Stack() as stack:
        body = {"symbols": list(SYMBOLS), "timeframes": ["1m", "1h"]}
        first = stack.run(quote(stack.worker, body, True))
        stack.collect(body)
        again = stack.run(quote(stack.worker, body, True))
        assert (first["units"]["from_store"], again["units"]["from_store"]) == (0, 6)
        assert (again["requests"], again["candles"], again["bytes_stored"]) == (0, 0, 0)
        assert (again["aws"]["s3_puts"], again["aws"]["s3_gets"]) == (0, 0)
        assert again["dollars"] < first["dollars"]


def test_a_quote_counts_gaps_that_are_due() -> None:
    """What comes of them is not known, so it is not counted as candles."""
    with Stack() as stack:
        now = timeframes.floor("1h", NOW)
        stack.exchange.outage = {now - 20 * HOUR}
        body = {"symbols": ["AUSDT"], "timeframes": ["1h"], "start": iso(now - 60 * DAY)}
        stack.collect(body)
        stack.clock.advance(HOUR)
        said = stack.run(quote(stack.worker, {**body, "end": iso(now)}, True))
        asked = len(stack.exchange.asked)
        stack.collect({**body, "end": iso(now)})
        assert said["requests"] == len(stack.exchange.asked) - asked == 1
        assert (said["candles"], said["aws"]["s3_puts"]) == (0, 1)


def test_a_quote_stores_nothing_and_sends_nothing(run, worker, aws, exchange) -> None:
    run(CatalogueTable(worker).write_catalogue(exchange.symbols, 6000, NOW))
    aws.counts.clear()
    run(quote(worker, {"start": "2026-01-01"}, True))
    reads = {"dynamodb.GetItem", "dynamodb.BatchGetItem", "dynamodb.Query"}
    assert set(aws.counts) <= reads
    assert not exchange.asked


def test_the_calls_of_a_quote_are_one_for_each_hundred_symbols(run, worker, aws) -> None:
    symbols = [f"S{at:04d}USDT" for at in range(3000)]
    run(CatalogueTable(worker).write_catalogue(dict.fromkeys(symbols, "TRADING"), 6000, NOW))
    aws.counts.clear()
    said = run(quote(worker, {}, True))
    assert (said["symbols"], said["units"]["total"]) == (3000, 18_000)
    assert aws.counts["dynamodb.BatchGetItem"] == 30
    assert sum(aws.counts.values()) == 33


def test_symbols_that_may_be_new_are_named_and_not_counted(run, worker, exchange) -> None:
    run(
        CatalogueTable(worker).write_catalogue(
            {"BTCUSDT": "TRADING"}, 6000, NOW, delisted={"OLDUSDT": NOW}
        )
    )
    body = {"symbols": ["BTCUSDT", "NEWUSDT", "OLDUSDT"], "timeframes": ["1h"]}
    said = run(quote(worker, body, True))
    assert (said["symbols"], said["units"]["total"]) == (2, 2)
    assert (said["unknown_symbols"], said["delisted_symbols"]) == (["NEWUSDT"], ["OLDUSDT"])
    with pytest.raises(InvalidRequest):
        run(quote(worker, {"symbols": ["btcusdt"]}, True))
    only_new = run(quote(worker, {"symbols": ["NEWUSDT"]}, True))
    assert (only_new["units"]["total"], only_new["requests"]) == (0, 0)


def test_selectors_are_counted_by_what_they_select(run, worker) -> None:
    listed = dict.fromkeys(("ADAUSDT", "ADABTC", "BTCUSDT", "ETHUSDT", "SOLUSDT"), "TRADING")
    run(CatalogueTable(worker).write_catalogue({**listed, "BNBUSDT": "BREAK"}, 6000, NOW))
    run(VolumeTable(worker).write({"BTCUSDT": 9.0, "ETHUSDT": 8.0}, NOW))
    for symbols, found in (
        (["*USDT"], 4),
        (["ADA*", "quote=USDT", "BTCUSDT"], 2),
        (["quote=USDT", "top=2"], 2),
        (["!ADA*"], 3),
    ):
        said = run(quote(worker, {"symbols": symbols, "timeframes": ["1h", "1d"]}, True))
        assert (said["symbols"], said["units"]["total"]) == (found, 2 * found), symbols


def test_without_a_list_of_symbols_named_ones_alone_are_counted(run, worker) -> None:
    assert run(quote(worker, BODY, True))["units"]["total"] == 4
    said = run(quote(worker, {}, True))
    assert said["symbols"] == 0
    assert any("never read" in each for each in said["assumptions"])


def test_a_request_that_is_too_large_is_refused_as_without_dry_run(run, worker) -> None:
    body = {**BODY, "timeframes": ["1s"], "start": "1990-01-01"}
    small = replace(worker, settings=replace(worker.settings, max_units=20_000))
    for asked in (submit_collection(small, body, "me", "r"), quote(small, body, True)):
        with pytest.raises(PlanTooLarge) as refused:
            run(asked)
        assert "26" in refused.value.detail


def test_a_listing_that_is_not_known_is_an_assumption(run, worker) -> None:
    def assumed(said: dict[str, Any]) -> list[str]:
        return [each for each in said["assumptions"] if "first candle" in each]

    with Stack() as stack:
        body = {"symbols": ["AUSDT"], "timeframes": ["1h"], "start": iso(LISTED)}
        assert assumed(stack.run(quote(stack.worker, body, True)))
        stack.collect(body)
        assert not assumed(stack.run(quote(stack.worker, body, True)))


def test_what_other_tasks_have_left_comes_first_unless_theirs_is_a_lower_priority() -> None:
    with Stack() as stack:
        task_id = stack.run(
            submit_collection(
                stack.worker, {"symbols": list(SYMBOLS), "timeframes": list(FRAMES)}, "me", "r"
            )
        )
        stack.run(plan_task(stack.worker, PlanMessage(task_id, 1)))
        task = stack.run(TaskTable(stack.worker).read(task_id))
        body = {"symbols": ["AUSDT"], "timeframes": ["1h"]}
        normal = stack.run(quote(stack.worker, body, True))
        high = stack.run(quote(stack.worker, {**body, "priority": "high"}, True))
        assert normal["budget"]["weight_of_other_tasks"] == task.total_units * KLINES_WEIGHT
        assert high["budget"]["weight_of_other_tasks"] == 0
        assert normal["seconds"] > high["seconds"]
        assert any("active tasks" in each for each in normal["assumptions"])
        assert not any("active tasks" in each for each in high["assumptions"])


def test_a_pause_adds_to_the_time_and_one_without_end_is_an_assumption() -> None:
    with Stack() as stack:
        body = {"symbols": ["AUSDT"], "timeframes": ["1h"]}
        ledger = Ledger(stack.worker)
        before = stack.run(quote(stack.worker, body, True))["seconds"]
        stack.run(ledger.pause(NOW + 5 * MINUTE, "throttled"))
        assert stack.run(quote(stack.worker, body, True))["seconds"] >= before + 300
        stack.run(Pauses(stack.worker).begin(times.FOREVER_MS, "anna", "", "r", stack.clock()))
        said = stack.run(quote(stack.worker, body, True))["assumptions"]
        assert any("until a person resumes" in each for each in said)


def test_the_budget_is_shown_to_admins_alone(run, worker) -> None:
    assert run(quote(worker, BODY, True))["budget"]["limit"] == 4680
    high = {**BODY, "priority": "high"}
    assert run(quote(worker, high, True))["budget"]["limit"] == 4800
    assert run(quote(worker, BODY, False))["budget"] is None


def test_dollars_are_the_sum_of_what_is_used_by_its_prices(run, worker) -> None:
    said = run(quote(worker, BODY, True))
    assert set(said["aws"]) == set(said["prices"]["dollars"]) == set(prices.OF)
    summed = sum(said["aws"][name] * said["prices"]["dollars"][name] for name in said["aws"])
    assert said["dollars"] == pytest.approx(summed, abs=1e-6)
    assert summed > 0


def load(requests: int, messages: int) -> Load:
    return Load(
        Counter(groups=messages, asking=messages),
        Counter({("rest", "requests"): requests, ("rest", "weight"): 2 * requests}),
        (6,) * messages,
        260 * messages,
        260,
    )


@settings(deadline=None)
@given(st.integers(0, 20_000), st.integers(1, 3000), st.integers(0, 20_000), st.integers(1, 6000))
def test_time_rises_with_what_is_ahead_and_never_beats_the_budget(
    requests: int, messages: int, others: int, limit: int
) -> None:
    whole = load(requests, messages)
    weight = KLINES_WEIGHT * requests

    def seconds(ahead_weight: int, used: int) -> float:
        budget = Allowance(Spent(limit, 0, used, used), WeightLimits(limit, limit))
        ahead = Ahead(ahead_weight, 0, 3, budget)
        return seconds_of(whole, weight, 0, ahead, NOW)

    took = seconds(others, 0)
    assert took >= seconds(0, 0)
    assert seconds(others, limit) >= took
    minutes = (weight + others) // limit - 1
    assert took >= (minutes - 1) * 60


def test_time_counts_on_a_share_that_rises_to_the_ceiling() -> None:
    """4,680 in the first minute, 5,280 in the second and 5,760 in the third."""
    ahead = Ahead(0, 0, 3, Allowance(Spent(4800), WeightLimits(6000, 5880), high=False))
    minutes = [NOW // MINUTE * MINUTE + later * MINUTE for later in (2, 3)]
    took = [seconds_of(load(100, 1), weight, 0, ahead, NOW) for weight in (9_961, 15_721)]
    for seconds, begins_ms in zip(took, minutes, strict=True):
        assert -100 <= NOW + seconds * 1000 - begins_ms <= 1_000
    assert seconds_of(load(100, 1), 9_960, 0, ahead, NOW) < took[0] - 55


def test_prog_items_are_packed_as_the_plan_packs_them() -> None:
    assert progs_of([]) == 0
    assert progs_of([12] * 16) == 1
    assert progs_of([12] * 17) == 2
    assert used_by(load(0, 0), 0)["s3_puts"] == 0
