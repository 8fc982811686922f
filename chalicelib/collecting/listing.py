"""When an exchange's first candle of a symbol and timeframe opened, on its own evidence."""

from __future__ import annotations

from chalicelib.exchange.binance import Page, Permit
from chalicelib.exchange.worker import Worker


async def first_open(worker: Worker, symbol: str, timeframe: str, permit: Permit) -> int | None:
    """Open time (epoch ms) of the first candle ever; None where there is none, or no proof.

    Two requests: the oldest rows, and an empty answer for all that lies before them. An exchange
    that answers the newest rows first, or ignores the start, gives no such proof. Raises
    ExchangeError, and what `permit` raises.
    """
    exchange = worker.exchange
    oldest = _opens(await exchange.klines(symbol, timeframe, 0, worker.now_ms(), permit))
    first = min(oldest, default=0)
    if not first:
        return None
    before = _opens(await exchange.klines(symbol, timeframe, 0, first, permit))
    return None if before else first


def _opens(page: Page) -> set[int]:
    return {row[0] for row in page.rows} | {at for at in page.unusable if at >= 0}
