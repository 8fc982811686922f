"""In which of its minutes the exchange counts a request."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.times import MINUTE
from chalicelib.exchange.server_clock import OUR_CLOCK, ServerClock
from tests.doubles.clock import NOW

START = NOW // MINUTE * MINUTE
#: (ms until the request arrives, ms that it is answered after, ms until the next one).
TRIPS = st.lists(
    st.tuples(st.integers(1, 400), st.integers(1, 400), st.integers(0, 3_000)), max_size=60
)


def learned(ahead_ms: int, trips: list[tuple[int, int, int]]) -> tuple[ServerClock, int]:
    """The clock after answers of an exchange that is so far ahead, and our time then."""
    clock, now = ServerClock(), NOW
    for there, back, pause in trips:
        date_ms = (now + there + ahead_ms) // 1000 * 1000
        clock = clock.told(now, now + there + back, date_ms)
        now += there + back + pause
    return clock, now


@given(st.integers(-8_000, 8_000), TRIPS.filter(bool))
def test_what_answers_say_never_excludes_the_truth(ahead_ms: int, trips) -> None:
    clock, _ = learned(ahead_ms, trips)
    assert clock.low_ms <= ahead_ms <= clock.high_ms


@given(st.integers(-8_000, 8_000))
def test_a_minute_of_answers_bounds_the_clock_to_a_round_trip(ahead_ms: int) -> None:
    clock, _ = learned(ahead_ms, [(40, 40, 37)] * 600)
    assert clock.low_ms <= ahead_ms <= clock.high_ms
    assert clock.high_ms - clock.low_ms <= 80 + 2 * 37


@given(st.integers(-500, 500), TRIPS, st.integers(0, MINUTE), st.integers(0, 500))
def test_a_request_is_counted_in_the_minute_in_which_it_was_permitted(
    ahead_ms: int, trips, later_ms: int, travel_ms: int
) -> None:
    clock, now = learned(ahead_ms, trips)
    now += later_ms
    now += clock.wait_ms(now)
    assert (now + travel_ms + ahead_ms) // MINUTE == clock.minute(now)


@given(st.integers(-500, 500), TRIPS, st.integers(0, MINUTE))
def test_nobody_waits_longer_than_the_clocks_are_unsure(ahead_ms: int, trips, later_ms) -> None:
    clock, now = learned(ahead_ms, trips)
    wait_ms = clock.wait_ms(now + later_ms)
    assert 0 <= wait_ms <= clock.high_ms - clock.low_ms + 500
    assert not clock.wait_ms(now + later_ms + wait_ms)


def test_a_clock_that_was_set_is_learned_anew() -> None:
    clock, now = learned(200, [(40, 40, 20)] * 60)
    date_ms = (now + 40 - 3_000) // 1000 * 1000
    after = clock.told(now, now + 80, date_ms)
    assert after == ServerClock(date_ms - now - 80, date_ms + 1000 - now, True)
    assert ServerClock(0, 50, True).told(NOW, NOW, NOW + 50) == ServerClock(50, 50, True)
    assert ServerClock(0, 49, True).told(NOW, NOW, NOW + 50) == ServerClock(50, 1_050, True)


def test_what_is_taken_for_granted_is_forgotten_at_the_first_answer() -> None:
    assert ServerClock().told(NOW, NOW, NOW + 450) == ServerClock(450, 1_450, True)


def test_a_date_that_is_far_off_says_nothing() -> None:
    for date_ms in (0, NOW - 10_001, NOW + 9_001, NOW + 86_400_000):
        assert ServerClock().told(NOW, NOW, date_ms) == ServerClock()
    assert ServerClock().told(NOW, NOW, NOW - 10_000) == ServerClock(-10_000, -9_000, True)
    assert ServerClock().told(NOW, NOW, NOW + 9_000) == ServerClock(9_000, 10_000, True)


def test_requests_wait_from_half_a_second_before_until_the_minute_has_surely_begun() -> None:
    clock = ServerClock(-20, 30)
    for now, wait_ms in (
        (START - 531, 0),
        (START - 530, 550),
        (START, 20),
        (START + 19, 1),
        (START + 20, 0),
    ):
        assert clock.wait_ms(now) == wait_ms, now - START
    assert OUR_CLOCK.minute(START - 1) + 1 == OUR_CLOCK.minute(START) == START // MINUTE


def test_a_clock_set_back_by_what_a_date_leaves_out_is_learned_and_by_more_it_is_not() -> None:
    assert ServerClock().told(NOW, NOW - 1_000, NOW) == ServerClock(1_000, 1_000, True)
    assert ServerClock().told(NOW, NOW - 1_001, NOW) == ServerClock()


@given(st.integers(1_001, 10**10), TRIPS)
def test_an_answer_during_which_our_clock_was_set_back_says_nothing(back_ms: int, trips) -> None:
    clock, now = learned(0, trips)
    assert clock.told(now, now - back_ms, now // 1000 * 1000 - back_ms) == clock
