"""The stored files themselves: which there are, and where anybody may fetch each for a while."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from chalicelib.aws.s3_requests import presigned_get
from chalicelib.candles.footer import rows_in
from chalicelib.candles.objects import HeldObject, HeldObjects
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ObjectDamaged
from chalicelib.core.times import FOREVER_MS, iso

if TYPE_CHECKING:
    from chalicelib.candles.explainer import Together

#: For so long a file's URL is good.
SECONDS = 15 * 60
#: Symbols that are looked at for one page, at most.
MOST_SYMBOLS = 50
#: Bytes that hold nearly every footer.
_TAIL = 16 * 1024


class Files(NamedTuple):
    """`without`: symbols of the page that have no file in the range; `following`: where the next
    page goes on: with which of the symbols, at which time (epoch ms); None: there is none."""

    files: list[dict[str, Any]]
    without: list[str]
    following: tuple[int, int] | None


async def list_files(
    backend: Backend,
    symbols: Sequence[str],
    timeframe: str,
    between_ms: tuple[int | None, int | None],
    page_size: int,
    together: Together,
    resume: tuple[int, int] = (0, 0),
) -> Files:
    """A page of files, by symbol and time. One call for each symbol, and one for each file.

    `between_ms`: [start, end), None: as far as there are files; `together`: reads several at once;
    `resume`: see Files.following.
    """
    held = HeldObjects(backend)
    found: list[dict[str, Any]] = []
    without: list[str] = []
    first_ms, end_ms = between_ms[0] or 0, between_ms[1] or FOREVER_MS
    at, resume_ms = resume
    for looked, symbol in enumerate(symbols[at:]):
        room = page_size - len(found)
        if looked == MOST_SYMBOLS or not room:
            return Files(found, without, (at + looked, 0))
        start_ms = first_ms if looked else min(max(first_ms, resume_ms), end_ms - 1)
        listed = await held.between(symbol, timeframe, start_ms, end_ms, room + 1)
        work = [_file(backend, held, symbol, timeframe, each) for each in listed[:room]]
        found += chain.from_iterable(await together(work) if work else [])
        if not listed:
            without.append(symbol)
        if len(listed) > room:
            return Files(found, without, (at + looked, listed[room].start_ms))
    return Files(found, without, None)


async def _file(
    backend: Backend, held: HeldObjects, symbol: str, timeframe: str, each: HeldObject
) -> list[dict[str, Any]]:
    """[a file]; [] where it has gone since it was listed."""
    settings, now_ms = backend.settings, backend.now_ms()
    try:
        rows = await _rows_of(held, each)
    except CallFailed as failed:
        if failed.code == "NoSuchKey":
            return []
        raise
    url = presigned_get(settings.candles_bucket, each.key, settings.url_suffix, now_ms, SECONDS)
    return [
        {
            "symbol": symbol,
            "timeframe": timeframe,
            "key": each.key,
            "start": iso(each.start_ms),
            "end": None if each.end_ms == FOREVER_MS else iso(each.end_ms),
            "bytes": each.size,
            "rows": rows,
            "etag": each.etag,
            "url": url,
            "expires_at": iso(now_ms // 1000 * 1000 + SECONDS * 1000),
        }
    ]


async def _rows_of(held: HeldObjects, each: HeldObject) -> int | None:
    """How many candles it holds, by its footer; None: it is no Parquet file."""
    try:
        return rows_in(await held.tail(each.key, _TAIL))
    except ObjectDamaged:
        return None
