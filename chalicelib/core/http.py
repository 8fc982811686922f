"""HTTP of a container with an event loop: one pool of connections, over aiohttp.

aiohttp, because a layer around it takes more of a worker's time than itself (docs/BENCHMARKS.md).
Answers are inflated in one step by isal, which takes a third of zlib's time. Nothing is followed,
kept or tried again here: redirects and cookies say nothing to us, and whoever asks knows when to
ask again.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple
from urllib.request import getproxies_environment

import aiohttp
from isal import isal_zlib
from isal.igzip_lib import IsalError
from yarl import URL

from chalicelib.core.errors import NoAnswer

_CONNECT_SECONDS = 5.0
_WRITTEN_AT_ONCE = 1 << 18
#: A gzip member, as zlib counts window bits.
_GZIP = 31


class HttpAnswer(NamedTuple):
    """`headers`: by name, in any case; `content`: inflated."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Streamed(NamedTuple):
    """The beginning of an answer; `chunks`: its content as it comes, not inflated. Taking them
    raises NoAnswer."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext | bool:
    """The roots that servers are held against: the system's, or those in SSL_CERT_FILE, and what
    AWS_CA_BUNDLE names beside them.

    True is aiohttp's own context, which it makes as it is loaded: to read the roots once more takes
    longer than many requests.
    """
    more = os.environ.get("AWS_CA_BUNDLE")
    if not more:
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(more)
    context.set_alpn_protocols(("http/1.1",))
    return context


class Http:
    """A pool of `most` connections; all requests on one event loop.

    No request takes longer than `seconds`, its answer included.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._timeout = aiohttp.ClientTimeout(seconds, sock_connect=_CONNECT_SECONDS)
        self._opened: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def get(
        self, url: str, query: Mapping[str, Any], headers: Mapping[str, str]
    ) -> HttpAnswer:
        """One GET. `query`: text or integers. Raises NoAnswer."""
        return await self.request("GET", URL(url).with_query(query), headers)

    async def request(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None = None
    ) -> HttpAnswer:
        """One request, `url` as it is. Raises NoAnswer."""
        async with await self._ask(method, url, headers, body) as answer:
            with _no_answer():
                content = await answer.read()
                if answer.headers.get("content-encoding") == "gzip":
                    content = isal_zlib.decompress(content, wbits=_GZIP)
            return HttpAnswer(answer.status, answer.headers, content)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Streamed]:
        """One GET whose answer is taken as it comes. Raises NoAnswer."""
        async with await self._ask("GET", URL(url), headers, None) as answer:
            yield Streamed(answer.status, answer.headers, _chunks(answer))

    async def _ask(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._most, ssl=_tls()),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Only where there are some: it looks for them before each request.
                trust_env=bool(getproxies_environment().keys() - {"no"}),
                timeout=self._timeout,
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
            )
        # Bytes are written at once, into a second copy of them; a file is written part by part.
        data = BytesIO(body) if body and len(body) > _WRITTEN_AT_ONCE else body
        with _no_answer():
            return await self._opened.request(
                method, url, data=data, headers=headers, allow_redirects=False
            )


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    while True:
        with _no_answer():
            chunk = await answer.content.readany()
        if not chunk:
            return
        yield chunk


@contextmanager
def _no_answer() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, IsalError) as problem:  # type: ignore[misc]
        raise NoAnswer(f"{type(problem).__name__} {problem}".strip()) from problem
