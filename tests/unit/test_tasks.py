"""The life of a task as its table of moves has it, and what progress means."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chalicelib import tasks

counts = st.integers(0, 20_000)


def test_only_a_retry_leaves_an_end_state() -> None:
    for target, sources in tasks.MOVES.items():
        if target != tasks.PENDING:
            assert not set(sources) & set(tasks.TERMINAL)
    assert set(tasks.MOVES[tasks.PENDING]) == set(tasks.TERMINAL)


def test_every_state_is_active_or_an_end_and_can_be_reached() -> None:
    assert {*tasks.ACTIVE, *tasks.TERMINAL} == set(tasks.STATES) == set(tasks.MOVES)
    assert not set(tasks.ACTIVE) & set(tasks.TERMINAL)


@given(st.sampled_from(tasks.STATES), counts, counts)
def test_progress_is_a_hundred_exactly_when_completed(state: str, total: int, some: int) -> None:
    progress = tasks.progress(state, total, min(some, total))
    assert 0 <= progress <= 100
    assert (progress == 100) == (state == tasks.COMPLETED)


@given(st.integers(1, 20_000), st.data())
def test_progress_never_falls_while_units_are_counted(total: int, data: st.DataObject) -> None:
    fewer = data.draw(st.integers(0, total))
    more = data.draw(st.integers(fewer, total))
    before = tasks.progress(tasks.RUNNING, total, fewer)
    assert before <= tasks.progress(tasks.RUNNING, total, more)


@given(st.integers(1, 20_000), st.data(), st.floats(0, 100))
def test_a_task_fails_where_nothing_landed_or_too_much_failed(
    total: int, data: st.DataObject, tolerated: float
) -> None:
    failed = data.draw(st.integers(0, total))
    state = tasks.end_state(total, failed, tolerated)
    too_many = failed * 100 > tolerated * total
    assert state == (tasks.FAILED if failed == total or too_many else tasks.COMPLETED)


def test_a_task_with_nothing_to_do_is_completed() -> None:
    assert tasks.end_state(0, 0, 0) == tasks.COMPLETED


def test_one_failure_among_ten_is_within_ten_percent_and_not_within_nine() -> None:
    assert tasks.end_state(10, 1, 10) == tasks.COMPLETED
    assert tasks.end_state(10, 1, 9.9) == tasks.FAILED
