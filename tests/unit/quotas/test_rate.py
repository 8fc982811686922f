"""The request rate of an owner, as one container counts it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.errors import QuotaExceeded
from chalicelib.core.settings import Settings
from chalicelib.quotas import rate
from chalicelib.quotas.rate import BURST_SECONDS, MOST_OWNERS, Buckets, take_request


@given(st.integers(1, 50), st.lists(st.integers(0, 3_000), min_size=1, max_size=200))
def test_no_stretch_of_time_lets_more_through_than_its_rate_and_one_burst(
    per_second: int, waits: list[int]
) -> None:
    buckets, now_ms = Buckets(), 0
    passed: list[int] = []
    for wait in waits:
        now_ms += wait
        if buckets.take("me", per_second, now_ms) >= 0:
            passed.append(now_ms)
    for first, start_ms in enumerate(passed):
        for last in range(first, len(passed)):
            seconds = (passed[last] - start_ms) / 1000
            assert last - first + 1 <= per_second * (seconds + BURST_SECONDS) + 0.001


@given(st.integers(1, 50), st.integers(1, 100))
def test_whoever_keeps_to_the_rate_is_never_refused(per_second: int, count: int) -> None:
    buckets = Buckets()
    each_ms = -(-1000 // per_second)
    assert all(buckets.take("me", per_second, at * each_ms) >= 0 for at in range(count))


def test_owners_do_not_use_up_each_others_rate() -> None:
    buckets = Buckets()
    while buckets.take("greedy", 1, 0) >= 0:
        pass
    assert buckets.take("modest", 1, 0) >= 0
    assert buckets.take("greedy", 1, 0) < 0


def test_a_clock_that_goes_back_gives_no_tokens_and_takes_none() -> None:
    buckets = Buckets()
    assert [buckets.take("me", 1, at) >= 0 for at in (5_000, 1_000, 0)] == [True, True, False]


def test_memory_is_bounded_however_many_owners_there_are() -> None:
    buckets = Buckets()
    for number in range(MOST_OWNERS + 500):
        buckets.take(f"owner {number}", 1, number)
    assert len(buckets) == MOST_OWNERS


def test_a_refusal_says_when_to_come_again_and_coming_then_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate, "_buckets", Buckets())
    settings = Settings(owner_requests_per_second=2)
    lefts = [take_request(settings, "me", 0)["RateLimit"] for _ in range(4)]
    assert lefts[0] == '"requests_per_second";r=3;t=1'
    assert lefts[-1] == '"requests_per_second";r=0;t=1'
    with pytest.raises(QuotaExceeded) as refused:
        take_request(settings, "me", 0)
    assert refused.value.headers == {
        "Retry-After": "1",
        "RateLimit-Policy": '"requests_per_second";q=2;w=1',
        "RateLimit": '"requests_per_second";r=0;t=1',
    }
    assert take_request(settings, "me", refused.value.retry_after * 1000)


def test_without_a_limit_nothing_is_counted_and_nothing_said() -> None:
    assert {str(take_request(Settings(), "me", 0)) for _ in range(1_000)} == {"{}"}
