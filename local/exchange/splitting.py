"""Cut one candle into the shorter candles it is made of.

The parent is given; the children are invented so that they aggregate to it *exactly*: the
first opens where it opens, the last closes where it closes, one of them reaches its high and
one its low, and volumes and trades add up. All amounts are integers (ticks of price, steps
of volume), so no rounding can break the sums. Floating point is used for shares only, and
only with `+ - * /` and `sqrt`, which IEEE 754 makes the same everywhere.

Beyond the sums the children stay plausible, by induction from parent to child:

- a child without trades does not exist (that is how thin markets miss minutes);
- one trade has one price, two trades have two: a candle never shows more prices than trades;
- the mean price, quote volume over volume, lies between low and high; where a few trades
  leave no volumes that balance the prices, it strays by a fraction of a per cent.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import NamedTuple


class Candle(NamedTuple):
    """Open time in epoch ms; prices in ticks, volumes in steps, quote volumes in tick-steps."""

    open_time: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trades: int
    taker_base: int
    taker_quote: int


# From this many trades on a candle can show open, high, low and close of its own.
_ENOUGH_TRADES = 6
# Random 16-bit numbers that `split` reads for each child.
NOISE_PER_CHILD = 8


def split(
    parent: Candle, fanout: int, step_ms: int, noise: Sequence[int], alive: Sequence[float]
) -> list[Candle]:
    """Cut `parent` into at most `fanout` candles of `step_ms` milliseconds, in order.

    `noise` holds NOISE_PER_CHILD * fanout numbers below 65,536; `alive` the share of each
    child's time in which the market was open (children with 0 get no trades). Children
    without trades are left out.
    """
    trades = _split_trades(parent.trades, fanout, noise, alive)
    slots = [slot for slot in range(fanout) if trades[slot]]
    if len(slots) == 1:
        return [parent._replace(open_time=parent.open_time + slots[0] * step_ms)]
    counts = [trades[slot] for slot in slots]
    opens, highs, lows, closes = _split_prices(parent, counts, noise)
    # A candle's mean price is near the mean of its four prices.
    fourfold = [sum(four) for four in zip(opens, highs, lows, closes, strict=True)]
    volumes = _split_volume(parent, counts, fourfold, noise)

    # Quote volume is what the volume costs at that price, plus a share of the difference that
    # is left, as far as there is room up to the high or down to the low.
    base = [four * volume // 4 for four, volume in zip(fourfold, volumes, strict=True)]
    excess = parent.quote_volume - sum(base)
    sign, edges = (1, highs) if excess >= 0 else (-1, lows)
    excess *= sign
    room = [
        sign * (edge * volume - b) for edge, volume, b in zip(edges, volumes, base, strict=True)
    ]
    total_room = sum(room)
    if excess > total_room or not total_room:
        # No volumes could balance these prices. The sums still hold; the mean price strays.
        room, total_room = volumes, parent.volume

    children = []
    cum_room = cum_volume = cum_quote = given = given_base = given_quote = 0
    start, volume, quote = parent.open_time, parent.volume, parent.quote_volume
    taker_base, taker_quote = parent.taker_base, parent.taker_quote
    new = tuple.__new__  # half the cost of calling the class
    for i, slot in enumerate(slots):
        # Differences of floored running sums add up exactly, and never exceed their share
        # rounded up: so the taker's part never exceeds the whole.
        cum_room += room[i]
        reached = excess * cum_room // total_room
        child_quote = base[i] + sign * (reached - given)
        given = reached
        cum_volume += volumes[i]
        reached_base = taker_base * cum_volume // volume
        cum_quote += child_quote
        reached_quote = taker_quote * cum_quote // quote
        row = (
            start + slot * step_ms,
            opens[i],
            highs[i],
            lows[i],
            closes[i],
            volumes[i],
            child_quote,
            counts[i],
            reached_base - given_base,
            reached_quote - given_quote,
        )
        children.append(new(Candle, row))
        given_base, given_quote = reached_base, reached_quote
    return children


def merge(candles: Sequence[Candle], open_time: int) -> Candle:
    """The candle that opens at `open_time` and is made of `candles` (not empty, in order)."""
    first = candles[0]
    if len(candles) == 1:
        return first if first.open_time == open_time else first._replace(open_time=open_time)
    _, _, highs, lows, _, volumes, quotes, trades, bases, taker_quotes = zip(*candles, strict=True)
    return Candle(
        open_time,
        first.open,
        max(highs),
        min(lows),
        candles[-1].close,
        sum(volumes),
        sum(quotes),
        sum(trades),
        sum(bases),
        sum(taker_quotes),
    )


def _split_trades(
    total: int, fanout: int, noise: Sequence[int], alive: Sequence[float]
) -> list[int]:
    trades = [0] * fanout
    if total < 2 * fanout:
        # Few trades: each picks its own place, so that quiet stretches look quiet.
        open_slots = [slot for slot in range(fanout) if alive[slot]]
        for i in range(total):
            trades[open_slots[noise[i] % len(open_slots)]] += 1
        return trades
    weights = [
        (24 + (bits & 63)) * share for bits, share in zip(noise[:fanout], alive, strict=True)
    ]
    scale = total / sum(weights)
    last_open = max(slot for slot in range(fanout) if alive[slot])
    cum, given = 0.0, 0
    for slot, weight in enumerate(weights):
        cum += weight
        reached = total if slot >= last_open else int(cum * scale)
        trades[slot] = reached - given
        given = reached
    return trades


def _split_prices(
    parent: Candle, counts: list[int], noise: Sequence[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    _, first, high, low, last, *_ = parent
    size = len(counts)
    high_at, low_at = _choose_extremes(parent, counts, noise)
    path = _draw_path(parent, size, high_at, low_at, noise)
    opens, closes = path[:-1], path[1:]
    wick = (high - low) * 0.4 / sqrt(size) / 65536
    highs, lows = [], []
    offset = 2 * size
    for i in range(size):
        a, b = opens[i], closes[i]
        top, bottom = (a, b) if a > b else (b, a)
        if counts[i] < _ENOUGH_TRADES:
            fixed = (
                first if i == 0 else None,
                high if i == high_at else None,
                low if i == low_at else None,
                last if i == size - 1 else None,
            )
            opens[i], top, bottom, closes[i], spare = _few_trades(counts[i], a, b, fixed)
        else:
            spare = 2
        if spare:
            top = min(high, top + int(noise[offset + i] * wick))
        if spare > 1:
            bottom = max(low, bottom - int(noise[offset + size + i] * wick))
        highs.append(high if i == high_at else top)
        lows.append(low if i == low_at else bottom)
    return opens, highs, lows, closes


def _choose_extremes(parent: Candle, counts: list[int], noise: Sequence[int]) -> tuple[int, int]:
    """The children that reach the parent's high and low; -1 where its open or close does."""
    spare = list(counts)
    spare[0] -= 1
    spare[-1] -= 1
    chosen = []
    for extreme, bits in ((parent.high, noise[-1]), (parent.low, noise[-2])):
        at = -1
        if extreme not in (parent.open, parent.close):
            at = bits % len(spare)
            while not spare[at]:
                at = (at + 1) % len(spare)
            spare[at] -= 1
        chosen.append(at)
    return chosen[0], chosen[1]


def _draw_path(
    parent: Candle, size: int, high_at: int, low_at: int, noise: Sequence[int]
) -> list[int]:
    """The prices at the borders of the children: straight lines by way of high and low, shaken."""
    _, first, high, low, last, *_ = parent
    if high == low:
        return [first] * (size + 1)
    stops = [(0.0, first)]
    # The two may fall in one child: the uneven fractions keep the stops apart.
    tops = [(high_at + 0.4, high)] if high_at >= 0 else []
    bottoms = [(low_at + 0.6, low)] if low_at >= 0 else []
    stops += sorted(tops + bottoms)
    stops.append((float(size), last))
    path = [first]
    shake = (high - low) * 0.7 / sqrt(size) / 65536
    border = 1
    for (x0, y0), (x1, y1) in pairwise(stops):
        slope = (y1 - y0) / (x1 - x0)
        while border < size and border <= x1:
            price = int(y0 + slope * (border - x0) + (noise[size + border] - 32768) * shake)
            path.append(low if price < low else high if price > high else price)
            border += 1
    path.append(last)
    return path


def _few_trades(
    count: int, a: int, b: int, fixed: tuple[int | None, int | None, int | None, int | None]
) -> tuple[int, int, int, int, int]:
    """Open, high, low, close and trades left over, for a child of few trades.

    `fixed` holds the prices that the parent asks of it (its open, high, low, close or None);
    `a` and `b` are the prices that it would open and close at if it had trades enough.
    """
    first, high, low, last = fixed
    asked = [price for price in fixed if price is not None]
    if count == 1:
        price = asked[0] if asked else a
        return price, price, price, price, 0
    spare = count - len(asked)
    extremes = [price for price in (high, low) if price is not None]
    if first is not None:
        a = first
    elif spare:
        spare -= 1
    else:
        a = extremes.pop(0)
    if last is not None:
        b = last
    elif spare:
        spare -= 1
    else:
        b = extremes.pop(0)
    prices = [a, b, *asked]
    return a, max(prices), min(prices), b, spare


def _split_volume(
    parent: Candle, counts: list[int], fourfold: list[int], noise: Sequence[int]
) -> list[int]:
    """Volumes that add up, of at least one step a trade, leaning so that the mean price fits."""
    size = len(counts)
    mean = 4 * parent.quote_volume / parent.volume
    weights = [
        count * (24 + (bits & 127))
        for count, bits in zip(counts, noise[4 * size : 5 * size], strict=True)
    ]
    gaps = [four - mean for four in fourfold]
    above = below = 0.0
    for weight, gap in zip(weights, gaps, strict=True):
        if gap > 0:
            above += weight * gap
        else:
            below -= weight * gap
    if above and below:
        # Weighted by the other side's lever, both sides balance around the mean price.
        weights = [
            weight * (below if gap > 0 else above)
            for weight, gap in zip(weights, gaps, strict=True)
        ]
    elif above or below:
        # All on one side of the mean: most of the volume goes to the child that is nearest.
        nearest = min(range(size), key=lambda i: abs(gaps[i]))
        weights[nearest] += 8 * sum(weights)
    extra = parent.volume - parent.trades
    scale = extra / sum(weights)
    volumes = []
    cum, given, last = 0.0, 0, size - 1
    for i, weight in enumerate(weights):
        cum += weight
        reached = extra if i == last else min(extra, int(cum * scale))
        volumes.append(counts[i] + reached - given)
        given = reached
    return volumes
