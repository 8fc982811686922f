"""A bulk archive in memory, with the method of exchange.archive.Archive.

Its files hold what the exchange's double serves. Faults are switched on by setting fields.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from chalicelib.candles.candles import Candles
from chalicelib.exchange.archive import MISSING
from chalicelib.exchange.archive_file import ArchiveFile
from chalicelib.exchange.archive_rows import FileUnusable
from chalicelib.exchange.binance import Permit
from tests.doubles.candles import append
from tests.doubles.exchange import Exchange


@dataclass
class Archive:
    """The fields below are the switches; `asked` lists names of files."""

    exchange: Exchange
    #: Name of a file, or "" for every one -> the reason for which it cannot be used.
    unusable: dict[str, str] = field(default_factory=dict)
    #: Open times of candles that are in no file.
    lost: set[int] = field(default_factory=set)
    #: Open times of candles that have other values than the exchange's.
    differing: set[int] = field(default_factory=set)
    #: Awaited when a request has been permitted.
    on_request: Callable[[], Awaitable[Any]] | None = None
    asked: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def candles(self, file: ArchiveFile, permit: Permit) -> AsyncIterator[Iterator[Candles]]:
        await permit(0)
        self.asked.append(file.name)
        if self.on_request is not None:
            await self.on_request()
        reason = self.unusable.get(file.name, self.unusable.get(""))
        if reason is None and file.published_ms > self.exchange.clock():
            reason = MISSING
        if reason is not None:
            raise FileUnusable("no use", reason=reason)
        whole = Candles()
        for at_ms in self.exchange.closed_opens(file.timeframe, file.start_ms, file.end_ms):
            if at_ms not in self.lost:
                row = self.exchange.row(file.symbol, file.timeframe, at_ms, file.published_ms)
                more = 1 if at_ms in self.differing else 0
                append(whole, (*row[:5], row[5] + more, *row[6:]), file.published_ms)
        yield iter([whole])

    async def aclose(self) -> None:
        return
