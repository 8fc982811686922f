"""AWS calls as HTTP: what a call is sent as, and what an answer says. No SDK, and no connection.

Why not botocore: loading it and its service models takes most of a cold start, and its layers most
of a call (docs/adr/0002). Only the services that our gateways call are here:

    dynamodb, sqs              AWS JSON 1.0
    events (EventBridge)       AWS JSON 1.1
    scheduler (EventBridge)    REST: CreateSchedule, UpdateSchedule, DeleteSchedule
    apigatewaymanagementapi    REST: PostToConnection, DeleteConnection
    s3                         REST: GetObject, PutObject, ListObjectsV2 (s3_requests.py)

Sources: DynamoDB API Reference, "Low-level API", and TransactWriteItems for why a transaction is
cancelled; SQS Developer Guide, "AWS JSON protocol"; EventBridge and EventBridge Scheduler API
References.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from chalicelib.aws import s3_requests
from chalicelib.aws.signature import region, sign
from chalicelib.aws.tracing import incoming, outgoing
from chalicelib.core.errors import CallFailed, ConditionFailed, NoAnswer

#: How often a call is sent at most.
TRIES = 4
_TARGETS = {"dynamodb": "DynamoDB_20120810", "sqs": "AmazonSQS", "events": "AWSEvents"}
#: The version of AWS JSON, where it is not 1.0.
_VERSIONS = {"events": "1.1"}
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
        "RequestTimeout",
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


class Request(NamedTuple):
    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class Protocol:
    """`endpoints`: service -> root URL, for services whose URL does not follow from the region.
    `url_suffix`: what host names end with in this partition, as AWS::URLSuffix names it.
    """

    def __init__(self, endpoints: Mapping[str, str] | None, url_suffix: str) -> None:
        self._endpoints = dict(endpoints or {})
        self._url_suffix = url_suffix

    def request(self, service: str, operation: str, parameters: dict[str, Any]) -> Request:
        """A call as it is sent, not signed yet. Its URL is percent-encoded."""
        if service == "s3":
            return Request(*s3_requests.request(operation, parameters, self._url_suffix))
        root = self.root(service)
        if service == "apigatewaymanagementapi":
            path = f"/@connections/{quote(parameters['ConnectionId'], safe='')}"
            if operation == "DeleteConnection":
                return Request("DELETE", root + path, {}, b"")
            return Request("POST", root + path, {}, parameters["Data"])
        if service == "scheduler":
            return _scheduler_request(root, operation, parameters)
        headers = {
            "content-type": f"application/x-amz-json-{_VERSIONS.get(service, '1.0')}",
            "x-amz-target": f"{_TARGETS[service]}.{operation}",
        }
        body = json.dumps(parameters, default=_text).encode()
        return Request("POST", f"{root}/", headers, body)

    def root(self, service: str) -> str:
        given = self._endpoints.get(service) or os.environ.get("AWS_ENDPOINT_URL")
        if given:
            return given.rstrip("/")
        return f"https://{service}.{region()}.{self._url_suffix}"


class Calls(ABC):
    """`call(service, operation, **parameters)` as aws/calls.py describes it, tried again where that
    may help; how a request is sent is the implementation's. Arguments as of Protocol."""

    def __init__(
        self, endpoints: Mapping[str, str] | None = None, url_suffix: str = "amazonaws.com"
    ) -> None:
        self._protocol = Protocol(endpoints, url_suffix)

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        if operation == "TransactWriteItems":
            # So that one which is sent again, because its answer was lost, is done once.
            parameters = {"ClientRequestToken": os.urandom(16).hex(), **parameters}
        sent = outgoing(service, operation, parameters)
        request = self._protocol.request(service, operation, sent)
        for attempt in range(1, TRIES + 1):
            try:
                status, headers, content = await self._send(request, signed(service, request))
            except NoAnswer as error:
                failed, passes = CallFailed(service, operation, "ConnectionError", str(error)), True
            else:
                answer = read(service, operation, status, headers, content)
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
            await self._wait(backoff_seconds(attempt))
        raise AssertionError("unreachable")

    @abstractmethod
    async def _send(
        self, request: Request, headers: dict[str, str]
    ) -> tuple[int, s3_requests.Headers, bytes]:
        """Status, headers and content of the answer. Raises NoAnswer."""

    @abstractmethod
    async def _wait(self, seconds: float) -> None:
        """Until the next try."""


def signed(service: str, request: Request) -> dict[str, str]:
    """The headers of a request that is sent now."""
    name = "execute-api" if service == "apigatewaymanagementapi" else service
    method, url, headers, body = request
    return sign(method, url, headers, body, name, region(), os.environ, time.gmtime())


def read(
    service: str, operation: str, status: int, headers: s3_requests.Headers, content: bytes
) -> dict[str, Any]:
    """An answer as botocore shapes it; of an error, the name in `__type`, and a message."""
    if service == "s3":
        if status < 300:
            return s3_requests.answer(operation, headers, content)
        return s3_requests.error(status, content)
    try:
        # A hook is called for each of an answer's values.
        hook = _binary if b'"B"' in content else None
        found: dict[str, Any] = json.loads(content, object_hook=hook) if content else {}
    except ValueError:
        return {"__type": f"HTTP{status}", "message": repr(content[:200])}
    # REST services name an error in a header. A colon and a URL may follow the name.
    if "__type" not in found and headers.get("x-amzn-errortype"):
        found["__type"] = headers["x-amzn-errortype"].partition(":")[0]
    return found


def may_pass(status: int, code: str, answer: Mapping[str, Any]) -> bool:
    """Whether the same call may succeed when it is sent again."""
    if status >= 500:
        return True
    if code != "TransactionCanceledException":
        return code in _PASSING
    reasons = {reason.get("Code") for reason in answer.get("CancellationReasons", [])} - {"None"}
    return bool(reasons) and reasons <= _PASSING_REASONS


def backoff_seconds(attempt: int) -> float:
    """How long to wait after the attempt, counted from 1."""
    seconds: float = random.uniform(0.5, 1) * _BACKOFF_SECONDS * 2**attempt
    return seconds


def _scheduler_request(root: str, operation: str, parameters: dict[str, Any]) -> Request:
    """A REST request: the name is in the path; the rest is JSON, or a query for DeleteSchedule."""
    method = {"CreateSchedule": "POST", "UpdateSchedule": "PUT", "DeleteSchedule": "DELETE"}[
        operation
    ]
    url = f"{root}/schedules/{quote(parameters['Name'], safe='')}"
    if method == "DELETE":
        url += f"?groupName={quote(parameters['GroupName'], safe='')}"
        return Request(method, url, {}, b"")
    body = {name: value for name, value in parameters.items() if name != "Name"}
    return Request(method, url, {"content-type": "application/json"}, json.dumps(body).encode())


def failure(service: str, operation: str, status: int, answer: Mapping[str, Any]) -> CallFailed:
    """What a call raises that came to an error."""
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
