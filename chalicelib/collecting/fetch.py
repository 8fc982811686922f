"""Asking the exchange for the candles of some units of one symbol, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chalicelib.candles.candles import Row
from chalicelib.core import timeframes
from chalicelib.core.errors import ExchangeRefused, ExchangeThrottled, ExchangeUnavailable
from chalicelib.core.logs import log
from chalicelib.core.together import together
from chalicelib.exchange.binance import KLINES_WEIGHT, PAGE_LIMIT
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import Unit
from chalicelib.work.units import PAGE_CANDLES, pages

#: Pages that one authorisation covers, all in flight at once: a cancel waits for no more.
GROUP_PAGES = 12
#: Stop taking on work when what is begun might no longer end in time.
RESERVE_MS = 15_000
#: Waits up to this long happen in the worker; longer ones in the queue.
SHORT_WAIT_MS = 2_000


class PageRequest(NamedTuple):
    """[start_ms, end_ms) of a unit: a stretch that can hold no more than one page of candles."""

    unit: Unit
    start_ms: int
    end_ms: int


class FetchedPage(NamedTuple):
    """The rows of one request as the exchange sent them, and its clock in epoch ms."""

    start_ms: int
    rows: list[Row]
    server_ms: int


@dataclass
class Fetched:
    """What has been fetched so far, by the number of the unit, and why fetching ended early.

    `stopped`: the task does not want its units any more; `out_of_time`: the worker has no time
    left to store what was fetched; `wait_until_ms`: ask again then, 0 where nothing is to wait for.
    """

    pages: dict[int, list[FetchedPage]]
    refused: dict[int, ExchangeRefused] = field(default_factory=dict)
    unavailable: dict[int, ExchangeUnavailable] = field(default_factory=dict)
    throttled: ExchangeThrottled | None = None
    stopped: bool = False
    out_of_time: bool = False
    wait_until_ms: int = 0

    def is_open(self, unit: Unit) -> bool:
        """Whether asking for more pages of the unit makes sense."""
        return unit.number not in self.refused and unit.number not in self.unavailable

    def is_whole(self, unit: Unit) -> bool:
        """Whether every page of the unit is there."""
        return self.is_open(unit) and len(self.pages[unit.number]) == len(_requests(unit))


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
    worker: Worker,
    budget: Budget,
    symbol: str,
    units: Sequence[Unit],
    *,
    authorised: Callable[[], Awaitable[bool]],
    remaining_ms: Callable[[], int],
) -> Fetched:
    """Fetch the pages of some units of one symbol, or as many as may be fetched now.

    Every batch of at most GROUP_PAGES requests is authorised anew: the task must still want it,
    the fleet must not be paused, and the shared ledger must grant the weight.
    """
    fetched = Fetched({unit.number: [] for unit in units})
    requests = [request for unit in units for request in _requests(unit)]
    for start in range(0, len(requests), GROUP_PAGES):
        batch = [
            request
            for request in requests[start : start + GROUP_PAGES]
            if fetched.is_open(request.unit)
        ]
        if not batch:
            continue
        if remaining_ms() < RESERVE_MS:
            fetched.out_of_time = True
            fetched.wait_until_ms = worker.now_ms() + SHORT_WAIT_MS + 1000
            break
        until_ms = await budget.take(len(batch) * KLINES_WEIGHT)
        if until_ms:
            fetched.wait_until_ms = until_ms
            break
        if not await authorised():
            fetched.stopped = True
            break
        await together(*(_fetch(worker, budget, symbol, request, fetched) for request in batch))
        if fetched.throttled:
            fetched.wait_until_ms = fetched.throttled.until_ms
            break
    return fetched


def _requests(unit: Unit) -> list[PageRequest]:
    if unit.timeframe == "1M":
        return [PageRequest(unit, unit.start_ms, unit.end_ms)]
    length = timeframes.LENGTH_MS[unit.timeframe] * PAGE_CANDLES
    return [
        PageRequest(unit, start, min(start + length, unit.end_ms))
        for start in range(unit.start_ms, unit.end_ms, length)
    ]


async def _fetch(
    worker: Worker, budget: Budget, symbol: str, request: PageRequest, fetched: Fetched
) -> None:
    """Add the page of one request to `fetched`, or why there is none."""
    number = request.unit.number
    try:
        page = await _page(worker, budget, symbol, request, fetched)
    except ExchangeRefused as error:
        fetched.refused[number] = error
    except ExchangeThrottled as error:
        fetched.throttled = error
        await Ledger(worker).pause(error.until_ms, error.detail[:200])
        log("exchange_throttled", level="warning", until=error.until_ms, detail=error.detail)
    except ExchangeUnavailable as error:
        fetched.unavailable[number] = error
    else:
        if page is not None:
            fetched.pages[number].append(page)


async def _page(
    worker: Worker, budget: Budget, symbol: str, request: PageRequest, fetched: Fetched
) -> FetchedPage | None:
    """None where another request of the batch was throttled: then nothing more is asked."""
    unit, at_ms, end_ms = request
    length = timeframes.LENGTH_MS[unit.timeframe]
    rows: list[Row] = []
    while not fetched.throttled:
        answer = await worker.exchange.klines(symbol, unit.timeframe, at_ms, end_ms)
        await budget.observe(answer.used_weight)
        rows += answer.rows
        if len(answer.rows) < PAGE_LIMIT or answer.rows[-1][0] + length >= end_ms:
            return FetchedPage(request.start_ms, rows, answer.server_ms)
        # More candles than the grid has places (off-grid ones): go on behind the last.
        at_ms = answer.rows[-1][0] + 1
    return None
