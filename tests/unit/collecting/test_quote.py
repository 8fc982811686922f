"""A quote is what the plan then cuts and the task then takes."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.quote import quote
from chalicelib.core import timeframes, times
from chalicelib.core.times import DAY, HOUR, iso
from chalicelib.exchange.catalogue_table import CatalogueTable
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
