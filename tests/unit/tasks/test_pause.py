"""A person's order to pause, as it comes: what is wrong with it is said, and nothing is paused."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib.core.errors import InvalidRequest
from chalicelib.core.times import iso
from chalicelib.exchange.ledger import Ledger
from chalicelib.tasks.pause import pause_requests

YEAR = 365 * 86_400
PRINTABLE = "".join(sorted(set(string.printable) - set("\t\n\r\v\f")))
ANYTHING = st.none() | st.booleans() | st.floats() | st.text(max_size=5)
generated = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def pointers(run: Any, backend: Any, body: object) -> list[str]:
    """Where a body is wrong."""
    with pytest.raises(InvalidRequest) as refused:
        run(pause_requests(backend, body, "anna", "r"))
    assert run(Ledger(backend).read()).holds == ()
    return [error["pointer"] for error in refused.value.errors]


@given(ANYTHING | st.integers() | st.lists(st.sampled_from(["reason", "until"])))
@generated
def test_a_body_that_is_no_object_is_wrong_as_a_whole(run, backend, body: object) -> None:
    assert pointers(run, backend, body) == [""]


@given(ANYTHING | st.lists(st.just(1)) | st.integers(max_value=0) | st.integers(min_value=YEAR + 1))
@example(0)
@example(YEAR + 1)
@generated
def test_a_duration_is_a_number_of_seconds_up_to_a_year(run, backend, seconds: object) -> None:
    assert pointers(run, backend, {"duration_seconds": seconds}) == ["/duration_seconds"]


@given(
    ANYTHING.filter(lambda reason: not isinstance(reason, str))
    | st.integers()
    | st.text(PRINTABLE, min_size=201, max_size=300)
    | st.builds(
        lambda text, other, at: text[:at] + other + text[at:],
        st.text(PRINTABLE, max_size=20),
        st.characters(exclude_characters=PRINTABLE),
        st.integers(0, 20),
    )
)
@example("x" * 201)
@example("a\n")
@generated
def test_a_reason_is_short_and_printable(run, backend, reason: object) -> None:
    assert pointers(run, backend, {"reason": reason}) == ["/reason"]


def test_everything_that_is_wrong_is_named(run, backend) -> None:
    body = {"until": 1, "duration_seconds": "1", "reason": 1}
    assert pointers(run, backend, body) == ["/until", "/duration_seconds", "/reason"]


@pytest.mark.parametrize("seconds", [1, YEAR])
@pytest.mark.parametrize("reason", ["", "x" * 200, PRINTABLE])
def test_the_shortest_and_the_longest_pause_are_ordered(run, backend, clock, seconds, reason):
    body = {"duration_seconds": seconds, "reason": reason}
    answer = run(pause_requests(backend, body, "anna", "r"))
    assert answer["pause"]["until"] == iso(clock() + seconds * 1000)
    assert answer["pause"]["reason"] == (reason or None)
