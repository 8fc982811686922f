"""When an exchange's first candle of a symbol and timeframe opened, on its own evidence."""

from __future__ import annotations

from chalicelib.core.errors import ExchangeError, ExchangeRootChanged, ExchangeThrottled
from chalicelib.core.logs import log
from chalicelib.core.times import DAY
from chalicelib.exchange.binance import Page, Permit
from chalicelib.exchange.worker import Worker


async def first_open(worker: Worker, symbol: str, timeframe: str, permit: Permit) -> int | None:
    """Open time (epoch ms) of the first candle ever; None where there is none, or no proof.

    Two requests: the oldest rows, and an empty answer for all that lies before them. An exchange
    that answers the newest rows first, ignores the start or takes no such start gives no proof.
    Raises ExchangeThrottled, ExchangeRootChanged, and what `permit` raises.
    """
    exchange = worker.exchange
    try:
        oldest = await exchange.klines(symbol, timeframe, 0, worker.now_ms(), permit)
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
    return {row[0] for row in page.rows if row[0] <= page.server_ms + DAY}
