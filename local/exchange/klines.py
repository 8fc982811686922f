"""Pages of candles: which ones a query selects, and how they are written.

Both bounds filter on the open time and are inclusive; without times the newest candles are
returned, with a start alone the oldest from there on, with an end alone the newest up to it.
Rows ascend. A start before the listing jumps to the first candle, and periods without trade
have no row. The last row may be the running candle: what traded up to and including the
current second (https://developers.binance.com/docs/binance-spot-api-docs/rest-api).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from local.exchange.catalogue import Symbol
from local.exchange.market import LEVELS, Market
from local.exchange.splitting import Candle, merge
from local.exchange.timeframes import INTERVALS, SECOND, length_ms, period_end, period_start

_UNIT = 10**8
_ROW = (
    '[%d,"%d.%08d","%d.%08d","%d.%08d","%d.%08d","%d.%08d",%d,"%d.%08d",%d,"%d.%08d","%d.%08d","0"]'
)


def _source_level(interval: str) -> int:
    """The longest drawn candles that an interval is a whole number of."""
    if interval == "1M":
        return 0
    return next(i for i, length in enumerate(LEVELS) if length_ms(interval) % length == 0)


_SOURCE = {interval: _source_level(interval) for interval in INTERVALS}


def page(
    market: Market,
    symbol: Symbol,
    interval: str,
    start: int | None,
    end: int | None,
    limit: int,
    now: int,
    left_out: Sequence[tuple[int, int]] = (),
) -> list[Candle]:
    """At most `limit` candles for a query, oldest first; times are epoch ms, `now` included.

    None of them opens in the stretches [from, to) that are `left_out`.
    """

    def found(first: int, last: int) -> Iterator[Candle]:
        for candle in opening(market, symbol, interval, first, last, now):
            if not any(low <= candle.open_time < high for low, high in left_out):
                yield candle

    first = period_start(interval, symbol.listed)
    last = now if end is None else min(end, now)
    if symbol.stopped is not None:
        last = min(last, symbol.stopped - 1)
    if start is not None:
        return list(islice(found(max(start, first), last), limit))
    rows: list[Candle] = []
    periods = limit
    while len(rows) < limit and last >= first:
        # Quiet markets have fewer candles than periods: look back twice as far each time.
        since = max(first, period_start(interval, last - (periods - 1) * length_ms(interval)))
        rows = [*found(since, last), *rows]
        last = since - 1
        periods *= 2
    return rows[-limit:]


def opening(
    market: Market, symbol: Symbol, interval: str, first: int, last: int, now: int
) -> Iterator[Candle]:
    """The candles that open in [first, last] epoch ms, the running one included, lazily."""
    elapsed = now - now % SECOND + SECOND
    running = period_start(interval, elapsed - SECOND)
    begin = period_start(interval, first)
    if begin < first:
        begin = period_end(interval, begin)
    if last < begin:
        return
    level = _SOURCE[interval]
    end = min(running, period_end(interval, period_start(interval, last)))
    drawn = market.candles(symbol, level, begin, end)
    if length_ms(interval) == LEVELS[level]:
        yield from drawn
    else:
        yield from _merge_periods(interval, drawn)
    if begin <= running <= last:
        candle = market.total(symbol, running, elapsed)
        if candle is not None:
            yield candle


def _merge_periods(interval: str, drawn: Iterable[Candle]) -> Iterator[Candle]:
    parts: list[Candle] = []
    opened = closed = 0
    for candle in drawn:
        if parts and candle.open_time >= closed:
            yield merge(parts, opened)
            parts = []
        if not parts:
            opened = period_start(interval, candle.open_time)
            closed = period_end(interval, opened)
        parts.append(candle)
    if parts:
        yield merge(parts, opened)


def decimal(amount: int, digits: int) -> str:
    """A non-negative amount counted in units of 10**-digits, with 8 decimals."""
    scaled = amount * 10 ** (8 - digits)
    return f"{scaled // _UNIT}.{scaled % _UNIT:08d}"


def to_json(symbol: Symbol, interval: str, candles: Iterable[Candle], micros: bool) -> str:
    """The reply's body: rows of 12 columns, times in ms or, when `micros`, in microseconds."""
    return f"[{','.join(_rows(symbol, interval, candles, micros))}]"


def to_csv(symbol: Symbol, interval: str, candles: Iterable[Candle], micros: bool) -> str:
    """The lines of an archive file: the same 12 columns without quotes and without a header."""
    rows = _rows(symbol, interval, candles, micros)
    return "".join(row[1:-1].replace('"', "") + "\n" for row in rows)


def _rows(symbol: Symbol, interval: str, candles: Iterable[Candle], micros: bool) -> Iterator[str]:
    tick = 10 ** (8 - symbol.price_digits)
    step = 10 ** (8 - symbol.volume_digits)
    both = 10 ** (8 - symbol.price_digits - symbol.volume_digits)
    factor = 1000 if micros else 1
    length = None if interval == "1M" else length_ms(interval)
    unit = _UNIT
    for opened, o, h, low, c, v, q, n, tb, tq in candles:
        closed = opened + length if length else period_end(interval, opened)
        yield _ROW % (
            opened * factor,
            *divmod(o * tick, unit),
            *divmod(h * tick, unit),
            *divmod(low * tick, unit),
            *divmod(c * tick, unit),
            *divmod(v * step, unit),
            closed * factor - 1,
            *divmod(q * both, unit),
            n,
            *divmod(tb * step, unit),
            *divmod(tq * both, unit),
        )
