"""When an exchange's first candle of a symbol and timeframe opened, on its own evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from chalicelib.candles.answers import opens_of
from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.summary import Summary
from chalicelib.collecting.evidence import check_timeframe
from chalicelib.collecting.gate import RESERVE_MS, Gate, Withheld
from chalicelib.collecting.ranges import Pair
from chalicelib.core.errors import ExchangeError, ExchangeRootChanged, ExchangeThrottled
from chalicelib.core.logs import log
from chalicelib.core.times import DAY
from chalicelib.core.together import together
from chalicelib.exchange.binance import Page, Permit
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker

#: One plan looks up first candles for no longer than this.
_LOOKUP_MS = 20_000


async def first_open(worker: Worker, symbol: str, timeframe: str, permit: Permit) -> int | None:
    """Open time (epoch ms) of the first candle ever; None where there is none, or no proof.

    Two requests: the oldest rows, and an empty answer for all that lies before them. An exchange
    that answers the newest rows first, ignores the start or takes no such start gives no proof.
    Raises ExchangeThrottled, ExchangeRootChanged, and what `permit` raises.
    """
    exchange = worker.exchange
    try:
        oldest = await exchange.klines(symbol, timeframe, 0, worker.now_ms(), permit)
        check_timeframe(timeframe, oldest.rows)
        first = min(_opens(oldest), default=0)
        if not first or oldest.unusable:
            return None
        before = await exchange.klines(symbol, timeframe, 0, first, permit)
    except (ExchangeThrottled, ExchangeRootChanged):
        raise
    except ExchangeError as error:  # what was asked for is answered all the same, or fails itself
        why = error.detail
        log("listing_unknown", level="warning", symbol=symbol, timeframe=timeframe, error=why)
        return None
    return None if before.rows or before.unusable else first


def _opens(page: Page) -> set[int]:
    return {at for at in opens_of(page.rows) if at <= page.server_ms + DAY}


async def find_listings(
    worker: Worker,
    pairs: Sequence[Pair],
    stored: dict[str, Coverages],
    start_ms: int,
    authorised: Callable[[], Coroutine[Any, Any, bool]],
    high: bool = False,
) -> None:
    """Learn when the first candles of these symbols and timeframes opened, into `stored`.

    What lies between `start_ms` and them is covered then. Where the exchange does not tell, the
    range is asked for as it is. `high`: for a task of that priority.
    """
    began = time.monotonic()
    gate = Gate(
        Budget(worker),
        authorised,
        lambda: int(RESERVE_MS + _LOOKUP_MS - (time.monotonic() - began) * 1000),
        high,
    )
    found = await together(*(_look_up(worker, gate, *pair) for pair in pairs))
    for (symbol, timeframe), (first, is_asked) in zip(pairs, found, strict=True):
        if is_asked:
            coverages = await _record(worker, symbol, timeframe, start_ms, first)
            stored.setdefault(symbol, {})[timeframe] = coverages


async def _record(
    worker: Worker, symbol: str, timeframe: str, start_ms: int, first_ms: int | None
) -> Summary:
    """Record when the first candle opened, None where nothing proves it; the summary then."""
    now_ms = worker.now_ms()
    table = CoverageTable(worker)
    after = Summary()

    async def changed(known: Coverages) -> Coverages:
        nonlocal after
        after = known.get(timeframe, Summary()).with_listing(first_ms, now_ms, start_ms)
        return {**known, timeframe: after}

    await table.record(symbol, await table.read(symbol), changed)
    return after


async def _look_up(
    worker: Worker, gate: Gate, symbol: str, timeframe: str
) -> tuple[int | None, bool]:
    """(when the first candle opened, whether that was asked)."""
    try:
        return await first_open(worker, symbol, timeframe, gate.permit), True
    except Withheld:
        return None, False
    except ExchangeThrottled as error:
        gate.close(Withheld(error.detail, until_ms=error.until_ms))
        await Ledger(worker).throttle(error, worker.now_ms())
        return None, False
