"""What statuses, headers and error objects mean."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.errors import ExchangeRefused, ExchangeThrottled, ExchangeUnavailable
from chalicelib.exchange.verdict import (
    LONGEST_PAUSE_MS,
    PAUSE_MS,
    date_ms,
    error_of,
    outcome_of,
)

NOW = 1_800_000_000_000
HTML = b"<!DOCTYPE html><html><body>We are down for maintenance</body></html>"


@pytest.mark.parametrize("body", [b"[]", b"[[1]]", b'{"symbols": []}', b" \n[]", b"\xef\xbb\xbf[]"])
def test_200_with_what_was_asked_for_is_good(body: bytes) -> None:
    assert error_of(200, {}, body, NOW) is None
    assert outcome_of(200, None) == "ok"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (202, b""),
        (300, b""),
        (301, b""),
        (302, HTML),
        (307, b""),
        (403, b""),
        (403, HTML),
        (200, HTML),
        (400, HTML),
        (404, b"\n  <html>"),
        (503, HTML),
    ],
)
def test_a_firewall_or_a_maintenance_page_is_waited_for_and_never_permanent(
    status: int, body: bytes
) -> None:
    error = error_of(status, {}, body, NOW)
    assert isinstance(error, ExchangeThrottled)
    assert error.until_ms == NOW + PAUSE_MS
    assert outcome_of(status, error) == "throttled"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, b'{"code": -1003, "msg": "Too much request weight used."}'),
        (418, b'{"code": -1003, "msg": "Way too much request weight used."}'),
        (200, b'{"code": -1003, "msg": "Too much request weight used."}'),
        (400, b'{"code": -1003, "msg": "Too much request weight used."}'),
        (429, b""),
    ],
)
def test_too_many_requests_stop_everybody_whatever_the_status(status: int, body: bytes) -> None:
    error = error_of(status, {"retry-after": "7"}, body, NOW)
    assert isinstance(error, ExchangeThrottled)
    assert error.until_ms == NOW + 7_000
    assert outcome_of(status, error) == ("banned" if status == 418 else "throttled")


def test_retry_after_may_be_a_date() -> None:
    at_s = NOW // 1000 + 90
    error = error_of(429, {"retry-after": formatdate(at_s, usegmt=True)}, b"", NOW)
    assert isinstance(error, ExchangeThrottled)
    assert error.until_ms == at_s * 1000


def test_the_end_of_a_ban_in_the_message_stands_against_a_shorter_header() -> None:
    body = f'{{"code": -1003, "msg": "IP banned until {NOW + 3_600_000}."}}'.encode()
    error = error_of(418, {"retry-after": "5"}, body, NOW)
    assert isinstance(error, ExchangeThrottled)
    assert error.until_ms == NOW + 3_600_000


@pytest.mark.parametrize("header", ["٧", "7.5", "-7", "soon", ""])
def test_a_header_that_names_no_time_leaves_the_usual_pause(header: str) -> None:
    error = error_of(429, {"retry-after": header}, b"", NOW)
    assert isinstance(error, ExchangeThrottled)
    assert error.until_ms == NOW + PAUSE_MS


@given(st.text() | st.integers().map(str), st.text())
def test_no_header_or_message_makes_anybody_wait_for_longer_than_a_ban_lasts(
    header: str, message: str
) -> None:
    body = b'{"code": -1003, "msg": "until 9999999999999"}' if message else b""
    error = error_of(429, {"retry-after": header}, body, NOW)
    assert isinstance(error, ExchangeThrottled)
    assert NOW <= error.until_ms <= NOW + LONGEST_PAUSE_MS


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b""),
        (500, b"Bad Gateway"),
        (504, b'{"code": -1007, "msg": "Timeout"}'),
        (200, b'{"code": -1001, "msg": "Internal error"}'),
        (408, b""),
    ],
)
def test_trouble_whose_end_is_named_is_waited_for_by_whoever_met_it(
    status: int, body: bytes
) -> None:
    error = error_of(status, {"retry-after": "300"}, body, NOW)
    assert isinstance(error, ExchangeUnavailable)
    assert error.until_ms == NOW + 300_000
    assert error_of(status, {"retry-after": "soon"}, body, NOW).until_ms == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(("headers", "wait_ms"), [({}, PAUSE_MS), ({"retry-after": "9"}, 9_000)])
def test_an_exchange_that_is_overloaded_is_given_some_time_by_everybody(
    headers: dict[str, str], wait_ms: int
) -> None:
    """Its words: "Please try again in a few minutes"."""
    body = b'{"code": -1008, "msg": "Server is currently overloaded with other requests."}'
    error = error_of(503, headers, body, NOW)
    assert isinstance(error, ExchangeThrottled)
    assert (error.until_ms, error.by_us) == (NOW + wait_ms, False)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_a_date_means_the_same_wherever_this_runs(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    date_ms.cache_clear()
    forms = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT")
    forms += ("Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 -0000")
    found = {date_ms(form) for form in forms}
    monkeypatch.undo()
    time.tzset()
    date_ms.cache_clear()
    assert found == {784_111_777_000}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b'{"code": -1121, "msg": "Invalid symbol."}', "INVALID_SYMBOL"),
        (200, b'{"code": -1121, "msg": "Invalid symbol."}', "INVALID_SYMBOL"),
        (400, b'{"code": -1120, "msg": "Invalid interval."}', "INVALID_TIMEFRAME"),
        (400, b'{"code": -1100, "msg": "Illegal characters"}', "INVALID_PARAMETER"),
        (400, b'{"code": -2000, "msg": "new"}', "EXCHANGE_REFUSED"),
        (451, b'{"code": 0, "msg": "restricted"}', "RESTRICTED_LOCATION"),
        (451, b"", "RESTRICTED_LOCATION"),
    ],
)
def test_what_the_exchange_blames_the_request_for_is_permanent(
    status: int, body: bytes, reason: str
) -> None:
    error = error_of(status, {}, body, NOW)
    assert isinstance(error, ExchangeRefused)
    assert error.reason == reason


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (502, b"Bad Gateway"),
        (504, b'{"code": -1007, "msg": "Timeout"}'),
        (200, b'{"code": -1001, "msg": "Internal error"}'),
        (400, b'{"code": -1000, "msg": "An unknown error occurred"}'),
        (500, b'{"code": -1121, "msg": "in trouble"}'),
        (400, b""),
        (404, b"not found"),
        (408, b""),
        (400, b"[]"),
    ],
)
def test_trouble_and_whatever_nobody_can_explain_is_tried_again(status: int, body: bytes) -> None:
    assert isinstance(error_of(status, {}, body, NOW), ExchangeUnavailable)


@given(st.integers(100, 599), st.binary(max_size=60), st.text(max_size=20))
def test_every_answer_has_a_meaning_and_permanent_takes_an_error_object(
    status: int, body: bytes, header: str
) -> None:
    error = error_of(status, {"retry-after": header}, body, NOW)
    assert (error is None) <= (status == 200)
    if isinstance(error, ExchangeRefused):
        assert status == 451 or body.lstrip()[:1] == b"{"
