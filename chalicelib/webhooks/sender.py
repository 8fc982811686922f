"""The HTTP side of webhooks: one POST to an address that was checked first.

A name is resolved once. Where any of its addresses is refused (webhooks/addresses.py), nothing is
sent. Otherwise one of the checked addresses is connected to, so a name that resolves to another
address a moment later changes nothing. No redirect is followed, no proxy is used, and no connection
is kept. One deadline holds for the whole exchange. Only the head of the answer is read, at most
64 KB of it.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from chalicelib.core.tls import trusting
from chalicelib.webhooks.addresses import refused
from chalicelib.webhooks.retry import Answer
from chalicelib.webhooks.webhook import Target, is_allowed, target

#: Resolving the name, and connecting to one address.
CONNECT_SECONDS = 5
#: The whole exchange.
TOTAL_SECONDS = 10
#: Read of an answer.
MOST_BYTES = 64 * 1024
#: Bytes that are sent before the deadline is looked at again.
_PIECE = 16 * 1024

#: (host, port) -> the addresses of a name.
Resolve = Callable[[str, int], list[str]]
#: (address, port, seconds) -> a connected socket.
Connect = Callable[[str, int, float], socket.socket]


class WebhookSender:
    """Sends each delivery in a thread of its own, so that a slow receiver does not hold up others.

    `allowed_hosts`: "host:port" pairs to which the rules of https and public addresses do not
    apply. `resolve`, `connect` and `tls` are for tests.
    """

    def __init__(
        self,
        allowed_hosts: Sequence[str],
        resolve: Resolve | None = None,
        connect: Connect | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = tuple(allowed_hosts)
        self._resolve = resolve or _addresses_of
        self._connect = connect or _connection_to
        self._tls = tls

    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """POST once. Never raises for what a receiver or a network does."""
        import asyncio  # here, not above: its import costs functions that never send

        return await asyncio.to_thread(self.post, url, headers, body)

    def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """What `send` does, in the calling thread; `url` is one that `url_problem` accepted."""
        deadline = time.monotonic() + TOTAL_SECONDS
        to = target(url)
        try:
            found = self._resolved(to)
        except TimeoutError:
            return Answer(0, "the name was not resolved in time")
        except (OSError, UnicodeError) as error:
            return Answer(0, f"the name cannot be resolved ({type(error).__name__})")
        if not found:
            return Answer(0, "the name has no address")
        if not is_allowed(to.host, to.port, self._allowed):
            if to.scheme != "https":
                return Answer(0, "only https is sent to", refused=True)
            for address in found:
                entry = refused(address)
                if entry is not None:
                    return Answer(0, f"resolves to a {entry.name} address", refused=True)
        try:
            return self._exchange(to, found, headers, body, deadline)
        except TimeoutError:
            return Answer(0, f"no answer within {TOTAL_SECONDS} s")
        except ssl.SSLCertVerificationError as error:
            return Answer(0, f"the certificate is not valid: {error.verify_message}")
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, f"the connection failed ({type(error).__name__})")

    def _resolved(self, to: Target) -> list[str]:
        """The name's addresses, within the time a connection may take; getaddrinfo has no limit."""
        outcome: list[list[str] | Exception] = []

        def look() -> None:
            try:
                outcome.append(self._resolve(to.host, to.port))
            except (OSError, UnicodeError) as error:
                outcome.append(error)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(CONNECT_SECONDS)
        if not outcome:
            raise TimeoutError
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def _exchange(
        self, to: Target, found: list[str], headers: dict[str, str], body: bytes, deadline: float
    ) -> Answer:
        with self._connected(found, to.port, deadline) as connection:
            if to.scheme != "https":
                return _converse(connection, to, headers, body, deadline)
            connection.settimeout(_left(deadline))
            with self._context().wrap_socket(connection, server_hostname=to.host) as secure:
                return _converse(secure, to, headers, body, deadline)

    def _connected(self, found: list[str], port: int, deadline: float) -> socket.socket:
        """A connection to the first of the checked addresses that accepts one."""
        for address in found[:-1]:
            try:
                return self._connect(address, port, min(CONNECT_SECONDS, _left(deadline)))
            except OSError:
                continue  # only the last address's error counts; _left keeps the deadline
        return self._connect(found[-1], port, min(CONNECT_SECONDS, _left(deadline)))

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = trusting()
        return self._tls


class _Reading(io.RawIOBase):
    """What a connection receives: until the deadline (then TimeoutError), MOST_BYTES at most."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline, self._room = connection, deadline, MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._room]
        if not view:
            return 0
        self._connection.settimeout(_left(self._deadline))
        count = self._connection.recv_into(view)
        self._room -= count
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client asks a socket for."""
        return io.BufferedReader(self)


def _converse(
    connection: socket.socket, to: Target, headers: dict[str, str], body: bytes, deadline: float
) -> Answer:
    lines = [f"POST {to.path} HTTP/1.1", f"host: {to.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}", "accept: */*", "connection: close", "", ""]
    whole = "\r\n".join(lines).encode("ascii") + body
    for start in range(0, len(whole), _PIECE):
        connection.settimeout(_left(deadline))
        connection.sendall(whole[start : start + _PIECE])
    answer = http.client.HTTPResponse(_Reading(connection, deadline), method="POST")  # type: ignore[arg-type]
    answer.begin()
    # RFC 9110, 15.2: any number of interim answers may come before the final one. begin() skips
    # only those of status 100. All are read through one response, whose buffer may already hold
    # the next answer. Nothing of HTTP follows a 101.
    while 100 <= answer.status < 200 and answer.status != 101:
        answer.headers = None  # type: ignore[assignment]  # else begin() does nothing
        answer.begin()
    return Answer(answer.status, retry_after=answer.getheader("retry-after"))


def _left(deadline: float) -> float:
    """Seconds until the deadline. Raises TimeoutError behind it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _addresses_of(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _connection_to(address: str, port: int, seconds: float) -> socket.socket:
    return socket.create_connection((address, port), timeout=seconds)
