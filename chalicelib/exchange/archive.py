"""The exchange's bulk archive over HTTP: files of whole days and months, verified by checksum.

A file is streamed to disk, and its SHA-256 compared with the one that the archive publishes beside
it; where they differ, both are fetched once more. What is wrong with a file is a FileUnusable that
says why. Every request is permitted right before
it leaves, as the exchange's are, at no weight: the archive counts none.

Source: https://github.com/binance/binance-public-data
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from typing import IO

from chalicelib.candles.candles import Candles
from chalicelib.core.errors import NoAnswer
from chalicelib.core.http import Http
from chalicelib.exchange.archive_file import ArchiveFile
from chalicelib.exchange.archive_rows import FileUnusable, candles_in
from chalicelib.exchange.binance import Permit
from chalicelib.exchange.verdict import date_ms

MISSING = "ARCHIVE_FILE_MISSING"
UNAVAILABLE = "ARCHIVE_UNAVAILABLE"

#: Files that are fetched and read at once.
IN_FLIGHT = 4
#: A request takes no longer: it must end before the invocation that was permitted to begin it.
_REQUEST_SECONDS = 10.0
#: Nobody asks an archive for so long that has not answered.
_AVOIDED_SECONDS = 60.0
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "market-data-collector"}
_TRIES = 3
_BACKOFF_SECONDS = 0.2
#: Files up to this size stay in memory.
_SPOOLED_BYTES = 1 << 22
#: A zipped line is shorter than this; a checksum, or an error that says why, than that.
_ZIPPED_LINE_BYTES = 128
_SHORT_BYTES = 4096
_CHECKSUM = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S+)\s*")


class Archive:
    """One client per container; all calls on one event loop."""

    def __init__(self, root_url: str, http: Http | None = None) -> None:
        """`http`: for tests."""
        self._root = root_url.rstrip("/")
        self._http = http or Http(IN_FLIGHT, _REQUEST_SECONDS)
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)
        self._avoided_until = 0.0

    async def aclose(self) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def candles(self, file: ArchiveFile, permit: Permit) -> AsyncIterator[Iterator[Candles]]:
        """The file's valid, closed candles in order, those of each storage object together.

        They are dated with the file, so that whatever the exchange answers later outdates them. A
        file is read as its candles are taken, whose iterator raises as `candles_in` does; until
        the end it is one of those in flight. Raises FileUnusable, and what `permit` raises.
        """
        async with self._in_flight:
            if time.monotonic() < self._avoided_until:
                raise FileUnusable("the archive did not answer a moment ago", reason=UNAVAILABLE)
            with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as content:
                published_ms = await self._download(file, content, permit)
                content.seek(0)
                yield candles_in(content, file, published_ms)

    async def _download(self, file: ArchiveFile, into: IO[bytes], permit: Permit) -> int:
        """Fetch the file as its checksum says it is; when it was published (epoch ms)."""
        most = _SHORT_BYTES + file.most_candles * _ZIPPED_LINE_BYTES
        for _ in range(2):
            expected = await self._checksum(file, permit)
            digest, headers = await self._get(file.path, into, most, permit)
            if digest == expected:
                return _published_ms(headers, file)
        raise FileUnusable("its checksum is that of another file, twice")

    async def _checksum(self, file: ArchiveFile, permit: Permit) -> str:
        content = BytesIO()
        await self._get(f"{file.path}.CHECKSUM", content, _SHORT_BYTES, permit)
        found = _CHECKSUM.fullmatch(content.getvalue().decode("utf-8", "replace"))
        if found is None or found[2] != file.name:
            raise FileUnusable("its checksum cannot be read")
        return found[1].lower()

    async def _get(
        self, path: str, into: IO[bytes], most: int, permit: Permit
    ) -> tuple[str, Mapping[str, str]]:
        """Stream an answer of at most `most` bytes to `into`: its SHA-256, and its headers."""
        for attempt in range(1, _TRIES + 1):
            into.seek(0)
            into.truncate()
            await permit(0)
            try:
                return await self._ask(path, into, most)
            except FileUnusable as error:
                if error.reason != UNAVAILABLE:
                    raise
                if attempt == _TRIES:
                    self._avoided_until = time.monotonic() + _AVOIDED_SECONDS
                    raise
            await asyncio.sleep(random.uniform(0.3, 1) * _BACKOFF_SECONDS * 2**attempt)
        raise AssertionError("unreachable")

    async def _ask(self, path: str, into: IO[bytes], most: int) -> tuple[str, Mapping[str, str]]:
        digest, size, answer = hashlib.sha256(), 0, None
        try:
            async with self._http.stream(f"{self._root}/{path}", _HEADERS) as answer:
                async for chunk in answer.chunks:
                    size += len(chunk)
                    if size > most and answer.status != 200:
                        break
                    if size > most:
                        raise FileUnusable(f"more than {most} bytes, for what it can hold")
                    into.write(chunk)
                    digest.update(chunk)
        except NoAnswer as problem:
            if answer is None or answer.status == 200:
                detail = f"no answer from the archive: {problem}"
                raise FileUnusable(detail, reason=UNAVAILABLE) from problem
        status = answer.status
        if status != 200:
            into.seek(0)
            is_missing = status == 404 or (status == 403 and b"NoSuchKey" in into.read())
            reason = MISSING if is_missing else UNAVAILABLE
            raise FileUnusable(f"HTTP {status}", reason=reason)
        return digest.hexdigest(), answer.headers


def _published_ms(headers: Mapping[str, str], file: ArchiveFile) -> int:
    """When the archive last changed the file, by its own clock (epoch ms).

    Where it does not say, as early as can be: an answer of the exchange's is believed rather.
    """
    try:
        changed, now = (date_ms(headers[name]) for name in ("last-modified", "date"))
    except (KeyError, ValueError, OverflowError):
        return file.closed_ms
    return min(changed, now)
