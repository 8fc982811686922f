"""Checking what was fetched of a unit, and writing it and what it covers into its objects."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from types import MappingProxyType
from typing import NamedTuple

from chalicelib.candles.answers import Answer, closed_candles
from chalicelib.candles.candles import Candles, merged
from chalicelib.candles.candles import absent as stretches
from chalicelib.candles.coverage import Coverage, CoveredPart
from chalicelib.candles.gaps import INVALID, NO_CANDLE, Absent, Gap, places
from chalicelib.candles.intervals import Interval, outside, union
from chalicelib.candles.store import CandleStore
from chalicelib.candles.summary import Seen, Summary, seen
from chalicelib.collecting.archived import Archived, PassedOver
from chalicelib.collecting.evidence import settled_until
from chalicelib.core import metrics, timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CollectorError, ExchangeDrifted, ObjectDamaged
from chalicelib.core.times import FOREVER_MS
from chalicelib.work.messages import Unit

#: The exchange has candles in the window, and none of them can be one.
UNUSABLE = "EXCHANGE_UNUSABLE_ANSWER"


@dataclass(frozen=True)
class Result:
    """What one unit came to: candles stored, rejected and revised, or a reason why it failed.

    `from_store`: all of it was held or explained already, and nothing was asked for. `archived`: of
    `stored`, what files of the archive brought; `passed_over`: files that were not used.
    """

    stored: int = 0
    rejected: int = 0
    revised: int = 0
    reason: str | None = None
    detail: str = ""
    rejected_opens: Set[int] = frozenset()
    from_store: bool = False
    archived: int = 0
    passed_over: tuple[PassedOver, ...] = ()


class Found(NamedTuple):
    """What the exchange answered for a unit, and what its archive brought (`archived`).

    `asked`: the stretches that were asked for; `unusable`: open times (epoch ms) of rows that could
    not be read; `unread`: stretches that were answered with rows of which not even that can be
    read. `before`: start of a stretch -> when the candle before it opened, where that was asked.
    `wanted`: what of `asked` the unit needs, where that is not all: other candles come with it, and
    are none that it has collected. None where it is not known: `listed_ms`: when the first candle
    ever opened, and `looked_up_ms`: when that was asked for this unit.
    """

    answers: Sequence[Answer]
    asked: Sequence[Interval]
    unusable: Set[int]
    unread: Sequence[Interval] = ()
    before: Mapping[int, int] = MappingProxyType({})
    listed_ms: int | None = None
    looked_up_ms: int | None = None
    archived: Archived | None = None
    wanted: Sequence[Interval] | None = None


class Stored(NamedTuple):
    """A unit's result, and the objects that were written for it, as they are now."""

    result: Result
    objects: Sequence[Seen] = ()


def failure(error: CollectorError) -> Result:
    return Result(reason=error.reason, detail=error.detail)


async def store(
    backend: Backend,
    symbol: str,
    unit: Unit,
    found: Found,
    task_id: str,
    known: Summary,
    over: str | None = None,
) -> Stored:
    """Store the valid, closed candles of a unit, and what it covers, given all that was answered.

    `known`: of the symbol and timeframe; `over`: of a damaged object, as CandleStore has it. Where
    rows that cannot be a candle are all there is, the unit fails, unless they were before: a candle
    that the exchange has is no gap.
    """
    timeframe, table = unit.timeframe, CandleStore(backend)
    # What may come yet is not covered: the candle that runs at the server's clock, all after it.
    settled_ms = _settled_until(unit, found)
    asked = [Interval(low, min(high, settled_ms)) for low, high in found.asked if low < settled_ms]
    candles, rejected = closed_candles(timeframe, found.answers, unit.start_ms, unit.end_ms)
    brought = found.archived or Archived(Candles())
    candles = merged(brought.candles, candles).candles
    rejected |= found.unusable
    if rejected:
        rejected -= set(candles.open_times)
    rejected = {at for at in rejected if any(low <= at < high for low, high in asked)}
    behind_ms = timeframes.following(timeframe, unit.end_ms)
    if any(answer.server_ms < behind_ms for answer in found.answers):
        _measure_lag(backend, unit, candles)
    objects: list[Seen] = []
    revised = 0
    wanted = asked if found.wanted is None else found.wanted
    stored = sum(len(candles.between(low, min(high, settled_ms))) for low, high in wanted)
    try:
        if not len(candles) and (rejected or found.unread):
            unusable = await _unusable(table, symbol, unit, found, asked, rejected)
            if unusable is not None:
                return Stored(unusable)
        for home_ms, parts in _by_object(timeframe, asked):
            fresh = candles.between(*parts[0])
            for part in parts[1:]:
                fresh.extend(candles.between(*part))
            is_new = known.cell_at(timeframe, home_ms) is None
            if is_new and not len(fresh) and (found.listed_ms or 0) >= parts[-1][1]:
                continue  # nothing is missing before the listing, and needs no object to say so
            written = await table.write(
                symbol,
                timeframe,
                home_ms,
                fresh,
                partial(_covering, unit, found, parts, rejected, backend.now_ms()),
                task_id,
                backend.now_ms(),
                is_new=is_new,
                over=over,
            )
            revised += written.revised
            objects.append(seen(timeframe, home_ms, written.candles, written.coverage))
    except ObjectDamaged as error:
        return Stored(failure(error), objects)
    result = Result(
        stored,
        len(rejected),
        revised,
        rejected_opens=rejected,
        archived=len(brought.candles),
        passed_over=tuple(brought.passed_over),
    )
    return Stored(result, objects)


def _by_object(
    timeframe: str, asked: Iterable[Interval]
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(a time in an object, the parts of `asked` that lie in it), ascending."""
    cuts = (cut for each in asked for cut in timeframes.object_cuts(timeframe, *each))
    homes = groupby(cuts, key=lambda cut: timeframes.object_bounds(timeframe, cut[0])[0])
    for _, inside in homes:
        parts = [*inside]
        yield parts[0][0], parts


def _covering(
    unit: Unit,
    found: Found,
    parts: Iterable[tuple[int, int]],
    rejected: Set[int],
    now_ms: int,
    held: Candles,
    coverage: Coverage,
) -> Coverage:
    """The coverage of an object that holds `held`, after these parts of it were asked for."""
    for start_ms, end_ms in parts:
        absent = _absent_in(unit, found, held, rejected, start_ms, end_ms)
        part = CoveredPart(unit.timeframe, start_ms, end_ms, (*absent,), found.listed_ms)
        coverage = coverage.extended(part, now_ms)
    return coverage


def _absent_in(
    unit: Unit, found: Found, held: Candles, rejected: Set[int], start_ms: int, end_ms: int
) -> list[Absent]:
    """Where a part of an object that was asked for holds no candle, and why; sorted."""
    opens = held.open_times
    first = bisect_left(opens, start_ms)
    # A candle that opened before may reach into the part.
    before = [*opens[max(0, first - 1) : first]]
    if start_ms in found.before:
        before.append(found.before[start_ms])
    begins = (timeframes.following(unit.timeframe, at) for at in before)
    inside = opens[first : bisect_left(opens, end_ms)]
    rejected = {at for at in rejected if start_ms <= at < end_ms}
    absent = _absent(unit.timeframe, inside, rejected, max([start_ms, *begins]), end_ms)
    if not found.unread:
        return absent
    return sorted(part for each in absent for part in _unread(each, found.unread))


async def _unusable(
    table: CandleStore,
    symbol: str,
    unit: Unit,
    found: Found,
    asked: Iterable[Interval],
    rejected: Set[int],
) -> Result | None:
    """Why a unit fails of which no candle came though rows did; None where it does not.

    What is held already does not make up for an answer of which nothing could be read.
    """
    gaps: list[Gap] = []
    invalid: list[Absent] = []
    holds = False
    for home_ms, parts in _by_object(unit.timeframe, asked):
        held = await table.read(symbol, unit.timeframe, home_ms)
        gaps += held.coverage.gaps
        for part in parts:
            holds = holds or bool(len(held.candles.between(*part)))
            absent = _absent_in(unit, found, held.candles, rejected, *part)
            invalid += [each for each in absent if each.reason == INVALID]
    if not (_is_unreadable(found) or (invalid and not holds)) or _were_invalid(gaps, invalid):
        return None
    return _none_usable(found, len(rejected))


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


def _settled_until(unit: Unit, found: Found) -> int:
    if not found.answers:
        return FOREVER_MS  # all of it is in the archive, where no candle runs
    return settled_until(unit.timeframe, found.answers, found.unusable, bool(found.unread))


def _measure_lag(backend: Backend, unit: Unit, candles: Candles) -> None:
    """For a unit that reaches up to now only: the age of older candles says nothing."""
    if len(candles):
        lag_ms = max(0, backend.now_ms() - candles.columns["close_time"][-1])
        metrics.measure("CandleLag", lag_ms / 1000, Timeframe=unit.timeframe)


def _absent(
    timeframe: str, held: Sequence[int], rejected: Iterable[int], start_ms: int, end_ms: int
) -> list[Absent]:
    """Where no candle is held in the window, and whether an invalid one was sent for it; sorted.

    `held`, `rejected`: open times in the window.
    """
    invalid = sorted({*rejected}.difference(held))
    if not invalid:
        return [Absent(*each, NO_CANDLE) for each in stretches(timeframe, held, start_ms, end_ms)]
    there = sorted([*held, *invalid])
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
