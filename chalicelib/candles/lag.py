"""How far behind the stored candles are. Pure.

Lag is the time since the close of the oldest closed candle that is not stored; 0 where every closed
candle is stored. Only candles after the newest covered stretch count: earlier holes are gaps, and
coverage names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from chalicelib.candles.summary import Summary
from chalicelib.core import timeframes

#: symbol -> timeframe -> what is known of it.
Stored = Mapping[str, Mapping[str, Summary]]


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


def lag_ms(timeframe: str, coverage: Summary | None, since_ms: int, now_ms: int) -> int:
    """Milliseconds since the close of the oldest candle that is closed and not stored, or 0."""
    if coverage and coverage.covered:
        open_ms = timeframes.ceil(timeframe, coverage.covered[-1].end_ms, coverage.last)
    else:
        open_ms = timeframes.floor(timeframe, since_ms)
    return max(0, now_ms - timeframes.following(timeframe, open_ms))
