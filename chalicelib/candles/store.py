"""The candles bucket: one Parquet object per exchange, timeframe, symbol and stretch of time.

    candles/exchange=binance/timeframe=1m/symbol=BTCUSDT/2026-11-23.parquet

An hour of 1s, a day of 1m-3m, a month of 5m-30m, a year of 1h-12h, everything above in `all`. The
folder of months is timeframe=1mo, as in Binance's own archive: on macOS and Windows 1M would be the
folder of minutes. Columns as in candles.COLUMNS, times as timestamp(ms, UTC); sorted and unique by
open_time, which the footer says. Metadata of the last write: source and source_root (the exchange's
name and root), task_id, collected_at.

Writers race by conditional PUT: If-None-Match for a new object, If-Match with the ETag that was
read for a known one; who loses reads again and merges.
"""

from __future__ import annotations

from chalicelib.candles.candles import Candles, Merged, merged
from chalicelib.candles.codec import decode, encode
from chalicelib.candles.objects import ENDING, folder_of
from chalicelib.core import timeframes, times
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ObjectDamaged

_RACES = 12
#: S3's answers to a conditional PUT that came too late (412) or beside another one (409).
_LOST_RACE = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_MISSING = ("NoSuchKey", "404")


class CandleStore:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._bucket = backend.settings.candles_bucket
        self._exchange = backend.settings.exchange
        self._root = backend.settings.exchange_root

    def key(self, symbol: str, timeframe: str, open_ms: int) -> str:
        folder = folder_of(self._exchange, symbol, timeframe)
        return f"{folder}{timeframes.object_name(timeframe, open_ms)}{ENDING}"

    async def merge(
        self, symbol: str, timeframe: str, candles: Candles, task_id: str, now_ms: int
    ) -> Merged:
        """Merge candles of one object into it; of two answers the exchange's later one wins.

        What came of it: an object that already holds exactly these values is not written again.
        """
        key = self.key(symbol, timeframe, candles.open_times[0])
        for _ in range(_RACES):
            stored, etag = await self._read(key)
            whole = merged(stored, candles)
            if not whole.added and not whole.revised:
                return whole
            condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
            try:
                await self._call(
                    "s3",
                    "PutObject",
                    Bucket=self._bucket,
                    Key=key,
                    Body=encode(whole.candles, self._metadata(task_id, now_ms)),
                    ContentType="application/vnd.apache.parquet",
                    **condition,
                )
            except CallFailed as failed:
                # A dropped answer may hide a write that was applied: reading again tells.
                if failed.code in (*_LOST_RACE, *_MISSING, "ConnectionError"):
                    continue
                raise
            return whole
        raise CallFailed("s3", "PutObject", "Contention", key)

    async def read(self, symbol: str, timeframe: str, open_ms: int) -> Candles:
        """The candles of the object that holds `open_ms`; empty where there is none."""
        return (await self._read(self.key(symbol, timeframe, open_ms)))[0]

    async def _read(self, key: str) -> tuple[Candles, str | None]:
        try:
            answer = await self._call("s3", "GetObject", Bucket=self._bucket, Key=key)
        except CallFailed as failed:
            if failed.code in _MISSING:
                return Candles(), None
            raise
        try:
            return decode(answer["Body"])[0], answer["ETag"]
        except ObjectDamaged as error:
            raise ObjectDamaged(f"{key}: {error.detail}") from error

    def _metadata(self, task_id: str, now_ms: int) -> dict[str, str]:
        """Of a write. `source`, `source_root`: the exchange's name and root."""
        return {
            "source": self._exchange,
            "source_root": self._root,
            "task_id": task_id,
            "collected_at": times.iso(now_ms) or "",
        }
