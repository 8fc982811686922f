"""What people may schedule: the fields of a schedule, checked, and how it looks to them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chalicelib.core.errors import InvalidRequest
from chalicelib.core.problems import Errors, invalid
from chalicelib.core.settings import Settings
from chalicelib.schedules import cron, firings
from chalicelib.work.request import parse_start

Item = dict[str, Any]

OVERLAPS = (firings.SKIP, firings.QUEUE)
_LONGEST_NAME = 100
#: Bounds of a promised lag, in seconds: the measuring itself comes once a minute.
_LAGS = (1, 30 * 86_400)
_FIXED_TIME = (
    "a schedule collects from the last stored candle on; a fixed time would be the same in every "
    "run. POST /start collects a range"
)


def parse_new(
    body: object, known: Mapping[str, str] | None, settings: Settings, now_ms: int
) -> Item:
    """The definition in a POST /schedules body; `known` and the rest as in `parse_start`.

    Raises InvalidRequest with one entry per problem, or PlanTooLarge.
    """
    definition, errors = _fields(body, known, settings, now_ms)
    if isinstance(body, dict):
        if "expression" not in body:
            errors.append(
                _error("is missing, like cron(0 6 * * ? *) or rate(1 hour)", "expression")
            )
        definition = {
            "name": "",
            "timezone": "UTC",
            "enabled": True,
            "overlap": firings.SKIP,
            "catch_up": False,
            "max_lag_seconds": None,
            "webhook_host": None,
            **definition,
        }
        if "request" not in body:
            definition["request"] = parse_start({}, known, settings, now_ms).pack()
    if errors:
        raise invalid(errors)
    _must_run(definition, now_ms)
    return definition


def parse_change(
    body: object,
    schedule: Item,
    known: Mapping[str, str] | None,
    settings: Settings,
    now_ms: int,
) -> Item:
    """The changed fields in a PATCH /schedules/{id} body. Raises as `parse_new` does.

    `schedule` has its `webhook`; so do the changes where there is another, or none any more.
    """
    changes, errors = _fields(body, known, settings, now_ms)
    if "request" in changes:
        changes.setdefault("webhook", None)
    if not errors and not changes:
        errors.append({"detail": f"name at least one of {', '.join(_READ)}", "pointer": ""})
    if errors:
        raise invalid(errors)
    if {"expression", "timezone"} & set(changes):
        _must_run({**schedule, **changes}, now_ms)
    return {name: value for name, value in changes.items() if schedule.get(name) != value}


def made(schedule_id: str, definition: Item, now_ms: int, by: str, request_id: str) -> Item:
    """A new schedule, not yet known to EventBridge."""
    counters = dict.fromkeys(("runs", "skipped", "missed", "breaches", "repairs"), 0)
    schedule = {
        **definition,
        **counters,
        "schedule_id": schedule_id,
        "created_at": now_ms,
        "updated_at": now_ms,
        "by": by,
        "request_id": request_id,
        "rev": 1,
        "synced_rev": 0,
        "webhook_rev": int("webhook" in definition),
    }
    return firings.begun(schedule, now_ms)


def changed(schedule: Item, changes: Item, now_ms: int, by: str, request_id: str) -> Item:
    """The schedule with some fields changed; EventBridge is told where that concerns it."""
    new = {**schedule, **changes, "updated_at": now_ms, "by": by, "request_id": request_id}
    if {"expression", "timezone"} & set(changes):
        new = firings.begun(new, now_ms)
    if {"expression", "timezone", "enabled"} & set(changes):
        new["rev"] = schedule["rev"] + 1
    # Its host may stay what it was; the rest of it nobody is shown.
    if "webhook" in changes:
        new["webhook_rev"] = schedule.get("webhook_rev", 0) + 1
    # What waits for a pause to end, or for a rule that is gone, would start out of the blue.
    if not new["enabled"] or new["overlap"] != firings.QUEUE:
        new.pop("queued_for", None)
    if not new["enabled"] or new["max_lag_seconds"] is None:
        new.pop("breached_since", None)
    return new


def removed(schedule: Item, now_ms: int, by: str, request_id: str) -> Item:
    """A tombstone: it stays until EventBridge has forgotten the schedule."""
    new = changed(schedule, {"enabled": False}, now_ms, by, request_id)
    return {**new, "removed": True, "rev": schedule["rev"] + 1}


# --- reading ------------------------------------------------------------------------------------


def _fields(
    body: object, known: Mapping[str, str] | None, settings: Settings, now_ms: int
) -> tuple[Item, Errors]:
    """The fields that a body has, and what is wrong with the others."""
    if not isinstance(body, dict):
        return {}, [{"detail": "must be a JSON object", "pointer": ""}]
    errors: Errors = [
        _error(f"unknown field; allowed are {', '.join(_READ)}", str(name)[:100])
        for name in body
        if name not in _READ
    ]
    fields: Item = {}
    for name, read in _READ.items():
        if name not in body:
            continue
        try:
            if name == "request":
                fields |= _request(body[name], known, settings, now_ms)
            else:
                fields["max_lag_seconds" if name == "freshness" else name] = read(body[name])
        except ValueError as error:
            errors.append(_error(str(error), name))
        except InvalidRequest as error:
            errors += [{**entry, "pointer": f"/{name}{entry['pointer']}"} for entry in error.errors]
    return fields, errors


def _request(
    body: object, known: Mapping[str, str] | None, settings: Settings, now_ms: int
) -> Item:
    """The request without its webhook, which is stored apart; `webhook` where there is one."""
    fixed = [name for name in ("start", "end") if isinstance(body, dict) and name in body]
    if fixed:
        raise invalid([_error(_FIXED_TIME, name) for name in fixed])
    request = parse_start(body, known, settings, now_ms)
    fields: Item = {"request": replace(request, webhook=None).pack(), "webhook_host": None}
    if request.webhook is not None:
        fields |= {"webhook_host": request.webhook.host, "webhook": request.webhook}
    return fields


def _must_run(definition: Item, now_ms: int) -> None:
    """Refuse what lies behind us, like a cron whose years are over."""
    if firings.begun(definition, now_ms)["next_run_at"] is None:
        raise invalid([_error("no run is left: its years are over", "expression")])


def _name(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        raise ValueError(f"must be a text of at most {_LONGEST_NAME} printable characters")
    return value


def _expression(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text like cron(0 6 * * ? *) or rate(1 hour)")
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


_READ: dict[str, Callable[[Any], Any]] = {
    "name": _name,
    "expression": _expression,
    "timezone": _timezone,
    "request": lambda body: body,
    "enabled": _flag,
    "overlap": _overlap,
    "catch_up": _flag,
    "freshness": _freshness,
}


def _error(detail: str, name: str) -> dict[str, str]:
    return {"detail": detail, "pointer": "/" + name.replace("~", "~0").replace("/", "~1")}
