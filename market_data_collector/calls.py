"""One call of the API: what is sent again, what is not, and what is no answer of this API.

| is sent again, twice | when |
|---|---|
| a GET, and what has an Idempotency-Key | no answer came; 502, 503, 504; or 409 while the first |
| | one with its key is being worked on |
| anything | 429 that asks to wait for five seconds or less: nothing was done |

Between tries it waits 0.2 and 0.5 seconds, or as long as Retry-After says, up to five seconds. All
else is the caller's to decide: what was lost on its way may have been done.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from market_data_collector import errors
from market_data_collector.effects import Flow, Item, Pause, Plan, Send

# Seconds.
BACKOFF = (0.2, 0.5)
SHORT_RETRY_AFTER = 5.0
_PASSING = frozenset(
    {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
_KEY = "Idempotency-Key"
IN_FLIGHT = "IDEMPOTENCY_KEY_IN_FLIGHT"

#: A time: ISO 8601 text, epoch milliseconds, a date (its 00:00), or a datetime; UTC where it does
#: not say.
When = str | int | date | datetime | None


@dataclass(frozen=True)
class Site:
    """Where the API is; `url` is what is shown to people, and holds no password."""

    base: str
    url: str


class Answer(NamedTuple):
    body: dict[str, Any]
    retry_after: float | None  # seconds


def get(site: Site, path: str, **asked: object) -> Plan[Any]:
    """The JSON object that a GET answers; parameters that are None or empty are left out."""
    return (yield from answer(site, "GET", path, params=given(asked))).body


def post(site: Site, path: str, body: Mapping[str, Any], key: str | None = None) -> Plan[Any]:
    """The answer to a POST under an Idempotency-Key: `key`, or one of its own."""
    headers = {_KEY: key or str(uuid.uuid4())}
    return (yield from answer(site, "POST", path, json=body, headers=headers)).body


def once(site: Site, method: str, path: str, body: Mapping[str, Any] | None = None) -> Plan[Any]:
    """The answer to what takes no Idempotency-Key: it is not sent again."""
    return (yield from answer(site, method, path, json=body)).body


def answer(site: Site, method: str, path: str, **request: Any) -> Plan[Answer]:
    response = yield from answered(site, method, path, **request)
    try:
        body = errors.parse(response.content)
    except ValueError as error:
        raise errors.not_this_api(site.url, "the answer is not JSON") from error
    if not isinstance(body, dict):
        raise errors.not_this_api(site.url, "the answer is not a JSON object")
    return Answer(body, seconds(response.headers.get("Retry-After")))


def answered(site: Site, method: str, path: str, **request: Any) -> Plan[httpx.Response]:
    """The answer, where it is a good one. Raises ApiError."""
    sent = Send(method, site.base + path, **request)
    repeatable = method == "GET" or _KEY in sent.headers
    for backoff in (*BACKOFF, None):
        try:
            response: httpx.Response = yield sent
        except httpx.RequestError as error:
            if backoff is None or not repeatable or not isinstance(error, httpx.TransportError):
                raise errors.no_answer(site.url, error) from error
            yield Pause(backoff)
            continue
        retry_after = seconds(response.headers.get("Retry-After"))
        if response.is_success:
            return response
        if not response.is_error:
            raise errors.not_this_api(site.url, f"it answered {response.status_code}")
        failed = errors.of_answer(site.url, response, retry_after)
        pause = _pause(failed, backoff, repeatable)
        if pause is None:
            raise failed
        yield Pause(pause)
    raise AssertionError("the last try returns or raises")


def _pause(failed: errors.ApiError, backoff: float | None, repeatable: bool) -> float | None:
    """Seconds until it is sent again; None where it is not."""
    asked = failed.retry_after
    if backoff is None or (asked or 0) > SHORT_RETRY_AFTER:
        return None
    if failed.status == HTTPStatus.TOO_MANY_REQUESTS:
        return asked or None
    if repeatable and (failed.status in _PASSING or failed.reason == IN_FLIGHT):
        return max(backoff, asked or 0)
    return None


class Pages:
    """The pages of a list, a `next()` each while there are `more`; a token is followed once."""

    def __init__(self, site: Site, path: str, asked: Mapping[str, object]) -> None:
        self._site, self._path, self._asked = site, path, given(asked)
        self._followed: set[str] = set()
        self.more = True

    def next(self) -> Plan[dict[str, Any]]:
        page = (yield from answer(self._site, "GET", self._path, params=self._asked)).body
        token = next_token(page)
        self.more = token not in self._followed | {""}
        self._followed.add(token)
        self._asked = {**self._asked, "page_token": token}
        return page


def next_token(page: Mapping[str, Any]) -> str:
    """Where the list goes on behind this page; "" at its end, and for what is no token."""
    token = page.get("next_page_token")
    return token if isinstance(token, str) else ""


def entries(site: Site, path: str, name: str, asked: Mapping[str, object]) -> Flow[Any]:
    """What all pages list under `name`, one after the other."""
    pages = Pages(site, path, asked)
    while pages.more:
        for each in listed((yield from pages.next()), name):
            yield Item(each)


def listed(page: Mapping[str, Any], name: str) -> list[Any]:
    """The objects of a page; an API that is newer or older may list something else."""
    found = page.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def given(fields: Mapping[str, object]) -> dict[str, str]:
    """Query parameters: lists joined by commas, times as ISO 8601."""
    texts = {name: _text(value) for name, value in fields.items()}
    return {name: text for name, text in texts.items() if text}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | date):
        return str(time(value))
    if isinstance(value, list | tuple):
        return ",".join(value)
    raise TypeError(f"{value!r} is no parameter")


def time(value: When) -> str | int | None:
    """As the API takes it."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        precision = "milliseconds" if value.microsecond else "seconds"
        return aware.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


def segment(text: str) -> str:
    """A segment of a path. Half a pair of characters, which no id has, becomes a question mark."""
    return quote(text, safe="", errors="replace")


def seconds(retry_after: str | None) -> float | None:
    """Seconds from a Retry-After header, which may also be a date; None when unreadable."""
    if retry_after is None:
        return None
    # What counts as space to `strip` does not to `float`.
    text = retry_after.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text, re.ASCII):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - datetime.now(UTC)).total_seconds(), 0.0)
