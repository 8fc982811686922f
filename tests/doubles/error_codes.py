"""The errors that AWS documents for each operation we call, and a hook that answers with one.

Sources: the "Errors" and "Common Error Types" sections of each operation in the DynamoDB, SQS, S3
and API Gateway management API references; for conditional writes to S3 the user guide's "How to
prevent object overwrites with conditional writes".

An error is what is left after the client's own retries; `REPEATED` is what those retries do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from chalicelib.core.errors import CallFailed
from tests.doubles.aws import Aws, Called, Hook


class Moment(Enum):
    """When a call goes wrong."""

    #: Refused: nothing was applied.
    BEFORE = "before"
    #: Applied, and the answer lost.
    AFTER = "after"
    #: Applied, the answer lost, and asked again by the client: a conditional write is then refused
    #: by its own first try (ConditionalCheckFailedException, PreconditionFailed).
    REPEATED = "repeated"
    #: Answered with 200, but not for every entry.
    PARTLY = "partly"


@dataclass(frozen=True)
class Trouble:
    code: str
    moment: Moment = Moment.BEFORE

    def __str__(self) -> str:
        return self.code if self.moment is Moment.BEFORE else f"{self.code} {self.moment.value}"


_DROPPED = (
    Trouble("ConnectionError"),
    Trouble("ConnectionError", Moment.AFTER),
    Trouble("answer lost", Moment.REPEATED),
)


def _codes(*codes: str) -> tuple[Trouble, ...]:
    return tuple(map(Trouble, codes))


_DYNAMODB = (
    *_codes(
        "AccessDeniedException",
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ResourceNotFoundException",
        "ServiceUnavailable",
        "ThrottlingException",
        "ValidationException",
    ),
    *_DROPPED,
)
_DYNAMODB_WRITE = (
    *_DYNAMODB,
    *_codes(
        "ItemCollectionSizeLimitExceededException",
        "ReplicatedWriteConflictException",
        "TransactionConflictException",
    ),
)
_SQS = (
    *_codes(
        "AccessDeniedException",
        "AWS.SimpleQueueService.NonExistentQueue",
        "InternalFailure",
        "InvalidAddress",
        "InvalidSecurity",
        "RequestThrottled",
        "ServiceUnavailable",
    ),
    *_DROPPED,
)
_S3 = (
    *_codes(
        "AccessDenied",
        "InternalError",
        "NoSuchBucket",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
    ),
    *_DROPPED,
)
#: Without ValidationException, after which a schedule stays refused: a test of its own.
_SCHEDULER = (
    *_codes(
        "AccessDeniedException",
        "ConflictException",
        "InternalServerException",
        "ThrottlingException",
    ),
    *_DROPPED,
)

#: "service.Operation" -> what may be answered. A conditional write that is refused stands here as
#: REPEATED, because only then is the refusal true: the doubles refuse whatever truly is.
TROUBLES: dict[str, tuple[Trouble, ...]] = {
    "dynamodb.GetItem": _DYNAMODB,
    "dynamodb.Query": _DYNAMODB,
    "dynamodb.PutItem": _DYNAMODB_WRITE,
    "dynamodb.UpdateItem": _DYNAMODB_WRITE,
    "dynamodb.DeleteItem": _DYNAMODB_WRITE,
    "dynamodb.BatchGetItem": (*_DYNAMODB, Trouble("UnprocessedKeys", Moment.PARTLY)),
    "dynamodb.BatchWriteItem": (
        *_DYNAMODB,
        *_codes("ItemCollectionSizeLimitExceededException", "ReplicatedWriteConflictException"),
        Trouble("UnprocessedItems", Moment.PARTLY),
    ),
    "dynamodb.TransactWriteItems": (
        *_DYNAMODB_WRITE,
        *_codes(
            "IdempotentParameterMismatchException",
            "TransactionCanceledException",
            "TransactionInProgressException",
        ),
    ),
    "events.PutEvents": (
        *_codes(
            "AccessDeniedException",
            "InternalException",
            "InternalFailure",
            "ResourceNotFoundException",
            "ThrottlingException",
            "ValidationException",
        ),
        *_DROPPED,
        Trouble("Failed entries", Moment.PARTLY),
    ),
    "sqs.SendMessage": (*_SQS, *_codes("InvalidMessageContents", "KmsThrottled")),
    "sqs.SendMessageBatch": (
        *_SQS,
        *_codes("AWS.SimpleQueueService.BatchRequestTooLong", "KmsThrottled"),
        Trouble("Failed entries", Moment.PARTLY),
    ),
    "sqs.ReceiveMessage": (*_SQS, *_codes("OverLimit", "KmsThrottled")),
    "sqs.DeleteMessage": (*_SQS, *_codes("InvalidIdFormat", "ReceiptHandleIsInvalid")),
    "sqs.ChangeMessageVisibility": (
        *_SQS,
        *_codes("MessageNotInflight", "ReceiptHandleIsInvalid"),
    ),
    "sqs.GetQueueAttributes": (*_SQS, *_codes("InvalidAttributeName")),
    "s3.GetObject": (*_S3, *_codes("InvalidObjectState")),
    "s3.ListObjectsV2": _S3,
    "s3.PutObject": (*_S3, *_codes("ConditionalRequestConflict", "EntityTooLarge")),
    "scheduler.CreateSchedule": (*_SCHEDULER, *_codes("ServiceQuotaExceededException")),
    "scheduler.UpdateSchedule": _SCHEDULER,
    "scheduler.DeleteSchedule": _SCHEDULER,
    "apigatewaymanagementapi.PostToConnection": (
        *_codes(
            "ForbiddenException",
            "GoneException",
            "InternalServerError",
            "LimitExceededException",
            "PayloadTooLargeException",
        ),
        *_DROPPED,
    ),
    "apigatewaymanagementapi.DeleteConnection": (
        *_codes("ForbiddenException", "GoneException", "LimitExceededException"),
        *_DROPPED,
    ),
}

#: Modules that only hand a call on: naming them would tell nothing.
_PASSING_ON = (
    "chalicelib.functions",
    "chalicelib.core.together",
    *(f"chalicelib.api.{name}" for name in ("audit", "metrics", "problems", "schedules")),
    *(f"chalicelib.api.{name}" for name in ("tasks", "tickets", "web")),
)


@dataclass(frozen=True, order=True)
class CallSite:
    """A place that calls AWS: the trigger it runs under, the functions down to it, operation."""

    edge: str
    functions: tuple[str, ...]
    name: str

    def __str__(self) -> str:
        return f"{self.edge}: {' > '.join(self.functions)}: {self.name}"


def call_site(edge: str, called: Called) -> CallSite:
    """The site of the call that is being made, read from the stack below this function."""
    functions: list[str] = []
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("chalicelib.") and not module.startswith(_PASSING_ON):
            functions.append(f"{module.rpartition('.')[2]}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return CallSite(edge, tuple(reversed(functions)), called.name)


class Recorder(Hook):
    """Lists the site of every call."""

    def __init__(self, edge: Callable[[], str]) -> None:
        self._edge = edge
        self.sites: list[CallSite] = []

    async def before(self, called: Called) -> None:
        self.sites.append(call_site(self._edge(), called))


class OneError(Hook):
    """The `number`th call (from 1) at a site goes wrong; every other goes well.

    `struck` is that call; `asked_again` whether the same was asked again after it.
    """

    def __init__(
        self, aws: Aws, edge: Callable[[], str], site: CallSite, trouble: Trouble, number: int
    ) -> None:
        self._aws, self._edge = aws, edge
        self._site, self._trouble, self._left = site, trouble, number
        self.struck: Called | None = None
        self.asked_again = False

    async def before(self, called: Called) -> None:
        if self.struck is not None:
            self.asked_again |= _same(called, self.struck)
            return
        if self._left == 0 or called.name != self._site.name:
            return
        self._left -= call_site(self._edge(), called) == self._site
        if self._left:
            return
        self.struck = called
        if self._trouble.moment is Moment.BEFORE:
            raise self._failed(called)
        if self._trouble.moment is Moment.PARTLY:
            if called.service == "events":
                self._aws.events.refuse_next = len(called.parameters["Entries"])
            elif called.service == "sqs":
                queue = self._aws.sqs.queues[called.parameters["QueueUrl"]]
                queue.refuse_next = len(called.parameters["Entries"])
            else:
                self._aws.dynamodb.leave_unprocessed = 1

    async def after(self, called: Called) -> None:
        if called is not self.struck:
            return
        if self._trouble.moment is Moment.AFTER:
            raise self._failed(called)
        if self._trouble.moment is Moment.REPEATED:
            called.answer = called.error = None
            try:
                service = self._aws._service(called.service)
                called.answer = service.apply(called.operation, called.parameters)
            except CallFailed as error:
                called.error = error

    def _failed(self, called: Called) -> CallFailed:
        return CallFailed(called.service, called.operation, self._trouble.code, "injected")


class Always(Hook):
    """Every call for which `chosen` is true fails with `code`, until it is taken off."""

    def __init__(self, chosen: Callable[[Called], bool], code: str) -> None:
        self._chosen, self._code = chosen, code

    async def before(self, called: Called) -> None:
        if self._chosen(called):
            raise CallFailed(called.service, called.operation, self._code, "injected")


def _same(called: Called, other: Called) -> bool:
    """Whether two calls are about the same thing; an object put is looked at by getting it."""
    places = ("TableName", "Bucket", "Key", "QueueUrl", "ConnectionId")
    alike = called.name == other.name or called.service == other.service == "s3"
    return alike and all(
        called.parameters.get(place) == other.parameters.get(place) for place in places
    )
