"""What is known to be collected, per symbol and timeframe: merging intervals and gaps. Pure.

    {"covered": [[start, end], ...],   the exchange was asked for every candle opening there
     "last": open time of the newest stored candle, or None,
     "gaps": [[start, end, reason], ...],  covered, but without a candle
     "gaps_dropped": how many of the oldest gaps no longer fit}

Times are epoch ms, intervals half open and ascending.
"""

from __future__ import annotations

from typing import Any

#: An item must stay far below DynamoDB's 400 KB; a gap takes about 40 bytes.
MOST_GAPS = 400

NO_CANDLE = "NO_CANDLE_ON_EXCHANGE"
INVALID = "INVALID_CANDLE"

Entry = dict[str, Any]


def extended(
    entry: Entry | None,
    start_ms: int,
    end_ms: int,
    last_open_ms: int | None,
    gaps: list[tuple[int, int, str]],
) -> Entry:
    """`entry` after [start, end) was asked for and `gaps` were found in it."""
    old = entry or {"covered": [], "last": None, "gaps": [], "gaps_dropped": 0}
    outside = [gap for gap in old["gaps"] for gap in _without(gap, start_ms, end_ms)]
    every = sorted([*outside, *([*gap] for gap in gaps)])
    joined = _joined(every)
    dropped = max(0, len(joined) - MOST_GAPS)
    lasts = [last for last in (old["last"], last_open_ms) if last is not None]
    return {
        "covered": _union([*old["covered"], [start_ms, end_ms]]),
        "last": max(lasts) if lasts else None,
        "gaps": joined[dropped:],
        "gaps_dropped": old["gaps_dropped"] + dropped,
    }


def _union(intervals: list[list[int]]) -> list[list[int]]:
    union: list[list[int]] = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if union and start <= union[-1][1]:
            union[-1][1] = max(union[-1][1], end)
        else:
            union.append([start, end])
    return union


def _without(gap: list[Any], start_ms: int, end_ms: int) -> list[list[Any]]:
    """The parts of `gap` outside [start, end): what was asked again is known anew."""
    start, end, reason = gap
    parts = []
    if start < min(end, start_ms):
        parts.append([start, min(end, start_ms), reason])
    if max(start, end_ms) < end:
        parts.append([max(start, end_ms), end, reason])
    return parts


def _joined(gaps: list[list[Any]]) -> list[list[Any]]:
    joined: list[list[Any]] = []
    for start, end, reason in gaps:
        if joined and joined[-1][1] == start and joined[-1][2] == reason:
            joined[-1][1] = end
        else:
            joined.append([start, end, reason])
    return joined
