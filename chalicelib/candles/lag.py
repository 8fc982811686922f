"""How far behind the stored candles are. Pure.

Lag is the time since the close of the oldest closed candle that is not stored; 0 where every closed
candle is stored. Only candles after the newest covered stretch count: earlier holes are gaps, and
coverage names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chalicelib.candles.coverage import Coverage
from chalicelib.core import timeframes, times

#: symbol -> timeframe -> what is known of it.
Stored = Mapping[str, Mapping[str, Coverage]]


@dataclass
class Lag:
    """`worst`: timeframe -> ms; `behind`: symbol -> the timeframes whose lag is above the limit."""

    worst: dict[str, int] = field(default_factory=dict)
    behind: dict[str, tuple[str, ...]] = field(default_factory=dict)


def lag_of(
    symbols: Iterable[str],
    wanted: tuple[str, ...],
    stored: Stored,
    since_ms: int,
    most_ms: int,
    now_ms: int,
) -> Lag:
    """The lag of some symbols and timeframes; above `most_ms` a timeframe is behind.

    Where nothing is stored yet, the first candle that closes after `since_ms` counts.
    """
    lag = Lag(dict.fromkeys(wanted, 0))
    for symbol in symbols:
        coverages = stored.get(symbol, {})
        late = []
        for timeframe in wanted:
            ms = lag_ms(timeframe, coverages.get(timeframe), since_ms, now_ms)
            lag.worst[timeframe] = max(lag.worst[timeframe], ms)
            if ms > most_ms:
                late.append(timeframe)
        if late:
            lag.behind[symbol] = tuple(late)
    return lag


def lag_ms(timeframe: str, coverage: Coverage | None, since_ms: int, now_ms: int) -> int:
    """Milliseconds since the close of the oldest candle that is closed and not stored, or 0."""
    if coverage and coverage.covered:
        end_ms = coverage.covered[-1].end_ms
        open_ms = timeframes.floor(timeframe, end_ms)
        if open_ms < end_ms:  # the candle that opened before the end is stored
            open_ms = _following(timeframe, open_ms)
    else:
        open_ms = timeframes.floor(timeframe, since_ms)
    return max(0, now_ms - _following(timeframe, open_ms))


def _following(timeframe: str, open_ms: int) -> int:
    """When the candle that opens at `open_ms` closes and the next one opens."""
    if timeframe == "1M":
        return timeframes.floor("1M", open_ms + 32 * times.DAY)
    return open_ms + timeframes.LENGTH_MS[timeframe]
