"""The pool of connections, against a server on this machine that answers byte by byte."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socketserver
import ssl
import threading
import tracemalloc
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core.connection import BrokenAnswer, Connection, request_head
from chalicelib.core.errors import NoAnswer
from chalicelib.core.http import Http
from tests.doubles.receiver import certificate_for

WHOLE = b"HTTP/1.1 200 OK\r\nX-Count: 7\r\nContent-Length: 5\r\n\r\nhello"
ZIPPED = gzip.compress(b"hello", mtime=0)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True  # one that waits is not waited for


def head_of(lines: Iterable[bytes]) -> bytes:
    """The next request's first line and headers; nothing where the client has gone."""
    return b"".join(takewhile(b"\r\n".__ne__, lines))


@contextmanager
def serving(answer: bytes, then: str) -> Iterator[tuple[str, list[bytes]]]:
    """A server's URL, and what it was asked. It answers with these bytes, and then "closes" the
    connection, "goes on" to the next request, or "waits" until the client goes."""
    asked: list[bytes] = []

    class Answering(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := head_of(self.rfile):
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


@pytest.mark.parametrize(
    ("behind", "target"),
    [("", "/"), ("?a=/b", "/?a=/b"), ("/?a", "/?a"), ("#b/c", "/"), ("/a?b#c?d", "/a?b")],
)
def test_of_a_url_all_is_asked_for_that_names_something(behind: str, target: str) -> None:
    async def ask(http: Http, url: str) -> Any:
        await http.request("GET", f"{url}{behind}", {})

    _, asked = asking(ask, WHOLE)
    assert asked[0].startswith(f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1:".encode())


def test_what_is_signed_is_sent_as_it_is() -> None:
    async def put(http: Http, url: str) -> Any:
        await http.request("PUT", f"{url}/a%2Bb=c%20d", {"x-a": "1"}, b"body")

    _, asked = asking(put, WHOLE)
    assert asked[0].startswith(b"PUT /a%2Bb=c%20d HTTP/1.1")
    assert b"content-length: 4" in asked[0].lower()


@pytest.mark.parametrize("size", [0, 5, 100_000, 5_000_000])
def test_a_body_of_any_size_arrives_whole(size: int) -> None:
    sent = bytes(range(256)) * (size // 256) + b"." * (size % 256)
    received: list[bytes] = []

    class Receiving(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = head_of(self.rfile).lower()
            length = int(head.partition(b"content-length: ")[2].split()[0])
            received.append(self.rfile.read(length))
            self.wfile.write(WHOLE)

    async def put(url: str) -> Any:
        http = Http(1, 30)
        try:
            return await http.request("PUT", url, {}, sent)
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
    "part",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
        b"\x00\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    ],
)
def test_an_answer_that_is_cut_off_is_none(ask: Any, part: bytes) -> None:
    wrong: list[Any] = []

    async def cut(http: Http, url: str) -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        with pytest.raises(NoAnswer):
            await ask(http, url)

    asking(cut, part)
    assert not wrong


@pytest.mark.parametrize("content", [ZIPPED[:-9], b"hello", ZIPPED + ZIPPED[:-9], ZIPPED[:5]])
def test_an_answer_that_cannot_be_inflated_is_none(content: bytes) -> None:
    async def broken(http: Http, url: str) -> Any:
        with pytest.raises(NoAnswer):
            await get(http, url)

    asking(broken, _zipped(content))


@pytest.mark.parametrize(
    ("coding", "content", "found"),
    [
        (b"GZIP", ZIPPED, b"hello"),
        (b" x-gzip ", ZIPPED, b"hello"),
        (b"gzip", ZIPPED + ZIPPED, b"hellohello"),
        (b"gzip", gzip.compress(b"", mtime=0) + ZIPPED, b"hello"),
        (b"gzip", ZIPPED + bytes(16), b"hello"),
        (b"gzip", b"", b""),
        (b"identity", b"hello", b"hello"),
    ],
)
def test_content_is_decoded_as_it_says(coding: bytes, content: bytes, found: bytes) -> None:
    answer = _zipped(content).replace(b" gzip", b" " + coding)
    assert asking(get, answer)[0].content == found


def test_a_coding_that_nobody_asked_for_is_named() -> None:
    async def strange(http: Http, url: str) -> Any:
        with pytest.raises(NoAnswer, match="'br'"):
            await get(http, url)

    asking(strange, _zipped(ZIPPED).replace(b" gzip", b" br"))


def _lying(content: bytes) -> bytes:
    """Zipped content that says to be a byte long."""
    return gzip.compress(content)[:-4] + b"\x01\x00\x00\x00"


BOMB = bytes(30_000_000)


@pytest.mark.parametrize(
    "answer",
    [
        _zipped(gzip.compress(BOMB)),
        _zipped(_lying(BOMB)),
        _zipped(gzip.compress(BOMB[:1_000_000]) * 2),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n" + bytes(1_000_001),
        b"HTTP/1.1 200 OK\r\n\r\n" + BOMB,
    ],
    ids=["zipped", "lying", "two", "plain", "endless"],
)
def test_content_that_is_far_too_large_is_not_taken_to_its_end(answer: bytes) -> None:
    async def large(http: Http, url: str) -> None:
        with pytest.raises(BrokenAnswer):
            await http.get(url, {}, {}, 1_000_000)

    tracemalloc.start()
    asking(large, answer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("content", [b"x" * 1000, gzip.compress(b"x" * 1000, mtime=0)])
def test_content_may_have_the_most_bytes_that_are_allowed(content: bytes) -> None:
    async def sized(http: Http, url: str) -> list[Any]:
        found: list[Any] = []
        for most in (1000, 999):
            try:
                found.append(len((await http.get(url, {}, {}, most)).content))
            except BrokenAnswer as broken:
                found.append(broken.status)
        return found

    answer = _zipped(content)
    if content[:1] == b"x":
        answer = answer.replace(b"gzip", b"identity")
    assert asking(sized, answer)[0] == [1000, 200]


@pytest.mark.parametrize("status", [200, 418, 451])
@pytest.mark.parametrize(
    ("behind", "then"),
    [
        (b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", "closes"),
        (b"Content-Length: 9\r\n\r\nhel", "closes"),
        (b"Content-Length: 9\r\n\r\nhel", "waits"),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "closes"),
    ],
    ids=["damaged", "cut off", "slow", "no chunk"],
)
def test_what_an_answer_began_with_stands_whatever_becomes_of_its_content(
    status: int, behind: bytes, then: str
) -> None:
    async def broken(http: Http, url: str) -> BrokenAnswer:
        with pytest.raises(BrokenAnswer) as raised:
            await get(http, url)
        return raised.value

    answer = b"HTTP/1.1 %d Said\r\nRetry-After: 3600\r\n" % status + behind
    found, _ = asking(broken, answer, then, seconds=0.2 if then == "waits" else 30)
    assert (found.status, found.headers["retry-after"]) == (status, "3600")


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


def test_a_proxy_leads_on_to_what_is_asked_over_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Through the proxy goes what is encrypted for the host behind it."""
    heard: list[bytes] = []
    context, trusting = certificate_for("localhost", tmp_path)

    class Leading(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            heard.append(head_of(self.rfile))
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.wfile.flush()
            with context.wrap_socket(self.connection, server_side=True) as secure:
                secure.recv(10_000)
                secure.sendall(WHOLE)

    async def ask() -> Any:
        http = Http(1, 30, lambda: trusting)
        try:
            return await get(http, "https://localhost:1")
        finally:
            await http.aclose()

    with Server(("127.0.0.1", 0), Leading) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        proxy = f"http://me:se%40cret@127.0.0.1:{server.server_address[1]}"
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        answer = asyncio.run(ask())
        server.shutdown()
    assert answer.content == b"hello"
    assert heard[0].startswith(b"CONNECT localhost:1 HTTP/1.1\r\n")
    assert b"proxy-authorization: Basic bWU6c2VAY3JldA==\r\n" in heard[0]


def test_roots_that_cannot_be_read_are_no_answer_and_leave_no_socket() -> None:
    def unreadable() -> ssl.SSLContext:
        raise FileNotFoundError("roots.pem")

    async def ask(url: str) -> None:
        http = Http(1, 30, unreadable)
        with pytest.raises(NoAnswer, match="FileNotFoundError"):
            await get(http, url)

    with serving(WHOLE, "closes") as (url, _), warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        asyncio.run(ask(url.replace("http:", "https:")))
        gc.collect()
    assert not found


def test_a_certificate_of_nobody_we_trust_is_no_answer(tmp_path: Path) -> None:
    context, _ = certificate_for("localhost", tmp_path)

    class Answering(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                context.wrap_socket(self.connection, server_side=True).close()

    async def ask(url: str) -> None:
        http = Http(1, 30)
        with pytest.raises(NoAnswer, match="CERTIFICATE_VERIFY_FAILED"):
            await get(http, url)
        await http.aclose()

    with Server(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        asyncio.run(ask(f"https://localhost:{server.server_address[1]}"))
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil it closes", b"until it closes"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\nX-Of: another\r\n\r\n" + WHOLE, b"hello"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (WHOLE + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", b"hello"),
        (WHOLE + b"rubbish", b"hello"),
    ],
)
def test_an_answer_ends_where_it_says_and_nowhere_else(answer: bytes, content: bytes) -> None:
    for ask in (get, streamed):
        found = asking(ask, answer)[0]
        assert (found if ask is streamed else found.content) == content


def test_what_follows_the_content_changes_no_header_of_before() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Count: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer, _ = asking(
        get, head + b"5\r\nhello\r\n0\r\nX-Count: 8\r\nContent-Encoding: gzip\r\n\r\n"
    )
    assert (answer.headers["x-count"], answer.content) == ("7", b"hello")


def test_a_connection_that_is_kept_holds_no_answer() -> None:
    async def held(http: Http, url: str) -> int:
        answer = await get(http, url)
        (kept,) = (each for kept in http._kept.values() for each in kept)
        gc.collect()
        return sum(each is answer.content for each in gc.get_referents(kept._chunks))

    assert asking(held, WHOLE, "goes on")[0] == 0


@pytest.mark.parametrize(
    "last", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_came_while_a_container_was_frozen_answers_nothing(last: bytes, method: str) -> None:
    """No loop runs when a server says something more, or nothing, and closes."""
    answered, has_closed = threading.Event(), threading.Event()

    class Closing(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head_of(self.rfile)
            self.wfile.write(WHOLE)
            answered.wait(10)
            self.wfile.write(last)

        def finish(self) -> None:
            super().finish()
            self.request.close()
            has_closed.set()

    async def made() -> Http:
        return Http(1, 30)

    with Server(("127.0.0.1", 0), Closing) as server, asyncio.Runner() as runner:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        http = runner.run(made())
        for _ in range(2):
            answered.clear()
            has_closed.clear()
            assert runner.run(http.request(method, url, {})).status == 200
            answered.set()
            assert has_closed.wait(10)
        runner.run(http.aclose())
        server.shutdown()


@given(st.sets(st.integers(1, len(ZIPPED) + 90)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_answer_is_the_same_however_the_network_cuts_it(cuts: set[int], chunked: bool) -> None:
    if chunked:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED)
    else:
        whole = _zipped(ZIPPED)

    async def fed() -> tuple[int, bytes]:
        connection = Connection()
        connection.connection_made(Silent())
        asked = asyncio.ensure_future(connection.ask(b"GET / HTTP/1.1\r\n\r\n", b""))
        await asyncio.sleep(0)
        edges = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
        for low, high in pairwise(edges):
            connection.data_received(whole[low:high])
            await asyncio.sleep(0)
        await asked
        assert connection.is_free
        return connection.status, await connection.content(100)

    assert asyncio.run(fed()) == (200, ZIPPED)


class Silent(asyncio.Transport):
    """A transport that takes everything and says nothing."""

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...


def test_a_connection_whose_end_is_about_to_be_told_is_not_used() -> None:
    class Closing(Silent):
        def is_closing(self) -> bool:
            return True

    async def is_free() -> tuple[bool, bool]:
        connection = Connection()
        connection.connection_made(Closing())
        return connection.is_free, connection.has_news

    assert asyncio.run(is_free()) == (True, True)


class Kept(socketserver.StreamRequestHandler):
    """Answers one request on each connection, keeps it, and closes it where the next one comes."""

    def handle(self) -> None:
        connections = self.server.connections  # type: ignore[attr-defined]
        connections.append(self.client_address)
        while head := head_of(self.rfile):
            self.rfile.read(4 if head.startswith(b"POST") else 0)
            if connections.count(self.client_address) > 1:
                return
            connections.append(self.client_address)
            self.wfile.write(WHOLE)


@pytest.mark.parametrize(("method", "is_asked_again"), [("GET", True), ("POST", False)])
def test_a_kept_connection_that_was_closed_costs_no_answer_where_asking_twice_is_safe(
    method: str, is_asked_again: bool
) -> None:
    body = b"body" if method == "POST" else b""

    async def twice(url: str) -> None:
        http = Http(1, 30)
        assert (await http.request(method, url, {}, body)).content == b"hello"
        if is_asked_again:
            assert (await http.request(method, url, {}, body)).content == b"hello"
        else:
            with pytest.raises(NoAnswer):
                await http.request(method, url, {}, body)
        await http.aclose()

    with Server(("127.0.0.1", 0), Kept) as server:
        server.connections = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        asyncio.run(twice(f"http://127.0.0.1:{server.server_address[1]}/"))
        server.shutdown()
        used = set(server.connections)  # type: ignore[attr-defined]
    assert len(used) == (2 if is_asked_again else 1)


def test_connections_are_kept_and_no_more_are_open_than_may_be() -> None:
    used: list[Any] = []

    class Answering(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head_of(self.rfile):
                used.append(self.client_address)
                self.wfile.write(WHOLE)

    async def many(url: str) -> None:
        http = Http(3, 30)
        await asyncio.gather(*(http.request("GET", url, {}) for _ in range(50)))
        await http.aclose()

    with Server(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        asyncio.run(many(f"http://127.0.0.1:{server.server_address[1]}/"))
        server.shutdown()
    assert (len(used), len(set(used))) == (50, 3)


def test_what_goes_wrong_with_who_takes_a_stream_is_theirs() -> None:
    async def full(http: Http, url: str) -> None:
        async with http.stream(url, {}) as answer:
            async for _ in answer.chunks:
                raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        asking(full, WHOLE)


@pytest.mark.parametrize("part", [b"X-A: 1\r\n", b"x"])
def test_an_answer_without_an_end_of_its_head_is_none(part: bytes) -> None:
    async def endless(http: Http, url: str) -> None:
        with pytest.raises(NoAnswer, match="no end"):
            await http.request("GET", url, {})

    asking(endless, b"HTTP/1.1 200 OK\r\nX-B: " + part * 400_000, "waits")


def test_who_is_cancelled_leaves_no_half_read_answer_to_the_next() -> None:
    async def left(http: Http, url: str) -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await http.request("GET", url, {})
        assert not any(http._kept.values())

    asking(left, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", "waits")


def test_a_stream_that_is_not_taken_holds_up_who_sends_it() -> None:
    """What is not taken yet stays with the other side, and no more than a few megabytes here."""

    class Counting(Silent):
        paused = 0

        def pause_reading(self) -> None:
            self.paused += 1

    async def fed() -> int:
        connection, transport = Connection(), Counting()
        connection.connection_made(transport)
        asked = asyncio.ensure_future(connection.ask(b"GET / HTTP/1.1\r\n\r\n", b""))
        await asyncio.sleep(0)
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n")
        await asked
        connection.data_received(b"x" * 1_000_000)
        assert not transport.paused
        connection.data_received(b"x" * 1_000_000)
        return transport.paused

    assert asyncio.run(fed()) == 1


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_request_is_one_request_whatever_is_in_it(target: str, value: str) -> None:
    try:
        head = request_head("GET", f"/{target}", {"x": value}, 0)
    except (ValueError, UnicodeEncodeError):
        return
    assert head.count(b"\r\n") == 3
    assert head.count(b"\n") == head.count(b"\r") == 3


def test_nobody_there_is_no_answer() -> None:
    async def nowhere(http: Http, url: str) -> Any:
        with pytest.raises(NoAnswer):
            await get(http, "http://127.0.0.1:9")

    asking(nowhere, WHOLE)
