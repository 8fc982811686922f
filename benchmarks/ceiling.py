"""How much of the exchange's weight limit the fleet uses, and whether it is ever refused.

The workers, their budget and ledger as they are, on the AWS in memory and on simulated time: an
answer of the exchange takes 80 ms, a call to AWS 10 ms, the workers' clocks differ by some ms, and
the local exchange's own accounting (local/exchange/limits.py) counts and refuses. A large task of
normal priority is collected all the time; tasks of priority high come when it has used up a minute.
Some minutes of CPU: it runs only when named. `CEILING_MINUTES=5` sets how many are played.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import replace
from itertools import count
from typing import Any

from benchmarks.report import Report, verdict
from benchmarks.simulated import collecting, new_aws, planning, settings
from chalicelib.aws.wire import item_from_wire
from chalicelib.core import times
from chalicelib.core.errors import ExchangeThrottled
from chalicelib.core.task_keys import META, task_pk
from chalicelib.core.times import HOUR, MINUTE
from chalicelib.exchange.binance import Page, Permit
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.weights import IN_FLIGHT, KLINES_WEIGHT
from chalicelib.exchange.worker import Worker
from chalicelib.tasks import states
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.task import Task, task_from
from chalicelib.work import priorities
from local.exchange.limits import WeightLimiter
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.fleet import Fleet
from tests.doubles.spending import SameForAll

LIMIT = 6000
MINUTES = int(os.environ.get("CEILING_MINUTES", "5"))
#: The first minutes, in which the share rises.
RISING = 2
LATENCY_MS, AWS_MS = 80, 10
#: By how much each worker's clock is ahead of the exchange's.
SKEWS_MS = (0, 15, -20, 40, -5)
SYMBOLS = [f"S{at:03d}USDT" for at in range(400)]
#: One page each.
TIMEFRAMES = ["5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h"]
OURS, BUDGET_PERCENT = "us", 95
#: Symbols of tasks of priority high, and when in a minute they come.
HIGH, HIGH_COMES_MS = (3, 60), 40_000


def measure() -> Report:
    report = Report(
        f"ceiling: use of {LIMIT:,} weight a minute, simulated, {LATENCY_MS} ms an answer",
        ("minute", "weight", "of the limit", "pages a second", "429", "budget", "verdict"),
    )
    began = time.monotonic()
    play = _play(strangers=0)
    for number, minute in enumerate(play.minutes, start=1):
        used = play.used[OURS, minute]
        cells = (f"{used:,}", f"{used / LIMIT:.1%}", f"{used / KLINES_WEIGHT / 60:.1f}")
        judged = number > RISING
        report.add(
            f"{number}",
            *cells,
            f"{play.refused[OURS, minute]}",
            f">= {BUDGET_PERCENT}%, 0" if judged else "",
            verdict(BUDGET_PERCENT - used / LIMIT * 100 + play.refused[OURS, minute], 0)
            if judged
            else "rises",
        )
    for symbols, seconds in play.waited.items():
        report.remarks.append(
            f"high, {symbols} symbols ({symbols * len(TIMEFRAMES)} pages), submitted at second "
            f"{HIGH_COMES_MS // 1000} of a minute that normal had used up: done after {seconds:.1f}"
            " s"
        )
    shared = _play(strangers=1500)
    parts = (
        f"{shared.used[OURS, minute]:,} + {shared.used['strangers', minute]:,}"
        for minute in shared.minutes
    )
    refused = [sum(shared.refused[who, m] for m in shared.minutes) for who in (OURS, "strangers")]
    report.remarks += [
        f"beside strangers who use 1,500 a minute from the second minute on, ours + theirs: "
        f"{'; '.join(parts)}; refused {refused[0]} of ours, {refused[1]} of theirs",
        f"{time.monotonic() - began:.0f} s of this machine's time",
    ]
    return report


class _Play:
    """`used`, `refused`: (who, the exchange's minute) -> weight, and requests that got a 429;
    `waited`: symbols of a task of priority high -> seconds until it was done."""

    def __init__(self, clock: Clock, strangers: int) -> None:
        self.clock, self.strangers = clock, strangers
        self.limiter = WeightLimiter(LIMIT, patience=10**9)
        self.used: Counter[tuple[str, int]] = Counter()
        self.refused: Counter[tuple[str, int]] = Counter()
        self.waited: dict[int, float] = {}
        first = clock() // MINUTE + 1
        self.minutes = range(first, first + MINUTES)
        self._days = count(1)
        self._aws, self._settings = new_aws(clock), settings()
        self._exchange = SameForAll(clock, dict.fromkeys(SYMBOLS, "TRADING"), LIMIT)

    def ask(self, who: str, weight: int) -> int:
        """The exchange's count with this request. Raises ExchangeThrottled."""
        now_ms = self.clock()
        refusal = self.limiter.charge("address", weight, now_ms)
        self.used[who, now_ms // MINUTE] += weight
        if refusal is not None:
            self.refused[who, now_ms // MINUTE] += 1
            raise ExchangeThrottled("HTTP 429", (now_ms // MINUTE + 1) * MINUTE)
        return self.limiter.used("address", now_ms)

    async def play(self) -> None:
        planner = Fleet(self._aws, self._worker(0))
        known = CatalogueTable(planner.worker).write_catalogue(
            self._exchange.symbols, LIMIT, self.clock()
        )
        await known
        await asyncio.sleep((self.minutes[0] * MINUTE - self.clock()) / 1000)
        urgent = priorities.workers_of(priorities.HIGH, self._settings.collectors)
        urls = (self._settings.urgent_queue_url, self._settings.work_queue_url)
        working = [
            collecting(self._aws, self._worker(skew), urls[at >= urgent])
            for at, skew in enumerate(SKEWS_MS)
        ]
        jobs = [planning(planner), self._normal(planner.worker), self._strangers(), *working]
        playing = [asyncio.ensure_future(each) for each in jobs]
        if not self.strangers:
            for at, symbols in enumerate(HIGH, start=RISING):
                at_ms = (self.minutes[0] + at) * MINUTE + HIGH_COMES_MS
                playing.append(asyncio.ensure_future(self._high(planner.worker, symbols, at_ms)))
        await asyncio.sleep((self.minutes[-1] + 1) * MINUTE / 1000 - self.clock() / 1000)
        ended = [each for each in playing if each.done() and not each.cancelled()]
        for each in playing:
            each.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
        for each in ended:
            each.result()  # raises what it died of

    async def _normal(self, worker: Worker) -> None:
        """See that a normal task always has units left."""
        left, task = 0, ""
        while True:
            if left < 1500:
                task = await self._submit(worker, SYMBOLS, priorities.NORMAL)
            await asyncio.sleep(0.5)
            left = len(SYMBOLS) * len(TIMEFRAMES) - self._counted(task)

    async def _high(self, worker: Worker, symbols: int, at_ms: int) -> None:
        await asyncio.sleep((at_ms - self.clock()) / 1000)
        task_id = await self._submit(worker, SYMBOLS[:symbols], priorities.HIGH)
        while True:
            await asyncio.sleep(0.05)
            if self._task(task_id).state in states.TERMINAL:
                self.waited[symbols] = (self.clock() - at_ms) / 1000
                return

    async def _strangers(self) -> None:
        await asyncio.sleep(60)
        while self.strangers:
            await asyncio.sleep(0.4)
            try:
                self.ask("strangers", self.strangers // 150)
            except ExchangeThrottled:
                continue

    async def _submit(self, worker: Worker, symbols: list[str], priority: str) -> str:
        """A task of a day of its own, so that none finds anything stored."""
        start_ms = times.parse_time("2026-01-01") - next(self._days) * 24 * HOUR
        body = {
            "symbols": symbols,
            "timeframes": TIMEFRAMES,
            "start": times.iso(start_ms),
            "end": times.iso(start_ms + 12 * HOUR),
            "priority": priority,
        }
        return await submit_collection(worker, body, "benchmark", "benchmark")

    def _task(self, task_id: str) -> Task:
        """Read past AWS: looking is not counted."""
        table = self._aws.dynamodb.tables[self._settings.tasks_table]
        return task_from(item_from_wire(table.items[task_pk(task_id), META]))

    def _counted(self, task_id: str) -> int:
        items = self._aws.dynamodb.tables[self._settings.tasks_table].items
        progs = (item for (pk, sk), item in items.items() if pk == task_pk(task_id))
        return sum(len(item.get("done", {}).get("NS", ())) for item in progs)

    def _worker(self, skew_ms: int) -> Worker:
        def now_ms() -> int:
            return self.clock() + skew_ms

        front = _Front(self, self._exchange, now_ms)
        return Worker(self._call, self._settings, now_ms, front)  # type: ignore[arg-type]

    async def _call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        await asyncio.sleep(AWS_MS / 1000)
        return await self._aws(service, operation, **parameters)


class _Front:
    """The exchange as one worker reaches it: over a distance, with eight requests in flight."""

    def __init__(self, play: _Play, exchange: SameForAll, now_ms: Any) -> None:
        self._play, self._exchange, self._now_ms = play, exchange, now_ms
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def klines(
        self, symbol: str, timeframe: str, start_ms: int, end_ms: int, permit: Permit
    ) -> Page:
        async with self._in_flight:
            await permit(KLINES_WEIGHT)
            sent_ms = self._now_ms()
            await asyncio.sleep(LATENCY_MS / 2000)
            used = self._play.ask(OURS, KLINES_WEIGHT)
            page = await self._exchange.klines(symbol, timeframe, start_ms, end_ms, _permitted)
            await asyncio.sleep(LATENCY_MS / 2000)
            return replace(page, sent_ms=sent_ms, used_weight=used)


async def _permitted(_: int) -> None:
    return


def _play(strangers: int) -> _Play:
    clock = Clock()
    loop = SimulatedLoop(clock)
    play = _Play(clock, strangers)
    try:
        loop.run_until_complete(play.play())
    finally:
        loop.close()
    return play
