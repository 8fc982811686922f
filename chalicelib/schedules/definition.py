"""What people may set of a schedule: the fields of a request's body, checked. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from chalicelib.core.errors import InvalidRequest
from chalicelib.core.problems import Errors, invalid, pointer_token, problem, unknown_fields
from chalicelib.core.settings import Settings
from chalicelib.schedules import cron, firings
from chalicelib.schedules.schedule import QUEUE, SKIP, Schedule
from chalicelib.webhooks.webhook import Webhook
from chalicelib.work.request import parse_start

OVERLAPS = (SKIP, QUEUE)
_LONGEST_NAME = 100
#: EventBridge Scheduler takes no longer one (API reference, CreateSchedule).
_LONGEST_EXPRESSION = 256
#: Bounds of a promised lag, in seconds. Lags are measured once a minute.
_LAGS = (1, 30 * 86_400)
_FIXED_TIME = (
    "a schedule collects from the last stored candle on; a fixed time would be the same in every "
    "run. POST /start collects a range"
)


#: Field of a POST /start body that a schedule's request may not have -> why.
_REFUSED = {
    "start": _FIXED_TIME,
    "end": _FIXED_TIME,
    "force": "overlap says what happens while the last run goes on",
}


class Fields(TypedDict, total=False):
    """Fields of `Schedule` that people set."""

    name: str
    expression: str
    timezone: str
    request: bytes
    webhook_host: str | None
    enabled: bool
    overlap: str
    catch_up: bool
    max_lag_seconds: int | None


@dataclass(frozen=True)
class Definition:
    """What a body sets: `fields`, and the webhook where `sets_webhook`.

    `webhook` is None where the schedule is to have none. Without `sets_webhook` it keeps the one
    that it has.
    """

    fields: Fields
    sets_webhook: bool = False
    webhook: Webhook | None = None

    @property
    def is_empty(self) -> bool:
        return not self.fields and not self.sets_webhook


def parse_new(
    body: object, known: Mapping[str, str] | None, settings: Settings, now_ms: int
) -> Definition:
    """The definition in a POST /schedules body; `known` and the rest as in `parse_start`.

    Raises InvalidRequest with one entry per problem, or PlanTooLarge.
    """
    given, errors = _parse(body, known, settings, now_ms)
    fields = given.fields
    if isinstance(body, dict):
        if "expression" not in body:
            errors.append(
                _error("is missing, like cron(0 6 * * ? *) or rate(1 hour)", "expression")
            )
        fields = {
            "name": "",
            "timezone": "UTC",
            "enabled": True,
            "overlap": SKIP,
            "catch_up": False,
            "max_lag_seconds": None,
            "webhook_host": None,
            **fields,
        }
        if "request" not in body:
            fields["request"] = parse_start({}, known, settings, now_ms).pack()
    if errors:
        raise invalid(errors)
    _must_run(fields["expression"], fields["timezone"], now_ms)
    return Definition(fields, given.webhook is not None, given.webhook)


def parse_change(
    body: object,
    schedule: Schedule,
    webhook: Webhook | None,
    known: Mapping[str, str] | None,
    settings: Settings,
    now_ms: int,
) -> Definition:
    """What a PATCH /schedules/{id} body changes; raises as `parse_new` does.

    `webhook`: the one that the schedule has. What stays the same is left out.
    """
    given, errors = _parse(body, known, settings, now_ms)
    if not errors and given.is_empty:
        errors.append(problem(f"name at least one of {', '.join(_READ)}", ""))
    if errors:
        raise invalid(errors)
    fields = given.fields
    if "expression" in fields or "timezone" in fields:
        expression = fields.get("expression", schedule.expression)
        _must_run(expression, fields.get("timezone", schedule.timezone), now_ms)
    other = {name: value for name, value in fields.items() if getattr(schedule, name) != value}
    sets_webhook = given.sets_webhook and given.webhook != webhook
    return Definition(cast(Fields, other), sets_webhook, given.webhook)


def _parse(
    body: object, known: Mapping[str, str] | None, settings: Settings, now_ms: int
) -> tuple[Definition, Errors]:
    """The fields that a body sets, and what is wrong with the others.

    A request sets the webhook, too: without one in it, the schedule is to have none.
    """
    if not isinstance(body, dict):
        return Definition({}), [problem("must be a JSON object", "")]
    errors = unknown_fields(body, _READ)
    fields: Fields = {}
    webhook = None
    for name, read in _READ.items():
        if name not in body:
            continue
        try:
            if name == "request":
                request, webhook = _request(body[name], known, settings, now_ms)
                fields |= request
            else:
                fields |= read(body[name])
        except ValueError as error:
            errors.append(_error(str(error), name))
        except InvalidRequest as error:
            errors += [{**entry, "pointer": f"/{name}{entry['pointer']}"} for entry in error.errors]
    return Definition(fields, "request" in fields, webhook), errors


def _request(
    body: object, known: Mapping[str, str] | None, settings: Settings, now_ms: int
) -> tuple[Fields, Webhook | None]:
    """The request without its webhook, which is stored apart; and the webhook."""
    refused = [name for name in _REFUSED if isinstance(body, dict) and name in body]
    if refused:
        raise invalid([_error(_REFUSED[name], name) for name in refused])
    request = parse_start(body, known, settings, now_ms)
    webhook = request.webhook
    return {
        "request": dataclasses.replace(request, webhook=None).pack(),
        "webhook_host": None if webhook is None else webhook.host,
    }, webhook


def _must_run(expression: str, timezone: str, now_ms: int) -> None:
    """Refuse an expression that has no run left, like a cron whose years are over."""
    if firings.next_after(expression, timezone, now_ms) is None:
        raise invalid([_error("no run is left: its years are over", "expression")])


def _name(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        raise ValueError(f"must be a text of at most {_LONGEST_NAME} printable characters")
    return value


def _expression(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text like cron(0 6 * * ? *) or rate(1 hour)")
    if len(value) > _LONGEST_EXPRESSION:
        raise ValueError(f"must have at most {_LONGEST_EXPRESSION} characters")
    cron.parse(value)
    return value


def _timezone(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text like Europe/Berlin")
    firings.zone(value)
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _overlap(value: object) -> str:
    if value not in OVERLAPS:
        raise ValueError(f"must be one of {', '.join(OVERLAPS)}")
    return str(value)


def _freshness(value: object) -> int | None:
    if value is None:
        return None
    low, high = _LAGS
    lag = value.get("max_lag_seconds") if isinstance(value, dict) and len(value) == 1 else None
    if isinstance(lag, bool) or not isinstance(lag, int) or not low <= lag <= high:
        raise ValueError(f'must be null or {{"max_lag_seconds": an integer from {low} to {high}}}')
    return lag


#: Field of a body -> how it is read. Each reader raises ValueError with what is wrong.
_READ: dict[str, Callable[[Any], Fields]] = {
    "name": lambda value: {"name": _name(value)},
    "expression": lambda value: {"expression": _expression(value)},
    "timezone": lambda value: {"timezone": _timezone(value)},
    "request": lambda _: {},  # `_request` reads it
    "enabled": lambda value: {"enabled": _flag(value)},
    "overlap": lambda value: {"overlap": _overlap(value)},
    "catch_up": lambda value: {"catch_up": _flag(value)},
    "freshness": lambda value: {"max_lag_seconds": _freshness(value)},
}


def _error(detail: str, name: str) -> dict[str, str]:
    return problem(detail, f"/{pointer_token(name)}")
