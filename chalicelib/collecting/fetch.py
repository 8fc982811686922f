"""Asking the exchange for the candles of some units of one symbol, until every stretch is proven.

What a unit needs (needs.py) comes from the bulk archive as far as that proves it (archived.py). The
rest is first asked for as a whole: where nothing opens in a stretch, that is all. What a page
leaves open (evidence.py) is asked for again, in stretches that hold no more than one page of
candles, and every request passes the gate (gate.py) before it leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chalicelib.candles.answers import (
    Answer,
    SoundRows,
    ascending_opens,
    first_open_in,
    opens_of,
    running_opens,
)
from chalicelib.candles.coverage_table import Coverages
from chalicelib.candles.intervals import Interval, outside
from chalicelib.candles.summary import Summary
from chalicelib.collecting.archived import Archived, from_archive
from chalicelib.collecting.evidence import check_timeframe, left_open
from chalicelib.collecting.gate import Gate, Withheld
from chalicelib.collecting.listing import first_open
from chalicelib.collecting.store import Found
from chalicelib.core import metrics, timeframes
from chalicelib.core.errors import (
    ExchangeDrifted,
    ExchangeInconsistent,
    ExchangeRefused,
    ExchangeThrottled,
    ExchangeUnavailable,
)
from chalicelib.core.logs import log
from chalicelib.core.times import DAY
from chalicelib.core.together import together
from chalicelib.exchange.binance import Page
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import Unit
from chalicelib.work.units import PAGE_CANDLES, pages

#: Unit number -> the stretches of it to ask for, ascending.
Needs = Mapping[int, Sequence[Interval]]

#: Waits up to this long happen in the worker; longer ones in the queue.
SHORT_WAIT_MS = 2_000
#: An exchange that caps its pages may be asked so many times for one page of candles.
_REQUESTS_PER_PAGE = 12


@dataclass
class Fetched:
    """What has been fetched so far, by the number of the unit, and why units have failed.

    `needs`: what is asked for; `left`: stretches that are not proven yet; `unusable`: open times
    (epoch ms) of rows that cannot be read; `unread`: stretches that were answered with rows whose
    open times cannot be read; `requests`: how many were sent or tried for it. Of stretches in which
    nothing opens at the start: `before`: by that start, when the candle before opened; `listed`: by
    timeframe, when the first candle ever opened, and `looked_up`: when that was asked. `archived`:
    what the archive brought; `answers` are REST's, for the rest.
    """

    needs: Needs
    left: Counter[int]
    answers: dict[int, list[Answer]]
    unusable: dict[int, set[int]]
    requests: Counter[int] = field(default_factory=Counter)
    refused: dict[int, ExchangeRefused] = field(default_factory=dict)
    unavailable: dict[int, ExchangeUnavailable] = field(default_factory=dict)
    unread: dict[int, list[Interval]] = field(default_factory=dict)
    before: dict[tuple[int, int], int] = field(default_factory=dict)
    listed: dict[str, int] = field(default_factory=dict)
    looked_up: dict[str, int] = field(default_factory=dict)
    archived: dict[int, Archived] = field(default_factory=dict)

    def is_open(self, unit: Unit) -> bool:
        """Whether asking for more pages of the unit makes sense."""
        return unit.number not in self.refused and unit.number not in self.unavailable

    def is_whole(self, unit: Unit) -> bool:
        """Whether all of the unit is proven."""
        return not self.left[unit.number]

    def begins_late(self, unit: Unit, stretch: Interval) -> bool:
        """Whether a candle has room before the first one that opens in the stretch."""
        opens = [at for at in self.unusable[unit.number] if stretch.start_ms <= at < stretch.end_ms]
        for answer in self.answers[unit.number]:
            if (at := first_open_in(answer.rows, *stretch)) is not None:
                opens.append(at)
        if unit.number in self.archived:
            opens += self.archived[unit.number].candles.between(*stretch).open_times[:1]
        first_ms = min(opens, default=stretch.end_ms)
        return timeframes.has_room(unit.timeframe, stretch.start_ms, first_ms)

    def found(self, unit: Unit) -> Found:
        """What was answered for the unit."""
        number = unit.number
        return Found(
            self.answers[number],
            self.needs[number],
            self.unusable[number],
            self.unread.get(number, []),
            {start: at for (of, start), at in self.before.items() if of == number},
            self.listed.get(unit.timeframe),
            self.looked_up.get(unit.timeframe),
            self.archived.get(number),
        )


async def fetch(
    worker: Worker,
    budget: Budget,
    symbol: str,
    units: Sequence[Unit],
    gate: Gate,
    needs: Needs,
    known: Coverages,
) -> Fetched:
    """Fetch what some units of one symbol need, or as much of it as the gate lets pass.

    `known`: of the symbol. The exchange's client bounds how many requests are in flight at once.
    """
    fetched = Fetched(
        needs=needs,
        left=Counter({unit.number: len(needs[unit.number]) for unit in units}),
        answers={unit.number: [] for unit in units},
        unusable={unit.number: set() for unit in units},
    )
    asking = _Asking(worker, budget, symbol, gate, fetched, known)
    await together(*(asking.bring(unit) for unit in units))
    await asking.look_before([unit for unit in units if fetched.is_whole(unit)])
    return fetched


class _Asking:
    """Asking for units of one symbol, and noting in `fetched` or at the gate what came of it."""

    def __init__(
        self,
        worker: Worker,
        budget: Budget,
        symbol: str,
        gate: Gate,
        fetched: Fetched,
        known: Coverages,
    ) -> None:
        self._worker = worker
        self._budget = budget
        self._symbol = symbol
        self._gate = gate
        self._fetched = fetched
        self._known = known

    async def bring(self, unit: Unit) -> None:
        """Take what the archive has of what the unit needs, and ask for the rest."""
        fetched, needs = self._fetched, self._fetched.needs[unit.number]
        async with self._noting(unit):
            brought = await from_archive(
                self._worker, self._symbol, unit.timeframe, needs, self._gate.permit
            )
            fetched.archived[unit.number] = brought
            rest = [part for each in needs for part in outside(*each, brought.proven)]
            fetched.left[unit.number] += len(rest) - len(needs)
            await together(*(self.prove(unit, each) for each in rest))

    async def prove(self, unit: Unit, stretch: Interval) -> None:
        """Ask for the stretch, and for what that leaves open, until all of it is proven."""
        left = [stretch]
        while len(left) == 1:
            left = await self._asked(unit, *left) if self._fetched.is_open(unit) else []
        await together(*(self.prove(unit, each) for each in left))

    async def _asked(self, unit: Unit, stretch: Interval) -> list[Interval]:
        """What a page of the stretch leaves open."""
        fetched, left = self._fetched, list[Interval]()
        async with self._noting(unit):
            _count_request(unit, fetched)
            page = await self._worker.exchange.klines(
                self._symbol, unit.timeframe, *stretch, self._gate.permit
            )
            await self._budget.observe(page)
            left = _taken(unit, stretch, page, fetched)
            if len(page.rows) >= PAGE_CANDLES:  # else what follows is most likely empty
                left = [each for part in left for each in _pages_of(unit.timeframe, part)]
            fetched.left[unit.number] += len(left) - 1
        return left

    async def look_before(self, units: Sequence[Unit]) -> None:
        """Learn what lies before stretches in which nothing opens at the start.

        A candle that opened before may reach into them, and nothing is missing before the first.
        """
        symbol, fetched, worker = self._symbol, self._fetched, self._worker
        late = [
            (unit, stretch)
            for unit in units
            for stretch in fetched.needs[unit.number]
            if fetched.begins_late(unit, stretch) and not self._knows_before(unit, stretch)
        ]
        fetched.left.update(unit.number for unit, _ in late)
        for timeframe, unit in {unit.timeframe: unit for unit, _ in late}.items():
            known = self._known.get(timeframe, Summary())
            first = known.listed
            if first is None and known.may_look_up(worker.now_ms()):
                async with self._noting(unit):
                    first = await first_open(worker, symbol, timeframe, self._gate.permit)
                    fetched.looked_up[timeframe] = worker.now_ms()
            if first is not None:
                fetched.listed[timeframe] = min(first, known.first or first)
        await together(*(self._look_before(*each) for each in late))

    def _knows_before(self, unit: Unit, stretch: Interval) -> bool:
        """Whether the object that the stretch begins in says what lies before it."""
        start_ms = stretch.start_ms
        begins = timeframes.object_bounds(unit.timeframe, start_ms)[0]
        covered = self._known.get(unit.timeframe, Summary()).covered
        return begins < start_ms and any(low < start_ms <= high for low, high in covered)

    async def _look_before(self, unit: Unit, stretch: Interval) -> None:
        fetched, timeframe = self._fetched, unit.timeframe
        if not fetched.is_open(unit):
            return
        async with self._noting(unit):
            if stretch.start_ms > fetched.listed.get(timeframe, 0):
                page = await self._worker.exchange.klines(
                    self._symbol,
                    timeframe,
                    timeframes.back(timeframe, stretch.start_ms, 1),
                    stretch.start_ms,
                    self._gate.permit,
                )
                before = [at for at in opens_of(page.rows) if at < stretch.start_ms]
                if before:
                    fetched.before[unit.number, stretch.start_ms] = max(before)
            fetched.left[unit.number] -= 1

    @asynccontextmanager
    async def _noting(self, unit: Unit) -> AsyncIterator[None]:
        """Note why the exchange did not give what it was asked for."""
        try:
            yield
        except Withheld:
            return  # the gate knows why
        except ExchangeRefused as error:
            self._fetched.refused.setdefault(unit.number, error)
        except ExchangeThrottled as error:
            self._gate.close(Withheld(error.detail, until_ms=error.until_ms))
            await Ledger(self._worker).throttle(error, self._worker.now_ms())
            log("exchange_throttled", level="warning", until=error.until_ms, detail=error.detail)
        except ExchangeUnavailable as error:
            self._fetched.unavailable.setdefault(unit.number, error)


def _pages_of(timeframe: str, stretch: Interval) -> list[Interval]:
    """The stretch, cut into what one page can hold."""
    length = timeframes.LENGTH_MS[timeframe] * PAGE_CANDLES
    return [
        Interval(start, min(start + length, stretch.end_ms))
        for start in range(stretch.start_ms, stretch.end_ms, length)
    ]


def _count_request(unit: Unit, fetched: Fetched) -> None:
    """Raises ExchangeInconsistent where so many requests still have not proven the unit."""
    fetched.requests[unit.number] += 1
    most = _REQUESTS_PER_PAGE * (1 + pages(unit.timeframe, unit.start_ms, unit.end_ms))
    if fetched.requests[unit.number] > most:
        raise ExchangeInconsistent(f"{most} requests have not brought the whole window")


def _taken(unit: Unit, asked: Interval, page: Page, fetched: Fetched) -> list[Interval]:
    """Keep the rows of a page; what it leaves open. Raises as evidence.py's functions do."""
    # An open time that lies far ahead is none. The exchange's clock may be ours, and behind.
    latest_ms = page.server_ms + DAY
    rows = page.rows
    if not isinstance(rows, SoundRows) or rows.candles.open_times[-1] > latest_ms:
        rows = [row for row in rows if row[0] <= latest_ms]
    check_timeframe(unit.timeframe, rows)
    unusable = {at for at in page.unusable if 0 <= at <= latest_ms}
    unread = len(page.rows) - len(rows) + sum(at not in unusable for at in page.unusable)
    running = running_opens(unit.timeframe, Answer(rows, page.server_ms))
    opens = ascending_opens(rows, unusable)
    try:
        left = left_open(unit.timeframe, asked, opens, unread, max(running, default=None))
    except ExchangeDrifted:
        metrics.count("ExchangeSchemaDrift")
        raise
    fetched.answers[unit.number].append(Answer(rows, page.server_ms))
    fetched.unusable[unit.number] |= unusable
    if unread:
        fetched.unread.setdefault(unit.number, []).append(asked)
    return left
