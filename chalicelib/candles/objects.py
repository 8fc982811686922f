"""The objects of one symbol and timeframe, as the bucket lists them, for functions without an SDK.

    candles/exchange=binance/timeframe=1m/symbol=BTCUSDT/2026-11-23.parquet

The bucket's own list is asked, because it is never behind, names each object's version (ETag), and
costs one call for a thousand objects, where they are and where they are not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

from chalicelib.candles.candles import Candles
from chalicelib.candles.footer import rows_in
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ObjectDamaged

_ENDING = ".parquet"
#: Keys in one answer of S3, at most.
_LISTED_AT_ONCE = 1000


class HeldObject(NamedTuple):
    """An object, and the stretch [start, end) that it is for; `etag`: of what it holds now."""

    key: str
    size: int
    etag: str
    start_ms: int
    end_ms: int


class HeldObjects:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._bucket = backend.settings.candles_bucket
        self._exchange = backend.settings.exchange

    async def between(
        self, symbol: str, timeframe: str, start_ms: int, end_ms: int, most: int | None = None
    ) -> list[HeldObject]:
        """Those that [start, end) touches, ascending; at most so many."""
        folder = folder_of(self._exchange, symbol, timeframe)
        # S3 lists by name. A name without its ending comes right before the one that has it.
        asked: dict[str, Any] = {
            "StartAfter": folder + timeframes.object_name(timeframe, start_ms),
            "MaxKeys": min(most or _LISTED_AT_ONCE, _LISTED_AT_ONCE),
        }
        last = folder + timeframes.object_name(timeframe, end_ms - 1) + _ENDING
        found: list[HeldObject] = []
        while True:
            answer = await self._call(
                "s3", "ListObjectsV2", Bucket=self._bucket, Prefix=folder, **asked
            )
            for entry in answer.get("Contents", ()):
                if entry["Key"] > last or len(found) == most:
                    return found
                found += _held(timeframe, folder, entry)
            if not answer["IsTruncated"]:
                return found
            asked = {"ContinuationToken": answer["NextContinuationToken"]}

    async def candles_in(self, held: HeldObject) -> Candles:
        """Its candles; none where it has gone since it was listed. Raises ObjectDamaged."""
        from chalicelib.candles.codec import decode  # loads arro3, which a list can do without

        try:
            answer = await self._call("s3", "GetObject", Bucket=self._bucket, Key=held.key)
        except CallFailed as failed:
            if failed.code == "NoSuchKey":
                return Candles()
            raise
        try:
            return decode(answer["Body"])[0]
        except ObjectDamaged as error:
            raise ObjectDamaged(f"{held.key}: {error.detail}") from error

    async def tail(self, key: str, size: int) -> bytes:
        """The last so many bytes of an object, or all of them where these do not hold its footer.

        Raises ObjectDamaged, CallFailed.
        """
        try:
            tail = await self._bytes(key, Range=f"bytes=-{size}")
        except CallFailed as failed:
            if failed.code in ("InvalidRange", "416"):  # S3 has no last bytes of nothing
                raise ObjectDamaged(f"{key}: it is empty") from failed
            raise
        return await self._bytes(key) if rows_in(tail) is None else tail

    async def _bytes(self, key: str, **part: str) -> bytes:
        answer = await self._call("s3", "GetObject", Bucket=self._bucket, Key=key, **part)
        return bytes(answer["Body"])


def folder_of(exchange: str, symbol: str, timeframe: str) -> str:
    """What the keys of a symbol's and timeframe's objects begin with."""
    folder = timeframes.folder(timeframe)
    return f"candles/exchange={exchange}/timeframe={folder}/symbol={_segment(symbol)}/"


def key_of(exchange: str, symbol: str, timeframe: str, at_ms: int) -> str:
    """The key of the object that holds `at_ms`."""
    name = timeframes.object_name(timeframe, at_ms)
    return f"{folder_of(exchange, symbol, timeframe)}{name}{_ENDING}"


@lru_cache(maxsize=1024)
def _segment(symbol: str) -> str:
    """A symbol as one path segment.

    Only ASCII is percent-encoded: Spark and fastparquet cannot decode other characters again.
    """
    return "".join(quote(each, safe="") if each.isascii() else each for each in symbol)


def _held(timeframe: str, folder: str, entry: dict[str, Any]) -> list[HeldObject]:
    """The object of an entry of the list; [] where somebody else put it there."""
    name = entry["Key"].removeprefix(folder).removesuffix(_ENDING)
    try:
        bounds = timeframes.object_bounds(timeframe, timeframes.object_start(name))
    except ValueError:
        return []
    if entry["Key"] != f"{folder}{timeframes.object_name(timeframe, bounds[0])}{_ENDING}":
        return []
    return [HeldObject(entry["Key"], entry["Size"], entry["ETag"], *bounds)]
