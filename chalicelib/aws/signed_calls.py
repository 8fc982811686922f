"""Blocking AWS calls over http.client, signed with Signature Version 4: for functions that make a
few calls one after another and must start quickly."""

from __future__ import annotations

import http.client
import os
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from chalicelib.aws.protocol import (
    TRIES,
    Protocol,
    Request,
    backoff_seconds,
    failure,
    may_pass,
    read,
    signed,
)
from chalicelib.aws.tracing import incoming, outgoing
from chalicelib.core.errors import CallFailed

_TIMEOUT_SECONDS = 8


class SignedCalls:
    """`call(service, operation, **parameters)` as aws/calls.py describes it; `endpoints` and
    `url_suffix` as of Protocol."""

    def __init__(
        self, endpoints: Mapping[str, str] | None = None, url_suffix: str = "amazonaws.com"
    ) -> None:
        self._protocol = Protocol(endpoints, url_suffix)
        #: Each thread has connections of its own, because updates are pushed from many threads.
        self._kept = threading.local()
        self._tls: ssl.SSLContext | None = None

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        sent = outgoing(service, operation, parameters)
        request = self._protocol.request(service, operation, sent)
        for attempt in range(1, TRIES + 1):
            try:
                status, answer = self._send(service, operation, request)
            except (OSError, http.client.HTTPException) as error:
                why = repr(error)
                failed, passes = CallFailed(service, operation, "ConnectionError", why), True
            else:
                if status < 300:
                    incoming(service, operation, answer)
                    return answer
                failed = failure(service, operation, status, answer)
                passes = may_pass(status, failed.code, answer)
            if attempt == TRIES or not passes:
                try:
                    raise failed
                finally:
                    del failed  # it knows this frame: a circle would keep all that callers hold
            # Blocking on purpose: a Lambda container works on one request at a time.
            time.sleep(backoff_seconds(attempt))  # noqa: ASYNC251
        raise AssertionError("unreachable")

    def _send(self, service: str, operation: str, request: Request) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(request.url)
        connection = self._connection(parts.scheme, parts.netloc)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(request.method, target, request.body, signed(service, request))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            # The other side may have closed a kept connection. The next try opens a new one.
            connection.close()
            raise
        return answer.status, read(service, operation, answer.status, answer.headers, content)

    def _connection(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        connections: dict[str, http.client.HTTPConnection] = vars(self._kept)
        if netloc not in connections:
            if scheme == "https":
                self._tls = self._tls or ssl.create_default_context(
                    cafile=os.environ.get("AWS_CA_BUNDLE")
                )
                connections[netloc] = http.client.HTTPSConnection(
                    netloc, timeout=_TIMEOUT_SECONDS, context=self._tls
                )
            else:
                connections[netloc] = http.client.HTTPConnection(netloc, timeout=_TIMEOUT_SECONDS)
        return connections[netloc]
