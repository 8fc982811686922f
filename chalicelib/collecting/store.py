"""Checking what was fetched of a unit, and merging it into its Parquet objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from chalicelib.candles.candles import Answer, Candles, closed_candles
from chalicelib.candles.candles import absent as stretches
from chalicelib.candles.coverage import Coverage, CoveredPart
from chalicelib.candles.coverage_table import Coverages
from chalicelib.candles.gaps import INVALID, NO_CANDLE, Absent, Gap, places
from chalicelib.candles.intervals import Interval, outside, union
from chalicelib.candles.store import CandleStore
from chalicelib.core import metrics, timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CollectorError, ExchangeDrifted, ObjectDamaged
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


class Found(NamedTuple):
    """What the exchange answered for a unit.

    `unusable`: open times (epoch ms) of rows that could not be read; `unread`: stretches that were
    answered with rows of which not even that can be read. None where it is not known: `before_ms`:
    when the candle before the unit opened; `listed_ms`: when the first one ever did, and
    `looked_up_ms`: when that was asked for this unit.
    """

    answers: Sequence[Answer]
    unusable: Set[int]
    unread: Sequence[Interval] = ()
    before_ms: int | None = None
    listed_ms: int | None = None
    looked_up_ms: int | None = None


class Stored(NamedTuple):
    """A unit's result, and what it covers; `part` None where the unit failed."""

    result: Result
    part: CoveredPart | None

    @property
    def is_gappy(self) -> bool:
        """Whether something is absent in it."""
        return self.part is not None and bool(self.part.absent)


class _Merged(NamedTuple):
    """`stored`, `revised`: candles of the answer; `opens`: of all that are held in the unit now."""

    stored: int
    revised: int
    opens: Set[int]


def failure(error: CollectorError) -> Result:
    return Result(reason=error.reason, detail=error.detail)


async def store(
    backend: Backend, symbol: str, unit: Unit, found: Found, task_id: str, known: Coverages
) -> Stored:
    """Store the valid, closed candles of a unit, given all that was answered for it.

    `known`: what is known of the symbol; read before this, so that what is absent then is so now.
    Where rows that cannot be a candle are all there is, the unit fails, unless they were before: a
    candle that the exchange has is no gap.
    """
    start_ms, end_ms = unit.start_ms, unit.end_ms
    candles, rejected = closed_candles(unit.timeframe, found.answers, start_ms, end_ms)
    rejected |= {at for at in found.unusable if start_ms <= at < end_ms}
    rejected -= set(candles.open_times)
    try:
        merged = await _merge(backend, symbol, unit, candles, found.listed_ms, task_id)
    except ObjectDamaged as error:
        return Stored(failure(error), None)
    # The candle that runs at the server's clock, and all after it, are not covered yet.
    running_ms = _running(unit, found)
    if running_ms <= end_ms:
        _measure_lag(backend, unit, candles)
    begin_ms = start_ms  # a candle that opened before may reach into the unit
    if found.before_ms is not None:
        begin_ms = max(start_ms, timeframes.following(unit.timeframe, found.before_ms))
    absent = _absent(unit.timeframe, merged.opens, rejected, begin_ms, min(end_ms, running_ms))
    if found.unread:
        absent = [part for each in absent for part in _unread(each, found.unread)]
    invalid = [each for each in absent if each.reason == INVALID]
    # What is held already does not make up for an answer of which nothing could be read.
    gaps = known.get(unit.timeframe, Coverage()).gaps
    if (_is_unreadable(found) or (invalid and not merged.opens)) and not _were_invalid(
        gaps, invalid
    ):
        return Stored(_none_usable(found, len(rejected)), None)
    part = CoveredPart(
        unit.timeframe,
        start_ms,
        max(start_ms, min(end_ms, running_ms)),
        candles.open_times[-1] if len(candles) else None,
        absent,
        found.listed_ms,
        found.looked_up_ms,
    )
    result = Result(merged.stored, len(rejected), merged.revised, rejected_opens=rejected)
    return Stored(result, part)


def _none_usable(found: Found, rejected: int) -> Result:
    """Why a unit fails of which no row can be a candle."""
    if not _is_unreadable(found):
        return Result(reason=UNUSABLE, detail=f"none of {rejected} candles can be used")
    metrics.count("ExchangeSchemaDrift")
    return failure(ExchangeDrifted("no row can be read"))


def _is_unreadable(found: Found) -> bool:
    """Whether rows came, and of none of them even the open time can be read."""
    return bool(found.unread and not found.unusable) and not any(
        answer.rows for answer in found.answers
    )


async def _merge(
    backend: Backend,
    symbol: str,
    unit: Unit,
    candles: Candles,
    listed_ms: int | None,
    task_id: str,
) -> _Merged:
    """Merge candles into the objects that the unit lies in. Raises ObjectDamaged.

    An object is read even where nothing came for it, unless it ends before the listing: a candle
    that the exchange no longer serves is held all the same.
    """
    objects = CandleStore(backend)
    revised = 0
    opens: set[int] = set()
    for start_ms, end_ms in timeframes.object_cuts(unit.timeframe, unit.start_ms, unit.end_ms):
        part = candles.between(start_ms, end_ms)
        if len(part):
            now_ms = backend.now_ms()
            made = await objects.merge(symbol, unit.timeframe, part, task_id, now_ms)
            revised += made.revised
            held = made.candles
        elif listed_ms is None or listed_ms < end_ms:
            held = await objects.read(symbol, unit.timeframe, start_ms)
        else:
            continue
        opens.update(held.between(start_ms, end_ms).open_times)
    return _Merged(len(candles), revised, opens)


def _running(unit: Unit, found: Found) -> int:
    """When the candle opens that runs at the exchange's clock, on the grid of those answered."""
    server_ms = min(answer.server_ms for answer in found.answers)
    seen = (row[0] for answer in found.answers for row in answer.rows)
    like_ms = max((at for at in seen if at <= server_ms), default=None)
    return timeframes.floor(unit.timeframe, server_ms, like_ms)


def _measure_lag(backend: Backend, unit: Unit, candles: Candles) -> None:
    """For a unit that reaches up to now only: the age of older candles says nothing."""
    if len(candles):
        lag_ms = max(0, backend.now_ms() - candles.columns["close_time"][-1])
        metrics.measure("CandleLag", lag_ms / 1000, Timeframe=unit.timeframe)


def _absent(
    timeframe: str, held: Set[int], rejected: Iterable[int], start_ms: int, end_ms: int
) -> list[Absent]:
    """Where no candle is held in the window, and whether an invalid one was sent for it; sorted."""
    invalid = sorted(at for at in rejected if at not in held and at < end_ms)
    there = sorted([*(at for at in held if at < end_ms), *invalid])
    ends = dict(zip(there, [*there[1:], end_ms], strict=False))
    return sorted(
        [
            *(Absent(*each, NO_CANDLE) for each in stretches(timeframe, there, start_ms, end_ms)),
            *(
                Absent(at, min(timeframes.following(timeframe, at), ends[at]), INVALID)
                for at in invalid
            ),
        ]
    )


def _unread(absent: Absent, answered: Iterable[Interval]) -> list[Absent]:
    """The stretch, told apart: where a row came that cannot be read, it may be that candle."""
    honest = outside(absent.start_ms, absent.end_ms, union(answered))
    rest = outside(absent.start_ms, absent.end_ms, honest)
    return sorted(
        [
            *(Absent(*each, absent.reason) for each in honest),
            *(Absent(*each, INVALID) for each in rest),
        ]
    )


def _were_invalid(gaps: Iterable[Gap], invalid: Sequence[Absent]) -> bool:
    """Whether there are stretches that are invalid, and all are known to be: asked once more."""
    known = places(gap for gap in gaps if gap.reason == INVALID)
    return bool(invalid) and not any(outside(each.start_ms, each.end_ms, known) for each in invalid)
