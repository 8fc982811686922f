"""Checking what was fetched of a unit, and merging it into its Parquet objects."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from chalicelib.candles import coverage
from chalicelib.candles.candles import Answer, Candles, closed_candles, missing
from chalicelib.candles.coverage import CoveredPart, Gap
from chalicelib.candles.store import CandleStore
from chalicelib.core import metrics, timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CollectorError, ObjectDamaged
from chalicelib.work.messages import Unit

#: The exchange has candles in the window, and none of them can be one.
UNUSABLE = "EXCHANGE_UNUSABLE_ANSWER"


@dataclass(frozen=True)
class Result:
    """What one unit came to: candles stored, rejected and revised, or a reason why it failed."""

    stored: int = 0
    rejected: int = 0
    revised: int = 0
    reason: str | None = None
    detail: str = ""
    rejected_opens: Set[int] = frozenset()


class Stored(NamedTuple):
    """A unit's result, and what it covers; `part` None where the unit failed."""

    result: Result
    part: CoveredPart | None


def failure(error: CollectorError) -> Result:
    return Result(reason=error.reason, detail=error.detail)


async def store(
    backend: Backend,
    symbol: str,
    unit: Unit,
    answers: Sequence[Answer],
    unusable: Set[int],
    task_id: str,
) -> Stored:
    """Store the valid, closed candles of a unit, given all that was answered for it.

    `unusable`: open times of rows that could not be read. Where that is all there is, the unit
    fails: a candle that the exchange has is no gap.
    """
    candles, rejected = closed_candles(answers, unit.start_ms, unit.end_ms)
    rejected |= {at for at in unusable if unit.start_ms <= at < unit.end_ms}
    rejected -= set(candles.open_times)
    if rejected and not len(candles):
        return Stored(Result(reason=UNUSABLE, detail=f"none of {len(rejected)} candles"), None)
    try:
        stored, revised = await _merge(backend, symbol, unit, candles, task_id)
    except ObjectDamaged as error:
        return Stored(failure(error), None)
    server_ms = min(answer.server_ms for answer in answers)
    # The candle that runs at the server's clock, and all after it, are not covered yet.
    running_ms = timeframes.floor(unit.timeframe, server_ms)
    if running_ms <= unit.end_ms:
        _measure_lag(backend, unit, candles)
    part = _covered(unit, min(unit.end_ms, running_ms), candles, rejected)
    return Stored(Result(stored, len(rejected), revised, rejected_opens=rejected), part)


async def _merge(
    backend: Backend, symbol: str, unit: Unit, candles: Candles, task_id: str
) -> tuple[int, int]:
    """Merge candles into the objects that the unit lies in: (how many, how many of them revised
    what was stored). Raises ObjectDamaged."""
    stored = revised = 0
    for start_ms, end_ms in timeframes.object_cuts(unit.timeframe, unit.start_ms, unit.end_ms):
        part = candles.between(start_ms, end_ms)
        if len(part):
            now_ms = backend.now_ms()
            made = await CandleStore(backend).merge(symbol, unit.timeframe, part, task_id, now_ms)
            revised += made.revised
        stored += len(part)
    return stored, revised


def _measure_lag(backend: Backend, unit: Unit, candles: Candles) -> None:
    """For a unit that reaches up to now only: the age of older candles says nothing."""
    if len(candles):
        lag_ms = max(0, backend.now_ms() - candles.columns["close_time"][-1])
        metrics.measure("CandleLag", lag_ms / 1000, Timeframe=unit.timeframe)


def _covered(unit: Unit, end_ms: int, candles: Candles, rejected: set[int]) -> CoveredPart:
    gaps = [
        Gap(low, high, coverage.INVALID if low in rejected else coverage.NO_CANDLE)
        for low, high in missing(unit.timeframe, candles.open_times, unit.start_ms, end_ms)
    ]
    last_open_ms = candles.open_times[-1] if len(candles) else None
    end_ms = max(unit.start_ms, end_ms)
    return CoveredPart(unit.timeframe, unit.start_ms, end_ms, last_open_ms, gaps)
