"""Synthetic trade of a symbol: any stretch of its history, without its beginning.

A candle of a day is drawn from a hash of (seed, symbol, day) alone; the candles inside it are
cut from it level by level (1d, 4h, 1h, 15m, 5m, 1m, 1s), each cut drawn from a hash of its own.
So the same query gives the same candles whatever was asked before, a thousand daily candles
need no minutes, and a coarse candle is exactly what its finer ones aggregate to.
"""

import struct
from collections.abc import Iterator
from hashlib import blake2b, shake_128

from local.exchange.catalogue import Symbol
from local.exchange.splitting import NOISE_PER_CHILD, Candle, merge, split
from local.exchange.timeframes import DAY, HOUR, MINUTE, SECOND

# Lengths (ms) of the candles that are drawn; every other timeframe is merged from these.
LEVELS = (DAY, 4 * HOUR, HOUR, 15 * MINUTE, 5 * MINUTE, MINUTE, SECOND)
_FINEST = len(LEVELS) - 1
# Daily prices are bridged inside blocks of this many days.
_BLOCK_DAYS = 64
# Candles kept in memory, at about 500 bytes each.
_KEPT_CANDLES = 120_000


class Market:
    """The trade of every symbol, for one seed. Not safe to share between threads."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._keys: dict[str, int] = {}
        self._kept: dict[tuple[int, int, int], list[Candle]] = {}
        self._kept_count = 0

    def candles(self, symbol: Symbol, level: int, start: int, end: int) -> Iterator[Candle]:
        """The candles of LEVELS[level] that open in [start, end) epoch ms, oldest first.

        Lazy: what the caller does not take is not drawn. Periods without trade are left out.
        """
        start = max(start, symbol.listed - LEVELS[level] + 1)
        if symbol.stopped is not None:
            end = min(end, symbol.stopped)
        if level == 0:
            yield from self._days(symbol, start, end)
            return
        parent_length = LEVELS[level - 1]
        for parent in self.candles(symbol, level - 1, start - start % parent_length, end):
            children = self._children(symbol, level, parent)
            if parent.open_time < start or parent.open_time + parent_length > end:
                yield from (child for child in children if start <= child.open_time < end)
            else:
                yield from children

    def total(self, symbol: Symbol, start: int, end: int) -> Candle | None:
        """What traded in [start, end) epoch ms as one candle that opens at `start`.

        Both times on whole seconds. None when nothing traded.
        """
        parts: list[Candle] = []
        position = start
        while position < end:
            level = next(
                level
                for level, length in enumerate(LEVELS)
                if (position % length == 0 and position + length <= end) or level == _FINEST
            )
            stop = end - end % LEVELS[level]
            if level and position % LEVELS[level - 1]:
                stop = min(stop, position - position % LEVELS[level - 1] + LEVELS[level - 1])
            parts += self.candles(symbol, level, position, stop)
            position = stop
        return merge(parts, start) if parts else None

    def last_price(self, symbol: Symbol, now: int) -> int | None:
        """The price (ticks) of the last trade before `now` (epoch ms); None before the first."""
        cutoff = min(now, symbol.stopped) if symbol.stopped is not None else now
        day = cutoff - cutoff % DAY
        while day + DAY > symbol.listed:
            # A few days at most: only an outage leaves a day without trade.
            for candle in self.candles(symbol, 0, day, day + DAY):
                price = self._last_price_in(symbol, 0, candle, cutoff)
                if price is not None:
                    return price
            day -= DAY
        return None

    def _last_price_in(self, symbol: Symbol, level: int, candle: Candle, cutoff: int) -> int | None:
        if candle.open_time + LEVELS[level] <= cutoff:
            return candle.close
        if level == _FINEST or candle.open_time >= cutoff:
            return None
        for child in reversed(self._children(symbol, level + 1, candle)):
            price = self._last_price_in(symbol, level + 1, child, cutoff)
            if price is not None:
                return price
        return None

    def _children(self, symbol: Symbol, level: int, parent: Candle) -> list[Candle]:
        place = (self._key(symbol), level, parent.open_time)
        kept = self._kept.get(place)
        if kept is not None:
            return kept
        step = LEVELS[level]
        fanout = LEVELS[level - 1] // step
        noise = self._noise(place, fanout)
        alive = _alive(symbol, parent.open_time, fanout, step)
        return self._keep(place, split(parent, fanout, step, noise, alive))

    def _days(self, symbol: Symbol, start: int, end: int) -> Iterator[Candle]:
        first = -(-start // DAY)
        for block in range(first // _BLOCK_DAYS, -(-end // DAY) // _BLOCK_DAYS + 1):
            for candle in self._block(symbol, block):
                if start <= candle.open_time < end:
                    yield candle

    def _block(self, symbol: Symbol, block: int) -> list[Candle]:
        place = (self._key(symbol), 0, block)
        kept = self._kept.get(place)
        if kept is not None:
            return kept
        noise = self._noise(place, _BLOCK_DAYS)
        steps = [(bits - 32768) / 65536 * 0.09 for bits in noise[:_BLOCK_DAYS]]
        drift = sum(steps) / _BLOCK_DAYS
        before, after = self._level_price(symbol, block), self._level_price(symbol, block + 1)
        opens, walk = [], 0.0
        for i, step in enumerate(steps):
            trend = before + (after - before) * i / _BLOCK_DAYS
            opens.append(_ticks(symbol, trend * max(0.4, 1 + walk)))
            walk += step - drift
        opens.append(_ticks(symbol, after))
        candles = []
        for i in range(_BLOCK_DAYS):
            alive = _alive(symbol, (block * _BLOCK_DAYS + i) * DAY, 1, DAY)[0]
            if alive:
                day = (block * _BLOCK_DAYS + i) * DAY
                candles.append(_draw_day(symbol, day, opens[i], opens[i + 1], alive, noise[i::64]))
        return self._keep(place, candles)

    def _level_price(self, symbol: Symbol, block: int) -> float:
        a, b, *_ = self._noise((self._key(symbol), 255, block), 1)
        return symbol.price * (0.55 + 0.9 * (a + b) / 131072)

    def _keep(self, place: tuple[int, int, int], candles: list[Candle]) -> list[Candle]:
        self._kept[place] = candles
        self._kept_count += len(candles)
        if self._kept_count > _KEPT_CANDLES:
            for old in list(self._kept)[: len(self._kept) // 2]:
                self._kept_count -= len(self._kept.pop(old))
        return candles

    def _key(self, symbol: Symbol) -> int:
        key = self._keys.get(symbol.name)
        if key is None:
            digest = blake2b(f"{self._seed}/{symbol.name}".encode(), digest_size=8).digest()
            key = self._keys[symbol.name] = int.from_bytes(digest, "big")
        return key

    @staticmethod
    def _noise(place: tuple[int, int, int], count: int) -> tuple[int, ...]:
        numbers = count * NOISE_PER_CHILD
        return struct.unpack(
            f"<{numbers}H", shake_128(struct.pack("<QBq", *place)).digest(2 * numbers)
        )


def _ticks(symbol: Symbol, price: float) -> int:
    return max(1, int(price * 10**symbol.price_digits))


def _alive(symbol: Symbol, start: int, count: int, step: int) -> list[float]:
    """The share of each of `count` periods of `step` ms, from `start` on, that traded."""
    end = start + count * step
    gaps = [gap for gap in symbol.gaps() if gap[0] < end and gap[1] > start]
    if not gaps:
        return [1.0] * count
    shares = []
    for opened in range(start, end, step):
        closed = opened + step
        dead = sum(max(0, min(to, closed) - max(since, opened)) for since, to in gaps)
        shares.append(max(0.0, 1 - dead / step))
    return shares


def _draw_day(
    symbol: Symbol, day: int, first: int, last: int, alive: float, noise: tuple[int, ...]
) -> Candle:
    high = max(first, last) + int(max(first, last) * 0.04 * (noise[1] / 65536) ** 2)
    low = min(first, last) - int(min(first, last) * 0.04 * (noise[2] / 65536) ** 2)
    busy = alive * (0.5 + 1.5 * noise[3] / 65536 * noise[4] / 65536)
    # Four trades can show four different prices.
    trades = max(4, int(symbol.daily_trades * busy))
    price = symbol.price
    steps = int(symbol.daily_quote * busy / price * 10**symbol.volume_digits)
    volume = max(trades, steps)
    quote = (first + high + low + last) * volume // 4
    taker = volume * (27_000 + noise[5] // 6) // 65_536
    return Candle(
        day, first, high, low, last, volume, quote, trades, taker, quote * taker // volume
    )
