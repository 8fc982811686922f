"""A task's time stands still while people pause all requests, and for so long only."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.settings import Settings
from chalicelib.core.task_keys import CHILD_TTL_SECONDS
from chalicelib.core.times import DAY
from chalicelib.exchange.ledger_state import LedgerState
from chalicelib.exchange.pause import Pauses
from chalicelib.tasks.deadline import MOST_HELD_MS, deadline_of, extended
from chalicelib.work.request import CollectionRequest
from tests.doubles.clock import NOW
from tests.doubles.tasks import task_of

HOUR = 3_600_000


def deadline_with(*holds: tuple[int, int], now: int, timeout_seconds: int | None = 3600) -> int:
    """In ms after NOW, of a task that was created half an hour before its attempt began at NOW."""
    request = CollectionRequest(("AUSDT",), ("1h",), timeout_seconds=timeout_seconds).pack()
    began = NOW if timeout_seconds else NOW - HOUR // 2
    task = task_of(request=request, created_at=NOW - HOUR // 2, deadline_at=began + HOUR)
    ledger = LedgerState(holds=tuple((NOW + since, NOW + until) for since, until in holds))
    return extended(task, ledger, NOW + now) - NOW


def test_only_what_was_paused_of_its_own_time_counts() -> None:
    assert deadline_with(now=HOUR) == HOUR
    assert deadline_with((-900, -1), now=HOUR) == HOUR  # before the attempt began
    assert deadline_with((-900, 100), (500, 700), now=HOUR) == HOUR + 300
    assert deadline_with((500, HOUR * 9), now=800) == HOUR + 300  # it still lasts
    assert deadline_with((500, 700), now=HOUR, timeout_seconds=None) == HOUR // 2 + 200


def test_the_pauses_are_asked_for_from_the_moment_at_which_the_time_is_up(
    run, backend, clock
) -> None:
    task = task_of(deadline_at=clock() + 1000)
    run(Pauses(backend).begin(clock() + 300, "anna", "", "r", clock()))
    clock.advance(999)
    assert run(deadline_of(backend, task)) == task.deadline_at
    clock.advance(1)
    assert run(deadline_of(backend, task)) == task.deadline_at + 300


def test_a_task_whose_request_cannot_be_read_ends_too() -> None:
    task = task_of(request=b"of newer code", created_at=0, deadline_at=HOUR)
    assert extended(task, LedgerState(), HOUR) == HOUR
    paused = LedgerState(holds=((0, HOUR),))
    assert extended(task, paused, 2 * HOUR) == 2 * HOUR


@given(st.integers(0, 9 * HOUR), st.integers(0, 20 * MOST_HELD_MS), st.integers(0, MOST_HELD_MS))
def test_a_pause_takes_none_of_a_tasks_time_up_to_the_limit(
    since: int, length: int, later: int
) -> None:
    now = since + length + later
    left = HOUR - since
    found = deadline_with((since, since + length), now=now)
    assert found == HOUR + min(length, MOST_HELD_MS)
    if since < HOUR and length <= MOST_HELD_MS:
        assert found - (since + length) == left


def test_what_belongs_to_a_task_lives_as_long_as_it_may_be_retried() -> None:
    """An attempt, the pauses that hold it up, and the time for which an ended task is shown."""
    longest = {each.name: each.metadata["high"] for each in fields(Settings) if each.metadata}
    attempt_ms = longest["task_timeout_seconds"] * 1000 + MOST_HELD_MS
    kept_ms = longest["retention_seconds"] * 1000
    assert attempt_ms + kept_ms + DAY < CHILD_TTL_SECONDS * 1000
