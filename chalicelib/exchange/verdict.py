"""What an exchange's answer means before its rows are read: good, or one of three kinds of error.

    good            200, and no error object in it
    throttled       429, 418, code -1003: everybody waits until the time that it names
                    202, 3xx, 403, HTML: its firewall or a maintenance page; everybody waits a while
                    code -1008: it is overloaded, and asks everybody to wait some minutes
    refused         451, and error objects whose code blames the request: permanent
    unavailable     5xx, codes of the exchange's own trouble, and whatever nobody can explain; it is
                    asked for that again when it says (Retry-After)

Only an error object with a known code, or 451, is permanent: a page of HTML says nothing about the
request. Sources: Binance Spot API documentation, "Error codes", "Limits"; RFC 9110, Retry-After.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

import msgspec

from chalicelib.core.errors import (
    ExchangeError,
    ExchangeRefused,
    ExchangeThrottled,
    ExchangeUnavailable,
)

#: How long everybody waits where the exchange does not say.
PAUSE_MS = 60_000
#: Nobody waits longer: bans last up to three days (Binance's documentation).
LONGEST_PAUSE_MS = 3 * 86_400_000

_REFUSALS = {
    -1121: "INVALID_SYMBOL",
    -1120: "INVALID_TIMEFRAME",
    -1130: "INVALID_PARAMETER",
    -1151: "INVALID_PARAMETER",
    **dict.fromkeys(range(-1106, -1099), "INVALID_PARAMETER"),
}
_TOO_MANY_REQUESTS = -1003
_OVERLOADED = -1008
_PASSING = (-1000, -1001, -1006, -1007)
_BANNED_UNTIL = re.compile(r"until (\d{13})")
_SPACE = b" \t\r\n\xef\xbb\xbf"


class _Error(msgspec.Struct):
    code: int
    msg: str = ""


_ERROR = msgspec.json.Decoder(_Error)


def error_of(
    status: int, headers: Mapping[str, str], body: bytes, now_ms: int
) -> ExchangeError | None:
    """None where the answer is good. `headers` by lower-case names; `now_ms`: epoch ms."""
    start = body.lstrip(_SPACE)[:1]
    error = _error_object(body) if start == b"{" else None
    if status == 200 and error is None and start != b"<":
        return None
    what = f"HTTP {status}: {error.msg}" if error else f"HTTP {status}"
    if status in (418, 429) or (error and error.code == _TOO_MANY_REQUESTS):
        return ExchangeThrottled(what, _pause_until(headers, what, now_ms))
    if error and error.code == _OVERLOADED:
        return ExchangeThrottled(what, _pause_until(headers, "", now_ms), by_us=False)
    if status == 451:
        return ExchangeRefused(
            "the exchange does not serve this location (HTTP 451)", reason="RESTRICTED_LOCATION"
        )
    if status in (202, 403) or 300 <= status < 400 or start == b"<":
        what = f"HTTP {status} from the exchange's firewall, or a maintenance page"
        return ExchangeThrottled(what, _pause_until(headers, "", now_ms))
    if error is None or status >= 500 or error.code in _PASSING:
        trouble = ExchangeUnavailable(what)
        trouble.until_ms = _named_until(headers, now_ms) or 0
        return trouble
    reason = _REFUSALS.get(error.code)
    if reason is not None:
        return ExchangeRefused(error.msg, reason=reason)
    return ExchangeRefused(f"HTTP {status}: {error.code} {error.msg}")


def outcome_of(status: int, error: ExchangeError | None) -> str:
    """What kind of answer it was, in the metric ExchangeRequests."""
    if error is None:
        return "ok"
    if status == 418:
        return "banned"
    if isinstance(error, ExchangeThrottled):
        return "throttled"
    return "refused" if isinstance(error, ExchangeRefused) else "unavailable"


def _error_object(body: bytes) -> _Error | None:
    """The error in a body; None where it is another object, like exchangeInfo's."""
    try:
        return _ERROR.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=16)  # all the answers of a second have the same date
def date_ms(date: str) -> int:
    """Epoch ms of a date as headers have it (RFC 9110, 5.6.7). Raises ValueError, OverflowError."""
    found = parsedate_to_datetime(date)
    if found.tzinfo is None:  # asctime's form names no zone
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp()) * 1000


def _pause_until(headers: Mapping[str, str], message: str, now_ms: int) -> int:
    """Epoch ms until which the answer asks everybody to wait."""
    named_ms = _named_until(headers, now_ms)
    until = now_ms + PAUSE_MS if named_ms is None else named_ms
    banned = _BANNED_UNTIL.search(message)
    if banned:
        until = max(until, int(banned[1]))
    return min(max(until, now_ms), now_ms + LONGEST_PAUSE_MS)


def _named_until(headers: Mapping[str, str], now_ms: int) -> int | None:
    """The time that Retry-After names, in epoch ms; None where it names none."""
    asked = headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdecimal():
        return now_ms + int(asked[:9]) * 1000
    try:
        return date_ms(asked) if asked else None
    except (ValueError, OverflowError):
        return None
