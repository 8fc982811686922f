"""The candles bucket: one Parquet object per exchange, timeframe, symbol and stretch of time.

    candles/exchange=binance/timeframe=1m/symbol=BTCUSDT/2026-11.parquet

A day of 1s, a month of 1m-5m, a year of 15m-1h, everything of 2h and longer in `all`. The
folder of months is timeframe=1mo, as in Binance's own archive: on macOS and Windows 1M would be the
folder of minutes. Encoding and columns: candles/codec.py. Metadata of the last write: source and
source_root (the exchange's name and root), task_id, collected_at; coverage: what was asked for in
this stretch, and the gaps in it (candles/coverage.py); trades: of all its candles together. Where
nothing opens in a stretch that was asked for, its object has no rows.

Writers race by conditional PUT: If-None-Match for a new object, If-Match with the ETag that was
read for a known one; who loses reads again and merges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chalicelib.candles.candles import Candles, merged
from chalicelib.candles.codec import checksum, decode, encode
from chalicelib.candles.coverage import Coverage
from chalicelib.candles.objects import key_of
from chalicelib.core import times
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ObjectDamaged

_RACES = 12
#: S3's answers to a conditional PUT that came too late (412) or beside another one (409).
_LOST_RACE = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_MISSING = ("NoSuchKey", "404")
_COVERAGE = "coverage"


class Held(NamedTuple):
    """What an object holds, and what is known of its stretch; `etag` None: there is no object."""

    candles: Candles
    coverage: Coverage
    etag: str | None = None


class Inspected(NamedTuple):
    """An object as it is: `trades`: as its metadata have it; `damage`: why it cannot be read, and
    then nothing but the ETag is known of it."""

    held: Held
    trades: int = 0
    damage: str = ""


class Written(NamedTuple):
    """What an object holds after a write; `added`: candles that were not there; `revised`: candles
    whose values are others now."""

    candles: Candles
    coverage: Coverage
    added: int
    revised: int


#: The coverage after a write, given the candles that are held then, and the coverage before.
Covering = Callable[[Candles, Coverage], Coverage]


class CandleStore:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._bucket = backend.settings.candles_bucket
        self._exchange = backend.settings.exchange
        self._root = backend.settings.exchange_root

    def key(self, symbol: str, timeframe: str, open_ms: int) -> str:
        return key_of(self._exchange, symbol, timeframe, open_ms)

    async def write(
        self,
        symbol: str,
        timeframe: str,
        at_ms: int,
        candles: Candles,
        covering: Covering,
        task_id: str,
        now_ms: int,
        *,
        is_new: bool = False,
        over: str | None = None,
    ) -> Written:
        """Merge candles into the object that holds `at_ms`, and extend its coverage, in one PUT.

        Of two answers the exchange's later one wins. An object that already holds exactly this is
        not written again. `is_new`: there is most likely no object yet, so it is not read first.
        `over`: the ETag of a damaged object, which is overwritten where it is still that one.
        Raises ObjectDamaged, CallFailed.
        """
        key = self.key(symbol, timeframe, at_ms)
        nothing = Held(Candles(), Coverage(), over)
        held = nothing if is_new or over else await self._read(key)
        for _ in range(_RACES):
            whole, added, revised = merged(held.candles, candles)
            coverage = covering(whole, held.coverage)
            written = Written(whole, coverage, added, revised)
            if held.etag and not added and not revised and coverage == held.coverage:
                return written
            condition = {"IfMatch": held.etag} if held.etag else {"IfNoneMatch": "*"}
            file = encode(whole, self._metadata(whole, coverage, task_id, now_ms))
            try:
                await self._call(
                    "s3",
                    "PutObject",
                    Bucket=self._bucket,
                    Key=key,
                    Body=file,
                    ChecksumCRC32=checksum(file),
                    ContentType="application/vnd.apache.parquet",
                    **condition,
                )
            except CallFailed as failed:
                # A dropped answer may hide a write that was applied: reading again tells.
                if failed.code not in (*_LOST_RACE, *_MISSING, "ConnectionError"):
                    raise
                held = await self._read(key)
                continue
            return written
        raise CallFailed("s3", "PutObject", "Contention", key)

    async def read(self, symbol: str, timeframe: str, at_ms: int) -> Held:
        """The object that holds `at_ms`. Raises ObjectDamaged, CallFailed."""
        return await self._read(self.key(symbol, timeframe, at_ms))

    async def inspect(self, symbol: str, timeframe: str, at_ms: int) -> Inspected:
        """The object that holds `at_ms`, damaged or not. Raises CallFailed."""
        return await self._inspect(self.key(symbol, timeframe, at_ms))

    async def _read(self, key: str) -> Held:
        found = await self._inspect(key)
        if found.damage:
            raise ObjectDamaged(f"{key}: {found.damage}")
        return found.held

    async def _inspect(self, key: str) -> Inspected:
        try:
            answer = await self._call("s3", "GetObject", Bucket=self._bucket, Key=key)
        except CallFailed as failed:
            if failed.code in _MISSING:
                return Inspected(Held(Candles(), Coverage()))
            raise
        try:
            candles, metadata = decode(answer["Body"])
            if _COVERAGE not in metadata:
                raise ObjectDamaged("it does not say what it covers")
            held = Held(candles, Coverage.from_json(metadata[_COVERAGE]), answer["ETag"])
            return Inspected(held, int(metadata.get("trades", "-1")))
        except (ObjectDamaged, ValueError) as error:
            nothing = Held(Candles(), Coverage(), answer["ETag"])
            return Inspected(nothing, 0, getattr(error, "detail", repr(error)))

    def _metadata(
        self, candles: Candles, coverage: Coverage, task_id: str, now_ms: int
    ) -> dict[str, str]:
        return {
            "source": self._exchange,
            "source_root": self._root,
            "task_id": task_id,
            "collected_at": times.iso(now_ms) or "",
            "trades": str(sum(candles.columns["trades"])),
            _COVERAGE: coverage.to_json(),
        }
