"""Every error the collector raises, in one tree.

    CollectorError
    ├── RequestRejected             the caller must change something (4xx)
    │   ├── InvalidRequest          400  body or query does not fit, names each field
    │   ├── UnsupportedMediaType    415
    │   ├── Unauthenticated         401  nobody that we know sent the request
    │   │   └── TicketRefused           a WebSocket comes with a wrong ticket, or without one
    │   ├── Forbidden               403  the caller's key does not have the scope
    │   ├── KeyNotFound             404
    │   ├── TaskNotFound            404
    │   ├── ScheduleNotFound        404
    │   ├── SymbolNotFound          404  the exchange does not list it, and nothing of it is stored
    │   ├── TaskExpired             410  it was there; its audit trail still is
    │   ├── Conflict                409  the task's state does not allow it
    │   ├── KeyReused               422  an Idempotency-Key came with another request
    │   ├── QuotaExceeded           429  the owner has used up one of their limits
    │   └── PlanTooLarge            400  the request needs more units than a task may have
    ├── NotReady                    503  something the request needs is not there yet
    ├── CallFailed                  503  an AWS call failed (code, operation)
    │   └── ConditionFailed         a conditional write found another state; it carries the old item
    ├── ExchangeError               what the exchange answered, or did not answer
    │   ├── ExchangeRefused         permanent for this unit: unknown symbol, bad interval, 451
    │   │   ├── ExchangeInconsistent    it answers another question than the one that was asked
    │   │   ├── ExchangeDrifted         it answers in a form that we cannot read any more
    │   │   └── ExchangeRootChanged     its name belongs to another root; a Conflict, too
    │   ├── CatalogueRefused        its list misses so many symbols that it cannot be right
    │   ├── ExchangeThrottled       429/418: stop the whole fleet until `until_ms`
    │   ├── NotAsked                nobody may ask it before `until_ms`, so it was not asked
    │   └── ExchangeUnavailable     transient: 5xx, timeouts, dropped or malformed answers
    ├── ObjectDamaged               a stored object is no Parquet file of ours
    ├── ItemUnreadable              a stored item is not as any code of ours writes it
    ├── PoisonMessage               a queue message that no code of ours wrote
    └── SettingsInvalid             settings that cannot work, found at packaging or at start

Errors that reach HTTP carry `status`, `title` and `reason` (UPPER_SNAKE); RFC 9457 bodies are made
of them in `api/problems.py`.
"""

from __future__ import annotations

from typing import Any


class CollectorError(Exception):
    status = 500
    title = "Internal error"
    reason = "INTERNAL"

    def __init__(self, detail: str, *, reason: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if reason is not None:
            self.reason = reason


class RequestRejected(CollectorError):
    status = 400
    title = "Request rejected"
    reason = "REQUEST_REJECTED"


class InvalidRequest(RequestRejected):
    """`errors` is a list of {"detail": str, "pointer": JSON pointer into the body or query}."""

    title = "Invalid request"
    reason = "INVALID_REQUEST"

    def __init__(
        self, detail: str, errors: list[dict[str, str]] | None = None, *, reason: str | None = None
    ) -> None:
        super().__init__(detail, reason=reason)
        self.errors = errors or []


class UnsupportedMediaType(RequestRejected):
    status = 415
    title = "Unsupported media type"
    reason = "UNSUPPORTED_MEDIA_TYPE"


class Unauthenticated(RequestRejected):
    """`challenge`: the value of the answer's WWW-Authenticate (RFC 9110)."""

    status = 401
    title = "Not authenticated"
    reason = "UNAUTHENTICATED"

    def __init__(
        self,
        detail: str,
        *,
        reason: str | None = None,
        challenge: str = 'Bearer realm="data-collector"',
    ) -> None:
        super().__init__(detail, reason=reason)
        self.challenge = challenge


class TicketRefused(Unauthenticated):
    title = "Ticket refused"
    reason = "TICKET_REFUSED"


class Forbidden(RequestRejected):
    """`scopes`: any one of them would do; `has_key`: whether the caller came with a key."""

    status = 403
    title = "Scope missing"
    reason = "SCOPE_MISSING"

    def __init__(self, scopes: tuple[str, ...], has_key: bool = True) -> None:
        needed = f"the scope {' or '.join(scopes)}"
        super().__init__(
            f"this needs a key with {needed}"
            if has_key
            else f"this needs {needed}; name the role or user in the setting ADMIN_ROLES"
        )
        self.scopes = scopes


class KeyNotFound(RequestRejected):
    status = 404
    title = "Key not found"
    reason = "KEY_NOT_FOUND"


class TaskNotFound(RequestRejected):
    status = 404
    title = "Task not found"
    reason = "TASK_NOT_FOUND"


class ScheduleNotFound(RequestRejected):
    status = 404
    title = "Schedule not found"
    reason = "SCHEDULE_NOT_FOUND"


class SymbolNotFound(RequestRejected):
    status = 404
    title = "Symbol not found"
    reason = "SYMBOL_NOT_FOUND"


class TaskExpired(RequestRejected):
    status = 410
    title = "Task expired"
    reason = "TASK_EXPIRED"


class Conflict(RequestRejected):
    status = 409
    title = "Conflict"
    reason = "CONFLICT"


class KeyReused(RequestRejected):
    status = 422
    title = "Idempotency key reused"
    reason = "IDEMPOTENCY_KEY_REUSED"


class QuotaExceeded(RequestRejected):
    """`retry_after`: seconds after which asking again makes sense; `headers`: of an HTTP answer."""

    status = 429
    title = "Quota exceeded"
    reason = "QUOTA_EXCEEDED"

    def __init__(
        self, detail: str, *, reason: str, retry_after: int, headers: dict[str, str]
    ) -> None:
        super().__init__(detail, reason=reason)
        self.retry_after = retry_after
        self.headers = {"Retry-After": str(retry_after), **headers}


class NotReady(CollectorError):
    status = 503
    title = "Not ready"
    reason = "NOT_READY"


class NoAnswer(Exception):
    """The connection failed, or time ran out, before the whole answer was there."""


class CallFailed(CollectorError):
    """An AWS call failed after the client's own retries.

    `code` is the service's error code, or "ConnectionError" where no answer came (the call may
    or may not have been applied).
    """

    status = 503
    title = "A backing service failed"
    reason = "BACKEND_UNAVAILABLE"

    def __init__(self, service: str, operation: str, code: str, message: str) -> None:
        super().__init__(f"{service}.{operation} failed: {code}: {message}")
        self.service, self.operation = service, operation
        self.code, self.message = code, message


class ConditionFailed(CallFailed):
    """`item`: the item as it was, in wire form; None where there was none."""

    def __init__(self, operation: str, item: dict[str, Any] | None) -> None:
        super().__init__("dynamodb", operation, "ConditionalCheckFailedException", "condition")
        self.item = item


class ExchangeError(CollectorError):
    status = 502
    title = "Exchange error"
    reason = "EXCHANGE_ERROR"


class ExchangeRefused(ExchangeError):
    reason = "EXCHANGE_REFUSED"


class ExchangeInconsistent(ExchangeRefused):
    reason = "EXCHANGE_INCONSISTENT_ANSWER"


class ExchangeDrifted(ExchangeRefused):
    reason = "EXCHANGE_SCHEMA_DRIFT"


class ExchangeRootChanged(Conflict, ExchangeRefused):
    """Nothing is asked for or stored under a name that belongs to another root: two sources would
    mix."""

    reason = "EXCHANGE_ROOT_CHANGED"

    def __init__(self, name: str, stored_root: str, root: str) -> None:
        super().__init__(
            f"the exchange name {name} belongs to {stored_root}, and EXCHANGE_URL names {root}: "
            f"choose another name (EXCHANGE=...), or go back to {stored_root}; where the same "
            "exchange has moved, docs/CANDLES.md says what to do"
        )


class ExchangeThrottled(ExchangeError):
    """`until_ms`: epoch ms before which nobody may ask again; `by_us`: we asked for too much."""

    reason = "EXCHANGE_THROTTLED"

    def __init__(self, detail: str, until_ms: int, by_us: bool = True) -> None:
        super().__init__(detail)
        self.until_ms, self.by_us = until_ms, by_us


class NotAsked(ExchangeError):
    """`until_ms`: epoch milliseconds at which asking makes sense. Breaker, budget or a pause."""

    reason = "EXCHANGE_NOT_ASKED"

    def __init__(self, detail: str, until_ms: int) -> None:
        super().__init__(detail)
        self.until_ms = until_ms


class CatalogueRefused(ExchangeError):
    """The old list stays, and the refused one is kept aside for a person to look at."""

    reason = "CATALOGUE_REFUSED"


class ExchangeUnavailable(ExchangeError):
    #: Epoch ms before which the exchange asked not to be asked for this again.
    reason, until_ms = "EXCHANGE_UNAVAILABLE", 0


class ObjectDamaged(CollectorError):
    """Somebody else wrote to the bucket; what is there is left as it is, for a person to look."""

    reason = "STORED_OBJECT_DAMAGED"


class ItemUnreadable(CollectorError):
    """Somebody else wrote to the table, or a newer version of this code; the item is left as it
    is."""

    reason = "STORED_ITEM_UNREADABLE"


class PoisonMessage(CollectorError):
    reason = "POISON_MESSAGE"


class SettingsInvalid(CollectorError):
    reason = "SETTINGS_INVALID"


class PlanTooLarge(RequestRejected):
    title = "Too many units"
    reason = "TOO_MANY_UNITS"
