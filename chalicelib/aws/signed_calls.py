"""Blocking AWS calls over http.client, signed with Signature Version 4: for functions that make a
few calls one after another and must start quickly."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from chalicelib.aws.protocol import Calls, Request
from chalicelib.core.errors import NoAnswer
from chalicelib.core.tls import trusting

_TIMEOUT_SECONDS = 8


class SignedCalls(Calls):
    """As Calls; its coroutines never suspend."""

    def __init__(
        self, endpoints: Mapping[str, str] | None = None, url_suffix: str = "amazonaws.com"
    ) -> None:
        super().__init__(endpoints, url_suffix)
        #: Each thread has connections of its own, because updates are pushed from many threads.
        self._kept = threading.local()

    async def _send(
        self, request: Request, headers: dict[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        parts = urlsplit(request.url)
        connection = self._connection(parts.scheme, parts.netloc)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(request.method, target, request.body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            # The other side may have closed a kept connection. The next try opens a new one.
            connection.close()
            raise NoAnswer(repr(error)) from error

    async def _wait(self, seconds: float) -> None:
        # Blocking on purpose: a Lambda container works on one request at a time.
        time.sleep(seconds)  # noqa: ASYNC251

    def _connection(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        connections: dict[str, http.client.HTTPConnection] = vars(self._kept)
        if netloc not in connections:
            if scheme == "https":
                connections[netloc] = http.client.HTTPSConnection(
                    netloc, timeout=_TIMEOUT_SECONDS, context=trusting()
                )
            else:
                connections[netloc] = http.client.HTTPConnection(netloc, timeout=_TIMEOUT_SECONDS)
        return connections[netloc]
