"""Candles from the bulk archive, as far as its files prove them.

A file is believed where its checksum fits and a page of REST, at a place that the file's name
chooses, says the same. What is missing in it is asked for at REST all the same: archives are known
to lose candles. A file that cannot be used is named, and its stretch is left to REST.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from chalicelib.candles.answers import Answer, closed_candles
from chalicelib.candles.candles import Candles, absent
from chalicelib.candles.intervals import Interval, outside
from chalicelib.collecting.sources import sources
from chalicelib.core import metrics, timeframes
from chalicelib.core.logs import log
from chalicelib.core.together import together
from chalicelib.exchange.archive_file import ArchiveFile
from chalicelib.exchange.archive_rows import FileUnusable
from chalicelib.exchange.binance import Permit
from chalicelib.exchange.worker import Worker
from chalicelib.work.units import PAGE_CANDLES

if TYPE_CHECKING:
    from chalicelib.exchange.archive import Archive

STALE = "ARCHIVE_FILE_STALE"


class PassedOver(NamedTuple):
    """A file that was not used; `reason`: UPPER_SNAKE, `detail`: for people."""

    name: str
    reason: str
    detail: str


class Archived(NamedTuple):
    """What the archive brought for some stretches.

    `candles`: those that open in them, of the files used; `proven`: the parts in which the exchange
    has no others; `used`: names of files.
    """

    candles: Candles
    proven: Sequence[Interval] = ()
    used: Sequence[str] = ()
    passed_over: Sequence[PassedOver] = ()


async def from_archive(
    worker: Worker,
    symbol: str,
    timeframe: str,
    stretches: Sequence[Interval],
    permit: Permit,
) -> Archived:
    """What the archive's files prove of some stretches (ascending, disjoint); nothing where it has
    none that is worth it. A file is fetched once, however many of them lie in it.

    Raises what `permit` and asking REST for the samples raise, and never because of a file.
    """
    if worker.archive is None:
        return Archived(Candles())
    now_ms = worker.now_ms()
    spans: dict[ArchiveFile, list[Interval]] = {}
    for stretch in stretches:
        for source in sources(symbol, timeframe, stretch, now_ms):
            if source.file is not None:
                spans.setdefault(source.file, []).append(Interval(source.start_ms, source.end_ms))
    return _joined(
        await together(*(_used(worker, worker.archive, *each, permit) for each in spans.items()))
    )


async def _used(
    worker: Worker, archive: Archive, file: ArchiveFile, spans: Sequence[Interval], permit: Permit
) -> Archived:
    """What one file brought for some parts of it."""
    try:
        whole = Candles()
        async with archive.candles(file, permit) as parts:
            for part in parts:
                whole.extend(part)
        await _sample(worker, file, whole, permit)
    except FileUnusable as error:
        outcome = error.reason.rpartition("_")[2].lower()
        metrics.count("ArchiveFiles", Outcome=outcome)
        over = PassedOver(file.name, error.reason, error.detail)
        log("archive_file_passed_over", level="warning", file=file.name, reason=over.reason)
        return Archived(Candles(), passed_over=[over])
    metrics.count("ArchiveFiles", Outcome="used")
    candles = Candles()
    for span in spans:
        candles.extend(whole.between(*span))
    proven = [each for span in spans for each in _proven(file.timeframe, span, whole)]
    return Archived(candles, proven, [file.name])


async def _sample(worker: Worker, file: ArchiveFile, whole: Candles, permit: Permit) -> None:
    """Compare a page of the file with REST. Raises FileUnusable where they differ."""
    first = max(1, len(whole) - PAGE_CANDLES + 1) * zlib.crc32(file.name.encode()) >> 32
    opens = whole.open_times[first : first + PAGE_CANDLES]
    page = await worker.exchange.klines(
        file.symbol, file.timeframe, opens[0], opens[-1] + 1, permit
    )
    answer = Answer(page.rows, page.server_ms)
    said, rejected = closed_candles(file.timeframe, [answer], opens[0], opens[-1] + 1)
    # The server may cap its pages: what lies behind its last row is not compared.
    reach_ms = said.open_times[-1] + 1 if len(said) else opens[-1] + 1
    # One odd row of the exchange's says nothing of the file; any may be one without a time.
    unread = rejected.union(page.unusable)
    held = {
        open_ms: values
        for open_ms, values in _values(whole.between(opens[0], reach_ms))
        if open_ms not in unread
    }
    found = dict(_values(said))
    if any(held[at] != found[at] for at in held.keys() & found.keys()) or (
        held.keys() != found.keys() and -1 not in unread
    ):
        raise FileUnusable("REST says otherwise about some of its candles", reason=STALE)


def _values(candles: Candles) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """(open time, what the exchange said) of each candle."""
    for at, open_ms in enumerate(candles.open_times):
        yield open_ms, candles.values_at(at)[1:]


def _proven(timeframe: str, span: Interval, candles: Candles) -> list[Interval]:
    """The parts of the span in which no candle is missing."""
    missing: list[Interval] = []
    page_ms = timeframes.LENGTH_MS[timeframe] * PAGE_CANDLES
    opens = candles.between(*span).open_times
    for start_ms, end_ms in absent(timeframe, opens, *span):
        if not timeframes.has_room(timeframe, start_ms, end_ms):
            continue
        if missing and end_ms - missing[-1].start_ms <= page_ms:
            missing[-1] = missing[-1]._replace(end_ms=end_ms)  # one request for near ones
        else:
            missing.append(Interval(start_ms, end_ms))
    return outside(*span, missing)


def _joined(parts: Sequence[Archived]) -> Archived:
    whole = Candles()
    for part in parts:
        whole.extend(part.candles)
    return Archived(
        whole,
        [each for part in parts for each in part.proven],
        [name for part in parts for name in part.used],
        [each for part in parts for each in part.passed_over],
    )
