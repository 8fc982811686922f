"""HTTP of a container with an event loop: one pool of connections.

Our own, and small, because loading a client with all its layers takes a third of a worker's start
(docs/adr/0021). Answers are inflated in one step by isal,
which takes a third of zlib's time. Nothing is followed, kept or tried again here: redirects and
cookies say nothing to us, and whoever asks knows when to ask again. Only where a connection that
was kept turns out to be closed, and asking twice is asking once, another one is taken.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from aiohappyeyeballs import start_connection
from isal import isal_zlib
from isal.igzip_lib import IsalError

from chalicelib.core.connection import BrokenAnswer, Connection, Lost, request_head
from chalicelib.core.errors import NoAnswer
from chalicelib.core.proxies import Proxies, Proxy
from chalicelib.core.tls import trusting

_CONNECT_SECONDS = 5.0
#: Servers close what rests longer; AWS's do after 20 seconds.
_KEPT_SECONDS = 15.0
#: Where an address resolves to several, the next one is tried after so long (RFC 8305).
_NEXT_ADDRESS_SECONDS = 0.25
#: What may be sent twice (RFC 9110, 9.2.2).
_IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
_PORTS = {"http": 80, "https": 443}
#: Of a URL, what is an address already.
_ADDRESS = "%/:=&?~#+!$,;'@()*[]"
_ROOT_AND_TARGET = re.compile("((?:[^/?#]*//)?[^/?#]*)([^#]*)")
#: A gzip member, as zlib counts window bits, and its first bytes (RFC 1952, 2.3.1).
_GZIP, _GZIP_BEGINS = 31, b"\x1f\x8b"
#: Bytes of content, inflated: nothing that we ask for has a quarter of it.
MOST_CONTENT = 1 << 26


class HttpAnswer(NamedTuple):
    """`headers`: by name in lower case; `content`: inflated."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Streamed(NamedTuple):
    """The beginning of an answer; `chunks`: its content as it comes, not inflated. Taking them
    raises NoAnswer."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class _Place(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    port: int


class _Split(NamedTuple):
    """A URL: where a request is sent, the Host that it names, and what it asks for there."""

    place: _Place
    host: str
    target: str


@lru_cache(maxsize=64)
def _address(root: str) -> tuple[_Place, str]:
    """Of a URL up to its path: where it leads, and Host."""
    parts = urlsplit(root)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{root} is no URL of HTTP")
    port = parts.port or _PORTS[parts.scheme]
    host = parts.netloc.rpartition("@")[2]
    return _Place(parts.scheme, parts.hostname, port), host.removesuffix(f":{_PORTS[parts.scheme]}")


def _split(url: str) -> _Split:
    root, target = _ROOT_AND_TARGET.match(url).groups()  # type: ignore[union-attr]
    return _Split(*_address(root), target if target.startswith("/") else f"/{target}")


class Http:
    """A pool of `most` connections; all requests on one event loop.

    No request takes longer than `seconds`, its answer included. `context`: for tests.
    """

    def __init__(
        self, most: int, seconds: float, context: Callable[[], ssl.SSLContext] = trusting
    ) -> None:
        self._seconds = seconds
        self._tls = context
        self._free = asyncio.Semaphore(most)
        self._proxies = Proxies()
        self._kept: dict[_Place, list[Connection]] = {}

    async def aclose(self) -> None:
        for kept in self._kept.values():
            while kept:
                kept.pop().close()
        # Transports are closed in the loop's next turns.
        await asyncio.sleep(0)

    async def get(
        self,
        url: str,
        query: Mapping[str, Any],
        headers: Mapping[str, str],
        most: int = MOST_CONTENT,
    ) -> HttpAnswer:
        """One GET, whose content has at most so many bytes. `query`: text or integers. Raises as
        `request` does."""
        url = f"{url}?{urlencode(query)}" if query else url
        return await self.request("GET", url, headers, most=most)

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        most: int = MOST_CONTENT,
    ) -> HttpAnswer:
        """One request; `url` is percent-encoded. Raises NoAnswer; BrokenAnswer where only its
        content is missing, damaged, or has more than `most` bytes."""
        async with self._asked(method, url, headers, body) as answer:
            content = await answer.content(most)
            if coding := answer.headers.get("content-encoding"):
                content = _decoded(content, coding.strip().lower(), most)
            return HttpAnswer(answer.status, answer.headers, content)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Streamed]:
        """One GET whose answer is taken as it comes. Raises NoAnswer."""
        async with self._asked("GET", quote(url, safe=_ADDRESS), headers, b"") as answer:
            yield Streamed(answer.status, answer.headers, answer.chunks())

    @asynccontextmanager
    async def _asked(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Connection]:
        """A connection, once the head of the answer is there."""
        place, host, target = _split(url)
        headers = {name.lower(): value for name, value in headers.items()}
        proxy = self._proxies.of(place.scheme, host)
        if proxy and place.scheme == "http":
            target = f"http://{host}{target}"
            headers = headers | proxy.headers
        head = request_head(method, target, {"host": host, "accept": "*/*"} | headers, len(body))
        connection = None
        try:
            async with asyncio.timeout(self._seconds) as timer, self._free:
                connection = self._rested(place)
                try:
                    try:
                        connection = await self._sent(connection, place, proxy, head, body)
                    except Lost:
                        if connection is None or method not in _IDEMPOTENT:
                            raise
                        connection = await self._sent(None, place, proxy, head, body)
                    yield connection
                finally:
                    if connection is not None:
                        self._put_back(place, connection)
        except TimeoutError as problem:
            if not timer.expired():
                raise  # of whoever takes the answer
            raise _failed(connection, f"none within {self._seconds} s") from problem
        except NoAnswer as problem:
            raise _failed(connection, str(problem)) from problem

    async def _sent(
        self,
        connection: Connection | None,
        place: _Place,
        proxy: Proxy | None,
        head: bytes,
        body: bytes,
    ) -> Connection:
        """Send a request over that connection, or a new one. Raises NoAnswer."""
        try:
            connection = connection or await self._connected(place, proxy)
        except OSError as problem:
            raise NoAnswer(f"{type(problem).__name__} {problem}".strip()) from problem
        try:
            await connection.ask(head, body)
        except BaseException:
            connection.close()
            raise
        return connection

    def _rested(self, place: _Place) -> Connection | None:
        """One that was kept; the youngest, so that those that are not needed grow old."""
        kept = self._kept.get(place, [])
        oldest = asyncio.get_running_loop().time() - _KEPT_SECONDS
        while kept:
            connection = kept.pop()
            is_young = connection.idle_since >= oldest
            if is_young and connection.is_free and not connection.has_news:
                return connection
            connection.close()
        return None

    def _put_back(self, place: _Place, connection: Connection) -> None:
        if connection.is_free:
            connection.idle_since = asyncio.get_running_loop().time()
            self._kept.setdefault(place, []).append(connection)
        else:
            connection.close()

    async def _connected(self, place: _Place, proxy: Proxy | None) -> Connection:
        """A new connection. Raises OSError, and NoAnswer where a proxy lets nothing through."""
        loop = asyncio.get_running_loop()
        # Before there is a socket, which would be left open where roots cannot be read.
        context = self._tls() if place.scheme == "https" else None
        async with asyncio.timeout(_CONNECT_SECONDS):
            host, port = proxy.place if proxy else (place.host, place.port)
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            # asyncio's own loses sockets, and hangs, before Python 3.12.8.
            connected = await start_connection(found, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
            over_tls = context is not None and not proxy
            _, connection = await loop.create_connection(
                Connection,
                sock=connected,
                ssl=context if over_tls else None,
                server_hostname=host if over_tls else None,
            )
            if proxy and context is not None:
                await _tunnel(connection, place, proxy, context)
        return connection


def _failed(connection: Connection | None, why: str) -> NoAnswer:
    if connection is None or not connection.has_head:
        return NoAnswer(why)
    return BrokenAnswer(why, connection.status, connection.headers)


def _decoded(content: bytes, coding: str, most: int) -> bytes:
    """Content as it was before it was coded (RFC 9110, 8.4). Raises NoAnswer."""
    if coding == "identity":
        return content
    if coding not in ("gzip", "x-gzip"):
        raise NoAnswer(f"its content is coded as {coding[:30]!r}, which nobody asked for")
    parts: list[bytes] = []
    try:
        # As others do, what follows the last member is passed over.
        while content and (not parts or content.startswith(_GZIP_BEGINS)):
            member = isal_zlib.decompressobj(wbits=_GZIP)
            parts.append(member.decompress(content, most + 1))
            most -= len(parts[-1])
            if most < 0:
                raise NoAnswer("its inflated content has no end")
            if not member.eof:
                raise NoAnswer("its content is cut off")
            content = member.unused_data
    except IsalError as problem:  # type: ignore[misc]
        raise NoAnswer(f"its content cannot be inflated: {problem}") from problem
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _tunnel(
    connection: Connection, place: _Place, proxy: Proxy, context: ssl.SSLContext
) -> None:
    """Let a proxy lead the connection on (RFC 9110, 9.3.6)."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    target = f"{host}:{place.port}"
    head = request_head("CONNECT", target, {"host": target} | proxy.headers, 0)
    try:
        await connection.ask(head, b"")
        if not 200 <= connection.status < 300:
            raise NoAnswer(f"the proxy answered {connection.status}")
        await connection.start_tls(context, place.host)
    except BaseException:
        connection.close()
        raise
