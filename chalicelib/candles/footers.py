"""What objects say of themselves, read from their last bytes: a request each, and no library."""

from __future__ import annotations

from typing import NamedTuple

from chalicelib.candles.coverage import Coverage
from chalicelib.candles.footer import metadata_in, rows_in
from chalicelib.candles.objects import HeldObjects, key_of
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ObjectDamaged

#: Bytes that hold nearly every footer: one with some 2,000 gaps is longer.
_TAIL = 64 * 1024


class Footer(NamedTuple):
    """`rows`: how many candles an object holds; `trades`: of all of them together."""

    coverage: Coverage
    rows: int
    trades: int


class Footers:
    def __init__(self, backend: Backend) -> None:
        self._objects = HeldObjects(backend)
        self._exchange = backend.settings.exchange

    async def read(self, symbol: str, timeframe: str, at_ms: int) -> Footer | None:
        """Of the object that holds `at_ms`; None: there is none, or it does not say.

        Raises CallFailed.
        """
        key = key_of(self._exchange, symbol, timeframe, at_ms)
        try:
            tail = await self._objects.tail(key, _TAIL)
            metadata, rows = metadata_in(tail), rows_in(tail)
            if metadata is None or rows is None:
                return None
            coverage = Coverage.from_json(metadata["coverage"])
            return Footer(coverage, rows, int(metadata["trades"]))
        except (ObjectDamaged, KeyError, ValueError):
            return None  # verifying says so (collecting/verify.py)
        except CallFailed as failed:
            if failed.code in ("NoSuchKey", "404"):
                return None
            raise
