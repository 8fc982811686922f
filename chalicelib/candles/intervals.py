"""Intervals of time, half open and in epoch ms. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Interval(NamedTuple):
    """[start_ms, end_ms)."""

    start_ms: int
    end_ms: int


def outside(start_ms: int, end_ms: int, known: Iterable[Interval]) -> list[Interval]:
    """The parts of [start, end) that no interval of `known` (ascending, disjoint) covers."""
    parts = []
    for known_start, known_end in known:
        if known_end <= start_ms or known_start >= end_ms:
            continue
        if start_ms < known_start:
            parts.append(Interval(start_ms, known_start))
        start_ms = max(start_ms, known_end)
    if start_ms < end_ms:
        parts.append(Interval(start_ms, end_ms))
    return parts


def union(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    union: list[Interval] = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if union and start <= union[-1].end_ms:
            union[-1] = Interval(union[-1].start_ms, max(union[-1].end_ms, end))
        else:
            union.append(Interval(start, end))
    return tuple(union)
