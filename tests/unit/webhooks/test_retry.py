"""How long a webhook waits for its next try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.webhooks import retry


def test_waits_grow_to_an_hour_and_then_end() -> None:
    waits = [retry.wait_seconds(tries, 0.5) for tries in range(1, 8)]
    assert waits == [5, 30, 120, 600, 3600, None, None]


@given(st.integers(1, 5), st.floats(0, 1))
def test_jitter_keeps_a_wait_within_a_fifth(tries: int, chance: float) -> None:
    wait = retry.wait_seconds(tries, chance)
    assert wait is not None
    assert 0.8 * retry.WAITS[tries - 1] <= wait <= 1.2 * retry.WAITS[tries - 1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        (" 7 ", 7),
        ("999999999999", 3600),
        ("-5", 0),
        ("soon", 0),
        ("١٢", 0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_retry_after_is_read_in_both_forms_and_never_holds_us_for_more_than_an_hour(
    text: str | None, seconds: int
) -> None:
    assert retry.retry_after_seconds(text, 0) == seconds


@given(st.text())
def test_no_retry_after_breaks_the_wait(text: str) -> None:
    assert 0 <= retry.retry_after_seconds(text, 0) <= retry.LONGEST_WAIT
