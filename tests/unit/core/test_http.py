"""The pool of connections, against a server on this machine that answers byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import socketserver
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from yarl import URL

from chalicelib.core.errors import NoAnswer
from chalicelib.core.http import Http

WHOLE = b"HTTP/1.1 200 OK\r\nX-Count: 7\r\nContent-Length: 5\r\n\r\nhello"
ZIPPED = gzip.compress(b"hello", mtime=0)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True  # one that waits is not waited for


@contextmanager
def serving(answer: bytes, then: str) -> Iterator[tuple[str, list[bytes]]]:
    """A server's URL, and what it was asked. It answers with these bytes, and then "closes" the
    connection, "goes on" to the next request, or "waits" until the client goes."""
    asked: list[bytes] = []

    class Answering(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := b"".join(iter(self.rfile.readline, b"\r\n")):
                asked.append(head)
                self.wfile.write(answer)
                if then == "closes":
                    break
                if then == "waits":
                    self.rfile.read()

    with Server(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()


def asking(
    ask: Callable[[Http, str], Awaitable[Any]],
    answer: bytes,
    then: str = "closes",
    seconds: float = 30,
) -> tuple[Any, list[bytes]]:
    async def work(url: str) -> Any:
        http = Http(2, seconds)
        try:
            return await ask(http, url)
        finally:
            await http.aclose()

    with serving(answer, then) as (url, asked):
        return asyncio.run(work(url)), asked


async def get(http: Http, url: str) -> Any:
    return await http.get(
        f"{url}/a", {"symbol": "币安USDT", "limit": 5}, {"Accept-Encoding": "gzip"}
    )


async def streamed(http: Http, url: str) -> bytes:
    async with http.stream(url, {}) as answer:
        return b"".join([chunk async for chunk in answer.chunks])


def test_an_answer_comes_whole_and_the_request_is_what_was_given() -> None:
    answer, asked = asking(get, WHOLE)
    assert (answer.status, answer.headers.get("x-count"), answer.content) == (200, "7", b"hello")
    first, *headers = asked[0].decode().split("\r\n")
    assert first == "GET /a?symbol=%E5%B8%81%E5%AE%89USDT&limit=5 HTTP/1.1"
    names = {line.partition(":")[0].lower() for line in headers if line}
    assert names == {"host", "accept", "accept-encoding"}


def test_what_is_signed_is_sent_as_it_is() -> None:
    async def put(http: Http, url: str) -> Any:
        await http.request("PUT", URL(f"{url}/a%2Bb=c%20d", encoded=True), {"x-a": "1"}, b"body")

    _, asked = asking(put, WHOLE)
    assert asked[0].startswith(b"PUT /a%2Bb=c%20d HTTP/1.1")
    assert b"Content-Length: 4" in asked[0]


@pytest.mark.parametrize("size", [0, 5, 100_000, 5_000_000])
def test_a_body_of_any_size_arrives_whole(size: int) -> None:
    sent = bytes(range(256)) * (size // 256) + b"." * (size % 256)
    received: list[bytes] = []

    class Receiving(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b"".join(iter(self.rfile.readline, b"\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].split()[0])
            received.append(self.rfile.read(length))
            self.wfile.write(WHOLE)

    async def put(url: str) -> Any:
        http = Http(1, 30)
        try:
            return await http.request("PUT", URL(url), {}, sent)
        finally:
            await http.aclose()

    with Server(("127.0.0.1", 0), Receiving) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        answer = asyncio.run(put(f"http://127.0.0.1:{server.server_address[1]}/a"))
        server.shutdown()
    assert (answer.status, received) == (200, [sent])


@pytest.mark.parametrize("status", [302, 404, 503])
def test_other_answers_are_answers_and_redirects_are_not_followed(status: int) -> None:
    head = b"HTTP/1.1 %d X\r\nLocation: /b\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n" % status

    async def twice(http: Http, url: str) -> Any:
        await get(http, url)
        return await get(http, url)

    answer, asked = asking(twice, head, "goes on")
    assert (answer.status, answer.content) == (status, b"")
    assert len(asked) == 2
    assert b"cookie" not in asked[1].lower()


def _zipped(content: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    return head % len(content) + content


def test_a_zipped_answer_is_inflated_and_a_stream_is_not() -> None:
    assert asking(get, _zipped(ZIPPED))[0].content == b"hello"
    assert asking(streamed, _zipped(ZIPPED))[0] == ZIPPED


@pytest.mark.parametrize("ask", [get, streamed])
@pytest.mark.parametrize(
    "part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", b"\x00\r\n"]
)
def test_an_answer_that_is_cut_off_is_none(ask: Any, part: bytes) -> None:
    async def cut(http: Http, url: str) -> Any:
        with pytest.raises(NoAnswer):
            await ask(http, url)

    asking(cut, part)


@pytest.mark.parametrize("content", [ZIPPED[:-9], b"hello", b""])
def test_an_answer_that_cannot_be_inflated_is_none(content: bytes) -> None:
    async def broken(http: Http, url: str) -> Any:
        with pytest.raises(NoAnswer):
            await get(http, url)

    asking(broken, _zipped(content))


@pytest.mark.parametrize("ask", [get, streamed])
@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel"])
def test_no_request_takes_longer_than_it_may(ask: Any, part: bytes) -> None:
    async def slow(http: Http, url: str) -> Any:
        with pytest.raises(NoAnswer):
            await ask(http, url)

    asking(slow, part, "waits", seconds=0.05)


@pytest.mark.parametrize("is_spared", [False, True])
def test_a_proxy_of_the_environment_is_asked_unless_the_host_is_spared(
    monkeypatch: pytest.MonkeyPatch, is_spared: bool
) -> None:
    with serving(WHOLE, "closes") as (proxy, heard):
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "127.0.0.1" if is_spared else "another.test")
        answer, asked = asking(get, WHOLE)
    assert answer.content == b"hello"
    assert (len(asked), len(heard)) == ((1, 0) if is_spared else (0, 1))


def test_nobody_there_is_no_answer() -> None:
    async def nowhere(http: Http, url: str) -> Any:
        with pytest.raises(NoAnswer):
            await get(http, "http://127.0.0.1:9")

    asking(nowhere, WHOLE)
