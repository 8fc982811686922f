"""Asking the exchange for the candles of some units of one symbol, until every stretch is proven.

A unit is asked for in stretches that hold no more than one page of candles. What a page leaves open
is asked for again (evidence.py), and every request passes the gate (gate.py) before it leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from chalicelib.candles.candles import Answer
from chalicelib.collecting.evidence import Stretch, proof_of
from chalicelib.collecting.gate import Gate, Withheld
from chalicelib.core import timeframes
from chalicelib.core.errors import (
    ExchangeInconsistent,
    ExchangeRefused,
    ExchangeThrottled,
    ExchangeUnavailable,
)
from chalicelib.core.logs import log
from chalicelib.core.together import together
from chalicelib.exchange.binance import Page
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import Unit
from chalicelib.work.units import PAGE_CANDLES, pages

#: Pages that units of one group need together, where no unit needs more by itself.
GROUP_PAGES = 12
#: Waits up to this long happen in the worker; longer ones in the queue.
SHORT_WAIT_MS = 2_000
#: An exchange that caps its pages may be asked so many times for one page of candles.
_REQUESTS_PER_PAGE = 12


@dataclass
class Fetched:
    """What has been fetched so far, by the number of the unit, and why units have failed.

    `left`: stretches of the unit that are not proven yet; `unusable`: open times (epoch ms) of rows
    that cannot be read; `requests`: how many were sent or tried for it.
    """

    left: Counter[int]
    answers: dict[int, list[Answer]]
    unusable: dict[int, set[int]]
    requests: Counter[int] = field(default_factory=Counter)
    refused: dict[int, ExchangeRefused] = field(default_factory=dict)
    unavailable: dict[int, ExchangeUnavailable] = field(default_factory=dict)

    def is_open(self, unit: Unit) -> bool:
        """Whether asking for more pages of the unit makes sense."""
        return unit.number not in self.refused and unit.number not in self.unavailable

    def is_whole(self, unit: Unit) -> bool:
        """Whether all of the unit is proven."""
        return self.is_open(unit) and not self.left[unit.number]


def next_group(units: list[Unit]) -> list[Unit]:
    """The next units that are collected and counted together."""
    taken: list[Unit] = []
    load = 0
    for unit in units:
        cost = pages(unit.timeframe, unit.start_ms, unit.end_ms)
        if taken and load + cost > GROUP_PAGES:
            break
        taken.append(unit)
        load += cost
    return taken


async def fetch(
    worker: Worker, budget: Budget, symbol: str, units: Sequence[Unit], gate: Gate
) -> Fetched:
    """Fetch some units of one symbol, or as much of them as the gate lets pass.

    The exchange's client bounds how many requests are in flight at once.
    """
    stretches = [(unit, stretch) for unit in units for stretch in _stretches(unit)]
    fetched = Fetched(
        left=Counter(unit.number for unit, _ in stretches),
        answers={unit.number: [] for unit in units},
        unusable={unit.number: set() for unit in units},
    )
    await together(
        *(_prove(worker, budget, symbol, unit, each, fetched, gate) for unit, each in stretches)
    )
    return fetched


def _stretches(unit: Unit) -> list[Stretch]:
    """The unit, cut into what one page can hold."""
    if unit.timeframe == "1M":
        return [Stretch(unit.start_ms, unit.end_ms)]
    length = timeframes.LENGTH_MS[unit.timeframe] * PAGE_CANDLES
    return [
        Stretch(start, min(start + length, unit.end_ms))
        for start in range(unit.start_ms, unit.end_ms, length)
    ]


async def _prove(
    worker: Worker,
    budget: Budget,
    symbol: str,
    unit: Unit,
    stretch: Stretch,
    fetched: Fetched,
    gate: Gate,
) -> None:
    """Ask until the stretch is proven, or note in `fetched` or at the gate why it cannot be."""
    number, left = unit.number, [stretch]
    try:
        while left:
            if not fetched.is_open(unit):
                return
            asked = left.pop()
            _count_request(unit, fetched)
            page = await worker.exchange.klines(symbol, unit.timeframe, *asked, gate.permit)
            await budget.observe(page.used_weight)
            left += _taken(unit, asked, page, fetched)
        fetched.left[number] -= 1
    except Withheld:
        return  # the gate knows why
    except ExchangeRefused as error:
        fetched.refused.setdefault(number, error)
    except ExchangeThrottled as error:
        gate.close(Withheld(error.detail, until_ms=error.until_ms))
        await Ledger(worker).pause(error.until_ms, error.detail[:200])
        log("exchange_throttled", level="warning", until=error.until_ms, detail=error.detail)
    except ExchangeUnavailable as error:
        fetched.unavailable.setdefault(number, error)


def _count_request(unit: Unit, fetched: Fetched) -> None:
    """Raises ExchangeInconsistent where so many requests still have not proven the unit."""
    fetched.requests[unit.number] += 1
    most = _REQUESTS_PER_PAGE * (1 + pages(unit.timeframe, unit.start_ms, unit.end_ms))
    if fetched.requests[unit.number] > most:
        raise ExchangeInconsistent(f"{most} requests have not brought the whole window")


def _taken(unit: Unit, asked: Stretch, page: Page, fetched: Fetched) -> list[Stretch]:
    """Keep the rows of a page; what it leaves open. Raises ExchangeInconsistent."""
    unusable = {at for at in page.unusable if at >= 0}
    running = [row[0] for row in page.rows if row[6] >= page.server_ms]
    opens = {row[0] for row in page.rows} | unusable
    proof = proof_of(unit.timeframe, asked, opens, max(running, default=None))
    fetched.answers[unit.number].append(Answer(page.rows, page.server_ms))
    fetched.unusable[unit.number] |= unusable
    return proof.left
