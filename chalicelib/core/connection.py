"""One HTTP/1.1 connection on an event loop: a request, its answer, and then the next one.

The answer is parsed by llhttp, Node's parser, by way of httptools.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from chalicelib.core.errors import NoAnswer

#: Content that waits to be taken; the other side is held up where there is more.
_MOST_WAITING = 1 << 20
#: Bytes that come before an answer's content. AWS and exchanges send a hundredth of it.
_LARGEST_HEAD = 1 << 18
#: A request's body is handed over in such parts, so that no second copy of all of it is made.
_WRITTEN_AT_ONCE = 1 << 18


class Lost(NoAnswer):
    """The connection ended before a byte of the answer came, as one does that was kept too long."""


class BrokenAnswer(NoAnswer):
    """An answer began, and its content did not come whole, or cannot be read.

    `status`, and `headers` by name in lower case, are what it began with.
    """

    def __init__(self, detail: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(detail)
        self.status, self.headers = status, headers


class Connection(asyncio.Protocol):
    """`status`, `headers` (by name in lower case): of the answer, once `has_head`."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        #: When it was last used, on the loop's clock.
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._parser: Any = None
        #: What somebody waits for: the head of an answer, more of its content, or room to write.
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._waiting = self._before_head = 0
        self.has_head = self._is_whole = self._keeps = False
        self._ended: Exception | None = None

    # What asyncio calls.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._is_whole:
            self._end(NoAnswer("bytes came that nobody had asked for"))
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as problem:
            self._end(NoAnswer(f"no HTTP: {problem!r}"))
            return
        if not self.has_head:
            self._before_head += len(data)
            if self._before_head > _LARGEST_HEAD:
                self._end(NoAnswer("its head has no end"))
                return
        if self._waiting > _MOST_WAITING:
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, problem: Exception | None) -> None:
        if self.has_head and problem is None and self._ends_with_connection():
            self._is_whole = True
        about = f": {problem!r}" if problem else ""
        began = self.has_head or self._parser is None
        self._end((NoAnswer if began else Lost)(f"the connection was closed{about}"))

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._is_whole:  # what was asked for has been answered; this costs the connection
            raise ValueError("another answer follows")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:  # what follows the content says nothing of how to read it
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.has_head = self.status >= 200  # what is below announces an answer that follows
        if not self.has_head:
            self.headers = {}

    def on_body(self, content: bytes) -> None:
        self._chunks.append(content)
        self._waiting += len(content)

    def on_message_complete(self) -> None:
        if self.has_head:
            self._is_whole = True
            self._keeps = self._parser.should_keep_alive()

    # What a pool calls.

    @property
    def is_free(self) -> bool:
        """Whether the next request may go over it."""
        return self._ended is None and (self._parser is None or (self._is_whole and self._keeps))

    @property
    def has_news(self) -> bool:
        """Whether there is something to read that the loop has not seen: a container that was
        frozen looks at its connections only when somebody waits."""
        if self._transport.is_closing():  # TLS has no socket any more before it says so
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    async def ask(self, head: bytes, body: bytes) -> None:
        """Send a request, and wait for the head of its answer. Raises NoAnswer."""
        self.headers, self._chunks = {}, []
        self._waiting = self._before_head = 0
        self.has_head = self._is_whole = self._keeps = False
        self._parser = HttpResponseParser(self)
        first = _WRITTEN_AT_ONCE - len(head)
        self._write(head + body[:first])
        for at in range(first, len(body), _WRITTEN_AT_ONCE):
            if self._room is not None:
                await self._room
            self._write(body[at : at + _WRITTEN_AT_ONCE])
        while not self.has_head:
            await self._more()

    async def content(self, most: int) -> bytes:
        """All of the answer's content, as it was sent: at most so many bytes. Raises NoAnswer."""
        size = self._waiting
        while not self._is_whole and size <= most:
            self._waiting = 0  # all of it is wanted, so nobody is held up
            await self._more()
            size += self._waiting
        if size > most:
            raise NoAnswer(f"its content has more than {most} bytes")
        parts, self._chunks = self._chunks, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content as it comes. Raises NoAnswer."""
        while True:
            taken, self._chunks, self._waiting = self._chunks, [], 0
            for chunk in taken:
                yield chunk
            if self._chunks:
                continue
            if self._is_whole:
                return
            await self._more()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Go on over TLS. Raises OSError."""
        self._parser = None
        self._transport = await self._loop.start_tls(
            self._transport, self, context, server_hostname=host
        )

    def close(self) -> None:
        """End it. Nobody may be waiting."""
        self._end(NoAnswer("the connection is closed"))

    def _write(self, data: bytes) -> None:
        if self._ended is None:
            self._transport.write(data)

    async def _more(self) -> None:
        """Until more of the answer is there. Raises NoAnswer."""
        if self._ended is not None:
            raise type(self._ended)(*self._ended.args)
        self._transport.resume_reading()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _ends_with_connection(self) -> bool:
        """Whether nothing else says where the content ends (RFC 9112, 6.3)."""
        return not {"content-length", "transfer-encoding"} & self.headers.keys()

    def _end(self, why: Exception) -> None:
        self._ended = self._ended or why
        self._wake()
        self.resume_writing()
        if self._transport is not None:
            self._transport.abort()


def request_head(method: str, target: str, headers: Mapping[str, str], length: int) -> bytes:
    """The head of a request. Raises ValueError for what would be another request."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if length or method in ("POST", "PUT"):
        lines.append(f"content-length: {length}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise ValueError("a header or an address has more than one line")
    return f"{text}\r\n\r\n".encode("latin-1")
