"""Blocking AWS calls without an SDK: JSON over http.client, signed with Signature Version 4.

Why not botocore: loading it and its service models takes most of a cold start, and the API makes
three small calls (docs/adr/0002). Only the services that our gateways call are here:

    dynamodb, sqs              AWS JSON 1.0
    events (EventBridge)       AWS JSON 1.1
    scheduler (EventBridge)    REST: CreateSchedule, UpdateSchedule, DeleteSchedule
    apigatewaymanagementapi    REST: PostToConnection, DeleteConnection
    s3                         REST: GetObject, ListObjectsV2 (s3_requests.py)

Sources: DynamoDB API Reference, "Low-level API", and TransactWriteItems for why a transaction is
cancelled; SQS Developer Guide, "AWS JSON protocol"; EventBridge and EventBridge Scheduler API
References.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from chalicelib.aws import s3_requests
from chalicelib.aws.signature import region, sign
from chalicelib.aws.tracing import incoming, outgoing
from chalicelib.core.errors import CallFailed, ConditionFailed

_TARGETS = {"dynamodb": "DynamoDB_20120810", "sqs": "AmazonSQS", "events": "AWSEvents"}
#: The version of AWS JSON, where it is not 1.0.
_VERSIONS = {"events": "1.1"}
_TIMEOUT_SECONDS = 8
_TRIES = 4
_BACKOFF_SECONDS = 0.05
#: Codes after which the same call may succeed: botocore's standard retry mode, and a write to an
#: item that is in a transaction just now.
_PASSING = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
#: Why DynamoDB cancelled a transaction that may succeed when it is sent again.
_PASSING_REASONS = frozenset(
    {"ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict"}
)


class SignedCalls:
    """`call(service, operation, **parameters)` as aws/calls.py describes it.

    `endpoints`: service -> root URL, for services whose URL does not follow from the region.
    `url_suffix`: what host names end with in this partition, as AWS::URLSuffix names it.
    """

    def __init__(
        self, endpoints: Mapping[str, str] | None = None, url_suffix: str = "amazonaws.com"
    ) -> None:
        self._endpoints = dict(endpoints or {})
        self._url_suffix = url_suffix
        #: Each thread has connections of its own, because updates are pushed from many threads.
        self._kept = threading.local()
        self._tls: ssl.SSLContext | None = None

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        sent = outgoing(service, operation, parameters)
        method, url, headers, body = self._request(service, operation, sent)
        for attempt in range(1, _TRIES + 1):
            try:
                status, answer = self._send(service, operation, method, url, headers, body)
            except (OSError, http.client.HTTPException) as error:
                failed = CallFailed(service, operation, "ConnectionError", repr(error))
            else:
                if status < 300:
                    incoming(service, operation, answer)
                    return answer
                failed = _failure(service, operation, status, answer)
                if status < 500 and not _may_pass(failed.code, answer):
                    raise failed
            if attempt == _TRIES:
                raise failed
            # Blocking on purpose: a Lambda container works on one request at a time.
            time.sleep(random.uniform(0.5, 1) * _BACKOFF_SECONDS * 2**attempt)  # noqa: ASYNC251
        raise AssertionError("unreachable")

    def _request(
        self, service: str, operation: str, parameters: dict[str, Any]
    ) -> tuple[str, str, dict[str, str], bytes]:
        if service == "s3":
            return s3_requests.request(operation, parameters, self._url_suffix)
        root = self._root(service)
        if service == "apigatewaymanagementapi":
            path = f"/@connections/{quote(parameters['ConnectionId'], safe='')}"
            if operation == "DeleteConnection":
                return "DELETE", root + path, {}, b""
            return "POST", root + path, {}, parameters["Data"]
        if service == "scheduler":
            return _scheduler_request(root, operation, parameters)
        headers = {
            "content-type": f"application/x-amz-json-{_VERSIONS.get(service, '1.0')}",
            "x-amz-target": f"{_TARGETS[service]}.{operation}",
        }
        return "POST", root + "/", headers, json.dumps(parameters, default=_text).encode()

    def _root(self, service: str) -> str:
        given = self._endpoints.get(service) or os.environ.get("AWS_ENDPOINT_URL")
        if given:
            return given.rstrip("/")
        return f"https://{service}.{region()}.{self._url_suffix}"

    def _send(
        self,
        service: str,
        operation: str,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes,
    ) -> tuple[int, dict[str, Any]]:
        name = "execute-api" if service == "apigatewaymanagementapi" else service
        signed = sign(method, url, headers, body, name, region(), os.environ, time.gmtime())
        parts = urlsplit(url)
        connection = self._connection(parts.scheme, parts.netloc)
        try:
            target = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body, signed)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            # The other side may have closed a kept connection. The next try opens a new one.
            connection.close()
            raise
        if service == "s3" and answer.status < 300:
            return answer.status, s3_requests.answer(operation, answer.headers, content)
        if service == "s3":
            return answer.status, s3_requests.error(content)
        try:
            found = json.loads(content, object_hook=_binary) if content else {}
            # REST services name an error in a header. A colon and a URL may follow the name.
            if "__type" not in found and answer.headers.get("x-amzn-errortype"):
                found["__type"] = answer.headers["x-amzn-errortype"].partition(":")[0]
            return answer.status, found
        except ValueError:
            return answer.status, {"__type": f"HTTP{answer.status}", "message": repr(content[:200])}

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


def _scheduler_request(
    root: str, operation: str, parameters: dict[str, Any]
) -> tuple[str, str, dict[str, str], bytes]:
    """A REST request: the name is in the path; the rest is JSON, or a query for DeleteSchedule."""
    method = {"CreateSchedule": "POST", "UpdateSchedule": "PUT", "DeleteSchedule": "DELETE"}[
        operation
    ]
    url = f"{root}/schedules/{quote(parameters['Name'], safe='')}"
    if method == "DELETE":
        return method, f"{url}?groupName={quote(parameters['GroupName'], safe='')}", {}, b""
    body = {name: value for name, value in parameters.items() if name != "Name"}
    return method, url, {"content-type": "application/json"}, json.dumps(body).encode()


def _may_pass(code: str, answer: dict[str, Any]) -> bool:
    if code != "TransactionCanceledException":
        return code in _PASSING
    reasons = {reason.get("Code") for reason in answer.get("CancellationReasons", [])} - {"None"}
    return bool(reasons) and reasons <= _PASSING_REASONS


def _failure(service: str, operation: str, status: int, answer: dict[str, Any]) -> CallFailed:
    if service == "apigatewaymanagementapi" and status == 410:
        return CallFailed(service, operation, "GoneException", "the connection is gone")
    code = str(answer.get("__type") or f"HTTP{status}").rpartition("#")[2]
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(operation, answer.get("Item"))
    message = answer.get("message") or answer.get("Message") or ""
    return CallFailed(service, operation, code, str(message))


def _text(value: object) -> str:
    """Bytes are base64 text in DynamoDB's JSON."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _binary(members: dict[str, Any]) -> dict[str, Any]:
    if len(members) == 1 and isinstance(members.get("B"), str):
        return {"B": base64.b64decode(members["B"])}
    return members
